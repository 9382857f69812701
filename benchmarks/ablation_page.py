"""The ablation's table and what it says in words, from its runs alone."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
from scipy import stats

from benchmarks.ablation_rows import OPTIONS, REMOVED, Form
from benchmarks.harness import RESULTS, environment
from benchmarks.report import replace_between
from msi2he_jax.io_safety import atomic_file, read_json

LEVEL = 0.95
OPTION_METRICS = ("mi_corrected_nats", "tre_median_msi_px", "stain_h_correlation", "ssim_masked")
# Name: (title, digits, statistic over sections, whether more is better).
METRICS: dict[str, tuple[str, int, Callable, bool]] = {
    "ssim_masked": ("SSIM in the tissue", 3, np.mean, True),
    "mi_corrected_nats": ("MI corrected, nats", 3, np.mean, True),
    "stain_h_correlation": ("H correlation", 3, np.mean, True),
    "stain_e_correlation": ("E correlation", 3, np.mean, True),
    "tre_median_um": ("TRE, um", 0, np.median, False),
    "tre_median_msi_px": ("TRE, MSI px", 2, np.median, False),
    "success": ("below 2 MSI px", 2, np.mean, True),
}


def interval(values, slides, statistic: Callable, other=None) -> dict[str, float]:
    """A statistic of each slide, or its difference; mean and Student's 95 % interval over slides.

    Crops of one slide are not independent, so a slide is one observation, whatever its sections.

    Args:
        values: `[N]` float, one per section and seed.
        slides: N names of slides.
        statistic: Of the `[n]` values of a slide, such as the mean.
        other: `[N]` float to set against it, in the same order; or None.

    Returns:
        `mean`, `low` and `high`; the bounds are None where there is only one slide.
    """
    values, slides = np.asarray(values, float), np.asarray(slides, str)
    members = [np.flatnonzero(slides == slide) for slide in np.unique(slides)]
    found = np.array([statistic(values[index]) for index in members])
    if other is not None:
        found = found - [statistic(np.asarray(other, float)[index]) for index in members]
    mean = float(found.mean())
    if len(found) < 2:
        return {"mean": mean, "low": None, "high": None}
    half = stats.sem(found) * stats.t.ppf((1 + LEVEL) / 2, len(found) - 1)
    return {"mean": mean, "low": float(mean - half), "high": float(mean + half)}


def gather(runs: list[dict]) -> dict[str, dict[tuple, dict]]:
    """Sorts sections by row, and within a row by seed and name, so that rows can be paired."""
    rows: dict[str, dict[tuple, dict]] = {}
    for run in runs:
        of_row = rows.setdefault(run["row"], {})
        of_row |= {(run["seed"], sample["sample_id"]): sample for sample in run["samples"]}
    return {name: dict(sorted(found.items())) for name, found in rows.items()}


def record(form: Form, runs: list[dict]) -> dict:
    """Condenses the runs into what is kept.

    Args:
        form: What was run.
        runs: One record each.
    """
    found = gather(runs)
    return {
        "benchmark": "ablation",
        "form": form.name,
        "simulated": "MSI simulated over real H&E; leave one slide out",
        "seeds": sorted({run["seed"] for run in runs}),
        "slides": len({s["slide"] for run in runs for s in run["samples"]}),
        "rows": [_row(name, samples, runs) for name, samples in found.items()],
        "differences": [
            _difference(found, *names) for names in form.compared if set(names) <= set(found)
        ],
        "environment": environment(),
        "runs": runs,
    }


def _row(name: str, samples: dict, runs: list[dict]) -> dict:
    rows = list(samples.values())
    slides = [row["slide"] for row in rows]
    mine = [run for run in runs if run["row"] == name]
    scores = {
        metric: interval([row[metric] for row in rows], slides, statistic)
        for metric, (_, _, statistic, _) in METRICS.items()
        if all(metric in row for row in rows)
    }
    facts = {"runs": len(mine), "sections": len(rows), "slides": len(set(slides))}
    facts["steps"] = mine[0].get("steps")
    seconds = [run["seconds"] for run in mine if "seconds" in run]
    facts["median_s"] = float(np.median(seconds)) if seconds else None
    return {"name": name, **facts, "scores": scores}


def _difference(found: dict, first: str, second: str) -> dict:
    """First minus second on the sections and seeds that both have."""
    both = [key for key in found[first] if key in found[second]]
    one, two = ([found[name][key] for key in both] for name in (first, second))
    slides = [row["slide"] for row in one]
    scores = {
        metric: interval([r[metric] for r in one], slides, statistic, [r[metric] for r in two])
        for metric, (_, _, statistic, _) in METRICS.items()
        if both and all(metric in row for row in one + two)
    }
    facts = {"sections": len(both), "slides": len(set(slides))}
    return {"first": first, "second": second, **facts, "scores": scores}


def table(record: dict) -> str:
    """Returns the Markdown table."""
    titles = [title for title, *_ in METRICS.values()]
    lines = [f"| row | {' | '.join(titles)} | slides | steps | s per run |"]
    lines += ["|---" * (len(titles) + 4) + "|"]
    for row in record["rows"]:
        cells = [shown(row["scores"].get(name), METRICS[name][1]) for name in METRICS]
        seconds = "" if row["median_s"] is None else f"{row['median_s']:.0f}"
        cells += [str(row["slides"]), str(row["steps"] or ""), seconds]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(score: dict | None, digits: int) -> str:
    """Returns a value with its interval, or nothing."""
    if score is None:
        return ""
    return _with_bounds(score, f".{digits}f")


def _with_bounds(score: dict, form: str) -> str:
    if score["low"] is None:
        return format(score["mean"], form)
    mean, low, high = (format(score[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def words(record: dict) -> str:
    """Says of each comparison what differs beyond its interval, whichever way it falls."""
    lines = ["| difference | better | worse | nothing shown |", "|---|---|---|---|"]
    for each in record["differences"]:
        told: dict[str, list[str]] = {"better": [], "worse": [], "within": []}
        for name, score in each["scores"].items():
            title, digits, _, more = METRICS[name]
            told[verdict(score, more)].append(f"{title} {_with_bounds(score, f'+.{digits}f')}")
        cells = " | ".join("; ".join(told[name]) for name in told)
        title = f"{each['first']} minus {each['second']} ({each['slides']} slides)"
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


def option_table(record: dict) -> str:
    """Returns one line per option, what it adds on aligned and on misaligned pairs.

    Args:
        record: Whose differences are of rows with and without options, aligned ones first.
    """
    titles = ("option", "training pairs", *(METRICS[name][0] for name in OPTION_METRICS))
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for each in sorted(record["differences"], key=_place):
        cells = [_option_of(each), "misaligned" if _misaligned(each) else "aligned"]
        for name in OPTION_METRICS:
            _, digits, _, more = METRICS[name]
            said = {"better": "**better** ", "worse": "**worse** ", "within": ""}
            score = each["scores"][name]
            cells.append(said[verdict(score, more)] + _with_bounds(score, f"+.{digits}f"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _place(difference: dict) -> tuple[int, bool]:
    return [*OPTIONS, *REMOVED].index(_option_of(difference)), _misaligned(difference)


def _misaligned(difference: dict) -> bool:
    return difference["first"].endswith("misaligned")


def _option_of(difference: dict) -> str:
    """The option in which two rows differ: of the row with it, else of the row without."""
    for side, word in (("first", ", with "), ("second", ", without ")):
        name = difference[side].removesuffix(", misaligned").partition(word)[2]
        if name:
            return name
    raise ValueError(f"{difference['first']} and {difference['second']} differ in no option")


def verdict(score: dict, more_is_better: bool) -> str:
    """Returns `better` or `worse` where the whole interval lies on one side of 0, else `within`."""
    if score["low"] is None:
        return "within"
    if score["low"] > 0:
        return "better" if more_is_better else "worse"
    if score["high"] < 0:
        return "worse" if more_is_better else "better"
    return "within"


def line(run: dict) -> str:
    """Returns one run in a line."""
    means = [
        f"{name} {statistic([s[name] for s in run['samples']]):.3f}"
        for name, (_, _, statistic, _) in METRICS.items()
        if all(name in s for s in run["samples"])
    ]
    where = f"{run['row']}, slide {run['fold']}, seed {run['seed']}, {run.get('seconds', 0):.0f} s"
    return f"{where}: {', '.join(means)}"


def tune_table(rows: list[dict]) -> str:
    """Returns the tuning as Markdown.

    Args:
        rows: What was tried: norm, rate and the means over the validation sections.
    """
    scores = [name for name in METRICS if name in rows[0]]
    titles = ["norm", "rate", "MAE in the tissue", *(METRICS[name][0] for name in scores)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [f"{row[name]:.3f}" for name in ("mae_masked", *scores)]
        lines.append(f"| {row['norm']} | {row['rate']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(page: pathlib.Path) -> None:
    """Rewrites the tables of docs/results.md from benchmarks/results, of the forms it has."""
    text = page.read_text()
    for path in sorted(RESULTS.glob("ablation-*.json")):
        found = read_json(path)
        machine = found["environment"]
        where = f"{found['slides']} slides left out, seeds {found['seeds']}, {machine['device']}."
        where += f" Measured at revision {machine['revision']}, {machine['date']}."
        if found.get("relabelled"):
            named = (f"`{now}` was called `{was}`" for was, now in found["relabelled"].items())
            where += f" When these were run, {', '.join(named)}."
        differences = option_table if found["form"] == "options" else words
        body = "\n\n".join([where, differences(found), table(found)])
        text = replace_between(text, f"ablation-{found['form']}", body)
    tuned = RESULTS / "tune-unet.json"
    if tuned.is_file():
        text = replace_between(text, "tune-unet", tune_table(read_json(tuned)["validation"]))
    with atomic_file(page) as temporary:
        temporary.write_text(text)
