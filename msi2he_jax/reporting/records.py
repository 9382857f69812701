"""What a run's folder and a registration's folder hold, read for the page; parts may be missing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msi2he_jax.data.provenance_schema import PARTS
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, existing_folder, read_json
from msi2he_jax.json_schema import COUNT, TEXT, Maybe, check_json, is_number, is_whole
from msi2he_jax.metrics.results_schema import RESULTS
from msi2he_jax.plain_json import json_value
from msi2he_jax.registration.summary_schema import SUMMARY

_CONFIG = {
    "name?": Maybe(TEXT),
    "data?": {"dir?": TEXT},
    "model?": {"name?": TEXT},
    "train?": {"steps?": COUNT, "batch_size?": COUNT, "best_metric?": TEXT},
}
_SCHEMAS = {"config": _CONFIG, "provenance": PARTS, "results": RESULTS}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run as its files tell it.

    Attributes:
        path: Its folder.
        config: `config.json`, or empty.
        provenance: `provenance.json`, or empty.
        results: `results.json`, or empty.
        metrics: Lines of `metrics.jsonl`, in order.
    """

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    results: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """What the page calls the run."""
        return self.config.get("name") or self.path.name

    @property
    def simulated(self) -> bool | None:
        """Whether the data are simulated; None where nothing says."""
        return self.provenance.get("simulated")

    def test(self) -> dict[str, Any]:
        """Returns the results of the test split, or of the only split there is."""
        splits = (self.results.get(name) for name in ("test", "validation", "train"))
        return next(filter(None, splits), {})

    def curve(self, split: str, name: str) -> tuple[list[float], list[float]]:
        """Returns steps and values of one metric; values that are not there are left out."""
        points = [
            (line["step"], float(line[name]))
            for line in self.metrics
            if line.get("split") == split and is_number(line.get(name))
        ]
        return [step for step, _ in points], [value for _, value in points]

    def names(self, split: str) -> list[str]:
        """Returns the metrics logged for a split, in the order of their first line."""
        found: dict[str, None] = {}
        for line in self.metrics:
            if line.get("split") == split:
                found |= dict.fromkeys(line)
        return [name for name in found if name not in ("step", "split")]


def read_run(run_dir: str | os.PathLike) -> RunRecord:
    """Reads what is there of a run.

    Raises:
        InputError: no such folder, one that holds nothing of a run, or a file that is not JSON or
            holds a value of another kind than it must.
    """
    path = existing_folder(run_dir, "--run")
    files = {name: _read(path / f"{name}.json", schema) for name, schema in _SCHEMAS.items()}
    metrics = _lines(path / "metrics.jsonl")
    if not (files["config"] or files["results"] or metrics):  # a data set has a provenance too
        hint = "train and evaluate write config.json, metrics.jsonl and results.json"
        raise InputError(path, "", "is not the folder of a run", hint)
    return RunRecord(path=path, metrics=tuple(metrics), **files)


def _read(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    value = read_json(path)
    check_json(path, value, schema)
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; the last may be cut short where training was killed."""
    if not path.is_file():
        return []
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            value = json_value(line, LIMITS.json_depth)
            if isinstance(value, dict) and is_whole(value.get("step")):
                lines.append(value)
    return lines


_NO_BOUNDS = {"low": None, "high": None}


def score(block: Any, metric: str) -> dict[str, Any] | None:
    """Returns `{"mean", "low", "high"}` of a metric, wherever in nested blocks it stands.

    Both bounds are None where there is no interval, as with a single group.
    """
    if not isinstance(block, Mapping):
        return None
    found = block.get(metric)
    if isinstance(found, Mapping) and is_number(found.get("mean")):
        low, high = (found.get(k) for k in ("low", "high"))
        # Earlier versions of the file gave the mean as both bounds where there is one group.
        known = is_number(low) and is_number(high) and low < high
        bounds = {"low": float(low), "high": float(high)} if known else _NO_BOUNDS
        return {"mean": float(found["mean"]), **bounds}
    for name in ("paper", "tissue"):
        inner = score(block[name], metric) if name in block else None
        if inner:
            return inner
    return None


@dataclasses.dataclass(frozen=True)
class Registration:
    """What `register` left.

    Attributes:
        path: Its folder.
        summary: `summary.json`.
    """

    path: Path
    summary: dict[str, Any]

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Its samples, each a mapping with `sample_id`."""
        return self.summary["samples"]

    def overlay(self, sample_id: str) -> Path | None:
        """Returns a sample's checkerboard picture, if it is there."""
        # A name from a file is compared with what is there; no path is made of it.
        folder = next((each for each in self.path.iterdir() if each.name == sample_id), None)
        if folder is None:
            return None
        path = (folder / "overlay_checkerboard.png").resolve()
        inside = path.is_relative_to(self.path.resolve())
        return path if inside and path.is_file() else None


def read_registration(folder: str | os.PathLike) -> Registration:
    """Reads what `register` left in a folder.

    Raises:
        InputError: no such folder, no summary in it, or a value in it is of another kind than it
            must be.
    """
    path = existing_folder(folder, "--registration")
    summary = _read(path / "summary.json", SUMMARY)
    if not summary:
        raise InputError(path / "summary.json", "", "is missing or empty", "run register first")
    return Registration(path, summary)
