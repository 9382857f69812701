"""Two at once: builds side by side and for one output, trainings in one folder; some are killed."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable

import kills
import rounds


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """`count` rounds, in turn of builds and of trainings; then each is run once more, alone."""
    rounds.load()
    every = {"steps_per_call": 1, "checkpoint_every": 1, "eval_every": 6, "image_every": 24}
    config = rounds.prepare(folder, plain=True, steps=12, **every)
    rng, faults, result = random.Random(seed), [], collections.Counter()
    begin = time.monotonic()
    assert rounds.run(lambda: _build(folder, "out"), folder / "log") == 0
    window, built = time.monotonic() - begin, kills._content(folder)
    begin = time.monotonic()
    trained = _train_alone(folder, config)
    training_window = time.monotonic() - begin
    for number in range(count):
        if number % 2:
            actions = [lambda: rounds.train(folder / "run", config)] * 2
            problem = _disturbed(actions, training_window, rng, folder, result)
            state = _train_alone(folder, config)
            problem = problem or ("" if state == trained else f"{state} for {trained}")
            result["equal weights"] += not problem
        else:
            for name in ("out", "out.v2"):
                shutil.rmtree(folder / name, ignore_errors=True)
            names = ("out", "out.v2", "out")
            actions = [lambda name=name: _build(folder, name) for name in names]
            problem = _disturbed(actions, window, rng, folder, result)
            problem = problem or _rebuilt(folder, built)
            result["equal data"] += not problem
        if problem:
            faults.append((number, problem))
        shutil.rmtree(folder / "run", ignore_errors=True)
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return {"rounds": count, **result, "left": left, "faults": faults}


def _build(folder: pathlib.Path, name: str) -> int:
    from msi2he_jax import preprocess

    manifest = folder / "cohort" / "manifest.csv"
    return preprocess.main([f"--manifest={manifest}", f"--out={folder / name}", "--peaks=10"])


def _train_alone(folder: pathlib.Path, config: pathlib.Path) -> dict:
    log = folder / "log"
    if rounds.run(lambda: rounds.train(folder / "run", config), log):
        return {"error": log.read_text()[-400:]}
    return kills._state(folder / "run", folder)


def _disturbed(
    actions: list[Callable], window: float, rng: random.Random, folder: pathlib.Path, result
) -> str:
    """Starts all, stops one for a while and kills one; returns what was wrong, or nothing."""
    logs = [folder / f"log{index}" for index in range(len(actions))]
    children = []
    for action, log in zip(actions, logs, strict=True):
        children.append(rounds.start(action, log))
        time.sleep(rng.uniform(0, 0.3 * window))
    time.sleep(rng.uniform(0, 0.5 * window))
    stopped, killed = rng.choice(children), rng.choice(children)
    _send(stopped, signal.SIGSTOP)
    time.sleep(rng.uniform(0, 0.3 * window))
    _send(killed, signal.SIGKILL)
    _send(stopped, signal.SIGCONT)
    for child, log in zip(children, logs, strict=True):
        code = rounds.wait(child)
        said = log.read_text()
        if code == 2 and ("is at work there" in said or "is not empty" in said):
            result["refused"] += 1
        elif code == -signal.SIGKILL or code == 0:
            result["killed" if code else "finished"] += 1
        else:
            return f"exit {code}: {said[-400:]}"
    return ""


def _send(child: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _rebuilt(folder: pathlib.Path, built: str) -> str:
    """Looks at what is left of both outputs and builds what is absent."""
    for name in ("out", "out.v2"):
        log = folder / "log"
        if not (folder / name).exists() and rounds.run(lambda name=name: _build(folder, name), log):
            return f"{name} cannot be built: {log.read_text()[-400:]}"
        found = kills._content(folder, name)
        if found != built:
            return f"{name}: {found} for {built}"
    return ""
