"""Processes killed, or asked to stop, at random moments; and what the next run makes of it."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import time

import rounds

CODES = {signal.SIGTERM: 75, signal.SIGHUP: 129, signal.SIGINT: 130}


def training(count: int, seed: int, folder: pathlib.Path) -> dict:
    """kill -9 at `count` random moments of a run that saves at every call; then resumes it."""
    return _stops(count, seed, folder, [signal.SIGKILL])


def signals(count: int, seed: int, folder: pathlib.Path) -> dict:
    """SIGTERM, SIGHUP and Ctrl-C at `count` random moments; then resumes."""
    return _stops(count, seed, folder, list(CODES))


def _stops(count: int, seed: int, folder: pathlib.Path, numbers: list[signal.Signals]) -> dict:
    rounds.load()
    rng, faults = random.Random(seed), []
    every = {"steps_per_call": 1, "checkpoint_every": 1, "eval_every": 6, "image_every": 24}
    config = rounds.prepare(folder, plain=True, steps=24, **every)
    truth, windows = _reference(folder, config)
    result, resumed, number = collections.Counter(), [], 0
    run, log = folder / "run", folder / "log"

    def train() -> int:
        return rounds.train(run, config)

    while len(resumed) < count:
        number += 1
        shutil.rmtree(run, ignore_errors=True)
        sent = rng.choice(numbers)
        child = rounds.start(train, log)
        # One in four from before the first save on, the others while one save follows another.
        moment = "checkpoints" if number % 4 == 0 else "checkpoints/latest/1"
        _wait_for(run / moment)
        time.sleep(rng.uniform(0, 0.8 * windows[moment]))
        before = _told(log)
        os.kill(child, sent)
        begin = time.monotonic()
        code, took = rounds.wait(child), time.monotonic() - begin
        committed = _committed(run)
        ended = _outcome(sent, code, before, committed, took)
        again = rounds.run(train, log)
        start = re.search(r"resuming at step (\d+)", log.read_text())
        step = int(start[1]) if start else 0
        result[ended] += 1
        if not ended.startswith("finished"):
            resumed.append(step)
        problem = _problem(run, truth, ended, again, step, committed, folder)
        if problem:
            faults.append((number, sent.name, problem, log.read_text()[-400:]))
        else:
            result["resumed with equal weights"] += 1
    steps = dict(sorted(collections.Counter(resumed).items()))
    return {"stops": len(resumed), **result, "resumed_at_step": steps, "faults": faults}


def _reference(folder: pathlib.Path, config: pathlib.Path) -> tuple[dict, dict[str, float]]:
    """What a run that is left alone ends with, and how long it goes on after each moment, s."""
    windows = dict.fromkeys(("checkpoints", "checkpoints/latest/1"), 0.0)
    for name in ("first", "second"):  # The first one fills the compilation cache.
        log = folder / "log"
        child = rounds.start(lambda name=name: rounds.train(folder / name, config), log)
        for moment in windows:
            _wait_for(folder / name / moment)
            windows[moment] = time.monotonic()
        if rounds.wait(child):
            raise RuntimeError(log.read_text())
        windows = {moment: time.monotonic() - begin for moment, begin in windows.items()}
    first, second = (_state(folder / name, folder) for name in ("first", "second"))
    assert first == second, "two runs that were left alone differ"
    return second, windows


def _wait_for(path: pathlib.Path, limit_s: float = rounds.HANGS_S) -> None:
    end = time.monotonic() + limit_s
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} does not appear")
        time.sleep(0.002)


def _told(log: pathlib.Path) -> int:
    """The last step that the progress bar has shown."""
    shown = re.findall(r"(\d+)/\d+ \[", log.read_text())
    return int(shown[-1]) if shown else 0


def _committed(run: pathlib.Path) -> int:
    """The newest step that Orbax had committed."""
    names = [path.name for path in (run / "checkpoints" / "latest").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _outcome(sent, code: int, before: int, committed: int, took: float) -> str:
    if sent == signal.SIGKILL:
        return "killed" if code == -signal.SIGKILL else "finished before it was killed"
    if code == 0:
        return "finished before the signal"
    expected = CODES[sent]
    saved = code == expected and committed >= max(before, 1) and took < 30
    return f"saved, exit {code}" if saved else f"exit {code}, step {committed} after {before}"


def _problem(run, truth, ended, again, step, committed, folder) -> str:
    """What the resumed run did wrong, or nothing."""
    if again:
        return f"the resumed run ended with {again}"
    if ended.startswith("exit"):
        return ended
    if step != committed and "finished" not in ended:
        return f"resumed at step {step}, {committed} was committed"
    state = _state(run, folder)
    return "" if state == truth else f"other weights or metrics: {state} for {truth}"


def _state(run: pathlib.Path, folder: pathlib.Path) -> dict:
    """Step and digest of the weights, and which steps the metrics tell of."""
    out = folder / "weights"

    def tell() -> None:
        out.write_text(json.dumps(rounds.weights(run)))

    if rounds.run(tell, folder / "tell.log"):
        return {"error": (folder / "tell.log").read_text()}
    step, digest = json.loads(out.read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    # The loss of a step depends on the step alone; how fast it was does not.
    losses = {line["step"]: line["reconstruction"] for line in train}
    return {"step": step, "sha256": digest, "losses": losses, "lines": len(train)}


def build(count: int, seed: int, folder: pathlib.Path) -> dict:
    """kill -9 at `count` random moments of a build; then builds again."""
    rounds.load()
    rounds.prepare(folder)
    rng, log, faults = random.Random(seed), folder / "log", []
    manifest = folder / "cohort" / "manifest.csv"

    def preprocess() -> int:
        from msi2he_jax import preprocess

        out = folder / "out"
        return preprocess.main([f"--manifest={manifest}", f"--out={out}", "--peaks=10"])

    begin = time.monotonic()
    assert rounds.run(preprocess, log) == 0, log.read_text()
    seconds, result = time.monotonic() - begin, collections.Counter()
    truth = _content(folder)
    for number in range(count):
        shutil.rmtree(folder / "out")
        child = rounds.start(preprocess, log)
        time.sleep(rng.uniform(0, 1.05 * seconds))
        os.kill(child, signal.SIGKILL)
        rounds.wait(child)
        left = _content(folder)
        result["nothing left" if left is None else "whole"] += 1
        again = rounds.run(preprocess, log) if left is None else 0
        result["continued"] += "continued an earlier run" in log.read_text()
        if left not in (None, truth) or again or _content(folder) != truth:
            faults.append((number, left, again, log.read_text()[-400:]))
    orphans = [path.name for path in folder.iterdir() if path.name.startswith(".out")]
    return {"kills": count, **result, "orphans": len(orphans), "faults": faults}


def _content(folder: pathlib.Path, name: str = "out") -> str | None:
    """Hash of the content of a data set, None where there is none; a child reads it."""
    if not (folder / name).exists():
        return None
    told = folder / "told"

    def tell() -> None:
        from msi2he_jax.data.dataset_files import check_dataset

        told.write_text(check_dataset(folder / name)["content_sha256"])

    broken = rounds.run(tell, folder / "tell.log")
    return (folder / "tell.log").read_text() if broken else told.read_text()
