"""The paper's Table 1, and the table that evaluate prints with a run in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PAPER_SOURCE = "111 DESI/H&E breast pairs (Guenther et al. 2015), not redistributed here"
PAPER_TABLE = (
    {"prediction": "U-Net", "mi": 0.429, "ssim": 0.530},
    {"prediction": "pix2pix, black padding", "mi": 1.349, "ssim": 0.949},
    {"prediction": "pix2pix, white padding", "mi": 1.353, "ssim": 0.949},
)
SHOWN = ("mi_nats", "ssim", "ssim_masked", "mi_corrected_nats")
_HEAD = ("prediction", "MI nats", "SSIM", "SSIM tissue", "MI tissue", "paper MI", "paper SSIM")


def row_of(model: str, padding: str) -> str:
    """Names the paper's row of a model: its U-Net has one, its pix2pix one for each padding.

    Args:
        model: "U-Net" or "pix2pix".
        padding: "white" or "black".
    """
    return model if model == "U-Net" else f"{model}, {padding} padding"


def paper_table(results: Mapping[str, Any], split: str = "test") -> list[dict[str, Any]]:
    """This run, its other readings and the baselines, then the paper's rows.

    A run of the paper's own recipe stands in the paper's row; any other has a row of its own and
    leaves the paper's rows to the paper.

    Args:
        results: What results.json holds.
        split: Whose scores.

    Returns:
        Rows of `prediction`, `kind` ("model", "alternative", "null" or "paper"), `scores` (metric
        name of `SHOWN` to `{"mean", "low", "high"}`; empty where this run has none), `paper_mi` and
        `paper_ssim` (None but in the paper's rows).
    """
    block, name = results[split], results["run"]
    own = _row(f"{name} ({results['model']}, {results['padding']} padding)", "model", _all(block))
    rows, place = [own], results["paper_row"]
    for other, scores in block["alternatives"].items():
        rows.append(_row(f"{name}, {other}", "alternative", _all(scores)))
    for other, scores in block["null"].items():
        rows.append(_row(f"baseline: {other.replace('_', ' ')}", "null", scores))
    for paper in PAPER_TABLE:
        numbers = {"paper_mi": paper["mi"], "paper_ssim": paper["ssim"]}
        if paper["prediction"] == place:
            own |= numbers
        else:
            rows.append(_row(f"paper's {paper['prediction']}", "paper", {}) | numbers)
    return rows


def _all(block: Mapping[str, Any]) -> dict[str, Any]:
    return {**block["paper"], **block["tissue"]}


def _row(prediction: str, kind: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: scores[name] for name in SHOWN if name in scores}
    row = {"prediction": prediction, "kind": kind, "scores": shown}
    return row | {"paper_mi": None, "paper_ssim": None}


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lays `paper_table` rows out as text, one line each under a heading."""
    lines = [_HEAD]
    for row in rows:
        scores = [_interval(row["scores"].get(name)) for name in SHOWN]
        paper = [_number(row[name]) for name in ("paper_mi", "paper_ssim")]
        lines.append((row["prediction"], *scores, *paper))
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(score: Mapping[str, float | None] | None) -> str:
    """A mean with its bounds; alone where one group gives none."""
    if not score or score["mean"] is None:
        return "-"
    if score["low"] is None:
        return f"{score['mean']:.3f}"
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
