"""The verdict's calibration: what is wrong, what is fitted, and the pages that show it."""

import math

import numpy as np
import pytest

from benchmarks import calibrate_verdict as calibrate
from benchmarks import real_spectra
from msi2he_jax.io_safety import read_json
from msi2he_jax.registration import verdict


def rows_of(rng, count, kind="as_it_is", *, wrong=False):
    """Pairs whose figures lie on either side."""
    lead = rng.normal(0.0 if wrong else 0.2, 0.05, count)
    px = np.exp(rng.normal(1.0 if wrong else -1.0, 0.5, (2, count)))
    error = 9.0 if wrong else 0.5
    return [
        {"kind": kind, "error_px": error, "lead": a, "drift_px": b, "spread_px": c}
        for a, b, c in zip(lead, *px)
    ]


def test_a_foreign_slide_is_always_wrong():
    foreign = {"error_px": None}
    assert calibrate.is_wrong(foreign) and not calibrate.is_right(foreign)
    between = {"error_px": 1.8}
    assert not calibrate.is_wrong(between) and not calibrate.is_right(between)


def test_the_regression_tells_both_sides_apart():
    rng = np.random.default_rng(0)
    rows = [*rows_of(rng, 60), *rows_of(rng, 60, wrong=True)]
    fitted = calibrate.fit(rows)
    signs = dict(zip(calibrate.FIGURES, np.sign(fitted["weight"])))
    assert signs == {"lead": 1, "drift_px": -1, "spread_px": -1}
    assert fitted["least_doubtful"] > 0 and fitted["least_reliable"] < 1
    z = (calibrate.design(rows) - fitted["mean"]) / fitted["sd"]
    p = 1 / (1 + np.exp(-fitted["intercept"] - z @ fitted["weight"]))
    assert p[:60].min() > p[60:].max()
    assert (p[60:] < fitted["least_reliable"]).mean() == pytest.approx(
        calibrate.WRONG_BELOW, abs=0.02
    )


def test_scores_are_those_of_the_verdicts_given():
    rng = np.random.default_rng(1)
    rows = [*rows_of(rng, 30), *rows_of(rng, 30, "foreign", wrong=True)]
    rows = [row | {"error_px": None} if row["kind"] == "foreign" else row for row in rows]
    found = calibrate.scores([*rows, *rows_of(rng, 2, wrong=True)])
    assert (found["pairs"], found["wrong"], found["right"]) == (62, 32, 30)
    assert found["auc"] == 1.0 and found["wrong_not_reliable"] == 1.0
    line = found["by_kind"]["foreign"]
    assert line["pairs"] == line["wrong"] == sum(line[word] for word in verdict.WORDS) == 30


def test_weights_and_limits_in_the_code_are_those_of_the_record():
    record = read_json(calibrate.RESULT)
    chosen = [row for row in record["rows"] if row["part"] == "calibration"]
    fitted = calibrate.fit(chosen)
    for name, mean, sd, weight in zip(
        calibrate.FIGURES, fitted["mean"], fitted["sd"], fitted["weight"]
    ):
        term = verdict.TERMS[name]
        found = (term.mean, term.sd, term.weight)
        assert found == pytest.approx((mean, sd, weight), abs=6e-4)
    limits = fitted["least_reliable"], fitted["least_doubtful"]
    assert limits == pytest.approx((verdict.LEAST_RELIABLE, verdict.LEAST_DOUBTFUL), abs=6e-4)
    assert pytest.approx(fitted["intercept"], abs=6e-4) == verdict.INTERCEPT
    for part in ("calibration", "test"):
        again = calibrate.scores([row for row in record["rows"] if row["part"] == part])
        assert again["auc"] == pytest.approx(record[part]["auc"])
        assert not math.isnan(again["rank_correlation"])


@pytest.mark.parametrize("bench", [calibrate, real_spectra])
def test_the_page_shows_what_was_measured(bench):
    assert bench.page_part(read_json(bench.RESULT)) in bench.PAGE.read_text()
