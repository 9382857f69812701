"""The page docs/reliability.md: what is promised, what was done to break it, what came of it."""

from __future__ import annotations

from typing import Any

HEAD = """\
# Reliability: what is promised, and what was done to break it

Written by `python tests/reliability/collect.py` from [reliability.json](reliability.json), which holds every figure with versions. All
of it ran on 2 CPU cores; nothing here was run on a GPU. A campaign is `python tests/reliability/campaigns.py NAME`; the suite runs a
few rounds of each. A test is `python -m pytest FILE`. Campaigns ran at the revisions that reliability.json names (lines of code are
of those), before streaming, several processes and rematerialisation were added; these have tests of the same promises.

| | promise | what was run | result | by |
|---|---|---|---|---|
"""
TAIL = """
## Exit codes
0 done; 1 a fault of the program; 2 a mistake of the user, in one line; 3 ten steps in a row with a loss or gradient that is not finite; 75 stopped by SIGTERM and saved; 130 stopped by Ctrl-C and saved. A second
signal ends at once.

## Limits
Largest image, decoded bytes, XML token and depth, array length, table and text sizes are one table (`msi2he_jax.io_safety.Limits`), raised by `--limits.NAME=N` on every verb.

## What is not promised
- A configuration that is Python code (`--config=FILE.py`) is run. `--config=run.json` is data.
- Checkpoints are verified, not signed: who can write to a run's folder can replace all of it, hashes too.
- Equal bits on resuming hold for the same number of threads and devices, on CPU; `--deterministic` asks the same of a GPU and was not tried on one.
"""


def page(known: dict[str, Any]) -> str:
    """Writes the page; what was not measured is called so.

    Args:
        known: Results by name, as docs/reliability.json holds them.
    """
    rows = [
        f"| P{number} | {promise} | {what} | {_said(result, known)} | {_by(by)} |"
        for number, (promise, what, result, by) in enumerate(PROMISES, 1)
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL + _survivors(known)


def _said(result: Any, known: dict[str, Any]) -> str:
    try:
        return result(known) if callable(result) else result
    except KeyError as absent:
        return f"not measured ({absent.args[0]})"


def _by(by: str) -> str:
    return by if " " in by else (f"`{by}`" if by.startswith("tests/") else f"campaign `{by}`")


def _survivors(known: dict[str, Any]) -> str:
    lines = ["\n## Mutants that no test noticed\n"]
    for name in ("io_safety", "split", "checkpoint"):
        for each in known.get(f"mutation_{name}", {}).get(name, {}).get("survivors", []):
            lines.append(f"- `{name}`, {each.replace('|', '/')}")
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def _mutants(known: dict) -> str:
    it = known["mutants"]
    return (
        f"{it['mutants']:,} mutants: {it['refused']:,} refused, {it['unchanged']:,} read as before, "
        f"{it['read otherwise']:,} read as a plain reader reads them; slowest {it['slowest_s']:.2f} s; "
        f"{len(it['faults'])} faults"
    )


def _hostile(known: dict) -> str:
    it = known["hostile"]
    return (
        f"{it['tests']} tests: slowest {it['slowest_s']:.2f} s, most memory {it['most_mb']:.0f} MB "
        f"above where it stood; {len(it['faults'])} over 2 s or 1 GB"
    )


def _kills(known: dict) -> str:
    it = known["kill_training"]
    return f"{it['resumed with equal weights']} of {it['stops']} resumed with equal weights"


def _signals(known: dict) -> str:
    it = known["signals"]
    saved = it["saved, exit 75"] + it["saved, exit 130"]
    return (
        f"{saved} of {it['stops']} saved (exit 75: {it['saved, exit 75']}, 130: "
        f"{it['saved, exit 130']}); {it['resumed with equal weights']} runs, these and those that "
        "had ended, equal one never stopped"
    )


def _disk(known: dict) -> str:
    training, build = known["full_disk"]["training"], known["full_disk"]["build"]
    return (
        f"training: {training['old step kept, one line, went on']} of {training['writes']} writes; "
        f"build: {build['old data kept, one line, built afterwards']} of {build['writes']}"
    )


def _builds(known: dict) -> str:
    it = known["kill_build"]
    return (
        f"{it['kills']} kills: {it['orphans']} half data sets, {it['continued']} went on with what "
        f"was finished, {len(it['faults'])} faults"
    )


def _soak(known: dict) -> str:
    it = known["soak"]
    return (
        f"{it['steps']:,} steps, second half: {it['rss_mb_per_1000_steps']:.3f} MB per 1,000 steps; "
        f"threads within {it['spread']['threads']}, open files within {it['spread']['files']}, "
        f"{it['training_step_compilations']} compilation"
    )


def _depth(known: dict) -> str:
    it, strict = known["coverage"], known["coverage_strict"]
    scores = []
    for name in ("io_safety", "split", "checkpoint"):
        part = known.get(f"mutation_{name}", {}).get(name)
        scores.append(
            f"{name} {part['percent']} % of {part['mutants']}" if part else f"{name} not measured"
        )
    return (
        f"lines {it['lines_percent']} %, branches {it['branches_percent']} %; reader, split, "
        f"checkpoint, io_safety: {strict['strict_branches_covered']} of {strict['strict_branches']} "
        f"branches; mutants found: {', '.join(scores)}"
    )


KEPT = "kept"
PROMISES = (
    (
        "bad input: one line, exit 2, nothing half written",
        "hostile images, tables, data sets, runs, configurations and imzML, each with its message, word for word",
        lambda known: f"{known['hostile']['tests']} tests pass; 0 silent, 0 tracebacks",
        "tests/hostile",
    ),
    (
        "odd but good input is read right",
        "CMYK, palette, 16 bit, EXIF; imzML with wrapped offsets, other units, other forms of numbers, no namespace",
        KEPT,
        "tests/hostile/test_imzml_odd.py",
    ),
    ("no hang, no memory blow-up", "every hostile file's test, alone", _hostile, "hostile"),
    (
        "the reader survives anything",
        "imzML pairs, images, tables changed at random",
        _mutants,
        "campaign `mutants --long`",
    ),
    (
        "a step is whole or absent",
        "kill -9 at random moments of training and saving",
        _kills,
        "kill_training",
    ),
    (
        "damage is found",
        "single bits of checkpoint and shard files turned",
        lambda known: f"{known['bit_flips']['found']:,} of {known['bit_flips']['flips']:,} found",
        "bit_flips",
    ),
    (
        "resuming equals never having stopped",
        "as P5 and P8, and with every option of training on",
        "equal bits",
        "tests/training/test_preparation.py",
    ),
    ("SIGTERM and Ctrl-C save", "signals at random moments", _signals, "signals"),
    ("a full disk loses nothing", "the n-th write fails, for all n", _disk, "full_disk"),
    ("builds are all or nothing", "kill -9 at random moments of preprocess", _builds, "kill_build"),
    (
        "NaN does not spread",
        "one poisoned sample; all samples poisoned",
        "skipped, counted, named in metrics.jsonl; ten in a row: exit 3, last finite state and the batch kept",
        "tests/training/test_loop.py",
    ),
    ("long runs are flat", "one run, watched every 50 steps", _soak, "soak"),
    (
        "same input, same content",
        "1 process, pools, Dask; any order",
        "the same content hash",
        "tests/data/test_scale_out.py",
    ),
    (
        "no leakage between splits",
        "1,000 random manifests; copies of a file under another name, by content and by UUID",
        "patients never straddle splits; copies are refused",
        "tests/data/test_split.py",
    ),
    (
        "no code from data, nothing outside the root, no network",
        "hostile features.json, arrays, checkpoints, OME; sockets to other computers blocked in the whole suite",
        "no module imported, no file opened",
        "tests/hostile/test_hostile.py",
    ),
    (
        "mistakes in a configuration stop before a device is touched",
        "unknown keys, types, ranges, pairs that do not fit",
        "exit 2, nearest name given",
        "tests/test_config.py",
    ),
    (
        "the tests are deep",
        "coverage of the whole suite, with the processes it starts; mutation testing (checkpoint: 60 drawn at random)",
        _depth,
        "`coverage run -m pytest`, `tests/reliability/mutation.py`",
    ),
    (
        "numbers are right",
        "against scikit-image, scikit-learn, NumPy; properties; constants and empty masks",
        "maps to 1e-5, information to 1e-6",
        "tests/metrics",
    ),
)
