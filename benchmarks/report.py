"""Runs benchmarks and writes their tables:  python -m benchmarks.report [--suite=quick|none]

`--suite=none` only rewrites the tables from the JSON files in benchmarks/results. The README's
speed and results tables stand between markers and are written here, never by hand.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib

from benchmarks.harness import RESULTS

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUITES = {"quick": ("metrics", "imzml", "train_step"), "none": ()}


def speed_tables(records: list[dict]) -> str:
    """Returns one Markdown table over all benchmark records."""
    lines = ["| work | machine | ours | against | times as fast |", "|---|---|---|---|---|"]
    for record in records:
        for title, table in record["tables"].items():
            lines += _rows(title, table, record["environment"])
    return "\n".join(lines)


def _rows(title: str, table: dict, machine: dict) -> list[str]:
    where = f"{machine['device']}, {machine['cores']} cores" * (machine["backend"] == "cpu")
    where = where or machine["device"]
    ours, *others = table["rows"]
    speed = f"{_digits(ours['items_per_s'])} {table['unit']}/s"
    return [
        f"| {title} | {where} | {speed} | {row['name']} | {_digits(row['ratio'])} |"
        for row in others
    ]


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def results_table(record: dict) -> str:
    """Returns the demo's scores beside its baselines, from benchmarks/results/demo.json."""
    names = record["metrics"]
    head = ["| prediction |", *(f" {name} |" for name in names)]
    lines = ["".join(head), "|---|" + "---|" * len(names)]
    for row in record["rows"]:
        cells = (
            f" {row[name]['mean']:.3f} ({row[name]['low']:.3f} to {row[name]['high']:.3f}) |"
            for name in names
        )
        lines.append(f"| {row['prediction']} |" + "".join(cells))
    return "\n".join(lines)


def replace_between(text: str, name: str, body: str) -> str:
    """Puts `body` between the markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def write_tables() -> None:
    """Rewrites the README's tables and benchmarks/results/README.md from the JSON files."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*_*.json"))]
    readme = ROOT / "README.md"
    text = replace_between(readme.read_text(), "speed", speed_tables(records))
    demo = RESULTS / "demo.json"
    if demo.exists():
        text = replace_between(text, "results", results_table(json.loads(demo.read_text())))
    readme.write_text(text)


def main() -> None:
    """Runs the chosen benchmarks, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=sorted(SUITES), default="quick")
    for name in SUITES[parser.parse_args().suite]:
        importlib.import_module(f"benchmarks.bench_{name}").main()
    write_tables()


if __name__ == "__main__":
    main()
