"""From a configuration and its data to what the loop needs: arrays, optimisers, batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msi2he_jax.data import loader
from msi2he_jax.data.augmentation import Augmentation
from msi2he_jax.errors import InputError
from msi2he_jax.models import multiple_of
from msi2he_jax.training.optimizer import make_optimizer

_PADDING = {"provenance": None, "white": 255, "black": 0}


def open_data(
    config: ConfigDict, note: Callable[[str], None]
) -> tuple[loader.Arrays, loader.Arrays]:
    """Loads the training and the validation split; the former stands in for an empty latter.

    Args:
        config: The whole configuration.
        note: Told where the former stands in.

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
        note(f"{folder}: the validation split is empty, scoring on the training split")
        return data, data


def complete_config(config: ConfigDict, data: loader.Arrays) -> ConfigDict:
    """Fills in what only the data tell, and checks the sizes the networks must fit.

    Raises:
        InputError: `model.in_channels` is not what the data have, or images too small for the
            discriminator or for the loss.
    """
    config = config.copy_and_resolve_references()
    channels = data.msi.shape[-1]
    if config.model.in_channels not in (0, channels):
        why = f"is {config.model.in_channels}, the data in {config.data.dir} have {channels}"
        raise InputError("config", "model.in_channels", why, "0 takes what the data have")
    config.model.in_channels = channels
    if config.train.epochs:
        config.train.steps = config.train.epochs * steps_per_epoch(config, len(data))
    side = min(data.msi.shape[1:3])
    _check_sizes(config, min(side, config.data.crop_px or side))
    return config


def _check_sizes(config: ConfigDict, side: int) -> None:
    """Refuses discriminators and losses that images of `side` px are too small for."""
    judge = config.discriminator
    smallest = side >> (judge.scales - 1)
    if judge.name != "none" and smallest // 2**judge.n_layers < 3:
        at = f"{side} px" if judge.scales == 1 else f"{side} px at {judge.scales} scales"
        why = f"is {judge.n_layers}, too many for images of {at}"
        fits = max(n for n in range(judge.n_layers + 1) if smallest // 2**n >= 3 or n == 0)
        raise InputError(
            "config", "discriminator.n_layers", why, f"--config.discriminator.n_layers={fits}"
        )
    if side >> (config.loss.pyramid_levels - 1) == 0:
        why = f"is {config.loss.pyramid_levels}, too many for images of {side} px"
        raise InputError("config", "loss.pyramid_levels", why)


def steps_per_epoch(config: ConfigDict, examples: int) -> int:
    """Returns how many batches make an epoch of `examples` pairs; a last part of one counts not."""
    return max(1, examples // config.train.batch_size)


def device_arrays(config: ConfigDict, data: loader.Arrays, dtype: Any) -> dict[str, np.ndarray]:
    """Returns the arrays to draw batches from; `weight` `[N]` where examples weigh unequally."""
    arrays = data.device_dict(dtype)
    if config.loss.tissue_power:
        fraction = data.tissue_mask.mean(axis=(1, 2)) ** config.loss.tissue_power
        arrays["weight"] = (fraction / max(fraction.mean(), 1e-6)).astype(np.float32)
    return arrays


def build_optimizers(config: ConfigDict, examples: int) -> tuple[Any, Any]:
    """Returns the two networks' optimisers for a training split of `examples` pairs."""
    settings = config.optimizer
    schedule = {
        "steps": config.train.steps,
        "steps_per_epoch": steps_per_epoch(config, examples),
    }
    rates = (settings.learning_rate, settings.d_learning_rate or settings.learning_rate)
    first, second = (make_optimizer(settings, learning_rate=rate, **schedule) for rate in rates)
    return first, second


def sampler(config: ConfigDict, pad_value: int = 255) -> Callable[..., dict[str, jax.Array]]:
    """Returns `(arrays, step, seed) -> batch` as `config` asks for.

    Args:
        config: The whole configuration.
        pad_value: 0..255, of the histology beyond its border.
    """
    augment = config.data.augment
    return lambda arrays, step, seed: loader.sample_batch(
        arrays,
        step=step,
        seed=seed,
        batch_size=config.train.batch_size,
        crop_px=config.data.crop_px,
        flip=augment != "none",
        rotate=augment == "dihedral",
        augmentation=Augmentation(**config.augmentation),
        pad_value=pad_value,
    )
