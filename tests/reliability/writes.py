"""A disk that is full from the n-th write on, for all n: of a training run, of a build.

The C library's writes are intercepted (full_disk.c), so that those of the libraries count too.
"""

from __future__ import annotations

import collections
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys

import rounds

LIBRARY = "full_disk.so"


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Tries every n, or about `count` of them evenly spread where that is not 0."""
    if "FULL_DISK" not in os.environ:
        return _preloaded(count, seed, folder)
    rounds.load()
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    every = {"steps": 4, "eval_every": 2, "checkpoint_every": 2, "image_every": 4}
    config = rounds.prepare(folder, plain=True, **every)
    faults: list = []
    return {
        "training": _training(count, folder, config, faults),
        "build": _build(count, folder, faults),
        "faults": faults,
    }


def _preloaded(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Does the campaign in a process whose writes can be made to fail."""
    library, told = folder / LIBRARY, folder / "told.json"
    source = pathlib.Path(__file__).with_name("full_disk.c")
    compile_it = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(compile_it, check=True)
    code = "import json, pathlib, sys, writes; folder = pathlib.Path(sys.argv[3]); "
    code += "found = writes.campaign(int(sys.argv[1]), int(sys.argv[2]), folder); "
    code += "(folder / 'told.json').write_text(json.dumps(found))"
    place = {"FULL_DISK": str(folder / "disk"), "LD_PRELOAD": str(library)}
    place["PYTHONPATH"] = os.pathsep.join(sys.path)
    words = [sys.executable, "-c", code, str(count), str(seed), str(folder)]
    subprocess.run(words, check=True, env=os.environ | place)
    import json

    return json.loads(told.read_text())


def _full_from(n: int) -> None:
    ctypes.CDLL(None).disk_full_from(ctypes.c_long(n))


def _numbers(writes: int, count: int) -> list[int]:
    step = max(1, writes // count) if count else 1
    return list(range(1, writes + 1, step))


def _training(count: int, folder: pathlib.Path, config: pathlib.Path, faults: list) -> dict:
    """A run of 4 steps that goes on from 2: step 2 must survive whatever happens."""
    first, run, log = folder / "first", folder / "disk" / "run", folder / "log"
    words = "--config.train.steps=2"
    assert rounds.run(lambda: rounds.train(first, config, words), log) == 0, log.read_text()
    shutil.copytree(first, run)
    writes = _count(lambda: rounds.train(run, config), folder)
    result = collections.Counter(writes=writes)
    for n in _numbers(writes, count):
        shutil.rmtree(run)
        shutil.copytree(first, run)

        def full(n=n) -> int:
            _full_from(n)
            return rounds.train(run, config)

        code = rounds.run(full, log)
        kept = _newest(run, folder)
        # Of what is written last, some may be lost without loss: then the run is whole.
        problem = "" if code == 0 and kept == 4 else _one_line(code, log)
        if kept not in (2, 4):
            problem = f"step {kept} is left; {problem}"
        if not problem and rounds.run(lambda: rounds.train(run, config), log):
            problem = f"could not go on: {log.read_text()[-300:]}"
        result["old step kept, one line, went on" if not problem else "fault"] += 1
        faults += [("training", n, problem)] if problem else []
    return dict(result)


def _build(count: int, folder: pathlib.Path, faults: list) -> dict:
    """A build over an older data set, which must stay as it was."""
    out, old, log = folder / "disk" / "out", folder / "pairs", folder / "log"
    shutil.copytree(old, out)

    def build() -> int:
        from msi2he_jax import preprocess

        manifest = folder / "cohort" / "manifest.csv"
        return preprocess.main([f"--manifest={manifest}", f"--out={out}", "--overwrite"])

    writes = _count(build, folder)
    result = collections.Counter(writes=writes)
    for n in _numbers(writes, count):
        for path in (out, out.with_name("out.work")):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(old, out)

        def full(n=n) -> int:
            _full_from(n)
            return build()

        problem = _one_line(rounds.run(full, log), log)
        if (
            not problem
            and (out / "provenance.json").read_bytes() != (old / "provenance.json").read_bytes()
        ):
            problem = "the old data set is gone"
        if not problem and rounds.run(build, log):
            problem = f"could not build afterwards: {log.read_text()[-300:]}"
        result["old data kept, one line, built afterwards" if not problem else "fault"] += 1
        faults += [("build", n, problem)] if problem else []
    return dict(result)


def _one_line(code: int, log: pathlib.Path) -> str:
    """What is wrong with how a run told of a full disk, or nothing."""
    text = log.read_text()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code != 2 or len(errors) != 1 or "Traceback" in text:
        return f"exit {code}: {text[-600:]}"
    return ""


def _count(action, folder: pathlib.Path) -> int:
    """How many writes `action` makes on the disk."""
    told = folder / "writes"

    def counted() -> int:
        _full_from(0)
        code = action()
        told.write_text(str(ctypes.CDLL(None).disk_writes()))
        return code

    assert rounds.run(counted, folder / "log") == 0, (folder / "log").read_text()
    return int(told.read_text())


def _newest(run: pathlib.Path, folder: pathlib.Path) -> int:
    told = folder / "newest"

    def tell() -> None:
        told.write_text(str(rounds.weights(run)[0]))

    return -1 if rounds.run(tell, folder / "tell.log") else int(told.read_text())
