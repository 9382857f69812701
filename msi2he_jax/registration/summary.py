"""What a registered cohort comes to: one row per section, medians, and what stood beside."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from msi2he_jax.io_safety import atomic_file, write_json
from msi2he_jax.registration.scores import SUCCESS_MSI_PX, cohort_scores, failed

BASELINES = ("initial", "control_points")
_OF_EACH = ("tre_median_um", "tre_p90_um", "tre_median_msi_px")
HEADLINES = (
    "tre_median_um",
    "tre_median_msi_px",
    "tre_p90_um",
    "truth_tre_median_um",
    "truth_tre_median_msi_px",
    "truth_tre_p90_um",
    "initial_tre_median_um",
    "initial_truth_tre_median_um",
    "control_points_tre_median_um",
    "control_points_truth_tre_median_um",
    "seconds",
)


def sample_row(scores: dict[str, dict[str, dict]], method: str) -> dict:
    """Lays the scores of one section out in one row.

    Args:
        scores: For `found` and each baseline: for `eval`, `fit` and `truth`, as far as known, what
            `scores.summarize_tre` says.
        method: How the transform was found; `fit` errors are residuals where it used them.

    Returns:
        Held-out landmarks under plain names; `truth_`, `fit_` and the baselines under prefixes;
        `success` and `failed` (worse than the start) by held-out landmarks, by the truth where
        there are none.
    """
    found = scores["found"]
    use = next((name for name in ("eval", "truth") if found.get(name)), None)
    held_out, before = found.get(use, {}), scores.get("initial", {}).get(use, {})
    row = dict(found.get("eval", {})) | {"success": held_out.get("success"), "method": method}
    row["failed"] = failed(before, held_out)
    for use in ("truth", "fit"):
        row |= {f"{use}_{name}": found.get(use, {}).get(name) for name in _OF_EACH}
    for baseline in BASELINES:
        known = scores.get(baseline, {})
        for use, prefix in (("eval", ""), ("truth", "truth_")):
            for name in _OF_EACH:
                row[f"{baseline}_{prefix}{name}"] = known.get(use, {}).get(name)
    return row


def summarize(rows: list[dict], **facts) -> dict:
    """Summarises a cohort.

    Args:
        rows: One per section, from `sample_row` with its names added.
        **facts: What else to say, such as `moving` and `manifest`.

    Returns:
        `facts`, `median` (of the sections' values), `cohort` (by the definitions of ANHIR and
        ACROBAT, on held-out landmarks), `success_rate`, what counts as success, `failures` (worse
        than the start), and the rows as `samples`.
    """
    judged = [row["success"] for row in rows if row.get("success") is not None]
    return {
        **facts,
        "success_means": f"median TRE below {SUCCESS_MSI_PX:g} MSI px",
        "sections": len(rows),
        "success_rate": float(np.mean(judged)) if judged else None,
        "failures": [row.get("sample_id") for row in rows if row.get("failed")],
        "median": {name: _median(rows, name) for name in HEADLINES},
        "cohort": cohort_scores(rows),
        "samples": rows,
    }


def _median(rows: list[dict], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.median(values)) if values else None


def summary_lines(summary: dict) -> list[str]:
    """Says in a few lines what came out, with the baselines beside.

    Args:
        summary: From `summarize`, with `method` and `moving`.
    """
    median, rate = summary["median"], summary["success_rate"]
    lines = [f"{summary['sections']} sections, {summary['method']} from {summary['moving']}"]
    if rate is not None:
        lines.append(f"success ({summary['success_means']}): {rate:.0%}")
    titles = {"": "found", "control_points_": "control points", "initial_": "centred only"}
    for on, words in (("", "held-out landmarks"), ("truth_", "simulator's truth, all tissue")):
        known = {title: median[f"{prefix}{on}tre_median_um"] for prefix, title in titles.items()}
        parts = [f"{title} {um:.1f}" for title, um in known.items() if um is not None]
        if parts:
            lines.append(f"median TRE on {words}, um: {', '.join(parts)}")
    if summary["failures"]:
        lines.append(f"worse than centred only: {', '.join(map(str, summary['failures']))}")
    return lines


def write_summary(folder: str | os.PathLike, summary: dict) -> None:
    """Writes `summary.json` and `summary.csv` (one line per section).

    Args:
        folder: An existing folder.
        summary: From `summarize`.
    """
    write_json(Path(folder) / "summary.json", summary)
    rows = summary["samples"]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(Path(folder) / "summary.csv", columns, rows)


def write_errors(path: str | os.PathLike, errors: dict) -> None:
    """Writes `tre.csv`: use, msi_x_um, msi_y_um, tre_um, one line per point.

    Args:
        path: Where to.
        errors: Name of a set (`eval`, `fit`, `truth`) to its points `[N, 2]` (y, x) in the MSI and
            their errors `[N]`, um.
    """
    rows = [
        {"use": use, "msi_x_um": f"{x:.3f}", "msi_y_um": f"{y:.3f}", "tre_um": f"{error:.3f}"}
        for use, (points, values) in errors.items()
        for (y, x), error in zip(points, values, strict=True)
    ]
    write_rows(path, ["use", "msi_x_um", "msi_y_um", "tre_um"], rows)


def write_rows(path: str | os.PathLike, columns: list[str], rows: list[dict]) -> None:
    """Writes a CSV, atomically; None becomes an empty cell.

    Args:
        path: Where to.
        columns: Header.
        rows: Cells by column; absent ones stay empty.
    """
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
