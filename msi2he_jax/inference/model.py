"""A trained generator as a function from MSI to an image."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_folder
from msi2he_jax.models import multiple_of
from msi2he_jax.training.checkpoint import Restored, restore_generator
from msi2he_jax.training.methods import make_method

NORMS = ("batch", "running")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained generator, ready to apply.

    Attributes:
        apply: `[B, H, W, K]` float in [0, 1] -> `[B, H, W, 3]` float32 in [-1, 1], compiled once a
            shape. Images do not influence each other, and the same image gives the same result.
        sample: The same with dropout, whatever `dropout` says, and a number that its mask follows
            from: `(msi, number) -> image`.
        config: Configuration of its run.
        provenance: `provenance.json` of its run: how its training data were made.
        step: Training step.
        which: `best` or `latest`.
        run_dir: The run's folder.
        channels: K, the channels it takes.
        multiple_px: H and W are padded to a multiple of this inside.
        norm: Statistics it normalises with: `batch` (the image's own) or `running` (training's).
        dropout: Whether dropout acts.
        warnings: What is odd about the run's folder, a line each.
    """

    apply: Callable[[np.ndarray], jax.Array]
    sample: Callable[[np.ndarray, int], jax.Array]
    config: ConfigDict
    provenance: dict[str, Any]
    step: int
    which: str
    run_dir: Path
    channels: int
    multiple_px: int
    norm: str
    dropout: bool
    warnings: tuple[str, ...] = ()

    def synthesize(self, msi: np.ndarray) -> np.ndarray:
        """Synthesises H&E of one section, or of several of one size.

        Args:
            msi: `[H, W, K]` or `[B, H, W, K]` float in [0, 1]: ion images treated as the training
                data were (`msi_arrays`, `load_arrays`).

        Returns:
            `[H, W, 3]` or `[B, H, W, 3]` float32 in [0, 1]. Large sections: `synthesize_tiled`.

        Raises:
            InputError: another number of dimensions or channels.
        """
        batch = msi[None] if np.ndim(msi) == 3 else msi
        images = np.clip((np.asarray(self.apply(batch), np.float32) + 1.0) / 2.0, 0.0, 1.0)
        return images[0] if np.ndim(msi) == 3 else images


def load_model(
    run_dir: str | os.PathLike,
    which: str = "best",
    *,
    norm: str | None = None,
    dropout: bool | None = None,
) -> Model:
    """Loads the generator of a run.

    Args:
        run_dir: The run's folder.
        which: `best` by validation score, or `latest`.
        norm: `batch` or `running`; None for what the run's `test.norm_at_test` says.
        dropout: Whether dropout acts; None for what the run's `test.dropout_at_test` says.

    Raises:
        InputError: no run there, no readable checkpoint, or its parts do not belong together.
    """
    run_dir = existing_folder(run_dir, "--run")
    if norm not in (None, *NORMS):
        raise InputError("norm", "", f"is {norm!r}, expected one of {', '.join(NORMS)}")
    restored = restore_generator(run_dir, which)
    provenance = read_provenance(run_dir)
    channels = _channels(restored, provenance, run_dir)
    config = restored.config
    norm = norm or config.test.norm_at_test
    dropout = config.test.dropout_at_test if dropout is None else dropout
    return Model(
        apply=_make_apply(restored, channels, norm, dropout),
        sample=_make_sample(restored, channels, norm),
        config=config,
        provenance=provenance,
        step=restored.step,
        which=which,
        run_dir=run_dir,
        channels=channels,
        multiple_px=multiple_of(config.model),
        norm=norm,
        dropout=dropout,
        warnings=restored.warnings,
    )


def _channels(restored: Restored, provenance: dict[str, Any], run_dir: Path) -> int:
    """Returns K, once the network and the peak list agree on it."""
    channels = int(restored.config.model.in_channels)
    peaks = len(provenance["peaks"]["mz"])
    if peaks != channels:
        why = f"lists {peaks} peaks, the checkpoint takes {channels} channels"
        hint = "the two files come from different runs"
        raise InputError(run_dir / "provenance.json", "peaks", why, hint)
    return channels


def _make_apply(restored: Restored, channels: int, norm: str, dropout: bool) -> Callable:
    generate = _make_generate(restored, channels, norm, dropout)
    key = jax.random.key(restored.config.seed) if dropout else None
    return lambda msi: generate(msi, key)


def _make_sample(restored: Restored, channels: int, norm: str) -> Callable:
    generate = _make_generate(restored, channels, norm, dropout=True)
    key = jax.random.key(restored.config.seed)
    return lambda msi, number: generate(msi, jax.random.fold_in(key, number))


def _make_generate(restored: Restored, channels: int, norm: str, dropout: bool) -> Callable:
    """Compiles the generator; with its own statistics an image goes alone, as pix2pix tests."""
    arrays = jax.device_put((restored.params, restored.stats))

    method = make_method(restored.config)

    def generate(params, stats, msi, key):
        return method.synthesize(params, stats, msi, norm=norm, dropout_key=key)

    def generate_alone(params, stats, msi, key):
        return jax.vmap(lambda one: generate(params, stats, one[None], key)[0])(msi)

    # One mask for every image keeps dropout from depending on an image's place in the batch.
    alone = norm == "batch" or dropout
    compiled = jax.jit(generate_alone if alone else generate)

    def checked(msi, key):
        if msi.ndim != 4 or msi.shape[-1] != channels:
            why = f"has shape {tuple(msi.shape)}, the model takes [B, H, W, {channels}]"
            raise InputError("msi", "", why)
        return compiled(*arrays, msi, key)

    return checked
