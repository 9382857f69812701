"""A run in progress: built from its configuration and data, or taken up where it was left."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax import io_safety
from msi2he_jax.data import loader
from msi2he_jax.data.streaming import Stored
from msi2he_jax.json_schema import check_json
from msi2he_jax.training import checkpoint, evaluation, monitor, parallel, processes, same_run
from msi2he_jax.training.chunk import make_chunk
from msi2he_jax.training.input_pipeline import InputPipeline, make_input_pipeline
from msi2he_jax.training.methods import Method, make_method
from msi2he_jax.training.optimizer import decay_begins, steps_per_epoch
from msi2he_jax.training.preparation import Data
from msi2he_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Report:
    """Where the loop says what it does.

    Attributes:
        note: Takes a line.
        total: Takes the number of steps asked for, once.
        progress: Takes the step and its values, per chunk.
    """

    note: Callable[[str], None] = lambda line: None
    total: Callable[[int], None] = lambda steps: None
    progress: Callable[[int, dict[str, float]], None] = lambda step, values: None


@dataclasses.dataclass
class Run:
    """A run in progress: what was built once, and what changes between chunks."""

    config: ConfigDict
    method: Method
    report: Report
    devices: parallel.Parallel
    chunk: Callable[[int], Callable]
    evaluate: Callable
    validation: loader.Arrays
    clock: monitor.Clock
    pipeline: InputPipeline
    seed: jax.Array
    validation_arrays: dict[str, jax.Array]
    sample_ids: tuple[str, ...]
    patience_from: int  # step from which evaluations without a better score count
    state: TrainState | None = None
    step: int = 0
    best: float | None = None
    stale: int = 0
    told: int = 0
    provenance_sha256: str | None = None
    compiled: dict[int, Callable] = dataclasses.field(default_factory=dict)


def build_run(config: ConfigDict, data: Data, validation: loader.Arrays, report: Report) -> Run:
    """Puts the data on the devices and builds what the loop calls; compiles nothing yet."""
    devices = parallel.choose_devices(
        config.parallel, config.train.batch_size // config.train.microbatches
    )
    method = make_method(config, examples=len(data), axis_name=devices.axis_name)
    dtype = jnp.bfloat16 if config.model.dtype == "bfloat16" else jnp.float32
    pipeline = make_input_pipeline(config, data, devices, dtype)
    evaluate = evaluation.make_evaluator(config)
    held = validation.device_dict(dtype)
    if isinstance(data, Stored):  # the validation split may be large as well
        evaluate = evaluation.in_parts(evaluate)
    else:
        held = devices.beside(held)
    return Run(
        config=config,
        method=method,
        report=report,
        devices=devices,
        chunk=lambda length: make_chunk(method, pipeline.inside, length),
        evaluate=evaluate,
        validation=validation,
        clock=monitor.Clock(),
        pipeline=pipeline,
        seed=devices.place(np.uint32(config.seed)),
        validation_arrays=held,
        sample_ids=data.sample_ids,
        patience_from=decay_begins(
            config.optimizer,
            steps=config.train.steps,
            steps_per_epoch=steps_per_epoch(config, len(data)),
        ),
    )


def prepare_folder(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json` and copies the data's `provenance.json` into the run's folder.

    One that has checkpoints keeps its own: they know its digest. Of several processes the first
    does, when all have seen what was there before.
    """
    processes.wait("before the run's folder is written")
    if not processes.is_first():
        return
    io_safety.write_json(Path(workdir) / "config.json", config.to_dict())
    own = Path(workdir) / "provenance.json"
    if own.is_file() and checkpoint.has_steps(workdir):
        return
    with io_safety.atomic_file(own) as temporary:
        shutil.copyfile(Path(config.data.dir) / "provenance.json", temporary)


def resume(run: Run, workdir: str | os.PathLike) -> int:
    """Takes up the newest whole checkpoint, if any; returns its step, 0 where there is none."""
    folder = Path(workdir) / "checkpoints" / "latest"

    def fits(outline: checkpoint.Saved) -> None:
        check_json(folder, outline.notes, same_run.RESUMED)
        same_run.check_provenance(workdir, outline.notes)
        checkpoint.fill(run.state, outline.arrays)

    saved, faults = checkpoint.read_newest(folder, fits)
    for fault in faults:
        run.report.note(fault)
    processes.wait("all have read the checkpoint")
    for kind in checkpoint.KINDS if processes.is_first() else ():
        checkpoint.set_aside(folder.with_name(kind), saved.step if saved else -1)
    if saved:
        run.state = checkpoint.fill(run.state, saved.arrays)
        run.step, run.best, run.stale = saved.step, saved.notes["best"], saved.notes["stale"]
        run.clock = monitor.Clock(saved.notes["spent_s"])
        run.report.note(f"{workdir}: resuming at step {saved.step}")
    if processes.is_first():
        run.provenance_sha256 = same_run.provenance_digest(workdir)
    run.state = run.devices.place(run.state)
    return run.step
