"""What images say of an alignment: at the truth, away from it, and where nothing can be said."""

import numpy as np
import pytest

from msi2he_jax.registration import canvas, evidence, transforms
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.evidence import read_evidence
from msi2he_jax.registration.verdict import RELIABLE, verdict_of
from tests.registration.ion_sections import MATRIX, MSI_UM, SHAPE, SIZES, SLIDE_UM, pair_of, section

MIDDLE = np.array(SHAPE) * MSI_UM / 2


@pytest.fixture(scope="module")
def pair():
    return pair_of(3)[0]


@pytest.fixture(scope="module")
def at_the_truth(pair):
    return read_evidence(pair, MATRIX)


def test_at_the_truth_all_speaks_for_it(at_the_truth):
    assert at_the_truth.lead > 0.2 and at_the_truth.spread_px < 1.5
    assert at_the_truth.drift_px < 0.5
    assert verdict_of(at_the_truth).word == RELIABLE


@pytest.mark.parametrize("shift_px", [2.0, 4.0])
def test_a_shift_is_seen_as_drift(pair, shift_px):
    """The details lie where the truth is, and say by how far the alignment is off."""
    moved = transforms.compose(MATRIX, transforms.from_parts(np.eye(2), (0.0, shift_px * MSI_UM)))
    found = read_evidence(pair, moved)
    assert found.drift_px == pytest.approx(shift_px, abs=0.5)
    assert verdict_of(found).word != RELIABLE


@pytest.mark.parametrize("degrees", [180, 90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_another_orientation_that_fits_better_is_seen(pair, at_the_truth, degrees, mirrored):
    """What it falls behind by is about what the truth is ahead by."""
    turn = transforms.rotation(degrees, mirrored=mirrored, center_from=MIDDLE, center_to=MIDDLE)
    found = read_evidence(pair, MATRIX @ turn)
    assert found.lead < -0.7 * at_the_truth.lead
    assert verdict_of(found).word != RELIABLE


def test_drift_is_that_of_the_details_and_spread_that_of_the_classes(pair, monkeypatch):
    offsets = evidence._offsets()
    east = np.all(offsets == (0, 3), axis=1)
    around = np.linalg.norm(offsets, axis=1) == 2  # of four, each as likely
    known = {len(offsets): np.stack([99.0 * around, 99.0 * east])}
    monkeypatch.setattr(
        evidence, "_scores", lambda _, poses, __: known.get(len(poses), [[0], np.zeros(23)])
    )
    found = read_evidence(pair, MATRIX)
    assert (found.drift_px, found.spread_px) == pytest.approx((3.0, 2.0))


def test_ions_that_know_nothing_of_the_slide_leave_all_open():
    _, stains, tissue, _ = section(3)
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 15)).astype(np.float32)
    found = read_evidence(make_pair(noise, stains, None, tissue, **SIZES), MATRIX)
    assert found.lead < 0.05 and found.spread_px > 2
    assert verdict_of(found).word != RELIABLE


def test_a_round_featureless_blob_is_not_reliable():
    """Its place is known, its orientation is not."""
    y, x = np.mgrid[:160, :160] - 79.5
    blob = np.hypot(y, x) < 50
    options = {"source_um_per_px": SLIDE_UM, "out_um_per_px": MSI_UM, "out_shape": SHAPE}
    seen = transforms.Transform(MATRIX).warp(blob.astype(np.float32)[..., None], **options)
    ions = seen @ np.random.default_rng(1).normal(size=(1, 6))
    ions = ions + 0.3 * np.random.default_rng(2).normal(size=ions.shape)
    found = read_evidence(make_pair(ions, blob * 1.0, None, blob, **SIZES), MATRIX)
    assert verdict_of(found).word != RELIABLE


def test_canvas_poses_are_micrometres_and_back(pair):
    linear, shift = canvas.pose(MATRIX, pair.moving, pair.fixed, pair.radius_um)
    back = canvas.matrix_um(linear, shift, pair.moving, pair.fixed, pair.radius_um)
    np.testing.assert_allclose(back, MATRIX, atol=1e-9)


def test_other_orientations_are_all_others_of_both_mirrorings(pair):
    linears, shifts = evidence._other_orientations(pair, MATRIX[:2, :2].astype(np.float32))
    assert linears.shape == (23, 2, 2) and shifts.shape == (23, 2)
    signs = np.sign(np.linalg.det(linears)) * np.sign(np.linalg.det(MATRIX[:2, :2]))
    assert (signs > 0).sum() == 11 and (signs < 0).sum() == 12
    assert len(np.unique(linears.round(4), axis=0)) == 23
    assert np.abs(linears - MATRIX[:2, :2]).max(axis=(1, 2)).min() > 0.1
