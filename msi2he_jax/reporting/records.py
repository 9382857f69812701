"""What a run's folder and a registration's folder hold, read for the page; parts may be missing."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, existing_folder, read_json


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
        return str(self.config.get("name") or self.path.name)

    @property
    def simulated(self) -> bool | None:
        """Whether the data are simulated; None where nothing says."""
        value = self.provenance.get("simulated")
        return None if value is None else bool(value)

    def test(self) -> dict[str, Any]:
        """Returns the results of the test split, or of the only split there is."""
        results = self.results.get("splits", self.results)
        if not isinstance(results, dict):
            return {}
        found = results.get("test")
        if found is None:
            found = next((v for v in results.values() if isinstance(v, dict) and "paper" in v), {})
        return found if isinstance(found, dict) else {}

    def curve(self, split: str, name: str) -> tuple[list[float], list[float]]:
        """Returns steps and values of one metric; values that are not there are left out."""
        points = [
            (line["step"], line[name])
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


def is_number(value: Any) -> bool:
    """Returns whether a value read from JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_run(run_dir: str | os.PathLike) -> RunRecord:
    """Reads what is there of a run.

    Raises:
        InputError: no such folder, one that holds nothing of a run, or a file that is not JSON.
    """
    path = existing_folder(run_dir, "--run")
    files = {name: _mapping(path / f"{name}.json") for name in ("config", "provenance", "results")}
    metrics = _lines(path / "metrics.jsonl")
    if not (files["config"] or files["results"] or metrics):  # a data set has a provenance too
        hint = "train and evaluate write config.json, metrics.jsonl and results.json"
        raise InputError(path, "", "is not the folder of a run", hint)
    return RunRecord(path=path, metrics=tuple(metrics), **files)


def _mapping(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, "", "holds no mapping")
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; the last may be cut short where training was killed."""
    if not path.is_file():
        return []
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and is_number(value.get("step")):
            lines.append(value)
    return lines


def score(block: Any, metric: str) -> dict[str, float] | None:
    """Returns `{"mean", "low", "high"}` of a metric, wherever in nested blocks it stands."""
    if not isinstance(block, Mapping):
        return None
    found = block.get(metric)
    if isinstance(found, Mapping) and is_number(found.get("mean")):
        mean = found["mean"]
        low, high = (found[k] if is_number(found.get(k)) else mean for k in ("low", "high"))
        return {"mean": mean, "low": low, "high": high}
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
        samples = self.summary.get("samples", [])
        if isinstance(samples, dict):
            samples = [{"sample_id": name, **value} for name, value in samples.items()]
        return [sample for sample in samples if isinstance(sample, dict)]

    def overlay(self, sample_id: str) -> Path | None:
        """Returns a sample's checkerboard picture, if it is there."""
        path = (self.path / sample_id / "overlay_checkerboard.png").resolve()
        inside = path.is_relative_to(self.path.resolve())
        return path if inside and path.is_file() else None


def read_registration(folder: str | os.PathLike) -> Registration:
    """Reads what `register` left in a folder.

    Raises:
        InputError: no such folder, or no summary in it.
    """
    path = existing_folder(folder, "--registration")
    summary = _mapping(path / "summary.json")
    if not summary:
        raise InputError(path / "summary.json", "", "is missing or empty", "run register first")
    return Registration(path, summary)
