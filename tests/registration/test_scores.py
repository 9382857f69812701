import numpy as np
import pytest

from msi2he_jax.registration import overlay, scores, transforms
from msi2he_jax.registration.summary import sample_row, summarize, summary_lines, write_summary
from msi2he_jax.registration.transforms import Displacement, Transform

POINTS = np.random.default_rng(0).uniform(0, 1000, (10, 2))


def test_error_of_a_known_shift():
    shift = transforms.from_parts(np.eye(2), (30.0, 40.0))
    errors = scores.target_registration_error(Transform(shift), POINTS, POINTS)
    np.testing.assert_allclose(errors, 50.0)
    found = scores.summarize_tre(errors, msi_um_per_px=20.0, fixed_diagonal_um=1000.0)
    assert found["tre_median_msi_px"] == pytest.approx(2.5)
    assert found["rtre_median"] == pytest.approx(0.05)
    assert found["success"] is False


def test_no_points_means_no_verdict():
    found = scores.summarize_tre(np.empty(0), msi_um_per_px=20.0, fixed_diagonal_um=1000.0)
    assert (found["points"], found["success"], found["tre_median_um"]) == (0, None, None)


def test_robustness_counts_strict_falls():
    assert scores.robustness([1.0, 2.0, 3.0, 4.0], [0.5, 2.0, 9.0, 1.0]) == 0.5
    assert np.isnan(scores.robustness([], []))


def test_relative_errors_are_those_of_the_challenges():
    errors = np.array([10.0, 20.0, 30.0, 40.0, 400.0])
    found = scores.summarize_tre(errors, msi_um_per_px=20.0, fixed_diagonal_um=1000.0)
    assert (found["rtre_median"], found["rtre_mean"], found["rtre_max"]) == (0.03, 0.1, 0.4)
    assert found["tre_p90_um"] == np.percentile(errors, 90)
    assert found["tre_p90_msi_px"] == pytest.approx(found["tre_p90_um"] / 20)


def test_a_cohort_is_condensed_over_pairs():
    sizes = {"msi_um_per_px": 20.0, "fixed_diagonal_um": 1000.0}
    rows = [
        scores.summarize_tre(np.array(errors), **sizes) | {"robustness": r}
        for errors, r in (([10.0, 20.0, 60.0], 1.0), ([100.0] * 3, 0.5), ([40.0] * 3, 1.0))
    ]
    found = scores.cohort_scores([*rows, scores.summarize_tre(np.empty(0), **sizes)])
    assert found["pairs"] == 3
    assert found["amrtre"] == pytest.approx((0.02 + 0.1 + 0.04) / 3)
    assert found["mmrtre"] == pytest.approx(0.04)
    assert found["aartre"] == pytest.approx((0.03 + 0.1 + 0.04) / 3)
    assert found["amxrtre"] == pytest.approx((0.06 + 0.1 + 0.04) / 3)
    assert found["robustness"] == pytest.approx(2.5 / 3)
    assert found["amrtre_robust"] == pytest.approx(0.03)
    assert found["p90_median_um"] == pytest.approx(52.0)
    assert found["p90_mean_um"] == pytest.approx((52 + 100 + 40) / 3)
    assert scores.cohort_scores([])["amrtre"] is None


def test_a_rise_is_a_failure():
    low, high = {"tre_median_um": 1.0}, {"tre_median_um": 2.0}
    assert scores.failed(low, high) and not scores.failed(high, low)
    assert scores.failed({}, low) is None


def test_folding_is_found_on_uneven_grids_and_through_the_matrix():
    matrix = transforms.rotation(70, mirrored=True, scale=2.0)
    y, x = np.array([0.0, 10.0, 30.0, 40.0]), np.array([0.0, 5.0, 10.0])
    assert scores.smoothness(Transform(matrix))["folding_fraction"] == 0.0
    relative = np.zeros((4, 3, 2))
    relative[..., 0] = 0.5 * y[:, None]  # stretched by half along y, evenly
    even = Displacement(y, x, relative @ matrix[:2, :2].T)
    found = scores.smoothness(Transform(matrix, even))
    assert found["det_max"] == pytest.approx(1.5)
    assert found["folding_fraction"] == 0.0
    relative[1, 1, 0] += 40.0
    folded = Displacement(y, x, relative @ matrix[:2, :2].T)
    found = scores.smoothness(Transform(matrix, folded))
    assert found["det_min"] < 0 < found["folding_fraction"] < 0.5


def test_dice_of_halves_and_of_nothing():
    a, b = np.zeros((2, 4, 4), bool)
    assert np.isnan(scores.dice(a, b))
    a[:2], b[1:3] = True, True
    assert scores.dice(a, b) == 0.5


def test_summary_takes_held_out_landmarks_first(tmp_path):
    def of(um):
        return scores.summarize_tre(np.full(3, um), msi_um_per_px=50.0, fixed_diagonal_um=1e4)

    found = {"found": {"eval": of(20.0), "truth": of(300.0)}, "initial": {"eval": of(900.0)}}
    row = {"sample_id": "a"} | sample_row(found, "automatic")
    assert (row["tre_median_um"], row["truth_tre_median_um"], row["success"]) == (20.0, 300.0, True)
    assert (row["initial_tre_median_um"], row["control_points_tre_median_um"]) == (900.0, None)
    only_truth = {"sample_id": "b"} | sample_row({"found": {"truth": of(300.0)}}, "automatic")
    assert only_truth["success"] is False
    summary = summarize([row, only_truth | {"tre_median_um": 40.0}], moving="pca")
    assert row["failed"] is False and only_truth["failed"] is None
    assert summary["cohort"]["pairs"] == 1 and summary["failures"] == []
    assert (summary["success_rate"], summary["median"]["tre_median_um"]) == (0.5, 30.0)
    write_summary(tmp_path, summary)
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 3


def _row(found, points, **more):
    sizes = {"msi_um_per_px": 50.0, "fixed_diagonal_um": 1e4}

    def of(um):
        return {"eval": scores.summarize_tre(np.full(3, um), **sizes)}

    known = sample_row({"found": of(found), "control_points": of(points)}, "control-points")
    return known | {"sample_id": "a", "msi_um_per_px": 50.0, **more}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_row(52.0, 0.0), "worse than the control points: median TRE 52.0 instead of 0.0 um on he"),
        (_row(12.0, 0.0), ""),
        (_row(0.0, 52.0), ""),
        (
            _row(0.0, 0.0, kept_affine=False, undetermined_share=0.97),
            "the deformable step is undetermined in 97% of the tissue: do not use it",
        ),
        (_row(0.0, 0.0, kept_affine=True, undetermined_share=0.97), ""),
        (_row(0.0, 0.0, kept_affine=False, undetermined_share=0.5), ""),
        (
            _row(0, 0, moving="ions", method="automatic", verdict="doubtful", reason="it drifts"),
            "doubtful: it drifts",
        ),
        # pixels held out decided on bending
        (
            _row(
                *(0, 0),
                **{"moving": "ions", "method": "automatic", "verdict": "reliable"},
                **{"kept_affine": False, "undetermined_share": 1.0},
            ),
            "",
        ),
        # not calibrated: no reason to warn
        (_row(0, 0, moving="pca", method="automatic", verdict="doubtful", reason="it drifts"), ""),
        (_row(0, 0, moving="ions", verdict="doubtful", reason="it drifts"), ""),
        (_row(0.0, 0.0, verdict="reliable", reason="", undetermined_share=1.0), ""),
    ],
)
def test_what_should_not_be_used_is_said_everywhere(row, said):
    summary = summarize([row], method="x", moving="pca")
    assert summary["samples"][0]["caution"].startswith(said) and bool(said) == bool(
        summary["cautions"]
    )
    assert (f"a: {said}" in "\n".join(summary_lines(summary))) == bool(said)


def test_checkerboard_shows_both_and_contours_stay_inside():
    dark, light = np.zeros((8, 12, 3), np.uint8), np.full((8, 12, 3), 255, np.uint8)
    board = overlay.checkerboard(dark, light, squares=3)
    assert (board[0, 0, 0], board[0, 4, 0], board[4, 4, 0]) == (0, 255, 0)
    mask = np.zeros((8, 12), bool)
    mask[2:7, 2:9] = True
    line = overlay.contour(mask, width_px=1)
    assert line[2, 5] and not line[4, 5] and not (line & ~mask).any()
    drawn = overlay.draw_contours(dark, [(mask, (1, 2, 3))], width_px=1)
    np.testing.assert_array_equal(drawn[2, 5], (1, 2, 3))
    assert not dark.any()


def test_to_rgb_keeps_pictures_and_stretches_the_rest():
    rgb = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    assert overlay.to_rgb(rgb) is rgb
    grey = overlay.to_rgb(np.linspace(5.0, 6.0, 100).reshape(10, 10))
    assert grey.shape == (10, 10, 3)
    assert (grey.min(), grey.max()) == (0, 255)
    assert overlay.to_rgb(np.zeros((3, 3, 2))).shape == (3, 3, 3)
