"""The loop: chunks of compiled steps, and between them validation, pictures and checkpoints."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax import io_safety
from msi2he_jax.data import loader
from msi2he_jax.errors import InputError
from msi2he_jax.models import multiple_of
from msi2he_jax.training import checkpoint, evaluation, monitor, parallel, skipped
from msi2he_jax.training.optimizer import make_optimizer
from msi2he_jax.training.state import (
    Graphs,
    TrainState,
    build_graphs,
    create_train_state,
    inference_arrays,
)
from msi2he_jax.training.step import make_chunk, make_recipe

MOST_SKIPPED = 10  # steps in a row that are not finite before the run is given up
MOST_SILENT_S = 5.0  # s between two words of progress, where a call is a single step
_PICTURES = 4
_PADDING = {"provenance": None, "white": 255, "black": 0}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps taken in all.
        reason: `"finished"`, `"already finished"`, `"no better score"`, `"signal"` or `"not
            finite"`.
        best: Best validation score, or None.
        signal: Number of the signal that stopped it, or None.
        compile_s: Seconds spent compiling, s.
        train_s: Seconds spent in training steps, over all parts of the run, s.
    """

    step: int
    reason: str
    best: float | None
    signal: int | None = None
    compile_s: float = 0.0
    train_s: float = 0.0


@dataclasses.dataclass(frozen=True)
class Report:
    """Where the loop says what it does: `note(line)`, and `progress(step, values)` per chunk."""

    note: Callable[[str], None] = lambda line: None
    progress: Callable[[int, dict[str, float]], None] = lambda step, values: None


@dataclasses.dataclass
class Run:
    """A run in progress: what was built once, and what changes between chunks."""

    config: ConfigDict
    report: Report
    devices: parallel.Parallel
    chunk: Callable[[int], Callable]
    evaluate: Callable
    validation: loader.Arrays
    clock: monitor.Clock
    arrays: dict[str, jax.Array]
    seed: jax.Array
    validation_arrays: dict[str, jax.Array]
    sample_ids: tuple[str, ...]
    state: TrainState | None = None
    step: int = 0
    best: float | None = None
    stale: int = 0
    told: int = 0
    compiled: dict[int, Callable] = dataclasses.field(default_factory=dict)


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    report: Report | None = None,
    stop: Callable[[], int | None] = lambda: None,
    begin: Callable[[TrainState, Graphs, ConfigDict], TrainState] | None = None,
) -> Outcome:
    """Trains until the steps are done, the score stalls or `stop` says so; resumes what is there.

    Args:
        config: A checked configuration.
        workdir: The run's folder.
        report: Where progress is told; nowhere by default.
        stop: Returns the number of a signal received, or None; asked between chunks.
        begin: Changes the state before the first step, as from another model's checkpoint; not
            called where a run is resumed.

    Returns:
        How it ended; everything else is in the run's folder.

    Raises:
        InputError: the data, the run's folder and the configuration do not fit together.
    """
    report = report or Report()
    data, validation = open_data(config, report)
    config = complete_config(config, data)
    checkpoint.check_same_run(workdir, config)
    run = build_run(config, data, validation, report)
    if begin and not any((Path(workdir) / "checkpoints" / "latest").glob("[0-9]*")):
        run.state = begin(run.state, build_graphs(config), config)
    prepare_folder(workdir, config)
    saved = resume(run, workdir)
    if _over(run):
        return Outcome(run.step, "already finished", run.best, train_s=_train_s(run))
    with checkpoint.managers(workdir) as managers, monitor.Monitor(workdir, saved) as writer:
        reason = None
        while reason is None:
            train_chunk(run, writer)
            if _due(run, "eval_every"):
                validate(run, managers, writer)
            if _due(run, "image_every"):
                writer.image(run.step, pictures(run))
            reason = _reason(run, stop())
            if reason or _due(run, "checkpoint_every"):
                checkpoint.save(managers["latest"], run.devices.single(run.state), _notes(run))
                run.clock.lap("checkpoint")
    if reason == "not finite":
        _keep_last_batch(run, workdir)
    return Outcome(
        run.step, reason, run.best, stop(), run.clock.spent_s.get("compile", 0.0), _train_s(run)
    )


def open_data(config: ConfigDict, report: Report) -> tuple[loader.Arrays, loader.Arrays]:
    """Loads the training and the validation split; the former stands in for an empty latter.

    Raises:
        InputError: no data set there; the hint has the commands that make one.
    """
    folder = config.data.dir
    if not (Path(folder) / "provenance.json").is_file():
        hint = (
            "python -m msi2he_jax.simulate --out=data/cohort && python -m msi2he_jax.preprocess "
            f"--manifest=data/cohort/manifest.csv --out={folder}"
        )
        raise InputError(folder, "data.dir", "holds no data set; make one", hint)
    options = {
        # Any number of channels will do here: the data have not been read yet.
        "multiple_of": multiple_of(ConfigDict({**config.model, "in_channels": 1})),
        "pad_value": _PADDING[config.data.padding],
    }
    data = loader.load_arrays(folder, "train", **options)
    try:
        return data, loader.load_arrays(folder, "validation", **options)
    except InputError as error:
        if error.field != "validation":
            raise
        report.note(f"{folder}: the validation split is empty, scoring on the training split")
        return data, data


def complete_config(config: ConfigDict, data: loader.Arrays) -> ConfigDict:
    """Fills in what only the data tell, and checks the sizes the networks must fit.

    Raises:
        InputError: `model.in_channels` is not what the data have, or images too small for the
            discriminator.
    """
    config = config.copy_and_resolve_references()
    channels = data.msi.shape[-1]
    if config.model.in_channels not in (0, channels):
        why = f"is {config.model.in_channels}, the data in {config.data.dir} have {channels}"
        raise InputError("config", "model.in_channels", why, "0 takes what the data have")
    config.model.in_channels = channels
    side = min(data.msi.shape[1:3])
    side = min(side, config.data.crop_px or side)
    if config.discriminator.name != "none" and side // 2**config.discriminator.n_layers < 3:
        why = f"is {config.discriminator.n_layers}, too many for images of {side} px"
        fits = max(n for n in range(config.discriminator.n_layers) if side // 2**n >= 3 or n == 0)
        hint = f"--config.discriminator.n_layers={fits}"
        raise InputError("config", "discriminator.n_layers", why, hint)
    return config


def build_run(
    config: ConfigDict, data: loader.Arrays, validation: loader.Arrays, report: Report
) -> Run:
    """Puts the data on the devices and builds what the loop calls; compiles nothing yet."""
    devices = parallel.choose_devices(config.parallel, config.train.batch_size)
    optimizers = build_optimizers(config, len(data))
    recipe = make_recipe(
        config, build_graphs(config, devices.axis_name), optimizers, devices.axis_name
    )
    sample = devices.share(sampler(config))
    dtype = jnp.bfloat16 if config.model.dtype == "bfloat16" else jnp.float32
    run = Run(
        config=config,
        report=report,
        devices=devices,
        chunk=lambda length: make_chunk(recipe, sample, length),
        evaluate=evaluation.make_evaluator(config, build_graphs(config).generator),
        validation=validation,
        clock=monitor.Clock(),
        arrays=devices.place(data.device_dict(dtype)),
        seed=devices.place(np.uint32(config.seed)),
        validation_arrays=devices.beside(validation.device_dict(dtype)),
        sample_ids=data.sample_ids,
    )
    run.state = create_train_state(config, *optimizers)
    return run


def build_optimizers(config: ConfigDict, examples: int) -> tuple[Any, Any]:
    """Returns the two networks' optimisers for a training split of `examples` pairs."""
    settings = config.optimizer
    schedule = {
        "steps": config.train.steps,
        "steps_per_epoch": max(1, examples // config.train.batch_size),
    }
    rates = (settings.learning_rate, settings.d_learning_rate or settings.learning_rate)
    first, second = (make_optimizer(settings, learning_rate=rate, **schedule) for rate in rates)
    return first, second


def sampler(config: ConfigDict) -> Callable[..., dict[str, jax.Array]]:
    """Returns `(arrays, step, seed) -> batch` as `config` asks for."""
    augment = config.data.augment
    return lambda arrays, step, seed: loader.sample_batch(
        arrays,
        step=step,
        seed=seed,
        batch_size=config.train.batch_size,
        crop_px=config.data.crop_px,
        flip=augment != "none",
        rotate=augment == "dihedral",
    )


def prepare_folder(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes `config.json` and copies the data's `provenance.json` into the run's folder."""
    io_safety.write_json(Path(workdir) / "config.json", config.to_dict())
    with io_safety.atomic_file(Path(workdir) / "provenance.json") as temporary:
        shutil.copyfile(Path(config.data.dir) / "provenance.json", temporary)


def resume(run: Run, workdir: str | os.PathLike) -> int:
    """Takes up the newest whole checkpoint, if any; returns its step, 0 where there is none."""
    folder = Path(workdir) / "checkpoints" / "latest"
    saved, faults = checkpoint.read_newest(folder)
    for fault in faults:
        run.report.note(fault)
    for kind in checkpoint.KINDS:
        checkpoint.set_aside(folder.with_name(kind), saved.step if saved else -1)
    if saved:
        run.state = checkpoint.fill(run.state, saved.arrays)
        run.step, run.best, run.stale = saved.step, saved.notes["best"], saved.notes["stale"]
        run.clock = monitor.Clock(saved.notes["spent_s"])
        run.report.note(f"{workdir}: resuming at step {saved.step}")
    run.state = run.devices.place(run.state)
    return run.step


def train_chunk(run: Run, writer: monitor.Monitor) -> None:
    """Runs the steps up to the next event without a word to the host, and writes their means."""
    length = _length(run)
    run.clock.lap("other")
    per_call = length if run.devices.loops else 1
    compiled = run.compiled.get(per_call) or _compile(run, per_call, writer)
    with jax.transfer_guard("disallow"):
        parts = _steps(run, compiled, length // per_call)
    length = per_call * len(parts)
    parts = jax.device_get(run.devices.single(parts))
    seconds = run.clock.lap("train")
    _tell_skipped(run, writer, np.concatenate([part["skipped"] for part in parts]))
    run.step += length
    values = {name: _finite_mean([part[name] for part in parts]) for name in parts[0]}
    values["images_per_s"] = length * run.config.train.batch_size / seconds
    writer.write(run.step, "train", values)
    run.report.progress(run.step, values)


def _steps(run: Run, compiled: Callable, calls: int) -> list[Any]:
    """Makes up to `calls` calls; fewer where they are slow, so that the user hears of them."""
    parts, begin = [], time.monotonic()
    while len(parts) < calls and time.monotonic() - begin < MOST_SILENT_S:
        run.state, metrics = compiled(run.state, run.arrays, run.seed)
        parts.append(jax.block_until_ready(metrics) if calls > 1 else metrics)
    return parts


def _tell_skipped(run: Run, writer: monitor.Monitor, flags: np.ndarray) -> None:
    """Writes which samples a step could not learn from; the first few are said as well."""
    for step in skipped.skipped_steps(run.step, flags):
        samples = skipped.samples_of(step, run.config, run.sample_ids)
        writer.skipped(step, samples)
        run.told += 1
        if run.told <= MOST_SKIPPED:
            names = ", ".join(samples)
            run.report.note(f"step {step}: a loss or gradient is not finite, skipped: {names}")


def _keep_last_batch(run: Run, workdir: str | os.PathLike) -> None:
    batch = sampler(run.config)(run.devices.single(run.arrays), run.step - 1, run.config.seed)
    samples = skipped.samples_of(run.step, run.config, run.sample_ids)
    path = skipped.write_batch(workdir, run.step, samples, jax.device_get(batch))
    run.report.note(f"{path}: the batch that could not be learned from last")


def _compile(run: Run, length: int, writer: monitor.Monitor) -> Callable:
    inputs = (run.state, run.arrays, run.seed)
    run.compiled[length], seconds = run.devices.compile(run.chunk(length), *inputs)
    run.clock.lap("compile")
    writer.write(run.step, "compile", {"steps_per_call": length, "compile_s": seconds})
    run.report.note(f"compiled a call of {length} step{'s'[: length > 1]} in {seconds:.1f} s")
    return run.compiled[length]


def validate(run: Run, managers: dict[str, Any], writer: monitor.Monitor) -> None:
    """Scores the validation split and keeps the state as the best where it is."""
    state, name = run.devices.single(run.state), run.config.train.best_metric
    scores, _ = run.evaluate(*inference_arrays(state), run.validation_arrays)
    means = {key: _finite_mean(value) for key, value in jax.device_get(scores).items()}
    run.stale += 1
    if evaluation.is_better(name, means[name], run.best):
        run.best, run.stale = means[name], 0
        checkpoint.save(managers["best"], state, _notes(run), for_inference=True)
    writer.write(run.step, "validation", means)
    run.report.note(f"step {run.step}: validation {name} {means[name]:.4f}")
    run.clock.lap("validation")


def pictures(run: Run) -> np.ndarray:
    """Returns the first validation pairs as rows of view, synthetic, real: uint8 `[h, w, 3]`."""
    few = {name: array[:_PICTURES] for name, array in run.validation_arrays.items()}
    _, fakes = run.evaluate(*inference_arrays(run.devices.single(run.state)), few)
    views, real = run.validation.view[:_PICTURES], run.validation.histology[:_PICTURES]
    return monitor.image_grid(views, jax.device_get(fakes), real)


def _length(run: Run) -> int:
    """Steps until the next event or multiple of `steps_per_call`: no cut changes the result."""
    train = run.config.train
    names = ("steps_per_call", "eval_every", "checkpoint_every", "image_every")
    return min([train[name] - run.step % train[name] for name in names] + [train.steps - run.step])


def _due(run: Run, name: str) -> bool:
    return run.step % run.config.train[name] == 0 or run.step >= run.config.train.steps


def _over(run: Run) -> bool:
    patience = run.config.train.patience
    return run.step >= run.config.train.steps or bool(patience and run.stale >= patience)


def _reason(run: Run, signal: int | None) -> str | None:
    """Why to stop now, or None."""
    if int(jax.device_get(run.devices.single(run.state.skipped_in_a_row))) >= MOST_SKIPPED:
        return "not finite"
    if _over(run):
        return "finished" if run.step >= run.config.train.steps else "no better score"
    return "signal" if signal else None


def _notes(run: Run) -> dict[str, Any]:
    remembered = {"best": run.best, "stale": run.stale, "spent_s": run.clock.spent_s}
    return {**remembered, "config": run.config.to_dict()}


def _train_s(run: Run) -> float:
    return run.clock.spent_s.get("train", 0.0)


def _finite_mean(values: Any) -> float:
    """Mean of the finite ones; NaN where there are none."""
    values = np.asarray(values, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(np.where(np.isfinite(values), values, np.nan)))
