"""The tables of docs/results.md on synthesis of sections that this project did not simulate."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks.harness import machine_words
from benchmarks.report import replace_between
from msi2he_jax.io_safety import atomic_file

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results.md"
HEADINGS = {
    "r2": "R2, all pixels, median",
    "r2_masked": "R2 in the tissue, median",
    "mi_corrected_nats": "MI corrected, nats",
    "stain_h_correlation": "H correlation",
    "stain_e_correlation": "E correlation",
}


def row_words(row: dict[str, Any]) -> str:
    """Says one row, or one run, in a line."""
    if "samples" in row:
        count = len(row["samples"])
        means = {m: sum(s[m] for s in row["samples"]) / count for m in HEADINGS}
        place = f"fold {row['fold']}, seed {row['seed']}"
    else:
        means, place = {m: row[m]["mean"] for m in HEADINGS}, f"{row['folds']} folds"
    numbers = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
    return f"{row['idea']} ({place}): {numbers}  best step {row.get('best_step', '-')}"


def table(rows: list[dict[str, Any]], *, unseen: bool) -> str:
    """Returns rows in Markdown.

    Args:
        rows: Of `outside_synthesis.summary`.
        unseen: Whether the means over folds that no screening saw stand in brackets.
    """
    head = ("row", *HEADINGS.values(), "best step")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [_cell(row[metric], unseen) for metric in HEADINGS]
        step = "" if row["best_step"] is None else f"{row['best_step']:g}"
        lines.append(f"| {' | '.join((row['idea'], *cells, step))} |")
    return "\n".join(lines)


def _cell(score: dict[str, float | None], unseen: bool) -> str:
    words = f"{score['mean']:.3f}"
    if score["spread"] is not None:
        words += f" ± {score['spread'] / 2:.3f}"
    if unseen and score["unseen"] is not None:
        words += f" [{score['unseen']:.3f}]"
    return words


def write_page(page: pathlib.Path, record: dict[str, Any]) -> None:
    """Rewrites the tables that stand between markers."""
    text, machine = page.read_text(), record["environment"]
    facts = f"{machine_words(machine)}, revision {machine['revision']}, {machine['date']}."
    for part in ("first_fold", "all_folds"):
        body = "not run yet"
        if record[part]:
            body = f"{table(record[part], unseen=part == 'all_folds')}\n\n{facts}"
        text = replace_between(text, f"outside-synthesis-{part}", body)
    with atomic_file(page) as temporary:
        temporary.write_text(text)
