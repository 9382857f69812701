"""results.json as a value: how it is put together, and the paper's Table 1 beside it."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msi2he_jax.metrics.evaluation import DEFINITIONS, summarize

FORMAT = 1
PAPER_SOURCE = "111 DESI/H&E breast pairs (Guenther et al. 2015), not redistributed here"
PAPER_TABLE = (
    {"prediction": "U-Net", "mi": 0.429, "ssim": 0.530},
    {"prediction": "pix2pix, black padding", "mi": 1.349, "ssim": 0.949},
    {"prediction": "pix2pix, white padding", "mi": 1.353, "ssim": 0.949},
)
SHOWN = ("mi_nats", "ssim", "ssim_masked", "mi_corrected_nats")
_HEAD = ("prediction", "MI nats", "SSIM", "SSIM tissue", "MI tissue", "paper MI", "paper SSIM", "")
_PACKAGES = ("msi2he-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")

Scores = Mapping[str, Mapping[str, np.ndarray]]


def split_block(
    scores: Scores,
    nulls: Mapping[str, Scores],
    sample_ids: Sequence[str],
    group_ids: Sequence[str],
    *,
    extra: Mapping[str, np.ndarray],
    alternatives: Mapping[str, Scores],
    seed: int = 0,
) -> dict[str, Any]:
    """Everything results.json says of one split.

    Args:
        scores: The model's, as `evaluation.score_images` gives them, `[N]` each.
        nulls: The same of each baseline by name.
        sample_ids: N names.
        group_ids: N names of patients.
        extra: More values per sample, `[N]` each, such as the distance to the nearest training
            image.
        alternatives: Scores of the same model used otherwise, by name.
        seed: Seed of the bootstrap.

    Returns:
        Blocks `paper`, `tissue`, `null`, `memorisation`, `alternatives` and `per_sample`, counts,
        and `words` on the background.
    """

    def summary(values):
        return summarize(values, group_ids, seed=seed)

    per_image = {**scores["paper"], **scores["tissue"], **extra}
    numbers = {name: values for name, values in extra.items() if values.dtype.kind == "f"}
    block = {
        "paper": summary(scores["paper"]),
        "tissue": summary(scores["tissue"]),
        "null": {name: summary({**s["paper"], **s["tissue"]}) for name, s in nulls.items()},
        "memorisation": summary(numbers),
        "alternatives": {
            name: {part: summary(values) for part, values in other.items()}
            for name, other in alternatives.items()
        },
        "samples": len(sample_ids),
        "groups": len(set(group_ids)),
        "per_sample": [
            {"sample_id": sample, "group_id": group}
            | {name: values[i].item() for name, values in per_image.items()}
            for i, (sample, group) in enumerate(zip(sample_ids, group_ids, strict=True))
        ],
    }
    block["words"] = background_words(block)
    return json_ready(block)


def background_words(block: Mapping[str, Any]) -> str:
    """Says how much of the whole-frame SSIM an empty slide has already."""
    share = block["tissue"]["tissue_fraction"]["mean"]
    text = f"Tissue fills {share:.0%} of the frame"
    if "empty_slide" not in block["null"]:
        return text + "."
    empty, model = block["null"]["empty_slide"]["ssim"]["mean"], block["paper"]["ssim"]["mean"]
    return (
        f"{text}: a slide without any tissue scores SSIM {empty:.3f} on the whole frame here, the "
        f"model {model:.3f}. That much is background; the scores in the tissue are what counts."
    )


def document(
    splits: Mapping[str, Any],
    *,
    model: str,
    padding: str,
    checkpoint: Mapping[str, Any],
    norm_at_test: str,
    dropout_at_test: bool,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole of results.json.

    Args:
        splits: `split_block` by split name.
        model: "U-Net" or "pix2pix", as `model_kind` names it.
        padding: "white" or "black", around the histology.
        checkpoint: `which` and `step`.
        norm_at_test: "batch" or "running".
        dropout_at_test: Whether dropout acted.
        provenance: The data set's provenance.json; `simulated` and `paper_data` are read.
    """
    simulated, paper_data = (bool(provenance.get(key)) for key in ("simulated", "paper_data"))
    return {
        "format": FORMAT,
        "simulated": simulated,
        "comparable_with_paper": paper_data and not simulated,
        "words": data_words(simulated, paper_data),
        "model": model,
        "padding": padding,
        "checkpoint": dict(checkpoint),
        "norm_at_test": norm_at_test,
        "dropout_at_test": dropout_at_test,
        "interval": "95 %, bootstrap over groups; with one group it equals the mean",
        "definitions": DEFINITIONS,
        "versions": versions(),
        **splits,
    }


def data_words(simulated: bool, paper_data: bool) -> str:
    """Says what the scores were measured on, and whether the paper's stand beside them."""
    if simulated:
        return "simulated data: not comparable with the paper"
    if paper_data:
        return "the paper's data"
    return "other data than the paper's: not comparable with it"


def model_kind(generator: str, discriminator: str) -> str:
    """Names the paper's row that a configuration belongs to, "U-Net" or "pix2pix"."""
    return "U-Net" if discriminator == "none" or generator == "unet_ronneberger" else "pix2pix"


def paper_table(results: Mapping[str, Any], split: str = "test") -> list[dict[str, Any]]:
    """The paper's Table 1, this run in its row, then the run's other readings and the baselines.

    Args:
        results: What results.json holds.
        split: Whose scores.

    Returns:
        Rows of `prediction`, `kind` ("model", "alternative" or "null"), `scores` (metric name of
        `SHOWN` to `{"mean", "low", "high"}`; empty where this run has none), `paper_mi` and
        `paper_ssim` (None but in the paper's rows), and `remark`.
    """
    block = results[split]
    own = results["model"]
    if own == "pix2pix":
        own += f", {results['padding']} padding"
    remark = "" if results["comparable_with_paper"] else results["words"]
    rows = [
        _paper_row(row, block if row["prediction"] == own else None, remark) for row in PAPER_TABLE
    ]
    for name, other in block["alternatives"].items():
        rows.append(_row(f"{own}, {name}", "alternative", other["paper"] | other["tissue"]))
    for name, scores in block["null"].items():
        rows.append(_row(name.replace("_", " "), "null", scores, "baseline"))
    return rows


def _paper_row(paper: Mapping[str, Any], block: Mapping[str, Any] | None, remark: str) -> dict:
    scores = block["paper"] | block["tissue"] if block else {}
    row = _row(paper["prediction"], "model", scores, remark)
    return row | {"paper_mi": paper["mi"], "paper_ssim": paper["ssim"]}


def _row(prediction: str, kind: str, scores: Mapping[str, Any], remark: str = "") -> dict:
    shown = {name: scores[name] for name in SHOWN if name in scores}
    row = {"prediction": prediction, "kind": kind, "scores": shown}
    return row | {"paper_mi": None, "paper_ssim": None, "remark": remark}


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lays `paper_table` rows out as text, one line each under a heading."""
    lines = [_HEAD]
    for row in rows:
        scores = [_interval(row["scores"].get(name)) for name in SHOWN]
        paper = [_number(row[name]) for name in ("paper_mi", "paper_ssim")]
        lines.append((row["prediction"], *scores, *paper, row["remark"]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(score: Mapping[str, float | None] | None) -> str:
    if not score or score["mean"] is None:
        return "-"
    return f"{score['mean']:.3f} [{_number(score['low'])}, {_number(score['high'])}]"


def csv_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The per-sample lists of all splits as rows of results.csv, `split` first."""
    return [
        {"split": split, **sample}
        for split, block in results.items()
        if isinstance(block, Mapping) and "per_sample" in block
        for sample in block["per_sample"]
    ]


def other_splits(results: Mapping[str, Any], checkpoint: Mapping[str, Any], split: str) -> dict:
    """Blocks of an earlier results.json that still hold: other splits, same checkpoint."""
    if results.get("checkpoint") != dict(checkpoint) or results.get("format") != FORMAT:
        return {}
    return {
        name: block
        for name, block in results.items()
        if name != split and isinstance(block, Mapping) and "per_sample" in block
    }


def versions() -> dict[str, str]:
    """Versions of Python and of what computes the scores; packages not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def json_ready(value: Any) -> Any:
    """Replaces numbers JSON has no word for (NaN, infinities) by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
