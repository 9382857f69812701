import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.phantom import geometry, regions
from msi2he_jax.registration.transforms import pixel_centers

RASTER = geometry.Raster((40, 48), (60.0, 50.0))


def _truth(seed=0, **changes):
    arguments = {"mirrored": False, "warp_um": 50.0} | changes
    return geometry.draw_truth(np.random.default_rng(seed), RASTER, (1500.0, 1700.0), **arguments)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-900, 900), st.floats(-900, 900))
def test_rebased_truth_is_the_same_map(seed, y, x):
    truth, corner = _truth(seed), np.array([y, x])
    points = pixel_centers(RASTER.shape, RASTER.um)
    moved = truth.in_images(corner)(points - corner)
    assert np.abs(moved - truth(points)).max() < 1e-6


def test_centre_lands_on_centre_and_scale_is_near_one():
    truth = _truth(warp_um=0.0)
    landed = truth(0.5 * RASTER.size_um)
    assert np.abs(landed - (1500.0, 1700.0)).max() <= 30.0
    scales = np.linalg.svd(truth.matrix[:2, :2])[1]
    assert (scales > 0.94).all() and (scales < 1.06).all()
    assert truth.displacement is None


@pytest.mark.parametrize("mirrored", [False, True])
def test_mirroring_is_the_sign_of_the_determinant(mirrored):
    assert (np.linalg.det(_truth(mirrored=mirrored).matrix) < 0) == mirrored


def test_angles_cover_the_circle():
    angles = [np.arctan2(*_truth(seed).matrix[0, 1::-1]) for seed in range(40)]
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() >= 3


def test_warp_has_the_asked_size_and_no_affine_part():
    field = _truth(warp_um=80.0).displacement
    assert np.isclose(np.linalg.norm(field.disp_um, axis=-1).max(), 80.0)
    y, x = np.meshgrid(field.y_um, field.x_um, indexing="ij")
    design = np.stack([y.ravel(), x.ravel(), np.ones(y.size)], axis=1)
    assert np.abs(design.T @ field.disp_um.reshape(-1, 2)).max() < 1e-3 * 80 * y.size
    assert field.y_um[0] < 0 and field.y_um[-1] > RASTER.size_um[0]


def test_measured_region_holds_the_tissue_and_misses_corners():
    tissue = np.zeros((48, 48), bool)
    tissue[12:34, 15:36] = np.hypot(*(np.mgrid[:22, :21] - 10.5)) < 10.5
    shares = []
    for seed in range(8):
        measured = regions.draw_measured(np.random.default_rng(seed), tissue)
        assert measured[tissue].mean() > 0.97
        rows, columns = np.nonzero(measured.any(1))[0], np.nonzero(measured.any(0))[0]
        shares.append(measured.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
        assert measured[~tissue].any()
    assert min(shares) < 0.97 < max(shares) + 0.03


def test_points_are_spread_and_inside():
    allowed = np.zeros((30, 30), bool)
    allowed[5:25, 5:25] = True
    points = geometry.draw_points(np.random.default_rng(0), allowed, 16)
    assert allowed[tuple(np.floor(points).astype(int).T)].all()
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 99 * np.eye(16)
    assert distance.min() > 2.5


def test_points_of_a_tiny_region():
    allowed = np.zeros((5, 5), bool)
    allowed[2, 2:4] = True
    assert len(geometry.draw_points(np.random.default_rng(0), allowed, 16)) == 2
