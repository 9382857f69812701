"""The verdict: its words, its reasons, and what each figure does to it."""

import dataclasses
import math

import pytest

from msi2he_jax.registration.evidence import Evidence
from msi2he_jax.registration.verdict import (
    DOUBTFUL,
    INTERCEPT,
    LEAST_DOUBTFUL,
    LEAST_RELIABLE,
    NOT_REGISTRABLE,
    RELIABLE,
    TERMS,
    WORDS,
    count_verdicts,
    verdict_of,
)

CLEAR = Evidence(lead=0.35, drift_px=0.05, spread_px=1.0)
FOREIGN = Evidence(lead=-0.02, drift_px=2.5, spread_px=4.0)


def test_what_is_clear_is_reliable_and_what_is_not_says_why():
    clear, foreign = verdict_of(CLEAR), verdict_of(FOREIGN)
    assert (clear.word, clear.reason) == (RELIABLE, "") and clear.probability >= LEAST_RELIABLE
    assert foreign.word == NOT_REGISTRABLE and foreign.probability < LEAST_DOUBTFUL
    assert foreign.reason
    row = foreign.as_row()
    assert row == {
        "verdict": NOT_REGISTRABLE,
        "reason": foreign.reason,
        "verdict_probability": foreign.probability,
    }


@pytest.mark.parametrize("figure", TERMS)
def test_each_figure_speaks_against_an_alignment_when_it_is_bad(figure):
    worse = dataclasses.replace(CLEAR, **{figure: getattr(FOREIGN, figure)})
    assert verdict_of(worse).probability < verdict_of(CLEAR).probability


def test_the_reason_is_the_figure_that_speaks_most_against_it():
    drifting = dataclasses.replace(CLEAR, lead=-0.3, drift_px=5.5)
    turned = dataclasses.replace(CLEAR, lead=-3.0, drift_px=5.5)
    assert verdict_of(dataclasses.replace(CLEAR, drift_px=5.5, lead=0.0)).probability < 0.999
    assert "turned or mirrored" in verdict_of(turned).reason
    assert any(char.isdigit() for char in TERMS["drift_px"].words.format(**vars(drifting)))


def test_the_probability_is_that_of_the_logistic_regression():
    values = {"lead": 0.1, "drift_px": math.log(0.3), "spread_px": math.log(1.6)}
    odds = INTERCEPT + sum(t.weight * (values[n] - t.mean) / t.sd for n, t in TERMS.items())
    found = verdict_of(Evidence(lead=0.1, drift_px=0.2, spread_px=1.5))
    assert found.probability == pytest.approx(1 / (1 + math.exp(-odds)))


def test_the_words_follow_the_probability():
    probabilities = []
    for step in range(60):
        share = step / 59
        mixed = {
            name: (1 - share) * value + share * getattr(FOREIGN, name)
            for name, value in dataclasses.asdict(CLEAR).items()
        }
        found = verdict_of(Evidence(**mixed))
        probabilities.append(found.probability)
        limits = [LEAST_RELIABLE, LEAST_DOUBTFUL, -math.inf]
        word = next(w for w, limit in zip(WORDS, limits) if found.probability >= limit)
        assert found.word == word
    assert probabilities == sorted(probabilities, reverse=True)


def test_what_fits_as_well_when_turned_is_never_reliable():
    sharp = Evidence(lead=0.0, drift_px=0.0, spread_px=0.5)
    found = verdict_of(sharp)
    assert found.probability > LEAST_RELIABLE and found.word == DOUBTFUL
    assert "turned or mirrored" in found.reason


def test_verdicts_are_counted_in_their_order():
    counts = count_verdicts([DOUBTFUL, None, RELIABLE, DOUBTFUL])
    assert list(counts.items()) == [(RELIABLE, 1), (DOUBTFUL, 2), (NOT_REGISTRABLE, 0)]
