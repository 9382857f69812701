"""What a step learns from: a batch drawn inside the compiled step, or handed to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from msi2he_jax.data import streaming
from msi2he_jax.training.parallel import Parallel
from msi2he_jax.training.preparation import Data, sampler, varier

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class InputPipeline:
    """Batches as a function of step and seed.

    Attributes:
        fetch: From a step, counted from 0, to arrays on the devices; all work of the host is here.
        inside: `(fetched, step, seed) -> batch` as a step calls it.
        prepare: The same as a compiled call of its own, made before the step; `inside` then takes
            its result as it is. None where the step does all.
        loops: Whether several steps can be one call: not where each is handed its batch.
    """

    fetch: Callable[[int], Batch]
    inside: Callable[..., Batch]
    prepare: Callable[..., Batch] | None = None
    loops: bool = False

    def inputs(self, fetched: Batch, step: Any, seed: Any) -> Batch:
        """Returns what the compiled step takes in the place of the data."""
        return fetched if self.prepare is None else self.prepare(fetched, step, seed)


def make_input_pipeline(
    config: ConfigDict, data: Data, devices: Parallel, dtype: Any
) -> InputPipeline:
    """Returns what feeds a run.

    Args:
        config: The whole configuration.
        data: The training split, in memory or on the disk.
        devices: Share the batch.
        dtype: Of the MSI on the devices.
    """
    if isinstance(data, streaming.Stored):
        size = config.train.batch_size
        options = {"seed": config.seed, "batch_size": size, "rows": devices.rows(size)}
        stream = streaming.Stream(data, **options, dtype=dtype)
        return streamed(stream, varier(config, data.pad_value), devices)
    arrays = devices.place(data.device_dict(dtype))
    return resident(arrays, sampler(config, data.pad_value), devices)


def resident(arrays: Batch, draw: Callable[..., Batch], devices: Parallel) -> InputPipeline:
    """Feeds from arrays that lie on every device.

    On a CPU the batch is drawn by a call of its own: inside the step XLA would compute it once more
    for every operation that reads it (a warp of 50 channels took two thirds of a small step).

    Args:
        arrays: As `draw` takes them, placed.
        draw: `(arrays, step, seed) -> batch`, the whole of it.
        devices: Share the batch.
    """
    shared = devices.share(draw)
    if devices.loops:
        return InputPipeline(lambda step: arrays, shared, loops=True)
    return InputPipeline(lambda step: arrays, _as_it_is, devices.compile_draw(shared))


def streamed(
    stream: streaming.Stream, vary: Callable[..., Batch], devices: Parallel
) -> InputPipeline:
    """Feeds from the disk; a batch is copied while the step before it is computed.

    Args:
        stream: Gives this process' rows of each batch.
        vary: `(part of a batch, step, seed) -> the same part`, as training wants it.
        devices: Share the batch.
    """

    def fetch(step: int) -> Batch:
        return devices.place_parts(stream.batch(step))

    return InputPipeline(fetch, _as_it_is, devices.compile_draw(vary))


def _as_it_is(batch: Batch, step: Any, seed: Any) -> Batch:
    return batch
