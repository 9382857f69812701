"""From a configuration and its data to what the loop needs: arrays and batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax.data import loader, streaming
from msi2he_jax.data.augmentation import Augmentation
from msi2he_jax.data.provenance import check_padding, read_provenance
from msi2he_jax.errors import InputError
from msi2he_jax.metrics.similarity import ms_ssim_side
from msi2he_jax.models import multiple_of
from msi2he_jax.training import processes
from msi2he_jax.training.optimizer import steps_per_epoch

_ENOUGH = 0.5  # of a memory, for the data; networks and activations need the rest
_DENSEST = 8  # times smaller may shards be than their pairs in memory


Data = loader.Arrays | streaming.Stored


def open_data(config: ConfigDict, note: Callable[[str], None]) -> tuple[Data, loader.Arrays]:
    """Opens the training and the validation split; the former stands in for an empty latter.

    Args:
        config: The whole configuration.
        note: Told where the former stands in, and where and why the data are streamed or not.

    Raises:
        InputError: no data set there (the hint has the commands that make one), or one that is
            padded otherwise than `data.padding` says.
    """
    folder = config.data.dir
    if not (Path(folder) / "provenance.json").is_file():
        hint = (
            f"of your own: msi2he preprocess --manifest=YOUR_MANIFEST.csv --out={folder}; without: "
            "msi2he simulate --out=cohort, then the same with --manifest=cohort/manifest.csv"
        )
        raise InputError(folder, "data.dir", "holds no data set; make one", hint)
    if config.data.padding != "provenance":
        check_padding(config.data.padding, read_provenance(folder), folder)
    options = {
        # Any number of channels will do here: the data have not been read yet.
        "multiple_of": multiple_of(ConfigDict({**config.model, "in_channels": 1})),
    }
    data = _open_training(config, options, note)
    try:
        return data, loader.load_arrays(folder, "validation", **options)
    except InputError as error:
        if error.field != "validation":
            raise
        note(f"{folder}: the validation split is empty, scoring on the training split")
        streamed = isinstance(data, streaming.Stored)
        return data, loader.load_arrays(folder, "train", **options) if streamed else data


def _open_training(config: ConfigDict, options: dict, note: Callable[[str], None]) -> Data:
    """The training split, in memory or left on the disk as `data.loader` says."""
    folder, kind, why = config.data.dir, config.data.loader, "data.loader says so"
    room = float(processes.of_first(np.float32(memory_for_data())))  # all decide alike
    if kind == "auto":
        kind, why = "device", f"{room / 2**30:.3g} GiB of memory are there for them"
        if _DENSEST * _stored_bytes(folder, "train") > room:
            stored = streaming.open_stored(folder, "train", **options)
            if (size := _bytes_in_memory(stored)) > room:
                why = f"they take {size / 2**30:.3g} GiB, and {why}"
                note(f"{folder}: training pairs are streamed from their shards: {why}")
                return stored
    if kind == "stream":
        note(f"{folder}: training pairs are streamed from their shards: {why}")
        return streaming.open_stored(folder, "train", **options)
    data = loader.load_arrays(folder, "train", **options)
    size = f"{_bytes_in_memory(data) / 2**30:.3g} GiB"
    note(f"{folder}: training pairs are kept on the device, {size}: {why}")
    return data


def memory_for_data() -> int:
    """Returns how many bytes of a device's memory, or of the host's where it has none, are free
    for training data: half of it.
    """
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(_ENOUGH * (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))


def _stored_bytes(folder: str, split: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob(f"*-{split}.array_record*"))


def _bytes_in_memory(data: Data) -> int:
    """As float32 MSI, 8-bit histology and two masks on the common grid."""
    return len(data) * data.grid[0] * data.grid[1] * (4 * data.channels + 3 + 2)


def complete_config(config: ConfigDict, data: Data) -> ConfigDict:
    """Fills in what only the data tell, and checks the sizes the networks must fit.

    Raises:
        InputError: `model.in_channels` is not what the data have, or images too small for the
            discriminator, for the loss or for the score that chooses the checkpoint.
    """
    config = config.copy_and_resolve_references()
    channels = data.channels
    if config.model.in_channels not in (0, channels):
        why = f"is {config.model.in_channels}, the data in {config.data.dir} have {channels}"
        raise InputError(
            "config",
            "model.in_channels",
            why,
            "--config.model.in_channels=0 takes what the data have",
        )
    config.model.in_channels = channels
    if config.train.epochs:
        config.train.steps = config.train.epochs * steps_per_epoch(config, len(data))
    side = min(data.grid)
    _check_sizes(config, min(side, config.data.crop_px or side))
    if config.train.best_metric == "ms_ssim" and side < (least := ms_ssim_side(5)):
        why = f"is ms_ssim, which needs images of {least} px; these have {side}"
        raise InputError("config", "train.best_metric", why)
    return config


def _check_sizes(config: ConfigDict, side: int) -> None:
    """Refuses discriminators and losses that images of `side` px are too small for."""
    discriminator = config.discriminator
    smallest = side >> (discriminator.scales - 1)
    if discriminator.name != "none" and smallest // 2**discriminator.n_layers < 3:
        at = (
            f"{side} px"
            if discriminator.scales == 1
            else f"{side} px at {discriminator.scales} scales"
        )
        why = f"is {discriminator.n_layers}, too many for images of {at}"
        fits = max(n for n in range(discriminator.n_layers + 1) if smallest // 2**n >= 3 or n == 0)
        raise InputError(
            "config", "discriminator.n_layers", why, f"--config.discriminator.n_layers={fits}"
        )
    if side >> (config.loss.pyramid_levels - 1) == 0:
        why = f"is {config.loss.pyramid_levels}, too many for images of {side} px"
        raise InputError("config", "loss.pyramid_levels", why)


def sampler(config: ConfigDict, pad_value: int = 255) -> Callable[..., dict[str, jax.Array]]:
    """Returns `(arrays, step, seed) -> batch` as `config` asks for.

    Args:
        config: The whole configuration.
        pad_value: 0..255, of the histology beyond its border.
    """
    size, how = config.train.batch_size, _variation(config, pad_value)
    return lambda arrays, step, seed: loader.sample_batch(
        arrays, step=step, seed=seed, batch_size=size, **how
    )


def varier(config: ConfigDict, pad_value: int = 255) -> Callable[..., dict[str, jax.Array]]:
    """Returns the same from a batch that was picked elsewhere, or from a part of one."""
    how = _variation(config, pad_value)
    return lambda batch, step, seed: loader.vary_batch(batch, seed=seed, **how)


def _variation(config: ConfigDict, pad_value: int) -> dict[str, Any]:
    augment = config.data.augment
    return {
        "crop_px": config.data.crop_px,
        "mirror": augment == "mirror",
        "flip": augment in ("flip", "dihedral"),
        "rotate": augment == "dihedral",
        "augmentation": Augmentation(**config.augmentation),
        "pad_value": pad_value,
    }
