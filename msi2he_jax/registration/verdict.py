"""Whether an alignment should be used: `reliable`, `doubtful` or `not registrable`, and why.

A logistic regression says how probable an error below 2 MSI pixels is, from the figures of
`evidence.py`, which see no landmark. It was fitted by `python -m benchmarks.calibrate_verdict` to
sections that were spoilt on purpose; docs/registration.md says how well it does on others.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msi2he_jax.registration.evidence import Evidence

RELIABLE, DOUBTFUL, NOT_REGISTRABLE = "reliable", "doubtful", "not registrable"
WORDS = (RELIABLE, DOUBTFUL, NOT_REGISTRABLE)


@dataclasses.dataclass(frozen=True)
class Term:
    """One figure in the regression.

    Attributes:
        mean: Its mean over the pairs of the calibration.
        sd: Its standard deviation there.
        weight: What one standard deviation adds to the log odds.
        words: What is said where this figure speaks most against the alignment.
    """

    mean: float
    sd: float
    weight: float
    words: str


TERMS = {
    "lead": Term(0.084, 0.103, 2.601, "the slide turned or mirrored would fit about as well"),
    "drift_px": Term(
        -1.190, 0.734, -0.373, "details would fit better {drift_px:.1f} MSI pixels away"
    ),
    "spread_px": Term(
        0.950, 0.431, -1.400, "shifts of {spread_px:.1f} MSI pixels would fit as well"
    ),
}
INTERCEPT = 0.076
LEAST_RELIABLE, LEAST_DOUBTFUL = 0.550, 0.147  # probabilities
LEAST_LEAD = 0.005  # nats: below, another orientation fits as well, whatever else is sharp


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What to do with an alignment.

    Attributes:
        word: One of `WORDS`.
        reason: Why it is not reliable, in words; empty where it is.
        probability: Of a median error below 2 MSI pixels, in [0, 1].
    """

    word: str
    reason: str
    probability: float

    def as_row(self) -> dict[str, Any]:
        """Returns the columns of a table."""
        row = {"verdict": self.word, "reason": self.reason}
        return row | {"verdict_probability": self.probability}


def verdict_of(evidence: Evidence) -> Verdict:
    """Puts the figures of an alignment together.

    Args:
        evidence: From `evidence.read_evidence`.
    """
    figures = dataclasses.asdict(evidence)
    votes = {
        name: term.weight * (term_value(name, figures[name]) - term.mean) / term.sd
        for name, term in TERMS.items()
    }
    probability = 1.0 / (1.0 + math.exp(-INTERCEPT - sum(votes.values())))
    if probability >= LEAST_RELIABLE and evidence.lead >= LEAST_LEAD:
        return Verdict(RELIABLE, "", probability)
    word = DOUBTFUL if probability >= LEAST_DOUBTFUL else NOT_REGISTRABLE
    worst = min(votes, key=votes.__getitem__)
    return Verdict(word, TERMS[worst].words.format(**figures), probability)


def wrong_size_words(stated_um: Sequence[float], factor: float) -> str:
    """Says that the pixel size is likely to be wrong.

    Args:
        stated_um: MSI pixel size (y, x) as stated, um.
        factor: What it was multiplied by to find a reliable alignment.
    """
    stated, other = (
        " x ".join(f"{um:g}" for um in dict.fromkeys(sizes))
        for sizes in (stated_um, [um * factor for um in stated_um])
    )
    return (
        f"with MSI pixels of {other} um instead of the stated {stated} um it would be reliable: "
        "check the pixel size"
    )


def term_value(name: str, figure: float) -> float:
    """Returns a figure as the regression sees it: of distances the logarithm.

    Args:
        name: A key of `TERMS`.
        figure: Its value.
    """
    return math.log(figure + 0.1) if name.endswith("_px") else figure


def count_verdicts(words: Iterable[str | None]) -> dict[str, int]:
    """Counts how often each of `WORDS` was said, in their order.

    Args:
        words: Of each section; None where there is none.
    """
    counts = collections.Counter(words)
    return {word: counts[word] for word in WORDS}
