"""Poses beside each other, and the prior on their scales."""

import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.registration import refinement, rivals
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.similarity import Level

MSI_UM, EYE = 50.0, np.eye(2)


@pytest.fixture
def pair():
    images = np.random.default_rng(0).random((20, 30)), np.ones((60, 60))
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": 25.0}
    return make_pair(images[0], images[1], None, np.ones((60, 60), bool), **sizes)


def shift_of(pair, px):
    return np.array([px * MSI_UM / pair.radius_um, 0.0])


def test_poses_are_as_far_apart_as_their_msi_pixels(pair):
    apart = rivals.apart_px(pair, EYE, shift_of(pair, 0), EYE, shift_of(pair, 3))
    assert apart == pytest.approx(3.0)
    # the slide's pixels of a pose at twice the scale are twice as long
    twice = rivals.apart_px(pair, 2 * EYE, shift_of(pair, 0), 2 * EYE, shift_of(pair, 3))
    assert twice == pytest.approx(1.5)
    rows, columns = np.mgrid[:20, :30]
    inside = np.stack([rows + 0.5, columns + 0.5], -1).reshape(-1, 2) - pair.moving.center_um / 50
    turned = rivals.apart_px(pair, EYE, np.zeros(2), -EYE, np.zeros(2))
    assert turned == pytest.approx(2 * np.sqrt(np.mean(np.sum(inside**2, axis=1))))


def test_of_poses_that_met_only_the_best_goes_on(pair):
    linears = np.stack([EYE] * 4)
    shifts = np.stack([shift_of(pair, px) for px in (0, 0.5, 5, 5.4)])
    _, kept = rivals.entering(pair, Level(64, 3, 1, 0.1, apart_px=1.0), linears, shifts)
    np.testing.assert_array_equal(kept, shifts[[0, 2, 0]])
    _, kept = rivals.entering(pair, Level(64, 3, 1, 0.1), linears, shifts)
    np.testing.assert_array_equal(kept, shifts[:3])


def test_the_gap_is_to_the_best_pose_that_is_another_answer(pair):
    linears = np.stack([EYE] * 3)
    level = linears, np.stack([shift_of(pair, px) for px in (0, 1, 9)]), np.array([1.0, 0.9, 0.7])
    assert rivals.gap([level, level], pair) == pytest.approx(0.3)
    near = linears[:2], level[1][:2], level[2][:2]
    assert rivals.gap([level, near, near], pair) == pytest.approx(0.3)
    assert rivals.gap([near, near], pair) is None


def test_the_prior_is_a_normal_one_on_log_scale_and_on_stretch():
    def prior(linear, sd=0.03):
        change = jnp.asarray(np.asarray(linear, np.float32) - EYE)
        return float(refinement._prior(sd, jnp.eye(2), (change, None))) * refinement.INDEPENDENT

    assert prior(EYE) == pytest.approx(0.0, abs=1e-5)
    assert prior(np.exp(0.06) * EYE) == pytest.approx(2.0, rel=1e-3)  # two standard deviations
    assert prior(np.exp(-0.2) * EYE, sd=0.2) == pytest.approx(0.5, rel=1e-3)
    stretched = np.diag(np.exp([0.06, -0.06]))  # of half the log ratio, two as well
    assert prior(stretched) == pytest.approx(2.0, rel=1e-2)
    cos, sin = np.cos(0.7), np.sin(0.7)
    assert prior([[cos, -sin], [-sin, -cos]]) == pytest.approx(0.0, abs=1e-4)
