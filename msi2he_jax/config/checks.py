"""Every check on the values of a configuration."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from msi2he_jax.config.keys import CHOICES, RANGES
from msi2he_jax.config.names import value
from msi2he_jax.errors import InputError


def check_config(config: ConfigDict, source: str | os.PathLike = "config") -> None:
    """Checks every value and the pairs that do not go together; needs no device.

    Args:
        config: As `load_config` returned it, after any overrides.
        source: What messages name as the place of the mistake.

    Raises:
        InputError: the first mistake found.
    """
    for name, allowed in CHOICES.items():
        found = value(config, name)
        if found not in allowed:
            close = difflib.get_close_matches(found, allowed, n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            why = f"is {found!r}, expected one of {', '.join(allowed)}"
            raise InputError(source, name, why, hint)
    for name, (low, high) in RANGES.items():
        found = value(config, name)
        if not low <= found <= high:
            why = f"is {found:g}, expected from {low:g} to {high:g}"
            raise InputError(source, name, why)
    _check_name(config, source)
    for test, name, why, hint in _incompatible(config):
        if test:
            raise InputError(source, name, why, hint)


def _check_name(config: ConfigDict, source: Any) -> None:
    """The name becomes a folder: it must be one, and not lead elsewhere."""
    word = config.name.replace("-", "").replace("_", "").replace(".", "")
    if not (word.isascii() and word.isalnum()) or len(config.name) > 80:
        why = f"is {config.name!r}, expected letters, digits, '-', '_' and '.'"
        raise InputError(source, "name", why)


def _incompatible(config: ConfigDict) -> Iterator[tuple[bool, str, str, str]]:
    """Yields (whether it applies, key, why, hint) for pairs of values that cannot work together."""
    model, crop = config.model, config.data.crop_px
    depths = {"unet_pix2pix": (5, 9), "unet_ronneberger": (1, 6)}
    low, high = depths.get(model.name, (1, 9))
    yield (
        not low <= model.depth <= high,
        "model.depth",
        f"is {model.depth}, {model.name} takes from {low} to {high}",
        "",
    )
    multiple = {"resnet": 4, "linear": 1}.get(model.name, 2**model.depth)
    yield (
        crop % multiple != 0,
        "data.crop_px",
        f"is {crop}, {model.name} of depth {model.depth} needs a multiple of {multiple} px",
        f"--config.data.crop_px={max(multiple, round(crop / multiple) * multiple)}",
    )
    yield from _sharing(config)
    yield from _linear(config)
    no_adversary = config.discriminator.name == "none"
    yield (
        no_adversary and config.loss.lambda_l1 == 0,
        "loss.lambda_l1",
        "is 0 while discriminator.name is none: nothing would be learnt",
        "",
    )
    yield (
        config.loss.gan == "wgangp" and config.discriminator.norm == "batch" and not no_adversary,
        "discriminator.norm",
        "is batch, but the gradient penalty of wgangp is per image",
        "--config.discriminator.norm=instance",
    )
    yield (
        config.flow.enabled and config.loss.lambda_l1 == 0,
        "loss.lambda_l1",
        "is 0 while flow.enabled: the flow would learn nothing",
        "",
    )
    most = config.augmentation.elastic_cell_px / 5
    yield (
        config.augmentation.elastic_px > most,
        "augmentation.elastic_px",
        f"is {config.augmentation.elastic_px:g}, beyond {most:g} a warp could fold",
        f"--config.augmentation.elastic_cell_px={5 * config.augmentation.elastic_px:g}",
    )
    yield (
        config.test.dropout_at_test and model.dropout == 0,
        "test.dropout_at_test",
        "is true while model.dropout is 0",
        "",
    )


def _linear(config: ConfigDict) -> Iterator[tuple[bool, str, str, str]]:
    """A linear map, alone or under a network."""
    model, train = config.model, config.train
    alone = model.name == "linear"
    yield (
        alone and model.start == "none",
        "model.start",
        "is none, which leaves a linear model without a way to be fitted",
        "--config.model.start=ridge",
    )
    yield (
        alone and config.discriminator.name != "none",
        "discriminator.name",
        f"is {config.discriminator.name}, but a linear model is solved for, not trained",
        "--config.discriminator.name=none",
    )
    yield (
        alone and (train.steps > 1 or train.epochs > 0),
        "train.steps",
        f"is {train.steps} (epochs: {train.epochs}), but a linear model is solved for at once",
        "--config.train.steps=1",
    )
    yield (
        model.start != "none" and bool(config.init_from),
        "init_from",
        f"does not go with model.start={model.start}: one of them begins the network",
        "--config.model.start=none",
    )
    yield (
        model.neighbours_px % 2 == 0,
        "model.neighbours_px",
        f"is {model.neighbours_px}, expected an odd number",
        f"--config.model.neighbours_px={model.neighbours_px + 1}",
    )


def _sharing(config: ConfigDict) -> Iterator[tuple[bool, str, str, str]]:
    """How a batch is cut, in time and between devices."""
    size, parts = config.train.batch_size, config.train.microbatches
    yield (
        size % parts != 0,
        "train.microbatches",
        f"is {parts}, which does not divide the batch of {size}",
        "",
    )
    yield (
        config.statistics == "device" and config.parallel != "pmap",
        "statistics",
        "is device, which parallel=jit does not have: it normalises over the whole batch",
        "--config.parallel=pmap",
    )
