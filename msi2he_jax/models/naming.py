"""The names and layouts that pix2pix' PyTorch checkpoints give to our parameters.

A path is that of the flat `nnx` state, such as `("core", "downs", 3, "conv", "kernel")`; the name
is the key of the original's `state_dict`, such as `model.model.1.model.3.model.3.model.1.weight`.
Names of transposed and plain convolutions differ in nothing, and the layout change is the same for
both (see `convolution`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.models.build import discriminator_config, generator_config

Path = tuple[str | int, ...]

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def generator_names(module: nnx.Module, config: Any) -> dict[Path, str]:
    """Names every variable of a generator as the original's `latest_net_G.pth` does.

    Args:
        module: What `build_generator(config)` made.
        config: As for `build_generator`.

    Returns:
        The `state_dict` key of each flat path.

    Raises:
        InputError: the original has no such network.
    """
    config = generator_config(config)
    ours = config.name in ("unet_ronneberger", "linear") or config.start != "none"
    if ours or config.upsample != "deconv":
        options = f"upsample={config.upsample}, norm={config.norm}, start={config.start}"
        why = f"{config.name} with {options} has no counterpart in pix2pix"
        raise InputError("config", "name", why, "checkpoints convert for the original's networks")
    modules = _unet(config.depth) if config.name == "unet_pix2pix" else _resnet(config)
    return _named(module, modules)


def discriminator_names(module: nnx.Module, config: Any) -> dict[Path, str]:
    """Names every variable of a discriminator as the original's `latest_net_D.pth` does.

    Args:
        module: What `build_discriminator(config)` made.
        config: As for `build_discriminator`.

    Returns:
        The `state_dict` key of each flat path.

    Raises:
        InputError: the original has no such network.
    """
    config = discriminator_config(config)
    n_layers = config.n_layers
    if config.scales > 1:
        why = "with several scales has no counterpart in pix2pix"
        raise InputError("config", "discriminator", why, "begin from its generator alone")
    root = "net" if n_layers == 0 else "model"
    modules = {("stages", 0, "conv"): f"{root}.0"}
    for n in range(1, max(n_layers, 1) + 1):
        modules[("stages", n, "conv")] = f"{root}.{3 * n - 1}"
        modules[("stages", n, "norm")] = f"{root}.{3 * n}"
    modules[("head",)] = f"{root}.{3 * max(n_layers, 1) + 2}"
    return _named(module, modules)


def to_torch(path: Path, value: np.ndarray) -> np.ndarray:
    """Puts a variable into PyTorch's layout.

    Args:
        path: Its flat path, which says whether it is a kernel.
        value: `[kh, kw, a, b]` of a kernel, `[C]` of anything else; any dtype.

    Returns:
        `[b, a, kh, kw]` of a kernel, `[C]` unchanged of anything else.
    """
    return np.transpose(value, (3, 2, 0, 1)) if path[-1] == "kernel" else np.asarray(value)


def from_torch(path: Path, value: np.ndarray) -> np.ndarray:
    """Puts a PyTorch tensor into our layout; the inverse of `to_torch`.

    Args:
        path: The variable's flat path, which says whether it is a kernel.
        value: `[b, a, kh, kw]` of a kernel, `[C]` of anything else; any dtype.

    Returns:
        `[kh, kw, a, b]` of a kernel, `[C]` unchanged of anything else.
    """
    return np.transpose(value, (2, 3, 1, 0)) if path[-1] == "kernel" else np.asarray(value)


def _named(module: nnx.Module, modules: dict[Path, str]) -> dict[Path, str]:
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(module))]
    return {path: f"{modules[path[1:-1]]}.{_LEAVES[path[-1]]}" for path in paths}


def _unet(depth: int) -> dict[Path, str]:
    """A level is [relu, conv, norm, deeper level, relu, deconv, norm]; the ends lack some."""
    modules = {("downs", 0, "conv"): "model.model.0", ("ups", 0, "conv"): "model.model.3"}
    for level in range(1, depth):
        prefix = "model.model.1.model." + "3.model." * (level - 1)
        innermost = level == depth - 1
        modules[("downs", level, "conv")] = prefix + "1"
        modules[("downs", level, "norm")] = prefix + "2"
        modules[("ups", level, "conv")] = prefix + ("3" if innermost else "5")
        modules[("ups", level, "norm")] = prefix + ("4" if innermost else "6")
    return modules


def _resnet(config: Any) -> dict[Path, str]:
    """One flat sequence; a block's dropout layer shifts what follows it by one."""
    modules = {("stem", "conv"): "model.1", ("stem", "norm"): "model.2"}
    ups = 10 + config.blocks
    for n in range(2):
        modules[("downs", n, "conv")] = f"model.{4 + 3 * n}"
        modules[("downs", n, "norm")] = f"model.{5 + 3 * n}"
        modules[("ups", n, "conv")] = f"model.{ups + 3 * n}"
        modules[("ups", n, "norm")] = f"model.{ups + 1 + 3 * n}"
    shift = 1 if config.dropout > 0 else 0
    for n in range(config.blocks):
        block = f"model.{10 + n}.conv_block"
        for part, index in (("first", 1), ("second", 5 + shift)):
            modules[("blocks", n, part, "conv")] = f"{block}.{index}"
            modules[("blocks", n, part, "norm")] = f"{block}.{index + 1}"
    modules[("head",)] = f"model.{ups + 7}"
    return modules
