"""Single bit flips in the files of a checkpoint and of a data set: none may go unnoticed."""

from __future__ import annotations

import collections
import pathlib
import random
import shutil

import rounds


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Flips `count` bits, one at a time, half in a checkpoint and half in a data set."""
    rounds.load()
    config = rounds.prepare(folder, steps=4, eval_every=4, image_every=4)
    log, report = folder / "log", folder / "report"
    if rounds.run(lambda: rounds.train(folder / "run", config), log):
        raise RuntimeError(log.read_text())
    if rounds.run(lambda: _flip_all(count, seed, folder, report), log, limit_s=3600):
        raise RuntimeError(log.read_text())
    result, faults = collections.Counter(), []
    for line in report.read_text().splitlines():
        what, where = line.split("\t")
        result[what] += 1
        if not what.startswith("found"):
            faults.append(where)
    return {"flips": count, **result, "faults": faults}


def _flip_all(count: int, seed: int, folder: pathlib.Path, report: pathlib.Path) -> None:
    from msi2he_jax.data.builder import read_split
    from msi2he_jax.data.split import SPLITS
    from msi2he_jax.training import checkpoint

    latest = folder / "run" / "checkpoints" / "latest"
    shutil.rmtree(latest / "2")  # The older step, so that falling back is refusing.

    def read_checkpoint() -> object:
        saved, faults = checkpoint.read_newest(latest)
        assert not faults
        return checkpoint.digest(saved.arrays, saved.notes)

    def read_data() -> object:
        return [len(read_split(folder / "pairs", split)) for split in SPLITS]

    rng = random.Random(seed)
    with report.open("w") as lines:
        for root, read in ((latest, read_checkpoint), (folder / "pairs", read_data)):
            files = sorted(path for path in root.rglob("*") if path.is_file())
            truth = read()
            for number in range(count // 2):
                # Every file in turn, however small, and every byte of it alike.
                path = files[number % len(files)] if number % 2 else _by_size(files, rng)
                lines.write(f"{_flip(path, rng, read, truth)}\t{path.relative_to(folder)}\n")


def _by_size(files: list[pathlib.Path], rng: random.Random) -> pathlib.Path:
    return rng.choices(files, [path.stat().st_size for path in files])[0]


def _flip(path: pathlib.Path, rng: random.Random, read, truth: object) -> str:
    """Flips one bit, reads, puts it back; says what came of it."""
    from msi2he_jax.errors import InputError

    before = path.read_bytes()
    if not before:
        return "found: nothing to flip in an empty file"
    changed = bytearray(before)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    path.write_bytes(changed)
    try:
        same = read() == truth
        return "read as before" if same else "READ OTHERWISE"
    except InputError as error:
        return "found" if "\n" not in str(error) else "several lines"
    except Exception as error:
        return type(error).__name__
    finally:
        path.write_bytes(before)
