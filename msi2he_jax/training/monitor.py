"""What a run leaves to look at: `metrics.jsonl`, events, image grids; and the clock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from msi2he_jax import io_safety
from msi2he_jax.histology import png_bytes
from msi2he_jax.plain_json import json_text, json_value

GAP_PX = 2


class Monitor:
    """Writes a run's metrics; continues those of a run that is resumed, without a step twice.

    Args:
        run_dir: The run's folder.
        step: Step the run starts from; what was written after it is dropped.
    """

    def __init__(self, run_dir: str | os.PathLike, step: int):
        self._images = Path(run_dir) / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        path = Path(run_dir) / "metrics.jsonl"
        _drop_after(path, step)
        self._lines = path.open("a", encoding="utf-8")
        self._fault: BaseException | None = None
        self._hook, threading.excepthook = threading.excepthook, self._remember
        self._events = SummaryWriter(str(Path(run_dir) / "events"), purge_step=step + 1)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds one line `{"step", "split", name: value}`; what is not finite is null."""
        self._raise()
        numbers = {name: float(value) for name, value in values.items()}
        self._lines.write(json_text({"step": step, "split": split, **numbers}) + "\n")
        self._lines.flush()
        for name, value in numbers.items():
            self._events.add_scalar(f"{split}/{name}", value, step)

    def skipped(self, step: int, samples: list[str]) -> None:
        """Adds one line `{"step", "split": "skipped", "samples"}`: a step that was left out."""
        line = {"step": step, "split": "skipped", "samples": samples}
        self._lines.write(json_text(line) + "\n")

    def image(self, step: int, grid: np.ndarray) -> None:
        """Keeps a picture `[H, W, 3]` uint8 as `images/step_00000100.png` and in the events."""
        with io_safety.atomic_file(self._images / f"step_{step:08d}.png") as temporary:
            temporary.write_bytes(png_bytes(grid))
        self._events.add_image("validation", grid, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        try:
            self._lines.close()
            self._events.close()
        finally:
            threading.excepthook = self._hook
        self._raise()

    def _remember(self, thread) -> None:
        """Keeps what ended the thread that writes events: it is raised where it can be caught."""
        if isinstance(thread.exc_value, OSError):
            self._fault = thread.exc_value
        else:
            self._hook(thread)

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Silent:
    """Writes nothing: what a process has that is not the first."""

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Passes over it."""

    def skipped(self, step: int, samples: list[str]) -> None:
        """Passes over it."""

    def image(self, step: int, grid: np.ndarray) -> None:
        """Passes over it."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_) -> None:
        """Has nothing to close."""


def _drop_after(path: Path, step: int) -> None:
    """Removes lines of later steps, and a last line cut short by a crash."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json_value(line, io_safety.LIMITS.json_depth)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with io_safety.atomic_file(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def image_grid(*columns: np.ndarray) -> np.ndarray:
    """Sets images side by side, one row per example.

    Args:
        *columns: `[N, H, W, 3]` uint8 each.

    Returns:
        `[h, w, 3]` uint8, with white gaps.
    """
    edges = ((0, 0), (0, GAP_PX), (0, GAP_PX), (0, 0))
    padded = [np.pad(column, edges, constant_values=255) for column in columns]
    return np.concatenate([np.concatenate(row, axis=1) for row in zip(*padded)], axis=0)


def flow_picture(flow: np.ndarray) -> np.ndarray:
    """Draws displacements as colours: the hue is the direction, white is none.

    Args:
        flow: `[N, H, W, 2]` float: rows and columns, px.

    Returns:
        `[N, H, W, 3]` uint8; full colour is the longest of all, 1 px at least.
    """
    length = np.hypot(flow[..., 0], flow[..., 1])
    strength = length / max(1.0, float(length.max(initial=0.0)))
    angle = np.arctan2(flow[..., 0], flow[..., 1])
    thirds = np.array([0.0, 2.0, 4.0]) * np.pi / 3.0
    hue = 0.5 + 0.5 * np.cos(angle[..., None] - thirds)
    return np.rint(255.0 * (1.0 - strength[..., None] * (1.0 - hue))).astype(np.uint8)


class Clock:
    """Seconds spent, by what they were spent on.

    Args:
        spent_s: Seconds of earlier parts of the run, by kind.
    """

    def __init__(self, spent_s: Mapping[str, float] | None = None):
        self.spent_s = dict(spent_s or {})
        self._last = time.monotonic()

    @property
    def outside_share(self) -> float:
        """Share of the loop's time, from 0 to 1, that no step and no event accounts for."""
        outside = self.spent_s.get("other", 0.0)
        return outside / max(outside + self.spent_s.get("train", 0.0), 1e-9)

    def move(self, seconds: float, kind: str, to: str) -> None:
        """Books seconds under another kind than they were."""
        self.spent_s[kind] = self.spent_s.get(kind, 0.0) - seconds
        self.spent_s[to] = self.spent_s.get(to, 0.0) + seconds

    def lap(self, kind: str) -> float:
        """Books the seconds since the last lap under `kind` and returns them."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self.spent_s[kind] = self.spent_s.get(kind, 0.0) + seconds
        return seconds
