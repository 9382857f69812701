"""Training methods: each a value (`Method`) of four functions, chosen by the configuration.

The loop, checkpoints, devices, evaluation and inference know a method by these functions alone. A
new method is a file here and an entry of `METHODS`.
"""

from __future__ import annotations

from typing import Any

from msi2he_jax.training.methods.gan import make_gan
from msi2he_jax.training.methods.linear import make_linear
from msi2he_jax.training.methods.regression import make_regression
from msi2he_jax.training.methods.setup import (
    Method,
    Optimizers,
    Setup,
    build_optimizers,
    make_setup,
)

METHODS = {"gan": make_gan, "regression": make_regression, "linear": make_linear}


def method_name(config: Any) -> str:
    """Returns the method that a configuration asks for: a key of `METHODS`.

    Args:
        config: The whole configuration; `model.name` and `discriminator.name` decide.
    """
    if config.model.name == "linear":
        return "linear"
    return "regression" if config.discriminator.name == "none" else "gan"


def make_method(config: Any, *, examples: int = 1, axis_name: str | None = None) -> Method:
    """Builds the training method of a configuration; computes nothing.

    Args:
        config: The whole configuration, `model.in_channels` included.
        examples: Training pairs, which make an epoch of the learning-rate schedule.
        axis_name: Mapped axis over which devices share a batch, or None.

    Raises:
        InputError: a value that no network has.
    """
    return METHODS[method_name(config)](make_setup(config, examples=examples, axis_name=axis_name))


__all__ = [
    "METHODS",
    "Method",
    "Optimizers",
    "Setup",
    "build_optimizers",
    "make_method",
    "make_regression",
    "make_setup",
    "method_name",
]
