"""The loop: chunks of compiled steps, and between them validation, pictures and checkpoints."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax import locking
from msi2he_jax.models import flops
from msi2he_jax.training import (
    checkpoint,
    evaluation,
    monitor,
    nonfinite,
    parallel,
    processes,
    same_run,
)
from msi2he_jax.training.preparation import (
    Data,
    complete_config,
    open_data,
)
from msi2he_jax.training.run import Report, Run, build_run, prepare_folder, resume
from msi2he_jax.training.state import Graphs, TrainState, build_graphs

MOST_SKIPPED = 10  # steps in a row that are not finite before the run is given up
MOST_SILENT_S = 5.0  # s between two words of progress, where a call is a single step
_PICTURES = 4


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
        outside_share: Share of the loop's time outside of compiled steps and of events such as
            validation, 0 to 1.
        train_s: Seconds spent in training steps, over all parts of the run, s.
        steps: Steps asked for, as `train.steps` or `train.epochs` say.
    """

    step: int
    reason: str
    best: float | None
    signal: int | None = None
    compile_s: float = 0.0
    outside_share: float = 0.0
    train_s: float = 0.0
    steps: int = 0


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
    data, validation = open_data(config, report.note)
    config = complete_config(config, data)
    report.total(config.train.steps)
    with processes.entered_by_first(locking.held(workdir, "train", inside=True)):
        same_run.check_same_run(workdir, config)
        run = build_run(config, data, validation, report)
        run.state = _initial_state(run, data, begin, resumed=checkpoint.has_steps(workdir))
        prepare_folder(workdir, config)
        return _go_on(run, workdir, resume(run, workdir), stop)


def _initial_state(run: Run, data: Data, begin: Callable | None, *, resumed: bool) -> TrainState:
    """The state before the first step; of a resumed run only what its checkpoint fills."""
    if resumed:
        return run.method.init()
    state = run.method.init(data, run.report.note)
    return begin(state, build_graphs(run.config), run.config) if begin else state


def _go_on(
    run: Run, workdir: str | os.PathLike, saved: int, stop: Callable[[], int | None]
) -> Outcome:
    """Trains from step `saved` on until there is a reason to stop."""
    if _over(run):
        return _outcome(run, "already finished")
    writer = monitor.Monitor(workdir, saved) if processes.is_first() else monitor.Silent()
    with checkpoint.managers(workdir) as managers, writer:
        reason = signal = None
        run.clock.lap("start")
        if not run.step and run.config.model.start != "none":
            validate(run, managers, writer)  # What a network begins with may be its best.
        while reason is None:
            train_chunk(run, writer)
            if _due(run, "eval_every"):
                validate(run, managers, writer)
            if _due(run, "image_every"):
                writer.image(run.step, pictures(run))
                run.clock.lap("pictures")
            signal = processes.any_signal(stop())
            reason = _reason(run, signal)
            if reason or _due(run, "checkpoint_every"):
                checkpoint.save(managers["latest"], run.devices.single(run.state), _notes(run))
                run.clock.lap("checkpoint")
    if reason == "not finite":
        _keep_last_batch(run, workdir)
    return _outcome(run, reason, signal)


def train_chunk(run: Run, writer: monitor.Monitor) -> None:
    """Runs the steps up to the next event without a word to the host, and writes their means."""
    length = _length(run)
    run.clock.lap("other")
    per_call = length if run.pipeline.loops else 1
    compiled = run.compiled.get(per_call) or _compile(run, per_call, writer)
    with jax.transfer_guard("disallow"):
        parts, between = _steps(run, compiled, per_call, length // per_call)
    length = per_call * len(parts)
    parts = jax.device_get(run.devices.single(parts))
    seconds = run.clock.lap("train")
    run.clock.move(between, "train", "other")
    _tell_skipped(run, writer, np.concatenate([part["skipped"] for part in parts]))
    run.step += length
    values = {name: _finite_mean([part[name] for part in parts]) for name in parts[0]}
    values["images_per_s"] = length * run.config.train.batch_size / seconds
    values["outside_share"] = run.clock.outside_share
    writer.write(run.step, "train", values)
    run.report.progress(run.step, values)


def _steps(run: Run, compiled: Callable, per_call: int, calls: int) -> tuple[list[Any], float]:
    """Makes up to `calls` calls; fewer where they are slow, so that the user hears of them.

    Returns:
        What each call returned beside the state, and the seconds between calls.
    """
    parts, between = [], 0.0
    begin = last = time.monotonic()
    patience = MOST_SILENT_S if jax.process_count() == 1 else math.inf  # all make as many calls
    while len(parts) < calls and last - begin < patience:
        fetched = run.pipeline.fetch(run.step + len(parts) * per_call)
        between += time.monotonic() - last
        inputs = run.pipeline.inputs(fetched, run.state.step, run.seed)
        run.state, metrics = compiled(run.state, inputs, run.seed)
        parts.append(metrics)
        # One call behind, so that the next batch is on its way while this one is learned from.
        jax.block_until_ready(parts[-2:-1])
        last = time.monotonic()
    return parts, between


def _tell_skipped(run: Run, writer: monitor.Monitor, flags: np.ndarray) -> None:
    """Writes which samples a step could not learn from; the first few are said as well."""
    for step in nonfinite.skipped_steps(run.step, flags):
        samples = nonfinite.samples_of(step, run.config, run.sample_ids)
        writer.skipped(step, samples)
        run.told += 1
        if run.told <= MOST_SKIPPED:
            names = ", ".join(samples)
            run.report.note(f"step {step}: a loss or gradient is not finite, skipped: {names}")


def _keep_last_batch(run: Run, workdir: str | os.PathLike) -> None:
    samples = nonfinite.samples_of(run.step, run.config, run.sample_ids)
    batch = jax.device_get(run.devices.gathered(processes.whole(_last_batch(run))))
    if not processes.is_first():
        return
    path = nonfinite.write_batch(workdir, run.step, samples, batch)
    run.report.note(f"{path}: the batch that could not be learned from last")


def _last_batch(run: Run) -> dict[str, jax.Array]:
    """Draws once more what the step before this one learned from, as the devices hold it."""
    step = run.devices.place(np.int32(run.step - 1))
    batch = run.pipeline.inputs(run.pipeline.fetch(run.step - 1), step, run.seed)
    draw = run.devices.compile_draw(run.pipeline.inside)
    return draw(batch, step, run.seed)


def _compile(run: Run, length: int, writer: monitor.Monitor) -> Callable:
    first = run.pipeline.inputs(run.pipeline.fetch(run.step), run.state.step, run.seed)
    inputs = (run.state, first, run.seed)
    run.compiled[length], seconds = run.devices.compile(run.chunk(length), *inputs)
    run.clock.lap("compile")
    cost = parallel.planned_cost(run.compiled[length]) | _formula(run, length)
    writer.write(run.step, "compile", {"steps_per_call": length, "compile_s": seconds} | cost)
    words = f"compiled a call of {length} step{'s'[: length > 1]} in {seconds:.1f} s"
    planned = f", {cost['planned_gib']:.2f} GiB planned" if "planned_gib" in cost else ""
    run.report.note(words + planned)
    return run.compiled[length]


def _formula(run: Run, length: int) -> dict[str, float]:
    """Operations of one call by the networks' own formula, where there is one."""
    config, extent = run.config, run.validation_arrays["msi"].shape[1:3]
    side = config.data.crop_px or round(math.prod(extent) ** 0.5)
    work = flops.training_step(config.model, config.discriminator, side)
    images = length * config.train.batch_size
    return {} if work is None else {"formula_gflop": work * images / 1e9}


def validate(run: Run, managers: dict[str, Any], writer: monitor.Monitor) -> None:
    """Scores the validation split and keeps the state as the best where it is."""
    state, name = run.devices.single(run.state), run.config.train.best_metric
    scores, _ = run.evaluate(*run.method.finish(state), run.validation_arrays)
    scores = jax.device_get(scores)
    means = processes.of_first(np.array([_finite_mean(scores[key]) for key in scores]))
    means = dict(zip(scores, means.tolist(), strict=True))
    run.stale = run.stale + 1 if run.step > run.patience_from else 0
    if evaluation.is_better(name, means[name], run.best):
        run.best, run.stale = means[name], 0
        checkpoint.save(managers["best"], state, _notes(run), for_inference=True)
    writer.write(run.step, "validation", means)
    run.report.note(f"step {run.step}: validation {name} {means[name]:.4f}")
    run.clock.lap("validation")


def pictures(run: Run) -> np.ndarray:
    """Returns the first validation pairs as rows of pictures, uint8 `[h, w, 3]`.

    View, synthetic, real; with a flow also where it moves the synthetic image.
    """
    few = {name: array[:_PICTURES] for name, array in run.validation_arrays.items()}
    state = run.devices.single(run.state)
    fakes = run.evaluate(*run.method.finish(state), few)[1]
    columns = [run.validation.view[:_PICTURES], fakes, run.validation.histology[:_PICTURES]]
    if state.flow is not None:
        flow = evaluation.estimate_flow(build_graphs(run.config).flow, state.flow.params)
        columns.append(monitor.flow_picture(jax.device_get(flow(fakes, few["histology"]))))
    return monitor.image_grid(*jax.device_get(columns))


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
    of_data = {"provenance": run.provenance_sha256}
    return {**remembered, "config": run.config.to_dict(), **of_data}


def _outcome(run: Run, reason: str, signal: int | None = None) -> Outcome:
    return Outcome(
        step=run.step,
        reason=reason,
        best=run.best,
        signal=signal,
        compile_s=run.clock.spent_s.get("compile", 0.0) if run.compiled else 0.0,
        outside_share=run.clock.outside_share,
        train_s=run.clock.spent_s.get("train", 0.0),
        steps=run.config.train.steps,
    )


def _finite_mean(values: Any) -> float:
    """Mean of the finite ones; NaN where there are none."""
    values = np.asarray(values, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(np.where(np.isfinite(values), values, np.nan)))
