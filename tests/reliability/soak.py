"""A long training run, watched: memory, threads, open files and compilations must stay the same."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pathlib

import rounds

EVERY = 50
WARM_UP = 0.5  # Part of the run after which memory is watched.


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Trains for `count` steps on data in memory and measures every 50; a fault is what grows."""
    return _soak(count, folder, "device")


def streamed(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Trains for `count` steps on data streamed from their shards."""
    return _soak(count, folder, "stream")


def _soak(count: int, folder: pathlib.Path, loader: str) -> dict:
    rounds.load()
    config = rounds.prepare(folder, **_every(count))
    settings = json.loads(config.read_text())
    settings["data"]["loader"] = loader
    config.write_text(json.dumps(settings))
    log, told = folder / "log", folder / "told.json"
    if rounds.run(lambda: _watched(folder / "run", config, told), log, limit_s=3600):
        raise RuntimeError(log.read_text())
    seen = json.loads(told.read_text())
    kept = seen["samples"][int(WARM_UP * len(seen["samples"])) :]
    steps, memory = [s["step"] for s in kept], [s["rss_mb"] for s in kept]
    slope = 1000 * _slope(steps, memory)
    spread = {
        name: max(s[name] for s in kept) - min(s[name] for s in kept)
        for name in ("threads", "files")
    }
    faults = [f"{name} vary by {by}" for name, by in spread.items() if by > 2]
    faults += [f"memory grows by {slope:.2f} MB per 1,000 steps"] if slope >= 1 else []
    faults += [f"{seen['compiled']} compilations"] if seen["compiled"] != 1 else []
    return {
        "steps": count,
        "loader": loader,
        "rss_mb": {
            s["step"]: round(s["rss_mb"], 1) for s in seen["samples"] if s["step"] % 500 == 0
        },
        "rss_mb_per_1000_steps": round(slope, 3),
        "spread": spread,
        "training_step_compilations": seen["compiled"],
        "checkpoints_kept": seen["kept"],
        "faults": faults,
    }


def _every(count: int) -> dict[str, int]:
    return {
        "steps": count,
        "steps_per_call": 10,
        "eval_every": 500,
        "checkpoint_every": 500,
        "image_every": 1000,
    }


def _watched(run: pathlib.Path, config: pathlib.Path, told: pathlib.Path) -> int:
    """Trains as the verb does and writes what was seen."""
    from msi2he_jax.training import loop

    samples, before = [], loop.train_chunk

    def chunk(run_in_progress, writer) -> None:
        before(run_in_progress, writer)
        if run_in_progress.step % EVERY == 0:
            samples.append(_state(run_in_progress.step))

    loop.train_chunk = chunk
    code = rounds.train(run, config)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    compiled = sum(line["split"] == "compile" for line in lines)
    kept = len([p for p in (run / "checkpoints" / "latest").iterdir() if p.name.isdecimal()])
    told.write_text(json.dumps({"samples": samples, "compiled": compiled, "kept": kept}))
    return code


def _state(step: int) -> dict[str, float]:
    # What tracing and compiling left is garbage, no leak: given back now, not when it may be.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return {
        "step": step,
        # Its own memory: pages of files come and go as the system likes.
        "rss_mb": int(fields["RssAnon"].split()[0]) / 1024,
        "threads": int(fields["Threads"]),
        "files": len(os.listdir("/proc/self/fd")),
    }


def _slope(x: list[float], y: list[float]) -> float:
    """Of the least-squares line."""
    middle = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle[0]) * (b - middle[1]) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle[0]) ** 2 for a in x)
