"""Fits the verdict on registrations that went wrong on purpose, and tests it on other sections.

    python -m benchmarks.calibrate_verdict --calibrate=DIR,DIR --test=DIR,DIR --rows=FILE [--save]

Each DIR is a cohort that `benchmarks.spoilt_sections` wrote. Every pair is registered by all ions,
and so is every unspoilt MSI on the slides of `--others` other patients. FILE keeps a row for each
pair as it is done, and the same command goes on after a stop. Weights, intercept and both limits
come from the calibration alone and are printed as `registration/verdict.py` holds them; the test's
table is made with those that stand there.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import special, stats

from benchmarks import harness, report
from benchmarks.bench_outside import Truth
from msi2he_jax.coregistration.coregister import coregister
from msi2he_jax.coregistration.moving import msi_picture
from msi2he_jax.coregistration.section_pair import section_pair
from msi2he_jax.data.manifest import Sample, read_manifest
from msi2he_jax.io_safety import read_json, write_json
from msi2he_jax.registration.evidence import Evidence
from msi2he_jax.registration.verdict import TERMS, WORDS, term_value, verdict_of

WRONG_PX, RIGHT_PX = 2.0, 1.5
RESULT = harness.RESULTS / "verdict.json"
PAGE = report.ROOT / "docs" / "registration.md"
FIGURES = tuple(TERMS)
WRONG_BELOW, RIGHT_ABOVE = 0.93, 0.95  # shares of the calibration that set the limits
_RIDGE = 1e-3  # of the regression, so that it ends where classes lie apart


def pairs_of(cohort: Path, others: int) -> Iterator[tuple[str, str, Sample]]:
    """Lists the pairs of a cohort: a name, how each was spoilt, the sample.

    Args:
        cohort: What `spoilt_sections` wrote.
        others: On how many other patients' slides each unspoilt MSI is laid.

    Yields:
        A name of its own, the kind of `spoilt_sections.KINDS`, and the sample.
    """
    with open(cohort / "spoilt.csv", newline="") as file:
        kinds = {row["sample_id"]: row["kind"] for row in csv.DictReader(file)}
    samples = read_manifest(cohort / "manifest.csv")
    for sample in samples:
        yield sample.sample_id, kinds[sample.sample_id], sample
    plain = [s for s in samples if kinds[s.sample_id] == "as_it_is"]
    for index, sample in enumerate(plain):
        strangers = [s for s in plain[index:] + plain[:index] if s.group_id != sample.group_id]
        for other in strangers[:: max(1, len(strangers) // max(others, 1))][:others]:
            slide = {n: v for n, v in vars(other).items() if n.startswith("histology")}
            foreign = dataclasses.replace(sample, landmarks=None, **slide)
            yield f"{sample.sample_id}_on_{other.sample_id}", "foreign", foreign


def measure(cohort: Path, others: int, known: dict[str, dict]) -> Iterator[dict]:
    """Registers what is not known yet; yields the row of each pair."""
    for name, kind, sample in pairs_of(cohort, others):
        key = f"{cohort.name}/{name}"
        if key in known:
            continue
        pair = section_pair(sample, msi_picture("ions", sample))
        found = coregister(pair)
        error_px = None
        if kind != "foreign":
            error_px = float(np.median(Truth(cohort, pair).errors_px(found.transform)))
        row = {"pair": key, "group_id": sample.group_id, "kind": kind, "error_px": error_px}
        yield row | {"gap": found.search.gap} | dataclasses.asdict(found.evidence)


def is_wrong(row: dict) -> bool:
    """Whether a registration should not be used; on a foreign slide none should."""
    return row["error_px"] is None or row["error_px"] > WRONG_PX


def is_right(row: dict) -> bool:
    """Whether a registration is well below that."""
    return row["error_px"] is not None and row["error_px"] < RIGHT_PX


def design(rows: list[dict]) -> np.ndarray:
    """Figures as the regression sees them, `[N, F]`."""
    return np.array([[term_value(name, row[name]) for name in FIGURES] for row in rows])


def fit(rows: list[dict]) -> dict:
    """Fits the logistic regression and both limits.

    Args:
        rows: Of the calibration.

    Returns:
        `mean`, `sd`, `weight` (each a list in the order of `FIGURES`), `intercept`,
        `least_reliable` and `least_doubtful`.
    """
    x, wrong = design(rows), np.array([is_wrong(row) for row in rows])
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z = np.column_stack([np.ones(len(x)), (x - mean) / sd])
    beta = np.zeros(z.shape[1])
    for _ in range(50):
        p = special.expit(z @ beta)
        gradient = z.T @ (~wrong - p) - _RIDGE * len(x) * beta
        curvature = (z * (p * (1 - p))[:, None]).T @ z + _RIDGE * len(x) * np.eye(len(beta))
        beta = beta + np.linalg.solve(curvature, gradient)
    p = special.expit(z @ beta)
    right = np.array([is_right(row) for row in rows])
    return {
        "mean": mean.tolist(),
        "sd": sd.tolist(),
        "weight": beta[1:].tolist(),
        "intercept": float(beta[0]),
        "least_reliable": float(np.quantile(p[wrong], WRONG_BELOW)),
        "least_doubtful": float(np.quantile(p[right], 1 - RIGHT_ABOVE)),
    }


def described(fitted: dict) -> str:
    """Returns what stands in `registration/verdict.py`, but for the words."""
    numbers = zip(FIGURES, fitted["mean"], fitted["sd"], fitted["weight"], strict=True)
    lines = [f"{name}: Term({m:.3f}, {s:.3f}, {w:.3f})" for name, m, s, w in numbers]
    limits = {name: round(fitted[name], 3) for name in ("least_reliable", "least_doubtful")}
    return "\n".join([*lines, f"INTERCEPT = {fitted['intercept']:.3f}", str(limits)])


def scores(rows: list[dict]) -> dict:
    """Says how good the verdicts are.

    Args:
        rows: With the figures of `Evidence`, `error_px` and `kind`.

    Returns:
        Counts, the shares that the bars are about, AUC, and the rank correlation of
        1 - probability with the error where that is known.
    """
    said = [verdict_of(Evidence(**{name: row[name] for name in FIGURES})) for row in rows]
    reliable = np.array([each.word == "reliable" for each in said])
    p = np.array([each.probability for each in said])
    wrong, right = (np.array([test(row) for row in rows]) for test in (is_wrong, is_right))
    known = np.array([row["error_px"] is not None for row in rows])
    errors = np.array([row["error_px"] for row in rows if row["error_px"] is not None])
    rank = stats.rankdata(p)
    count = wrong.sum() * (~wrong).sum()
    auc = (rank[~wrong].sum() - (~wrong).sum() * ((~wrong).sum() + 1) / 2) / count
    return {
        "pairs": len(rows),
        "wrong": int(wrong.sum()),
        "right": int(right.sum()),
        "wrong_not_reliable": float(1 - reliable[wrong].mean()),
        "right_reliable": float(reliable[right].mean()),
        "auc": float(auc),
        "rank_correlation": float(stats.spearmanr(1 - p[known], errors).statistic),
        "by_kind": _by_kind(rows, [each.word for each in said]),
    }


def _by_kind(rows: list[dict], words: list[str]) -> dict[str, dict]:
    table: dict[str, dict] = {}
    for row, word in zip(rows, words, strict=True):
        line = table.setdefault(row["kind"], dict.fromkeys(("pairs", "wrong", *WORDS), 0))
        line["pairs"] += 1
        line["wrong"] += is_wrong(row)
        line[word] += 1
    return table


def page_part(record: dict) -> str:
    """Returns what docs/registration.md says of a record."""
    lines = [f"{harness.machine_words(record['environment'])}.", ""]
    lines += ["| | pairs | wrong | of these not reliable | below 1.5 px: reliable | AUC | rank |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for part in ("calibration", "test"):
        s = record[part]
        lines.append(
            f"| {part} | {s['pairs']} | {s['wrong']} | {s['wrong_not_reliable']:.1%} | "
            f"{s['right_reliable']:.1%} of {s['right']} | {s['auc']:.3f} | "
            f"{s['rank_correlation']:.2f} |"
        )
    columns = ("pairs", "wrong", *WORDS)
    lines += ["", f"| test | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind, row in record["test"]["by_kind"].items():
        lines.append(f"| {kind} | {' | '.join(str(row[name]) for name in columns)} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the flags, registers, fits, tests, and saves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calibrate", required=True, help="Cohorts, separated by commas.")
    parser.add_argument("--test", required=True, help="Others, likewise.")
    parser.add_argument("--rows", required=True, type=Path, help="Where rows are kept; JSON.")
    parser.add_argument("--others", type=int, default=1, help="Foreign slides for each MSI.")
    parser.add_argument("--save", action="store_true", help="to benchmarks/results and docs/")
    flags = parser.parse_args()
    rows = read_json(flags.rows) if flags.rows.exists() else []
    parts = {"calibration": flags.calibrate, "test": flags.test}
    cohorts = {part: [Path(each) for each in named.split(",")] for part, named in parts.items()}
    for cohort in (each for part in cohorts.values() for each in part):
        for row in measure(cohort, flags.others, {row["pair"]: row for row in rows}):
            rows.append(row)
            write_json(flags.rows, rows)
            print(f"{row['pair']}: {row['error_px']}", flush=True)
    part_of = {cohort.name: part for part, each in cohorts.items() for cohort in each}
    named = [(part_of.get(row["pair"].split("/")[0]), row) for row in rows]
    rows = [{"part": part, **row} for part, row in named if part]  # of other cohorts, no word
    of = {part: [row for row in rows if row["part"] == part] for part in cohorts}
    print(described(fit(of["calibration"])))
    record = {part: scores(each) for part, each in of.items()}
    record = {"environment": harness.environment(), **record, "rows": rows}
    print(page_part(record))
    if flags.save:
        write_json(RESULT, record)
        PAGE.write_text(report.replace_between(PAGE.read_text(), "verdict", page_part(record)))


if __name__ == "__main__":
    main()
