import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import (
    FITS,
    condition_number,
    estimate_affine,
    fit_landmarks,
    leave_one_out_errors,
)
from msi2he_jax.registration.landmarks import Landmarks

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


def _landmarks(moving, fixed, use=None):
    use = np.full(len(moving), "fit") if use is None else use
    return Landmarks(np.arange(len(moving)).astype(str), use, moving, fixed, "l.csv")


@pytest.mark.parametrize("kind", FITS)
def test_eval_landmarks_never_touch_the_fit(kind):
    fixed = transforms.apply_affine(SHEARED, POINTS) + RNG.normal(0, 5, POINTS.shape)
    use = np.array(["fit", "eval"] * 4)
    spoilt = np.where((use == "eval")[:, None], RNG.uniform(0, 1e7, fixed.shape), fixed)
    before = fit_landmarks(_landmarks(POINTS, fixed, use), kind=kind)
    after = fit_landmarks(_landmarks(POINTS, spoilt, use), kind=kind)
    np.testing.assert_array_equal(before.matrix, after.matrix)
    assert before.as_row() == after.as_row()


def test_robust_leaves_outliers_out_and_repeats_itself():
    fixed = transforms.apply_affine(SHEARED, POINTS) + RNG.normal(0, 5, POINTS.shape)
    clean = fit_landmarks(_landmarks(np.delete(POINTS, [1, 6], 0), np.delete(fixed, [1, 6], 0)))
    spoilt = fixed.copy()
    spoilt[[1, 6]] = spoilt[[6, 1]]
    points = _landmarks(POINTS, spoilt)
    robust = fit_landmarks(points, kind="robust", outlier_um=100)
    assert list(np.flatnonzero(~robust.used)) == [1, 6]
    np.testing.assert_allclose(robust.matrix, clean.matrix, rtol=1e-12)
    assert robust.as_row()["control_points_outliers"] == 2
    again = fit_landmarks(points, kind="robust", outlier_um=100)
    np.testing.assert_array_equal(again.matrix, robust.matrix)


def test_robust_needs_half_of_the_points_to_agree():
    spoilt = RNG.uniform(0, 8000, POINTS.shape)
    with pytest.raises(InputError, match="only 3 of 8 agree within 0 um"):
        fit_landmarks(_landmarks(POINTS, spoilt), kind="robust", outlier_um=1e-6)


def test_leave_one_out_and_residual_are_in_the_row():
    fixed = transforms.apply_affine(SHEARED, POINTS) + RNG.normal(0, 5, POINTS.shape)
    fit = fit_landmarks(_landmarks(POINTS, fixed))
    row = fit.as_row()
    errors = leave_one_out_errors(POINTS, fixed)
    assert row["leave_one_out_median_um"] == pytest.approx(np.median(errors))
    assert row["leave_one_out_max_um"] == pytest.approx(np.max(errors))
    assert row["control_points_residual_rms_um"] < row["leave_one_out_max_um"]
    assert fit_landmarks(_landmarks(POINTS[:3], fixed[:3])).as_row()["leave_one_out_max_um"] is None


def test_condition_grows_as_points_come_onto_a_line():
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    assert condition_number(square) == pytest.approx(1.0)
    flat = [condition_number(square * (1, factor)) for factor in (0.5, 0.1, 0.03)]
    assert 1.5 < flat[0] < flat[1] < flat[2]


def test_an_unknown_fit_is_refused():
    with pytest.raises(InputError, match="'spline' is not one of affine, similarity, robust"):
        fit_landmarks(_landmarks(POINTS, POINTS), kind="spline")


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("side", [0, 1])
def test_a_point_far_from_all_others_is_named(side, kind):
    pair = [POINTS.copy(), transforms.apply_affine(SHEARED, POINTS)]
    pair[side][3, 1] += 1e6
    with pytest.raises(InputError, match=r"point 3: lies 1e\+03 mm from the others in the "):
        fit_landmarks(_landmarks(*pair), kind=kind)


def test_scales_and_mirroring_are_told():
    for scale, mirrored, words in ((1.4, False, "is 1.4 to 1.4 times"), (1.1, True, "mirror")):
        matrix = transforms.rotation(20, mirrored=mirrored, scale=scale)
        fit = fit_landmarks(_landmarks(POINTS, transforms.apply_affine(matrix, POINTS)))
        (said,) = fit.warnings
        assert words in said
    matrix = transforms.rotation(20, scale=1.1)
    assert fit_landmarks(_landmarks(POINTS, transforms.apply_affine(matrix, POINTS))).warnings == []
