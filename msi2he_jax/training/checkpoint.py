"""A run's checkpoints: `checkpoints/latest` to resume from, `checkpoints/best` by validation score.

Orbax writes whole steps or none, but it does not notice damaged weights and takes any numbered
folder for a step. Hence a SHA-256 of the content goes into every step and is checked when it is
read, and what cannot be read is set aside, said in one line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from msi2he_jax import config as configs
from msi2he_jax import io_safety
from msi2he_jax.errors import InputError
from msi2he_jax.training import processes
from msi2he_jax.training.state import TrainState, build_graphs, parameter_shapes

KINDS = ("latest", "best")
# What may differ between a run and its continuation without making it another run.
FREE = (
    "name",
    "parallel",
    "data.dir",
    "data.loader",
    "train.steps",
    "train.epochs",
    "train.steps_per_call",
    "train.eval_every",
    "train.checkpoint_every",
    "train.image_every",
    "train.patience",
    "test.norm_at_test",
    "test.dropout_at_test",
)


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
    """A generator as trained, ready for `step.run(graph, params, stats, msi, ...)`.

    Attributes:
        config: Configuration of its run.
        graph: `nnx.GraphDef` of the generator.
        params: `nnx.State` of its parameters; the moving average where the run kept one.
        stats: `nnx.State` of its statistics.
        step: Training step.
    """

    config: ConfigDict
    graph: Any
    params: Any
    stats: Any
    step: int


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
        max_to_keep=2, create=False, multiprocessing_options=alone
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
    notes = json.loads(json.dumps(notes))  # A copy: they are written while the caller goes on.
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
    total = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def read_newest(folder: str | os.PathLike) -> tuple[Saved | None, list[str]]:
    """Reads the newest step that is whole; passes over damaged ones and stray folders.

    Args:
        folder: `RUN/checkpoints/latest` or `.../best`.

    Returns:
        The checkpoint, or None where the folder holds none, and a line about each step that was
        passed over.

    Raises:
        InputError: there are checkpoints, and not one can be read.
    """
    folder = Path(folder).resolve()
    faults, damaged = [], False
    for step in _steps(folder):
        if not (folder / str(step) / "state").is_dir():
            faults.append(f"{folder / str(step)}: is no checkpoint, passed over")
            continue
        try:
            return _read(folder, step), faults
        except Exception as error:  # Orbax raises what its drivers raise; any of it means damaged
            damaged = True
            faults.append(f"{folder / str(step)}: is damaged ({_first_line(error)}), passed over")
    if damaged:
        hint = "restore it from a copy, or train into another --workdir"
        why = f"holds no checkpoint that can be read: {faults[0].removeprefix(str(folder))}"
        raise InputError(folder, "", why.removesuffix(", passed over"), hint)
    return None, faults


def set_aside(folder: str | os.PathLike, newer_than: int) -> None:
    """Renames newer numbered folders, so that Orbax takes none of them for the latest step."""
    for step in _steps(Path(folder)):
        if step > newer_than:
            source = Path(folder) / str(step)
            target = source.with_name(f"unreadable-{step}")
            while target.exists():
                target = target.with_name(target.name + "-")
            os.rename(source, target)


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()]
    return sorted((int(name) for name in names if str(int(name)) == name), reverse=True)


def _read(folder: Path, step: int) -> Saved:
    io_safety.check_hashes(folder / str(step))
    with ocp.StandardCheckpointer() as reader:
        restored = reader.restore(folder / str(step) / "state")
    notes = dict(io_safety.read_json(folder / str(step) / "notes" / "metadata"))
    arrays = {name: np.asarray(value) for name, value in restored.items()}
    if notes.pop("sha256", None) != digest(arrays, notes):
        raise ValueError("its content does not match its SHA-256")
    return Saved(step, arrays, notes)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


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


def check_same_run(run_dir: str | os.PathLike, config: ConfigDict) -> None:
    """Refuses to continue a run with another configuration or other data.

    Args:
        run_dir: The run's folder; one without `config.json` is fine.
        config: What is asked for.

    Raises:
        InputError: a value differs that would make it another run.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        return
    before = configs.load_config(path)
    for name in configs.differences(before, config):
        if name not in FREE:
            old, new = configs.value(before, name), configs.value(config, name)
            why = f"is {old!r} in the run that is there, {new!r} was asked for"
            hint = f"another --workdir, or --config={path} to continue"
            raise InputError(path, name, why, hint)
    _check_same_data(Path(run_dir) / "provenance.json", Path(config.data.dir) / "provenance.json")


def _check_same_data(before: Path, now: Path) -> None:
    """Refuses data whose content is not that of the run's."""
    if not (before.is_file() and now.is_file()):
        return
    old, new = (io_safety.read_json(path).get("content_sha256") for path in (before, now))
    if old != new:
        why = "these are not the data of the run that is there"
        raise InputError(now, "content_sha256", why, "another --workdir, or the run's own data")


def _check_same_network(path: Path, config: ConfigDict, made_with: dict[str, Any]) -> None:
    """Refuses a `config.json` that is not the one its checkpoint was made with."""
    before = configs.default_config()
    before.update(ConfigDict(made_with))
    for name in configs.differences(before, config):
        if name not in FREE:
            old, new = configs.value(before, name), configs.value(config, name)
            why = f"is {new!r}, the checkpoint was made with {old!r}"
            raise InputError(path, name, why, "put the run's own config.json back")


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
    saved, _ = read_newest(run_dir / "checkpoints" / which)
    if saved is None:
        raise InputError(run_dir, f"checkpoints/{which}", "holds no checkpoint", "train first")
    if "config" in saved.notes:
        _check_same_network(run_dir / "config.json", config, saved.notes["config"])
    part = "average" if config.ema else "generator"
    params, stats = parameter_shapes(config)
    return Restored(
        config=config,
        graph=build_graphs(config).generator,
        params=fill(params, saved.arrays, f"{part}.params"),
        stats=fill(stats, saved.arrays, f"{part}.stats"),
        step=saved.step,
    )
