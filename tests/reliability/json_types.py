"""Every value of every JSON file that is read, replaced by each other kind of JSON value.

A reader must refuse what it cannot use in one line, or not be harmed by it: no traceback.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import json
import os
import pathlib
import random
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

MISSING = object()
_PLAIN = (None, True, False, 7, -1, 0.5, float("inf"), float("nan"), "x", "", [], {})
OTHERS = (*_PLAIN, 10**299, 10**400, [[]], {"x": 1}, "\ud800", "x\0", MISSING)


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Makes one replacement at a time, at most `count` a file, a tenth where reading is slow."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with contextlib.redirect_stdout(sys.stderr):
        make_material(folder)
    return try_all(files(folder), count, random.Random(seed))


def try_all(found: dict[str, File], count: int, draw: random.Random) -> dict:
    """Tries replacements in each file; returns counts, by file as well, and faults."""
    result, faults, by_file = collections.Counter(), [], {}
    for name, file in found.items():
        cases = list(file.cases())
        most = max(1, count // 10) if file.slow else count
        cases = draw.sample(cases, min(most, len(cases)))
        by_file[name] = len(cases)
        if (fault := file.fault(file.whole())) is not None:
            faults.append(f"{name}: unchanged: {fault or 'refused'}")
        for place, document in cases:
            fault = file.fault(document)
            result["refused" if fault == "" else "faults" if fault else "read"] += 1
            if fault:
                faults.append(f"{name}: {place}: {fault}")
    total = {"cases": sum(by_file.values()), "refused": result["refused"], "read": result["read"]}
    return {**total, "by_file": by_file, "faults": faults}


def replacements(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a name and a copy of `value` for each value inside, and it itself, replaced."""
    for other in OTHERS:
        if other is not MISSING and not (type(other) is type(value) and other == value):
            yield f"{place} = {_word(other)}", copy.deepcopy(other)
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys if isinstance(value, dict | list) else ():
        for name, changed in replacements(value[key], f"{place}.{key}"):
            whole = copy.copy(value)
            whole[key] = changed
            yield name, whole
        whole = copy.copy(value)
        del whole[key]
        yield f"{place}.{key} is missing", whole


def _word(other: Any) -> str:
    power = len(str(other)) - 1 if type(other) is int and other > 7 else 0
    return f"10**{power}" if power else json.dumps(other)


class File:
    """A JSON file and what reads it.

    Args:
        path: Where it lies.
        reader: Reads it.
        write: Puts a changed document there; as plain JSON by default.
        slow: Whether reading takes most of a second.
    """

    def __init__(self, path, reader: Callable, write: Callable | None = None, slow: bool = False):
        self._path, self._reader, self.slow = path, reader, slow
        self._write = write or (lambda document: path.write_text(json.dumps(document)))
        self.document: Any = None

    def cases(self) -> Iterator[tuple[str, Any]]:
        """Yields names and documents."""
        return replacements(self.whole())

    def whole(self) -> Any:
        """Returns what the file holds."""
        return json.loads(self._path.read_text()) if self.document is None else self.document

    def fault(self, document: Any) -> str | None:
        """Reads a changed document: "" where it is refused, None where read, else what is wrong."""
        from msi2he_jax.errors import InputError

        before = self._path.read_bytes()
        try:
            self._write(document)
            self._reader()
        except InputError as error:
            return "more than one line" if "\n" in str(error) else ""
        except Exception as error:  # That is what is looked for.
            frames = traceback.extract_tb(error.__traceback__)
            last = ([f for f in frames if "msi2he_jax/" in f.filename] or frames)[-1]
            place = f"{last.filename.split('msi2he_jax/')[-1]}:{last.lineno}"
            return f"{type(error).__name__} at {place}"
        finally:
            self._path.write_bytes(before)
        return None


def make_material(folder: pathlib.Path) -> None:
    """Makes a cohort, its data set, a scored run, a registration and a bundle, all tiny."""
    from msi2he_jax import evaluate, export, preprocess, register, simulate, train

    cohort, pairs, run = folder / "cohort", folder / "pairs", folder / "run"
    manifest = f"--manifest={cohort / 'manifest.csv'}"
    work = [f"--out={pairs}", "--peaks=3"]
    steps_of_run = [f"--config.train.{name}=2" for name in ("steps", "eval_every")]
    steps = [
        (simulate, [f"--out={cohort}", "--sections=3", "--grid=24", "--histology-um-per-px=25"]),
        (preprocess, [manifest, *work]),
        (
            train,
            [
                "--config=smoke:unet",
                f"--config.data.dir={pairs}",
                f"--workdir={run}",
                *steps_of_run,
            ],
        ),
        (evaluate, [f"--run={run}"]),
        (register, [manifest, f"--run={run}", f"--out={folder / 'registration'}"]),
        (
            export,
            [f"--run={run}", f"--out={folder / 'bundle.zip'}", "--height_px=16", "--width_px=16"],
        ),
    ]
    for verb, words in steps:
        if code := verb.main(words):
            raise RuntimeError(f"{verb.__name__}: {code}")
    for path in [pairs, *(run / "checkpoints").rglob("SHA256SUMS")]:
        (path / "SHA256SUMS" if path.is_dir() else path).unlink()


@functools.cache
def files(folder: pathlib.Path) -> dict[str, File]:
    """Returns all files that are read, by name."""
    pairs, run, cohort = folder / "pairs", folder / "run", folder / "cohort"
    best = next((run / "checkpoints" / "best").glob("[0-9]*"))
    latest = next((run / "checkpoints" / "latest").glob("[0-9]*"))
    registration = folder / "registration"
    transform = next(registration.rglob("transform.json"))
    return {
        "data: provenance.json": File(
            pairs / "provenance.json", lambda: _read_data(pairs, cohort), slow=True
        ),
        "data: features.json": File(pairs / "features.json", lambda: _read_split(pairs)),
        "data: dataset_info.json": File(pairs / "dataset_info.json", lambda: _read_split(pairs)),
        "run: config.json": File(run / "config.json", _config_reader(run), slow=True),
        "run: provenance.json": File(run / "provenance.json", lambda: _report(run), slow=True),
        "run: results.json": File(run / "results.json", _results_reader(run), slow=True),
        "run: metrics.jsonl": _metrics(run),
        "run: notes of best": _notes(best, lambda: _load(run)),
        "run: notes of latest": _notes(latest, lambda: _resume(run)),
        "registration: summary.json": File(
            registration / "summary.json", lambda: _report(run, registration), slow=True
        ),
        "registration: transform.json": File(transform, lambda: _read_transform(transform)),
        "cohort.json": File(cohort / "cohort.json", lambda: _read_cohort(cohort)),
        "bundle.json": _bundle(folder / "bundle.zip"),
        "landmarks of QuPath": _points(folder / "points.geojson"),
        "region": _region(folder / "region.geojson"),
        "unit of work": _unit(folder / "unit"),
        "checksum": _checksum(cohort),
    }


def _read_data(pairs: pathlib.Path, cohort: pathlib.Path) -> None:
    from msi2he_jax import synthesize
    from msi2he_jax.data.loader import load_arrays
    from msi2he_jax.data.provenance import read_provenance
    from msi2he_jax.data.streaming import open_stored
    from msi2he_jax.inference.new_data import read_msi

    provenance = read_provenance(pairs)
    imzml = next(cohort.rglob("*.imzML"))
    _use_provenance(provenance, cohort)
    load_arrays(pairs, "test")
    open_stored(pairs, "test")
    read_msi(imzml, provenance)
    model = _Model(provenance)
    synthesize.training_size_px(model)


class _Model:
    """What `synthesize` asks of a model for the size of a tile."""

    def __init__(self, provenance: dict):
        from msi2he_jax import config

        self.provenance, self.config = provenance, config.default_config()


def _use_provenance(provenance: dict, cohort: pathlib.Path) -> None:
    from msi2he_jax.coregistration.section_choice import choose_sections, refuse_training
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.data.provenance import warnings_of

    manifest = cohort / "manifest.csv"
    samples = read_manifest(manifest)
    warnings_of(provenance)
    refuse_training(choose_sections(samples, provenance, None, [], manifest), provenance, "run")


def _read_split(pairs: pathlib.Path) -> None:
    from msi2he_jax.data.builder import read_split

    read_split(pairs, "test")


def _config_reader(run: pathlib.Path) -> Callable[[], None]:
    from msi2he_jax import config
    from msi2he_jax.training.same_run import check_same_run

    whole = config.load_config(run / "config.json")

    def read() -> None:
        _report(run)
        check_same_run(run, whole)

    return read


def _load(run: pathlib.Path) -> None:
    from msi2he_jax.inference import load_model

    load_model(run)


def _resume(run: pathlib.Path) -> None:
    from msi2he_jax.json_schema import check_json
    from msi2he_jax.training import checkpoint, same_run
    from msi2he_jax.training.monitor import Clock

    saved, _ = checkpoint.read_newest(run / "checkpoints" / "latest")
    check_json(run, saved.notes, same_run.RESUMED)
    same_run.check_provenance(run, saved.notes)
    Clock(saved.notes["spent_s"])


def _report(run: pathlib.Path, registration: pathlib.Path | None = None) -> None:
    """Makes the page; of a figure, which takes most of the time, one of its four pictures."""
    from msi2he_jax.reporting import alignment, figures, progress, scores, sections
    from msi2he_jax.reporting.page import report_page
    from msi2he_jax.reporting.records import read_registration, read_run

    record = read_run(run)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(figures, "_png", lambda figure: b""))
        for module in (alignment, progress, scores, sections):
            if hasattr(module, "plot"):
                once = mock.patch.object(
                    module, "plot", lambda draw, alt: str(draw(figures.look()))
                )
                stack.enter_context(once)
        report_page(record, registration=registration and read_registration(registration))


def _results_reader(run: pathlib.Path) -> Callable[[], None]:
    from msi2he_jax import evaluate

    whole = json.loads((run / "results.json").read_text())

    def read() -> None:
        evaluate._earlier(run, whole, "train")
        _report(run)

    return read


def _read_transform(path: pathlib.Path) -> None:
    from msi2he_jax.registration.given import read_given

    read_given(path)


def _read_cohort(cohort: pathlib.Path) -> None:
    from msi2he_jax.data import plan

    plan._cohort(cohort / "manifest.csv")


def _metrics(run: pathlib.Path) -> File:
    from msi2he_jax.training import monitor

    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    def write(document: Any) -> None:
        several = document if isinstance(document, list) else [document]
        path.write_text("".join(json.dumps(line) + "\n" for line in several))

    def read() -> None:
        _report(run)
        monitor._drop_after(path, 1)

    file = File(path, read, write, slow=True)
    file.document = lines[:3]
    return file


def _notes(step: pathlib.Path, read: Callable) -> File:
    """Notes whose digest is renewed, as someone who means harm would."""
    from msi2he_jax.training import checkpoint

    path = step / "notes" / "metadata"
    saved, _ = checkpoint.read_newest(step.parent)

    def write(document: Any) -> None:
        if isinstance(document, dict):
            document = {**document, "sha256": checkpoint.digest(saved.arrays, document)}
        path.write_text(json.dumps(document))

    file = File(path, read, write, slow=True)
    file.document = saved.notes
    return file


def _bundle(path: pathlib.Path) -> File:
    from msi2he_jax.interop.bundle import SHEET
    from msi2he_jax.interop.bundle_reading import read_bundle

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def write(document: Any) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, json.dumps(document) if name == SHEET else content)

    file = File(path, lambda: read_bundle(path), write, slow=True)
    file.document = json.loads(members[SHEET])
    return file


def _feature(kind: str, coordinates: list) -> dict:
    geometry = {"type": kind, "coordinates": coordinates}
    words = {"classification": {"name": "eval", "color": [1, 2, 3]}, "name": "a"}
    return {"type": "Feature", "id": "1", "geometry": geometry, "properties": words}


def _write_features(path: pathlib.Path, *features: dict) -> None:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _points(path: pathlib.Path) -> File:
    from msi2he_jax.registration.landmark_import import read_points

    features = [_feature("Point", [1.0, 2.0]), _feature("MultiPoint", [[3.0, 4.0], [5.0, 6.0]])]
    _write_features(path, *features)
    return File(path, lambda: read_points(path))


def _region(path: pathlib.Path) -> File:
    from msi2he_jax.data.manifest import _bounding_box

    square = [[[1.0, 1.0], [9.0, 1.0], [9.0, 9.0], [1.0, 1.0]]]
    _write_features(path, _feature("Polygon", square))
    return File(path, lambda: _bounding_box(path))


def _unit(folder: pathlib.Path) -> File:
    import numpy as np

    from msi2he_jax.data import work

    folder.mkdir(exist_ok=True)
    work._store(folder / "u.json", {"a": np.zeros(2), "b": (1, "x")})
    return File(folder / "u.json", lambda: work.load(folder / "u.json"))


def _checksum(cohort: pathlib.Path) -> File:
    from msi2he_jax.msi import imzml_checksum
    from msi2he_jax.msi.imzml import open_imzml

    source = next(cohort.rglob("*.imzML"))
    path = imzml_checksum.checksum_path(source.with_suffix(".ibd"))
    if not path.is_file():
        document = {"format": 1, "checksum": "SHA-1", "value": "0", "size": 1}
        document["agreed"] = "2026-01-01"
        path.write_text(json.dumps(document))
    return File(path, lambda: open_imzml(source).verify_checksum())
