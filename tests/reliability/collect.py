"""Gathers results of campaigns: `python tests/reliability/collect.py NAME=FILE.json ...`.

A file is what a campaign, `mutation.py` or `coverage json` printed. What is known of each NAME goes
into docs/reliability.json, with versions and device; then docs/reliability.md is written anew, as
it is with no file at all.
"""

from __future__ import annotations

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
RESULTS, PAGE = ROOT / "docs/reliability.json", ROOT / "docs/reliability.md"


def coverage(found: dict) -> dict:
    """Keeps the totals of a coverage report, and the modules that shall be covered wholly."""
    totals, files = found["totals"], found["files"]
    strict = ("msi/imzml", "data/split.py", "training/checkpoint.py", "io_safety.py")
    kept = {
        name: sum(part["summary"][f"{name}_branches"] for part in _of(files, strict))
        for name in ("num", "covered")
    }
    return {
        "lines_percent": round(totals["percent_statements_covered"], 2),
        "branches_percent": round(totals["percent_branches_covered"], 2),
        "strict_branches": kept["num"],
        "strict_branches_covered": kept["covered"],
        "missed": {
            name.removeprefix("msi2he_jax/"): part["missing_branches"]
            for name, part in files.items()
            if any(word in name for word in strict) and part["missing_branches"]
        },
    }


def _of(files: dict, words: tuple[str, ...]) -> list[dict]:
    return [part for name, part in files.items() if any(word in name for word in words)]


def main(words: list[str]) -> int:
    """Adds results and writes the page."""
    import promises

    from benchmarks import harness

    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for word in words:
        name, _, path = word.partition("=")
        found = json.loads(pathlib.Path(path).read_text())
        if "totals" in found:
            found = coverage(found)
        environment = harness.environment()
        versions = {key: environment[key] for key in ("versions", "revision") if key in environment}
        known[name] = {**found, "device": harness.machine_words(environment), **versions}
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(promises.page(known))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
