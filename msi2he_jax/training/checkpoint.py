"""A run's checkpoints: `checkpoints/latest` to resume from, `checkpoints/best` by validation score.

Orbax writes whole steps or none, but it does not notice damaged weights and takes any numbered
folder for a step. Hence a SHA-256 of the content goes into every step and is checked when it is
read, after the files' own hashes, and what cannot be read is set aside, said in one line. Orbax
itself reads nothing: its metadata may name what it likes (`stored_arrays`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from msi2he_jax import config as configs
from msi2he_jax import io_safety
from msi2he_jax.errors import InputError
from msi2he_jax.json_schema import TEXT, check_json
from msi2he_jax.plain_json import json_ready, json_text
from msi2he_jax.training import processes, same_run, stored_arrays
from msi2he_jax.training.state import TrainState, parameter_shapes

KINDS = ("latest", "best")
_DAMAGE = (ValueError, OSError, LookupError, RuntimeError)  # What tensorstore raises, and we.


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint as read.

    Attributes:
        step: Its step.
        arrays: Name to array, such as `generator.params.core...`.
        notes: What the loop must remember: the best score, evaluations since.
    """

    step: int
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Restored:
    """A generator as trained, ready for `Method.synthesize`.

    Attributes:
        config: Configuration of its run.
        params: `nnx.State` of its parameters; the moving average where the run kept one.
        stats: `nnx.State` of its statistics.
        step: Training step.
        warnings: What is odd about the run's folder, a line each.
    """

    config: ConfigDict
    params: Any
    stats: Any
    step: int
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def managers(run_dir: str | os.PathLike) -> Iterator[dict[str, ocp.CheckpointManager]]:
    """Yields the two managers of a run by kind; on leaving waits for what is being written.

    A process that is not the first has none, `None` each: every process has the whole state.
    """
    if not processes.is_first():
        yield dict.fromkeys(KINDS)
        return
    root = Path(run_dir).resolve() / "checkpoints"
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="run"
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        create=False,
        multiprocessing_options=alone,
        lightweight_initialize=True,  # Reads nothing of the steps that are there.
        save_root_metadata=False,
    )
    for kind in KINDS:
        (root / kind).mkdir(parents=True, exist_ok=True)
    opened = {kind: ocp.CheckpointManager(root / kind, options=options) for kind in KINDS}
    _quieten()
    try:
        yield opened
        for manager in opened.values():
            _seal(manager)
    finally:
        for manager in opened.values():
            with contextlib.suppress(Exception):  # It was said before, or everything is sealed.
                manager.close()


def _quieten() -> None:
    """Keeps off the terminal the pages that Orbax and its driver write of a failing disk.

    What failed is raised once more in `_seal`, and said there. Some of it is written long after the
    save, when objects are collected: what is set here stays.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_not_of_a_save)
    if sys.unraisablehook is not _unraisable:
        sys.unraisablehook = _unraisable


def _not_of_a_save(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return "orbax" not in record.pathname and "RESOURCE_EXHAUSTED" not in str(error)


def _unraisable(unraisable) -> None:
    """Passes over what the driver's threads say of a loop that ended with the failed save."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _seal(manager: ocp.CheckpointManager) -> None:
    """Waits for what is being written and lists the hashes of the files of each step.

    A step that is not sealed, since the process was killed, still has the digest of its content.

    Raises:
        InputError: what was being written could not be.
    """
    try:
        manager.wait_until_finished()
        for step in manager.all_steps():
            folder = Path(manager.directory) / str(step)
            if not (folder / io_safety.HASHES).exists():
                io_safety.write_hashes(folder)
    except InputError:
        raise
    except Exception as error:  # Orbax raises what its drivers raise
        why = f"a checkpoint could not be written: {_first_line(error)}"
        hint = "earlier ones are kept; make room and run again"
        raise InputError(manager.directory, "", why, hint) from error


def save(
    manager: ocp.CheckpointManager | None,
    state: TrainState,
    notes: dict[str, Any],
    *,
    for_inference: bool = False,
) -> None:
    """Begins to write a state under its step; does nothing where that step is there already.

    Args:
        manager: Of the kind wanted, from `managers`; None writes nothing.
        state: One copy, not a replicated one.
        notes: What the loop must remember; JSON.
        for_inference: Whether only what `restore_generator` reads is kept: no optimisers, no
            discriminator, a third of the size or less.

    Raises:
        InputError: an earlier one, written meanwhile, could not be.
    """
    if manager is None:
        return
    _seal(manager)
    named = _named(state)
    if for_inference:
        part = ("average.",) if state.average else ("generator.params.", "generator.stats.")
        named = {name: x for name, x in named.items() if name == "step" or name.startswith(part)}
    step = int(jax.device_get(state.step))
    if step in manager.all_steps():
        return
    arrays = jax.device_get(named)
    notes = json_ready(notes)  # A copy: they are written while the caller goes on.
    content = {**notes, "sha256": digest(arrays, notes)}
    saved = ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), notes=ocp.args.JsonSave(content)
    )
    manager.save(step, args=saved, force=True)


def digest(arrays: dict[str, np.ndarray], notes: dict[str, Any] | None = None) -> str:
    """Returns a SHA-256 over names, types, shapes and content of `arrays`, each `[...]`, and notes.

    Args:
        arrays: Name to array `[...]`.
        notes: JSON, or None to leave them out.
    """
    total = hashlib.sha256(json_text(notes, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def read_newest(
    folder: str | os.PathLike, fits: Callable[[Saved], None] = lambda outline: None
) -> tuple[Saved | None, list[str]]:
    """Reads the newest step that is whole; passes over damaged ones and stray folders.

    Args:
        folder: `RUN/checkpoints/latest` or `.../best`.
        fits: Raises InputError where a checkpoint is not the one wanted; is asked before arrays are
            read, of one whose arrays are `jax.ShapeDtypeStruct`.

    Returns:
        The checkpoint, or None where the folder holds none, and a line about each step that was
        passed over, or that is odd.

    Raises:
        InputError: there are checkpoints, and not one can be read; or it does not fit.
    """
    folder = Path(folder).resolve()
    faults, damaged = [], False
    for step in _steps(folder):
        if not (folder / str(step) / "state").is_dir():
            faults.append(f"{folder / str(step)}: is no checkpoint, passed over")
            continue
        try:
            outline = _outline(folder, step)
        except _DAMAGE as error:
            outline, reason = None, error
        if outline:
            fits(outline)
            try:
                return _content(folder, outline), faults + _unsealed(folder / str(step))
            except _DAMAGE as error:
                reason = error
        damaged = True
        faults.append(
            f"{folder / str(step)}: is damaged ({_first_line(reason, folder)}), passed over"
        )
    if damaged:
        hint = "restore it from a copy, or train into another --workdir"
        why = f"holds no checkpoint that can be read: {faults[0].removeprefix(str(folder))}"
        raise InputError(folder, "", why.removesuffix(", passed over"), hint)
    return None, faults


def damaged_steps(run_dir: str | os.PathLike) -> list[str]:
    """Reads every checkpoint of a run, newest or not; returns a line about each damaged one."""
    faults = []
    for kind in KINDS:
        folder = (Path(run_dir) / "checkpoints" / kind).resolve()
        for step in _steps(folder):
            try:
                _content(folder, _outline(folder, step))
            except _DAMAGE as error:
                faults.append(f"{folder / str(step)}: is damaged ({_first_line(error, folder)})")
    return faults


def set_aside(folder: str | os.PathLike, newer_than: int) -> None:
    """Renames newer numbered folders, so that Orbax takes none of them for the latest step."""
    for step in _steps(Path(folder)):
        if step > newer_than:
            source = Path(folder) / str(step)
            target = source.with_name(f"unreadable-{step}")
            while target.exists():
                target = target.with_name(target.name + "-")
            os.rename(source, target)


def has_steps(run_dir: str | os.PathLike, kind: str = "latest") -> bool:
    """Returns whether a run holds a checkpoint of a kind; one that was not finished is none."""
    return bool(_steps(Path(run_dir) / "checkpoints" / kind))


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()]
    return sorted((int(name) for name in names if str(int(name)) == name), reverse=True)


def _outline(folder: Path, step: int) -> Saved:
    """Returns a step's notes and its arrays' shapes, once its files agree with their hashes.

    Raises:
        ValueError, OSError, LookupError, RuntimeError: it is damaged.
    """
    stored_arrays.check_files(folder / str(step))
    notes = io_safety.read_json(folder / str(step) / "notes" / "metadata")
    check_json(folder / str(step) / "notes" / "metadata", notes, {"sha256": TEXT})
    return Saved(step, stored_arrays.describe(folder / str(step) / "state"), notes)


def _content(folder: Path, outline: Saved) -> Saved:
    """Reads the arrays of a step, and compares them and its notes with their digest.

    Raises:
        ValueError, OSError, LookupError, RuntimeError: it is damaged.
    """
    arrays = stored_arrays.read(folder / str(outline.step) / "state", outline.arrays)
    notes = {name: value for name, value in outline.notes.items() if name != "sha256"}
    if outline.notes["sha256"] != digest(arrays, notes):
        raise ValueError("its content does not match its SHA-256")
    return Saved(outline.step, arrays, notes)


def _unsealed(step: Path) -> list[str]:
    """Returns a line where a step has no list of hashes."""
    if (step / io_safety.HASHES).exists():
        return []
    why = "of an earlier version, or its process was killed: checked by its content's digest alone"
    return [f"{step}: has no {io_safety.HASHES} ({why})"]


def _first_line(error: Exception, folder: Path | None = None) -> str:
    """What an error says, without the folder that stands before it in the message."""
    text = str(error) if folder is None else str(error).replace(f"{folder}/", "")
    return (text.strip() or type(error).__name__).splitlines()[0][:160]


def fill(template: Any, arrays: dict[str, np.ndarray], prefix: str = "") -> Any:
    """Puts saved arrays into the structure of `template`.

    Args:
        template: Pytree whose leaves have shapes and dtypes.
        arrays: Name to array `[...]`.
        prefix: Of the names, such as `generator.params`.

    Raises:
        InputError: an array is missing or has another shape or type.
    """
    leaves = []
    for name, leaf in _named(template, prefix).items():
        array = arrays.get(name)
        found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        expected = f"{leaf.dtype} {list(leaf.shape)}"
        if found != expected:
            why = f"the checkpoint has {found}, the configuration asks for {expected}"
            raise InputError("checkpoint", name, why, "use the run's own config.json")
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns every leaf under a name that tells where it sits."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    start = f"{prefix}." if prefix else ""
    name = jax.tree_util.keystr
    return {start + name(path, simple=True, separator="."): leaf for path, leaf in pairs}


def restore_generator(run_dir: str | os.PathLike, which: str = "best") -> Restored:
    """Reads a trained generator for inference.

    Args:
        run_dir: The run's folder.
        which: `"best"` by validation score, or `"latest"`.

    Raises:
        InputError: no run there, no checkpoint of that kind, a damaged one, or another architecture
            than `config.json` says.
    """
    run_dir = io_safety.existing_folder(run_dir)
    if which not in KINDS:
        raise InputError(run_dir, "which", f"is {which!r}, expected best or latest")
    config = configs.load_config(run_dir / "config.json")
    part = "average" if config.ema else "generator"
    params, stats = parameter_shapes(config)

    odd: list[str] = []

    def fits(outline: Saved) -> None:
        check_json(run_dir / "checkpoints" / which, outline.notes, same_run.NOTES)
        odd[:] = same_run.check_provenance(run_dir, outline.notes)
        if "config" in outline.notes:
            made_with = outline.notes["config"]
            same_run.check_same_network(run_dir / "config.json", config, made_with)
        fill(params, outline.arrays, f"{part}.params")
        fill(stats, outline.arrays, f"{part}.stats")

    saved, faults = read_newest(run_dir / "checkpoints" / which, fits)
    if saved is None:
        raise InputError(run_dir, f"checkpoints/{which}", "holds no checkpoint", "train first")
    return Restored(
        config=config,
        params=fill(params, saved.arrays, f"{part}.params"),
        stats=fill(stats, saved.arrays, f"{part}.stats"),
        step=saved.step,
        warnings=(*faults, *odd),
    )
