"""What a registered cohort comes to: one row per section, medians, and what stood beside."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from msi2he_jax.io_safety import write_json
from msi2he_jax.registration.scores import SUCCESS_MSI_PX, cohort_scores, failed
from msi2he_jax.registration.verdict import RELIABLE, count_verdicts
from msi2he_jax.tables import write_records, write_table

# Landmarks are not marked more exactly: what is less is no difference.
WORSE_MSI_PX = 0.25
NEARLY_EVERYWHERE = 0.9
CALIBRATED = ("ions", "automatic")  # moving image and method of the pairs behind the verdict
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
        than the start), `verdicts` (how many sections have each), `cautions` (see there; with the
        section's name), and the rows as `samples`, each with its `caution`.
    """
    rows = [row | {"caution": "; ".join(cautions(row))} for row in rows]
    judged = [row["success"] for row in rows if row.get("success") is not None]
    return {
        **facts,
        "success_means": f"median TRE below {SUCCESS_MSI_PX:g} MSI px",
        "sections": len(rows),
        "success_rate": float(np.mean(judged)) if judged else None,
        "failures": [row.get("sample_id") for row in rows if row.get("failed")],
        "verdicts": count_verdicts(row.get("verdict") for row in rows),
        "cautions": [f"{row.get('sample_id')}: {each}" for row in rows for each in cautions(row)],
        "median": {name: _median(rows, name) for name in HEADLINES},
        "cohort": cohort_scores(rows),
        "samples": rows,
    }


def cautions(row: dict) -> list[str]:
    """Says why what was found for a section should not be taken as it is.

    Args:
        row: From `sample_row`, with `moving`, `msi_um_per_px`, `verdict` and `reason`, and of a
            deformable step `kept_affine` and `undetermined_share`; what is absent is not looked at.

    Returns:
        Sentences; none where nothing speaks against it.
    """
    said, verdict = [], row.get("verdict")
    calibrated = (row.get("moving"), row.get("method")) == CALIBRATED
    if calibrated and verdict not in (None, RELIABLE):
        said.append(f"{verdict}: {row['reason']}")
    share = row.get("undetermined_share") or 0.0
    # with all ions, pixels held out have spoken for the field, and this share is of grey levels
    if not calibrated and row.get("kept_affine") is False and share > NEARLY_EVERYWHERE:
        words = f"undetermined in {share:.0%} of the tissue: do not use it"
        said.append(f"the deformable step is {words}")
    for use, words in (("", "held-out landmarks"), ("truth_", "the simulator's truth")):
        found, points = (row.get(f"{by}{use}tre_median_um") for by in ("", "control_points_"))
        if None not in (found, points):
            if found - points > WORSE_MSI_PX * row["msi_um_per_px"]:
                numbers = f"median TRE {found:.1f} instead of {points:.1f} um on {words}"
                said.append(f"worse than the control points: {numbers}")
            break
    return said


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
    counts = ", ".join(f"{count} {word}" for word, count in summary["verdicts"].items() if count)
    guide = "" if summary["moving"] == CALIBRATED[0] else " (a guide: calibrated for --moving=ions)"
    lines += [f"verdict: {counts}{guide}"] if counts else []
    titles = {"": "found", "control_points_": "control points", "initial_": "centred only"}
    for on, words in (("", "held-out landmarks"), ("truth_", "simulator's truth, all tissue")):
        known = {title: median[f"{prefix}{on}tre_median_um"] for prefix, title in titles.items()}
        parts = [f"{title} {um:.1f}" for title, um in known.items() if um is not None]
        if parts:
            lines.append(f"median TRE on {words}, um: {', '.join(parts)}")
    if summary["failures"]:
        lines.append(f"worse than centred only: {', '.join(map(str, summary['failures']))}")
    return lines + summary["cautions"]


def left_out_lines(rows: list[dict]) -> list[str]:
    """Says per section how well its control points agree, each left out in turn.

    Args:
        rows: One per section, with what `control_points.Fit.as_row` says.
    """
    return [
        f"{row['sample_id']}: {row['control_points_fit']} control points: leave-one-out error "
        f"median {row['leave_one_out_median_um']:.1f}, max {row['leave_one_out_max_um']:.1f} um "
        f"({row['control_points_used']} used, {row['control_points_outliers']} outliers)"
        for row in rows
        if row.get("leave_one_out_median_um") is not None
    ]


def write_summary(folder: str | os.PathLike, summary: dict) -> None:
    """Writes `summary.json` and `summary.csv` (one line per section).

    Args:
        folder: An existing folder.
        summary: From `summarize`.
    """
    write_json(Path(folder) / "summary.json", summary)
    write_records(Path(folder) / "summary.csv", summary["samples"])


def write_errors(path: str | os.PathLike, errors: dict) -> None:
    """Writes `tre.csv`: use, msi_x_um, msi_y_um, tre_um, one line per point.

    Args:
        path: Where to.
        errors: Name of a set (`eval`, `fit`, `truth`) to its points `[N, 2]` (y, x) in the MSI and
            their errors `[N]`, um.
    """
    rows = [
        [use, f"{x:.3f}", f"{y:.3f}", f"{error:.3f}"]
        for use, (points, values) in errors.items()
        for (y, x), error in zip(points, values, strict=True)
    ]
    write_table(path, ["use", "msi_x_um", "msi_y_um", "tre_um"], rows)
