"""Arguments of the metrics, held to their domains; what only the device knows becomes NaN.

Shapes, data types and Python numbers are checked also while jax traces. A traced number outside its
domain makes the score NaN, as does a pixel that is NaN or a mask that holds nothing.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError


def check_images(where: str, dimensions: int, mask: Any = None, **images: Any) -> None:
    """Refuses images that are not of one shape, and a mask that is not theirs.

    Args:
        where: The metric.
        dimensions: 3 for `[B, H, W]`, 4 for `[B, H, W, C]`.
        mask: `[B, H, W]` bool, or None.
        **images: By the name of their argument.

    Raises:
        InputError: named by argument.
    """
    form = {3: "[B, H, W]", 4: "[B, H, W, C]"}[dimensions]
    shape = np.shape(next(iter(images.values())))
    for name, image in images.items():
        if np.ndim(image) != dimensions or 0 in np.shape(image):
            why = f"has shape {np.shape(image)}, expected {form} with no side of 0"
            raise InputError(where, name, why)
        if np.shape(image) != shape:
            why = f"has shape {np.shape(image)}, the other image {shape}"
            raise InputError(where, name, why)
    if mask is not None:
        check_mask(where, mask, shape[:3])


def check_mask(where: str, mask: Any, shape: tuple[int, ...]) -> None:
    """Refuses a mask that is not bool or not of the images' shape, `[B, H, W]`.

    Raises:
        InputError: named `mask`.
    """
    if np.shape(mask) != tuple(shape):
        raise InputError(where, "mask", f"has shape {np.shape(mask)}, the images {tuple(shape)}")
    if not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
        raise InputError(where, "mask", f"is of {jnp.result_type(mask)}, expected bool")


def check_colours(where: str, **images: Any) -> None:
    """Refuses images whose last axis is not red, green, blue, or that are not float in [0, 1].

    Raises:
        InputError: named by argument.
    """
    for name, image in images.items():
        if np.shape(image)[-1:] != (3,):
            raise InputError(where, name, f"has shape {np.shape(image)}, expected [..., 3]")
        if not jnp.issubdtype(jnp.result_type(image), jnp.floating):
            why = f"is of {jnp.result_type(image)}, expected float in [0, 1]"
            raise InputError(where, name, why, "divide 8-bit images by 255")


def check_number(where: str, name: str, found: Any, low: int, high: int = 2**31 - 1) -> int:
    """Returns a whole number within its bounds.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(found, numbers.Integral) or isinstance(found, bool):
        raise InputError(where, name, f"is {found!r}, expected a whole number")
    if not low <= found <= high:
        bounds = f"at least {low}" if high == 2**31 - 1 else f"from {low} to {high}"
        raise InputError(where, name, f"is {found}, expected {bounds}")
    return int(found)


def check_bounds(where: str, name: str, found: Sequence[float]) -> tuple[float, float]:
    """Returns the (low, high) of histogram bins.

    Raises:
        InputError: not two finite numbers, the second above the first in float32.
    """
    try:
        low, high = (float(each) for each in found)
    except (TypeError, ValueError):
        raise InputError(where, name, f"is {found!r}, expected (low, high)") from None
    if not (math.isfinite(low) and math.isfinite(high) and np.float32(low) < np.float32(high)):
        raise InputError(where, name, f"is ({low:g}, {high:g}), expected finite low < high")
    return low, high


def check_choice(where: str, name: str, found: Any, choices: Sequence[Any]) -> None:
    """Refuses what is not among `choices`.

    Raises:
        InputError: it is not.
    """
    if found not in choices:
        raise InputError(
            where, name, f"is {found!r}, expected one of {', '.join(map(str, choices))}"
        )


def positive(where: str, name: str, found: Any) -> Any:
    """Returns a scalar that must be finite and above 0; NaN for a traced one that is not.

    Raises:
        InputError: it is not, or not a scalar.
    """
    if np.ndim(found):
        raise InputError(where, name, f"has shape {np.shape(found)}, expected one number")
    if isinstance(found, jax.core.Tracer):
        return jnp.where((found > 0) & jnp.isfinite(found), found, jnp.nan)
    if isinstance(found, bool) or not (math.isfinite(found) and found > 0):
        raise InputError(where, name, f"is {found}, expected a number above 0")
    return found
