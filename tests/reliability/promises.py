"""The page docs/reliability.md: what is promised, what was done to break it, what came of it."""

from __future__ import annotations

from typing import Any

HEAD = """\
# Reliability: what is promised, and what was done to break it

Written by `python tests/reliability/collect.py` from [reliability.json](reliability.json), which holds every figure with versions. All
of it ran on {devices}; nothing here was run on a GPU. A campaign is `python tests/reliability/campaigns.py NAME`; the suite runs a
few rounds of each. A test is `python -m pytest FILE`. Lines of code are those of the revision at which a campaign ran: {revisions}.{early}

| | promise | what was run | result | by |
|---|---|---|---|---|
"""
TAIL = """
## Exit codes
0 done; 1 a fault of the program; 2 a mistake of the user, or a full disk, in one line; 3 ten steps in a row with a loss or gradient that is not finite; 75 stopped by SIGTERM and saved; 129 stopped by SIGHUP (a terminal that was closed) and saved; 130
stopped by Ctrl-C and saved. A second signal ends at once, but for a second SIGHUP. What "saved" means: `train` writes a checkpoint; `preprocess` keeps finished units, `register` finished sections, `synthesize`
what it has written, and the line says so; the other verbs write all or nothing. Under `nohup` SIGHUP is ignored.

`train --coordinator`: where another process is lost, the others end with 2, in one line. Where the first process is lost, jax may end the others itself before that: by SIGABRT (134), with lines of its own. The
same command continues from the last checkpoint. `preprocess --scheduler`: a worker that is killed is replaced by the others; where none is left, that is said within 5 s, and after 120 s the command ends with 2.

## Two at once
`simulate`, `preprocess`, `train`, `evaluate`, `synthesize` (each section), `register` and `report` hold a lock file while they write: `.NAME.lock` beside what is written, `.train.lock` and `.evaluate.lock` in a
run's folder. A second process is refused in one line that names the first, exit 2. A lock whose process was killed on the same computer is taken over; one from another computer or container is not,
since nothing tells whether that process lives: the line names the file to delete. Of several processes of one `train` the first holds the lock.

## Limits
Largest image, decoded bytes, XML token and depth, array length, table and text sizes are one table (`msi2he_jax.io_safety.Limits`), raised by `--limits.NAME=N` on every verb.

## What is not promised
- A configuration that is Python code (`--config=FILE.py`) is run. `--config=run.json` is data.
- Checkpoints are verified, not signed: who can write to a run's folder can replace all of it, hashes too.
- Equal bits on resuming hold for the same number of threads and devices, on CPU; `--deterministic` asks the same of a GPU and was not tried on one.
"""

# Revisions before streaming, several processes and rematerialisation; but for the first, no longer in the history.
EARLY = ("309690e", "4501295", "9294853", "f50144d")
MUTATED = (
    "io_safety",
    "split",
    "checkpoint",
    "transforms",
    "cohort",
    "imzml",
    "imzml_index",
    "imzml_arrays",
)

# (module, mutant): why no test can notice it.
EXPLAINED: dict[tuple[str, str], str] = {
    (
        "transforms",
        "line 17: constant: 1.0",
    ): "A first step of another size: the halves of it follow",
    ("transforms", "line 88: constant: 0.25"): "A default tolerance; tests ask for their own",
    ("transforms", "line 118: constant: 0"): "Where a grid begins that is refined until it holds",
    ("transforms", "line 153: constant: 1"): "reshape takes any negative number",
    ("cohort", "line 225: constant: 1"): "Two ranges read as one give the same",
    ("cohort", "line 312: constant: 1"): "Two ranges read as one give the same",
    ("cohort", "line 344: constant: 1"): "Last bits, and only where more threads are at work",
    (
        "cohort",
        "line 343: left out: raise InputError('train', '', 'no sample of this split could be used')",
    ): "Not tested",
    (
        "cohort",
        "line 299: left out: plan['samples'].sort(key=lambda record: order.index(record['sample_id']))",
    ): "Found by tests/test_preprocess.py, which is not run for each change",
    ("imzml", "line 28: constant: 1"): "How much is probed for unsorted m/z before all is read",
    ("imzml", "line 28: constant: 16"): "How much is probed for unsorted m/z before all is read",
    ("imzml", "line 34: constant: True"): "Nothing writes into a block",
    ("imzml", "line 109: constant: 0"): "Not tested: an array at byte 0 of a file without UUID",
    (
        "imzml",
        "line 188: constant: 1",
    ): "How many spectra are probed where one has over a million points",
    ("imzml", "line 189: constant: 1"): "Which spectra are probed",
    (
        "imzml",
        "line 248: operator: intensity.nbytes + mz.nbytes",
    ): "When pages are handed back to the system",
    (
        "imzml",
        "line 302: constant: False",
    ): "Checks once more what a cache says: slower, and the same",
    ("imzml", "line 325: constant: 0"): "No spectrum asked for",
    ("imzml", "line 348: constant: 1"): "One byte more of a stream that is refused as too long",
    ("imzml_index", "line 39: constant: 2000.0"): "How large a pixel is believed",
    ("imzml_index", "line 76: constant: 60"): "How much of a bad text a message shows",
    ("imzml_index", "line 209: return: return None"): "The same",
    ("imzml_index", "line 216: constant: 40"): "How much of a bad text a message shows",
    ("imzml_arrays", "line 98: constant: True"): "Two lists of one length",
    (
        "imzml_arrays",
        "line 106: comparison: size < 0",
    ): "A compressed array of 0 bytes: refused when it is unpacked",
    (
        "imzml_arrays",
        "line 106: constant: 0",
    ): "A compressed array of 0 bytes: refused when it is unpacked",
    ("imzml_arrays", "line 125: comparison: length > 0"): "An empty spectrum fits any type",
    ("imzml_arrays", "line 125: constant: 0"): "A spectrum of one point decides as any other",
    ("imzml_arrays", "line 144: comparison: ibd_bytes <= 2 ** 32"): "A file of exactly 4 GiB",
    ("imzml_arrays", "line 144: constant: 2"): "Not tested: needs a file of 4 GiB",
    (
        "imzml_arrays",
        "line 197: constant: 0",
    ): "Spectra of one point, in files with rounded offsets",
}


def page(known: dict[str, Any]) -> str:
    """Writes the page; what was not measured is called so.

    Args:
        known: Results by name, as docs/reliability.json holds them.
    """
    rows = [
        f"| P{number} | {promise} | {what} | {_said(result, known)} | {_by(by)} |"
        for number, (promise, what, result, by) in enumerate(PROMISES, 1)
    ]
    devices = " and ".join(sorted({each["device"] for each in known.values()}))
    head = HEAD.format(devices=devices, revisions=_revisions(known), early=_early(known))
    return head + "\n".join(rows) + "\n" + TAIL + _survivors(known)


def _revisions(known: dict[str, Any]) -> str:
    at: dict[str, list[str]] = {}
    for name in sorted(known):
        at.setdefault(known[name]["revision"], []).append(f"`{name}`")
    return "; ".join(f"{revision} ({', '.join(names)})" for revision, names in sorted(at.items()))


def _early(known: dict[str, Any]) -> str:
    """Says which results are older than parts of what they speak of."""
    found = {each["revision"] for each in known.values()}
    left = [revision for revision in EARLY if revision in found]
    if not left:
        return ""
    return (
        f"\nThose at {' and '.join(left)} ran before streaming, several processes and rematerialisation were added, which have "
        "tests of the same promises."
    )


def _said(result: Any, known: dict[str, Any]) -> str:
    try:
        return result(known) if callable(result) else result
    except KeyError as absent:
        return f"not measured ({absent.args[0]})"


def _by(by: str) -> str:
    return by if " " in by else (f"`{by}`" if by.startswith("tests/") else f"campaign `{by}`")


def _survivors(known: dict[str, Any]) -> str:
    lines = ["\n## Mutants that no test noticed\n"]
    for name in MUTATED:
        for each in known.get(f"mutation_{name}", {}).get(name, {}).get("survivors", []):
            why = EXPLAINED.get((name, each))
            lines.append(f"- `{name}`, {each.replace('|', '/')}" + (f". {why}" if why else ""))
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def _mutants(known: dict) -> str:
    return _mutated(known["mutants"])


def _torch_mutants(known: dict) -> str:
    it = known["torch_mutants"]
    return f"{_mutated(it)}; {it['more_memory_mb']:.0f} MB above where memory stood"


def _json_types(known: dict) -> str:
    it = known["json_types"]
    return (
        f"{it['cases']:,} replacements in {len(it['by_file'])} kinds of files: {it['refused']:,} refused in one line, "
        f"{it['read']:,} read without harm; {len(it['faults'])} faults"
    )


def _mutated(it: dict) -> str:
    return (
        f"{it['mutants']:,} mutants: {it['refused']:,} refused, {it['unchanged']:,} read as before, "
        f"{it['read otherwise']:,} read as a plain reader reads them; slowest {_slowest(it)}; "
        f"{len(it['faults'])} faults"
    )


def _slowest(it: dict) -> str:
    """Earlier campaigns looked at the clock, which also counts what else a computer does."""
    if "slowest_cpu_s" in it:
        return f"{it['slowest_cpu_s']:.2f} s of processor time"
    return f"{it['slowest_s']:.2f} s"


def _hostile(known: dict) -> str:
    it = known["hostile"]
    return (
        f"{it['tests']} tests: slowest {_slowest(it)}, most memory {it['most_mb']:.0f} MB "
        f"above where it stood; {len(it['faults'])} over 2 s or 1 GB"
    )


def _kills(known: dict) -> str:
    it = known["kill_training"]
    return f"{it['resumed with equal weights']} of {it['stops']} resumed with equal weights"


def _signals(known: dict) -> str:
    it = known["signals"]
    saved = {code: it.get(f"saved, exit {code}", 0) for code in (75, 129, 130)}
    codes = ", ".join(f"{code}: {count}" for code, count in saved.items())
    return (
        f"{sum(saved.values())} of {it['stops']} saved (exit {codes}); {it['resumed with equal weights']} runs, these and those that "
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


def _locks(known: dict) -> str:
    it = known["locks"]
    return (
        f"{it['rounds']} rounds, {it['killed']} killed, {it['refused']} refused, {it['finished']} "
        f"finished: {it['equal data']} equal data sets, {it['equal weights']} equal runs, "
        f"{len(it['faults'])} faults"
    )


def _soak(known: dict) -> str:
    runs = {"in memory": "soak", "streamed": "soak_streamed"}
    return "; ".join(_soaked(words, known[name]) for words, name in runs.items() if name in known)


def _soaked(words: str, it: dict) -> str:
    return (
        f"{words}: {it['steps']:,} steps, second half: {it['rss_mb_per_1000_steps']:.3f} MB per 1,000 "
        f"steps, threads within {it['spread']['threads']}, open files within "
        f"{it['spread']['files']}, {it['training_step_compilations']} compilation"
    )


def _depth(known: dict) -> str:
    it, strict = known["coverage"], known["coverage_strict"]
    scores = [_score(name, known.get(f"mutation_{name}", {}).get(name)) for name in MUTATED]
    return (
        f"lines {it['lines_percent']} %, branches {it['branches_percent']} %; reader, split, "
        f"checkpoint, io_safety: {strict['strict_branches_covered']} of {strict['strict_branches']} "
        f"branches; mutants found: {', '.join(scores)}"
    )


def _score(name: str, part: dict | None) -> str:
    if part is None:
        return f"{name} not measured"
    drawn = part.get("possible", part["mutants"]) > part["mutants"]
    of = f" of {part['possible']}" if drawn else ""
    return f"{name} {part['percent']} % of {part['mutants']}{of}"


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
    ("SIGTERM, SIGHUP and Ctrl-C save", "signals at random moments", _signals, "signals"),
    ("a full disk loses nothing", "the n-th write fails, for all n", _disk, "full_disk"),
    ("builds are all or nothing", "kill -9 at random moments of preprocess", _builds, "kill_build"),
    (
        "NaN does not spread",
        "one poisoned sample; all samples poisoned",
        "skipped, counted, named in metrics.jsonl; ten in a row: exit 3, last finite state and the batch kept",
        "tests/training/test_loop.py",
    ),
    (
        "long runs are flat",
        "runs watched every 50 steps",
        _soak,
        "campaigns `soak`, `soak_streamed`",
    ),
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
        "78 spellings of a class, module, path or template in a data set, every hash renewed; checkpoints with other drivers, shapes, "
        "keys, links and paths, every hash renewed; hostile arrays, OME; sockets to other computers blocked in the whole suite",
        "no module imported, no file outside opened",
        "`tests/data/test_dataset_files.py`, `tests/training/test_stored_arrays.py`, `tests/hostile/test_hostile.py`",
    ),
    (
        "mistakes in a configuration stop before a device is touched",
        "unknown keys, types, ranges, pairs that do not fit",
        "exit 2, nearest name given",
        "tests/test_config.py",
    ),
    (
        "the tests are deep",
        "coverage of the whole suite, with the processes it starts; mutation testing (of so many mutants, drawn at random)",
        _depth,
        "`coverage run -m pytest`, `tests/reliability/mutation.py`",
    ),
    (
        "numbers are right",
        "against scikit-image, scikit-learn, NumPy; properties; constants and empty masks",
        "maps to 1e-5, information to 1e-6",
        "tests/metrics",
    ),
    (
        "PyTorch's checkpoints run nothing and ask for no more than they hold",
        ".pth files changed at random: bytes, instructions of the pickle, entries of the zip",
        _torch_mutants,
        "torch_mutants",
    ),
    (
        "two at once do no harm",
        "three builds for two neighbouring outputs, two trainings in one folder; kill -9 and SIGSTOP at random moments",
        _locks,
        "locks",
    ),
    (
        "a JSON value of another kind is one line",
        "values in every JSON file that is read, each replaced by every other kind of value or taken out, digests renewed; drawn at random in the larger files",
        _json_types,
        "json_types",
    ),
)
