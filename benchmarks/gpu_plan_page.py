"""The page of planned GPU programs: docs/gpu_plan.md, from benchmarks/results/gpu-plan.json."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import harness
from benchmarks.gpu_targets import TARGETS
from msi2he_jax.io_safety import atomic_file, write_json

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "gpu_plan.md"
HEAD = """# What a GPU would run: planned, not measured

`python -m benchmarks.bench_gpu_plan --save` (after `pip install 'msi2he_jax[gpu]'`; no GPU, no driver). XLA compiles each program for a described GPU and its text is counted. **Nothing here was run or
timed.** cuDNN's own copies and workspace are not in it, nothing is autotuned, and bytes are not time. Never put a figure of this page beside a measured one.

- **Programs**: the training step of `--config=pix2pix` (published widths, 50 channels, 111 pairs on the device, the sampler with its enlarged crops inside, four steps in a loop; figures of one step);
  synthesis of a section; all scores of a test split.
- **Traffic**: result and operands of each kernel, once; of an operand that is only sliced or gathered from, the parts. **Other**: without convolutions and matrix products.
- **At least**: the longer of traffic at the card's bandwidth and arithmetic at its dense rate, ms, per GPU. No program reaches it.
- **Exchanged**: results of collectives, per GPU and step.

"""
NOTES = """
## What the plan has changed
| change | planned effect, H200, bf16, batch 16, 256 px | state |
|---|---|---|
| layers of at most 4x4 px as matrix products, added up in float32 (`model.lowering=auto` on accelerators) | traffic 11.5 to 10.9 GB, transposes 1.4 to 0.02 GB (rows above) | default by the plan; `model.lowering=plain` is the old form. Not measured on a GPU |
| enlarged crops read 4 by 4 taps instead of multiplying whole images by two matrices | about 2 GB less | default: the same values to rounding (5e-7); measured on 2 CPU cores, one image of 256 px and 50 channels: 6.6 times as fast |

What moves most now: concatenations of MSI and image for the discriminator, parameters and moments in Adam, and batch normalisation, which reads its input once for each of its sums.

Descriptions of the cards: `benchmarks/gpu_targets.py`, with sources.
"""
_COLUMNS = ("kernels", "traffic, GB", "other, GB", "copies, GB", "transposes, GB", "exchanged")
_COLUMNS += ("memory, GiB", "at least, ms")


def save(rows: list[dict[str, Any]]) -> None:
    """Writes results and page.

    Args:
        rows: Of `bench_gpu_plan.planned`.
    """
    environment = harness.environment()
    kept = {name: environment[name] for name in ("date", "revision", "versions")}
    record = {"planned": True, "environment": kept, "rows": rows}
    write_json(harness.RESULTS / "gpu-plan.json", record)
    with atomic_file(PAGE) as temporary:
        temporary.write_text(page(record), encoding="utf-8")


def page(record: dict[str, Any]) -> str:
    """Returns the page in Markdown."""
    environment = record["environment"]
    lines = ["| program | GPU | " + " | ".join(_COLUMNS) + " |", "|---" * 10 + "|"]
    lines += [_line(row) for row in record["rows"]]
    jax = environment["versions"]["jax"]
    said = f"\njax {jax}, revision {environment['revision']}, {environment['date']}.\n"
    return HEAD + "\n".join(lines) + "\n" + said + NOTES


def _line(row: dict[str, Any]) -> str:
    card = TARGETS[row["target"]].name.removeprefix("NVIDIA ")
    card = card if row["gpus"] == 1 else f"{row['gpus']} x {card}"
    if "failed" in row:
        return f"| {_program(row)} | {card} | not compiled: {row['failed'][:120]} |" + " |" * 7
    exchanged = f"{row['collectives']}, {row['collectives_mb']:.0f} MB" if row["gpus"] > 1 else ""
    names = ("traffic_gb", "other_gb", "copies_gb", "transposes_gb")
    least = max(row["bandwidth_ms"], row.get("arithmetic_ms", 0.0))
    cells = [str(row["kernels"]), *(f"{row[name]:.2f}" for name in names), exchanged]
    cells += [f"{row['planned_gib']:.2f}", f"{least:.2f}"]
    return f"| {_program(row)} | {card} | {' | '.join(cells)} |"


def _program(row: dict[str, Any]) -> str:
    words = [row["what"], f"batch {row['batch']}", f"{row['side_px']} px", row["dtype"]]
    words += [row["mode"]] if row["gpus"] > 1 else []
    words += [f"remat {row['remat']}"] if row["remat"] != "none" else []
    words += [f"lowering {row['lowering']}"] if row["lowering"] != "auto" else []
    return ", ".join(words)
