"""Steps that were not learned from, since a loss or a gradient was not finite: their samples."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from msi2he_jax import io_safety
from msi2he_jax.data import loader

FILE = "not_finite.npz"


def skipped_steps(before: int, skipped: np.ndarray) -> list[int]:
    """Returns the steps that were skipped, counted from 1 as in `metrics.jsonl`.

    Args:
        before: Steps taken before the first of these.
        skipped: `[steps]` float32, 0 or 1 per step.
    """
    return [before + 1 + int(place) for place in np.flatnonzero(np.asarray(skipped))]


def samples_of(step: int, config: ConfigDict, sample_ids: tuple[str, ...]) -> list[str]:
    """Returns the names of the samples in a step's batch, in its order.

    Args:
        step: Counted from 1.
        config: Of the run.
        sample_ids: Of the training split.
    """
    size = {"size": len(sample_ids), "batch_size": config.train.batch_size}
    order = loader.batch_order(step - 1, seed=config.seed, **size)
    return [sample_ids[index] for index in np.asarray(order)]


def write_batch(
    workdir: str | os.PathLike, step: int, samples: list[str], batch: dict[str, np.ndarray]
) -> Path:
    """Writes the batch of a step to `not_finite.npz`, to be looked at; returns its path.

    Args:
        workdir: The run's folder.
        step: Counted from 1.
        samples: B names.
        batch: As `loader.sample_batch` draws it: `msi` `[B, H, W, K]`, `image` `[B, H, W, 3]`, ...

    Raises:
        InputError: it cannot be written.
    """
    path = Path(workdir) / FILE
    arrays = {name: np.asarray(value, _plain_type(value)) for name, value in batch.items()}
    with io_safety.atomic_file(path) as temporary:
        np.savez(temporary, step=step, sample_ids=np.array(samples), **arrays)
    return path


def _plain_type(value: np.ndarray) -> type | None:
    """NumPy alone cannot read bfloat16 back."""
    return np.float32 if value.dtype.name == "bfloat16" else None
