import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import estimate_affine, leave_one_out_errors

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0, 8000, (8, 2)) + 1e6
SHEARED = transforms.rotation(70, mirrored=True, center_from=(1e6, 1e6)) @ transforms.from_parts(
    np.array([[1.05, 0.02], [-0.01, 0.96]]), (300.0, -900.0)
)


def test_affine_is_recovered_from_exact_points_far_from_the_origin():
    fixed = transforms.apply_affine(SHEARED, POINTS)
    matrix = estimate_affine(POINTS, fixed)
    np.testing.assert_allclose(transforms.apply_affine(matrix, POINTS), fixed, atol=1e-6)
    np.testing.assert_allclose(matrix[:2, :2], SHEARED[:2, :2], atol=1e-9)


@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity_is_recovered_with_its_mirroring(mirrored):
    truth = transforms.rotation(-110, mirrored=mirrored, scale=1.3, center_from=(1e6, 1e6))
    matrix = estimate_affine(POINTS, transforms.apply_affine(truth, POINTS), kind="similarity")
    np.testing.assert_allclose(matrix[:2, :2], truth[:2, :2], atol=1e-9)


def test_affine_has_the_least_squared_error():
    fixed = transforms.apply_affine(SHEARED, POINTS) + RNG.normal(0, 30, POINTS.shape)
    matrix = estimate_affine(POINTS, fixed)
    best = np.sum((transforms.apply_affine(matrix, POINTS) - fixed) ** 2)
    for k in range(6):
        nudged = matrix.copy()
        nudged[k // 3, k % 3] += 1e-7 if k % 3 < 2 else 1e-1
        assert np.sum((transforms.apply_affine(nudged, POINTS) - fixed) ** 2) > best


def test_leave_one_out_is_larger_than_the_residual_and_finds_the_bad_point():
    fixed = transforms.apply_affine(SHEARED, POINTS) + RNG.normal(0, 10, POINTS.shape)
    fixed[3] += 500
    residual = np.linalg.norm(
        transforms.apply_affine(estimate_affine(POINTS, fixed), POINTS) - fixed, axis=1
    )
    errors = leave_one_out_errors(POINTS, fixed)
    assert np.all(errors >= residual)
    assert np.argmax(errors) == 3


def test_leave_one_out_of_three_points_is_unknown():
    assert np.all(np.isnan(leave_one_out_errors(POINTS[:3], POINTS[:3])))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (POINTS[:2], "at least 3"),
        (np.outer(np.arange(5.0), [1.0, 2.0]), "one line"),
        (np.ones((4, 2)), "one line"),
        (np.full((4, 2), np.nan), "not finite"),
    ],
)
@pytest.mark.parametrize("side", ["MSI", "histology"])
def test_points_that_determine_nothing_are_refused(points, said, side):
    good = POINTS[: len(points)]
    pair = (points, good) if side == "MSI" else (good, points)
    with pytest.raises(InputError, match=said):
        estimate_affine(*pair, source="l.csv")
