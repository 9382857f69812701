"""What the discriminator sees: pairs move together, colours vary alone, gradients flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msi2he_jax.training.diffaugment import DiffAugment, augment

vary = jax.jit(augment, static_argnums=3)
KEYS = jax.random.split(jax.random.key(0), 32)


@pytest.fixture
def pair():
    """The image's first channels are the MSI; nothing is 0 but what is blanked."""
    rng = np.random.default_rng(0)
    msi = rng.uniform(0.1, 1.0, (32, 16, 24, 3)).astype(np.float32)
    return msi, msi.copy()


def test_shift_and_blank_are_the_same_for_both(pair):
    strengths = DiffAugment(translation=0.25, cutout=0.25)
    msi, image = (np.asarray(x) for x in vary(KEYS, *pair, strengths))
    np.testing.assert_array_equal(msi, image)
    assert (msi != pair[0]).any()


def test_shifts_are_whole_pixels_up_to_the_most(pair):
    msi, _ = (np.asarray(x) for x in vary(KEYS, *pair, DiffAugment(translation=0.125)))
    found = set()
    for before, after in zip(pair[0], msi, strict=True):
        rows, columns = np.nonzero(after[..., 0])
        dy = rows.min() if rows.min() else rows.max() - 15
        dx = columns.min() if columns.min() else columns.max() - 23
        moved = np.zeros_like(before)
        to = slice(max(dy, 0), 16 + min(dy, 0)), slice(max(dx, 0), 24 + min(dx, 0))
        back = slice(max(-dy, 0), 16 + min(-dy, 0)), slice(max(-dx, 0), 24 + min(-dx, 0))
        moved[to] = before[back]
        np.testing.assert_array_equal(after, moved)
        found.add((dy, dx))
    assert {dy for dy, _ in found} == set(range(-2, 3))
    assert {dx for _, dx in found} <= set(range(-3, 4)) and len(found) > 10


def test_the_blank_is_a_rectangle_of_the_size_asked_for(pair):
    _, image = vary(KEYS, *pair, DiffAugment(cutout=0.5))
    blank = np.asarray(image)[..., 0] == 0
    areas = blank.sum((1, 2))
    assert areas.max() == 8 * 12 and areas.min() >= 4 * 6
    for one in blank:
        rows, columns = np.nonzero(one)
        assert one.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_colour_leaves_the_msi_and_the_structure(pair):
    msi, image = vary(KEYS, *pair, DiffAugment(color=1.0))
    np.testing.assert_array_equal(msi, pair[0])
    grey, before = np.asarray(image).mean(-1), pair[1].mean(-1)
    shift = grey.mean((1, 2)) - before.mean((1, 2))
    assert -0.5 <= shift.min() < -0.2 and 0.2 < shift.max() <= 0.5
    contrast = grey.std((1, 2)) / before.std((1, 2))
    assert 0.5 - 1e-3 <= contrast.min() < 0.8 and 1.2 < contrast.max() <= 1.5 + 1e-3
    for a, b in zip(grey, before, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999


def test_off_is_nothing_and_draws_follow_the_key(pair):
    for a, b in zip(augment(KEYS, *pair, DiffAugment()), pair, strict=True):
        assert a is b
    strong = DiffAugment(1.0, 0.125, 0.5)
    first, again, other = (
        vary(jax.random.split(jax.random.key(n), 32), *pair, strong)[1] for n in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    few = vary(KEYS[3:5], *(x[3:5] for x in pair), strong)[1]
    np.testing.assert_allclose(few, first[3:5], atol=1e-6)  # whatever else is in the batch
    assert (first != other).any()


def test_gradients_flow_through(pair):
    strong = DiffAugment(1.0, 0.125, 0.5)
    slope = jax.grad(lambda image: jnp.sum(vary(KEYS, pair[0], image, strong)[1] ** 2))
    slopes = np.asarray(slope(jnp.asarray(pair[1])))
    assert np.isfinite(slopes).all() and (np.abs(slopes).max((1, 2, 3)) > 0).all()
