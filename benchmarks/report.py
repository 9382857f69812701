"""Runs benchmarks and writes their tables:  python -m benchmarks.report [--suite=quick|gpu|none]

`quick` is for a CPU and takes a few minutes; `gpu` is for one graphics card and 8 minutes, needs
generated arrays alone, and sets ours beside PyTorch where torch is there. All that was ever
measured is drawn on one page, benchmarks/results/report.html. `--suite=none` only rewrites page
and tables from the files in benchmarks/results; `--demo=runs/demo` first takes over the scores of a
finished `make demo`. The README's speed and results tables stand between markers and are written
here, never by hand, as is the line on streaming in docs/training.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

from benchmarks.harness import RESULTS, environment, machine_words
from benchmarks.page import page
from msi2he_jax.io_safety import atomic_file, read_json, write_json

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = RESULTS / "report.html"
QUICK = ("metrics", "imzml", "train_step", "loader", "inference", "import")


def speed_tables(records: list[dict]) -> str:
    """Returns one Markdown table of ours against others; ours against ours is on the page."""
    titles = ("work", "machine", "revision", "ours", "against", "times as fast")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for record in records:
        if record["benchmark"] == "import":
            continue
        for title, table in record["tables"].items():
            lines += _rows(title, table, record["environment"])
    return "\n".join(lines)


def _rows(title: str, table: dict, machine: dict) -> list[str]:
    where = machine_words(machine)
    ours, *others = table["rows"]
    speed = f"{_digits(ours['items_per_s'])} {table['unit']}/s"
    return [
        f"| {title} | {where} | {machine['revision']} | {speed} | {row['name']} |"
        f" {_digits(row['ratio'])} |"
        for row in others
        if row["peer"]
    ]


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


DEMO_METRICS = {
    "mi_corrected_nats": "MI in the tissue, corrected, nats",
    "ssim_masked": "SSIM in the tissue",
    "ssim": "SSIM, whole frame",
    "mi_nats": "MI, whole frame, nats",
}


def demo_record(demo: pathlib.Path) -> dict:
    """Returns the test scores of a demo's two models and of the null baselines."""
    blocks = {}
    for run, name in (("pix2pix", "pix2pix"), ("unet", "U-Net")):
        test = read_json(demo / run / "results.json")["test"]
        blocks[name] = test["paper"] | test["tissue"]
    blocks |= {name.replace("_", " "): block for name, block in test["null"].items()}
    rows = [
        {"prediction": name} | {metric: block[metric] for metric in DEMO_METRICS}
        for name, block in blocks.items()
    ]
    registration = read_json(demo / "registration" / "summary.json")
    facts = {"timings": read_json(demo / "timings.json"), "environment": environment()}
    return {"rows": rows, "registration": registration, **facts}


def results_table(record: dict) -> str:
    """Returns the demo's scores beside its baselines, from benchmarks/results/demo.json."""
    lines = ["| prediction | " + " | ".join(DEMO_METRICS.values()) + " |"]
    lines += ["|---" * (1 + len(DEMO_METRICS)) + "|"]
    for row in record["rows"]:
        cells = " | ".join(_interval(row[metric]) for metric in DEMO_METRICS)
        lines.append(f"| {row['prediction']} | {cells} |")
    return "\n".join([*lines, "", _registration_words(record), "", _timing_words(record)])


def _registration_words(record: dict) -> str:
    found, median = record["registration"], record["registration"]["median"]
    ours, theirs = median["tre_median_um"], median["control_points_tre_median_um"]
    words = [
        f"Registering the {found['sections']} test sections by their synthetic image, turned",
        f"and mirrored anyhow: {found['success_rate']:.0%} succeed ({found['success_means']});",
        f"median TRE on held-out landmarks {ours:.1f} um, by the affine of the control points",
        f"{theirs:.1f} um, by nothing but centring {median['initial_tre_median_um']:.0f} um.",
    ]
    return " ".join(words)


def _timing_words(record: dict) -> str:
    timings, machine = record["timings"], record["environment"]
    minutes, memory = timings["seconds"] / 60, timings["peak_memory_gib"]
    beside = ""
    if (load := machine.get("load", 0.0)) > machine["cores"]:
        beside = f", beside other work: {load:.0f} processes shared them"
    spent = f"{minutes:.1f} minutes and at most {memory:.1f} GiB ({machine_words(machine)}{beside})"
    return f"The whole demo took {spent}. Measured at revision {machine['revision']}."


def _interval(score: dict) -> str:
    form = "{mean:.3f}" if score["low"] is None else "{mean:.3f} ({low:.3f} to {high:.3f})"
    return form.format(**score)


def replace_between(text: str, name: str, body: str) -> str:
    """Puts `body` between the markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def loader_words(record: dict) -> str:
    """Says how fast batches are streamed beside batches that lie in memory."""
    title, table = next(each for each in record["tables"].items() if "streamed" in each[0])
    streamed = next(row for row in table["rows"] if row["name"].startswith("streamed"))
    speed = f"{_digits(streamed['items_per_s'])} {table['unit']}/s"
    share = f"{1 / streamed['ratio']:.2f} of the speed from memory"
    where = f"{machine_words(record['environment'])}, revision {record['environment']['revision']}"
    return f"- In memory is faster. Streaming gave {speed}, {share} ({title}; {where})."


def write_tables() -> None:
    """Rewrites the report's page, the README's tables and a line of docs/training.md."""
    records = [read_json(path) for path in sorted(RESULTS.glob("*_*.json"))]
    with atomic_file(PAGE) as temporary:
        temporary.write_text(page(records))
    readme = ROOT / "README.md"
    text = replace_between(readme.read_text(), "speed", speed_tables(records))
    demo = RESULTS / "demo.json"
    if demo.exists():
        text = replace_between(text, "results", results_table(read_json(demo)))
    readme.write_text(text)
    loader = RESULTS / "loader_cpu.json"
    if loader.exists():
        place = ROOT / "docs" / "training.md"
        body = loader_words(read_json(loader))
        place.write_text(replace_between(place.read_text(), "loader", body))


def run_suite(suite: str, python: str = sys.executable) -> list[str]:
    """Runs each benchmark of a suite in a process of its own.

    Args:
        suite: `quick`, `gpu` or `none`.
        python: The interpreter.

    Returns:
        The benchmarks that failed; the others stand.
    """
    commands = {"none": [], "quick": [[name] for name in QUICK], "gpu": gpu_commands()}[suite]
    # Without this jax takes three quarters of the card, and PyTorch beside it finds none left.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    failed = []
    for name, *words in commands:
        begin = time.monotonic()
        command = [python, "-m", f"benchmarks.bench_{name}", *words]
        done = subprocess.run(command, env=environment, cwd=ROOT)
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        failed += [name] if done.returncode else []
    return failed


def gpu_commands() -> list[list[str]]:
    """Returns what one graphics card runs in 8 minutes, the most telling first."""
    peer = ["--peer=torch"] if importlib.util.find_spec("torch") else []
    train = ["train_step", "--gpu", "--budget_s=270", *peer]
    return [train, ["metrics", "--gpu"], ["inference", "--full"], ["loader", "--full"]]


def main() -> None:
    """Runs the chosen benchmarks, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=("quick", "gpu", "none"), default="quick")
    parser.add_argument("--demo", type=pathlib.Path, help="take over this demo's scores")
    options = parser.parse_args()
    failed = run_suite(options.suite)
    if options.demo:
        write_json(RESULTS / "demo.json", demo_record(options.demo))
    write_tables()
    print(PAGE)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
