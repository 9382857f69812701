"""What a step learns from: a batch drawn inside the compiled step, or handed to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from msi2he_jax.training.parallel import Parallel

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches as a function of step and seed.

    Attributes:
        fetch: From a step, counted from 0, to arrays on the devices; all work of the host is here.
        inside: `(fetched, step, seed) -> batch` as a step calls it.
        prepare: The same as a compiled call of its own, made before the step; `inside` then takes
            its result as it is. None where the step does all.
    """

    fetch: Callable[[int], Batch]
    inside: Callable[..., Batch]
    prepare: Callable[..., Batch] | None = None

    def inputs(self, fetched: Batch, step: Any, seed: Any) -> Batch:
        """Returns what the compiled step takes in the place of the data."""
        return fetched if self.prepare is None else self.prepare(fetched, step, seed)


def resident(arrays: Batch, draw: Callable[..., Batch], devices: Parallel) -> Feed:
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
        return Feed(lambda step: arrays, shared)
    return Feed(lambda step: arrays, _as_it_is, devices.compile_draw(shared))


def _as_it_is(batch: Batch, step: Any, seed: Any) -> Batch:
    return batch
