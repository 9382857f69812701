"""Keeps finished pieces of work on the disk, so that a run that was killed continues.

Whoever runs a unit (this process, one of a pool, a cluster's worker) writes its result into one
folder beside the data set; only its name travels. A unit is known by a digest of all that decides
its result: the content of its files, the choices, and this software. So what is stale is never
found, and what is damaged is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from msi2he_jax import locking
from msi2he_jax.data.executors import Map
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.provenance import versions
from msi2he_jax.data.sources import digest_of_sources
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file, read_json, sha256, write_json
from msi2he_jax.plain_json import json_text

_NOT_CONTENT = ("split", "line")
_UNITS = ("data.cohort", "coregistration.training_pairs")  # Where units' functions stand.
_ARRAY, _TUPLE, _FLOAT = "__array__", "__tuple__", "__float__"
_ONE_AT_A_TIME = threading.Lock()  # Thread limits and warnings are the whole process'.


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One piece of work.

    Attributes:
        stage: What is done; names the files.
        sample: On which sample.
        arguments: What the function takes beside the sample.
        key: SHA-256 of all that decides the result.
    """

    stage: str
    sample: Sample
    arguments: dict[str, Any]
    key: str


@dataclasses.dataclass(frozen=True, eq=False)
class Finished:
    """A unit whose result lies on the disk.

    Attributes:
        unit: The unit.
        path: Its record, see `load`.
    """

    unit: Unit
    path: Path

    def result(self) -> Any:
        """Reads the result."""
        return load(self.path)


Each = Callable[[Callable[..., Any], Sequence[Unit]], Iterator[Finished]]


def make_unit(stage: str, sample: Sample, content: Any, **arguments: Any) -> Unit:
    """Describes a piece of work.

    Args:
        stage: What is done.
        sample: On which sample; its paths may change, `content` says what lies there.
        content: Identifies the content of its files, as JSON.
        arguments: What the function takes beside the sample: plain values, arrays, dataclasses.
    """
    fields = {
        name: value
        for name, value in vars(sample).items()
        if name not in _NOT_CONTENT and not isinstance(value, Path)
    }
    decides = [stage, fields, content, arguments, software()]
    text = json.dumps(decides, sort_keys=True, default=_plain, allow_nan=False)
    return Unit(stage, sample, arguments, hashlib.sha256(text.encode()).hexdigest())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, os.PathLike) else vars(value)


@functools.cache
def software() -> dict[str, str]:
    """Returns what else decides a result: the code that makes it, and libraries' versions."""
    sources = digest_of_sources(Path(__file__).parents[1], _UNITS)
    return {**versions(), "msi2he_jax sources": sources}


def work_path(out_dir: str | os.PathLike) -> Path:
    """Returns the folder of a data set's units, `OUT.work` beside it."""
    out_dir = Path(out_dir).absolute()
    return out_dir.with_name(f"{out_dir.name}.work")


@contextlib.contextmanager
def work_folder(out_dir: str | os.PathLike) -> Iterator[Path]:
    """Yields the folder `OUT.work` beside a data set, made if need be.

    It goes once the block has succeeded, or where nothing in it was finished. Otherwise it stays,
    and the next run for the same data set finds it.

    Args:
        out_dir: The data set.

    Raises:
        InputError: another process writes this data set, or the folder cannot be made.
    """
    out_dir, folder, done = Path(out_dir).absolute(), work_path(out_dir), False
    with locking.held(out_dir, "preprocess"):
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(folder, "", f"cannot be written: {error.strerror}") from error
        try:
            yield folder
            done = True
        finally:
            if done or not count_finished(folder):
                shutil.rmtree(folder, ignore_errors=True)


def count_finished(folder: Path) -> int:
    """Returns how many units lie in a folder, whole or not."""
    return sum(not path.name.startswith(".") for path in folder.glob("*.json"))


def kept_words(folder: Path) -> str:
    """Says what the next run for the same data set will find; nothing where that is nothing."""
    units = count_finished(folder)
    words = f"{units} finished units are kept in {folder}, the same command continues"
    return words if units else ""


def each(
    function: Callable[..., Any],
    units: Sequence[Unit],
    *,
    mapper: Map,
    folder: Path,
    on_fault: Callable[[Sample, InputError], None],
    on_found: Callable[[str, int, int], None],
    on_done: Callable[[str, int, int, int], None] = lambda *_: None,
) -> Iterator[Finished]:
    """Runs the units that are not finished yet, and yields all in order.

    Args:
        function: A function of a module; takes a sample and a unit's arguments, and returns
            numbers, text, arrays, and tuples, lists and dicts of them.
        units: All of one stage; those of a sample stand together.
        mapper: See `executors`.
        folder: From `work_folder`.
        on_fault: Is told of the first fault of a sample; raises, or the sample's later faults are
            passed over in silence.
        on_found: Is told the stage, how many units were finished before, and of how many.
        on_done: Is told the stage, how many units are through, of how many, and how many of those
            through were finished before; first with none.

    Yields:
        Those that went well.
    """
    done = [_is_whole(_record_path(folder, unit)) for unit in units]
    if units:
        on_found(units[0].stage, sum(done), len(units))
        on_done(units[0].stage, 0, len(units), 0)
    missing = [unit for unit, known in zip(units, done, strict=True) if not known]
    told = set()
    with contextlib.closing(
        mapper(functools.partial(perform, function, folder), missing)
    ) as faults:
        for count, (unit, known) in enumerate(zip(units, done, strict=True), 1):
            fault = None if known else next(faults)
            on_done(unit.stage, count, len(units), sum(done[:count]))
            if fault is None:
                yield Finished(unit, _record_path(folder, unit))
            elif unit.sample.sample_id not in told:
                told.add(unit.sample.sample_id)
                on_fault(unit.sample, InputError(*fault))


def perform(
    function: Callable[..., Any], folder: Path, unit: Unit
) -> tuple[str, str, str, str] | None:
    """Runs one unit and keeps its result.

    One at a time, and on one thread: how a sum is shared out over threads decides its last bits.

    Args:
        function: As for `each`.
        folder: Where results are kept.
        unit: The unit.

    Returns:
        None, or the parts of the InputError that says what is wrong with the sample.

    Raises:
        InputError: the result cannot be written.
    """
    with _ONE_AT_A_TIME, threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What they say is in the plan.
        try:
            result = function(unit.sample, **unit.arguments)
        except InputError as error:
            return error.path, error.field, error.why, error.hint
        except OSError as error:
            if error.filename is None:
                raise
            return str(error.filename), "", str(error.strerror), ""
    try:
        _store(_record_path(folder, unit), result)
    except OSError as error:
        raise InputError(folder, "", f"cannot be written: {error.strerror or error}") from error
    return None


def _record_path(folder: Path, unit: Unit) -> Path:
    return folder / f"{unit.stage}-{unit.sample.sample_id}-{unit.key[:32]}.json"


def _store(path: Path, result: Any) -> None:
    """Writes arrays first and the record last, so that a record means a whole unit."""
    arrays: list[np.ndarray] = []
    tree = _packed(result, arrays)
    with atomic_file(path.with_suffix(".npz")) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, *arrays)
    write_json(path, {"sha256": _digest(path, tree), "result": tree})


def _digest(path: Path, tree: Any) -> str:
    text = sha256(path.with_suffix(".npz")) + json_text(tree, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        record = read_json(path)
        return record["sha256"] == _digest(path, record["result"])
    except (InputError, OSError, KeyError, TypeError):
        return False


def load(path: str | os.PathLike) -> Any:
    """Reads what a unit's function returned.

    Args:
        path: The unit's record, its arrays beside it.

    Raises:
        InputError: it is damaged.
    """
    path = Path(path)
    if not _is_whole(path):
        hint = "run the same command again, which makes it anew"
        raise InputError(path, "", "differs from its SHA-256 or is gone", hint)
    with np.load(path.with_suffix(".npz")) as arrays:
        return _unpacked(read_json(path)["result"], arrays)


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """Turns a result into JSON; arrays leave it for `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: f"arr_{len(arrays) - 1}"}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):  # JSON has neither NaN nor infinity
        return {_FLOAT: repr(value)}
    if isinstance(value, dict):
        return {name: _packed(each, arrays) for name, each in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(each, arrays) for each in value]}
    return [_packed(each, arrays) for each in value] if isinstance(value, list) else value


def _unpacked(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[value[_ARRAY]]
    if _FLOAT in value:
        return float(value[_FLOAT])
    if _TUPLE in value:
        return tuple(_unpacked(each, arrays) for each in value[_TUPLE])
    return {name: _unpacked(each, arrays) for name, each in value.items()}
