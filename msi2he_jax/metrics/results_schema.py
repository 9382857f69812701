"""What every value of results.json that is read must be: checked once, before any of it is used.

What may be absent is what older files do not have. What nothing reads is not listed.
"""

from __future__ import annotations

from typing import Any

from msi2he_jax.json_schema import BOOLEAN, COUNT, NUMBER, TEXT, Each, Maybe

_SCORE = {"mean?": Maybe(NUMBER), "low?": Maybe(NUMBER), "high?": Maybe(NUMBER)}
_SCORES = Each(_SCORE)  # By metric.
_SPLIT = {
    "paper": _SCORES,
    "tissue?": _SCORES,
    "null?": Each(_SCORES),
    "memorisation?": _SCORES,
    "alternatives?": Each(Each(_SCORES)),
    "data_sha256?": TEXT,
    "samples?": COUNT,
    "groups?": COUNT,
    "words?": TEXT,
    "per_sample?": [{"sample_id": TEXT, "group_id": TEXT, "ssim_masked?": Maybe(NUMBER)}],
}
RESULTS: dict[str, Any] = {
    "comparable_with_paper?": BOOLEAN,
    "words?": TEXT,
    "model?": TEXT,
    "padding?": TEXT,
    "paper_row?": Maybe(TEXT),
    "checkpoint?": {"which": TEXT, "step": COUNT},
    "norm_at_test?": TEXT,
    "definitions?": Each(TEXT),
    "versions?": Each(TEXT),
    **{f"{split}?": _SPLIT for split in ("train", "validation", "test")},
}
