"""Colour as the metrics see it: grey by Rec. 601, stains by Ruifrok and Johnston's separation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.metrics.checks import check_colours, check_images

REC_601 = (0.299, 0.587, 0.114)
# Optical densities of haematoxylin, eosin and DAB in red, green and blue (scikit-image's matrix).
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)
DARKEST = 1e-6


def luminance(rgb: jax.Array) -> jax.Array:
    """Grey value of gamma-coded RGB, by the weights of ITU-R Rec. 601 (0.299, 0.587, 0.114).

    Args:
        rgb: `[..., 3]` float in [0, 1].

    Returns:
        `[...]` float32 in [0, 1].

    Raises:
        InputError: not three channels of float.

    Source: Rec. 601, as Pillow's "L"; scikit-image's `rgb2gray` takes Rec. 709's weights instead.
    """
    check_colours("luminance", rgb=rgb)
    red, green, blue = (jnp.asarray(rgb, jnp.float32)[..., i] for i in range(3))
    return jnp.clip(REC_601[0] * red + REC_601[1] * green + REC_601[2] * blue, 0.0, 1.0)


def rgb_to_hed(rgb: jax.Array) -> jax.Array:
    """Separates haematoxylin, eosin and DAB.

    Args:
        rgb: `[..., 3]` float in [0, 1].

    Returns:
        `[..., 3]` float32, >= 0, in scikit-image's unit (optical density over -log 1e-6).

    Raises:
        InputError: not three channels of float.

    Source: Ruifrok and Johnston 2001; equals `skimage.color.rgb2hed`.
    """
    check_colours("rgb_to_hed", rgb=rgb)
    density = jnp.log(jnp.maximum(jnp.asarray(rgb, jnp.float32), DARKEST)) / np.log(DARKEST)
    matrix = jnp.asarray(HED_FROM_RGB, jnp.float32)
    stains = jnp.einsum("...c,cs->...s", density, matrix, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(stains, 0.0)


def stain_correlation(
    fake: jax.Array, real: jax.Array, mask: jax.Array | None
) -> dict[str, jax.Array]:
    """Pearson correlation of the haematoxylin and of the eosin images inside a mask.

    Args:
        fake: `[B, H, W, 3]` float in [0, 1].
        real: `[B, H, W, 3]` float in [0, 1].
        mask: `[B, H, W]` bool, or None for the whole frame.

    Returns:
        `h` and `e`: `[B]` float32 in [-1, 1], as `correlation`.

    Raises:
        InputError: an argument of another shape or type.
    """
    check_images("stain_correlation", 4, mask, fake=fake, real=real)
    check_colours("stain_correlation", fake=fake, real=real)
    fake, real = rgb_to_hed(fake), rgb_to_hed(real)
    mask = jnp.ones(fake.shape[:3], bool) if mask is None else mask
    return {
        name: correlation(fake[..., stain], real[..., stain], mask)
        for stain, name in enumerate("he")
    }


def correlation(x: jax.Array, y: jax.Array, mask: jax.Array) -> jax.Array:
    """Pearson correlation inside a mask.

    Args:
        x: `[B, H, W]` float.
        y: `[B, H, W]` float.
        mask: `[B, H, W]` bool.

    Returns:
        `[B]` float32 in [-1, 1]; 0 where either is constant, NaN where the mask is empty or a value
        in it is NaN.

    Raises:
        InputError: an argument of another shape or type.
    """
    check_images("correlation", 3, mask, x=x, y=y)
    x, y = (jnp.where(mask, v, 0.0) for v in (x, y))
    weight = mask.astype(jnp.float32)
    count = jnp.maximum(weight.sum(axis=(1, 2), keepdims=True), 1)
    x, y = ((v - (v * weight).sum((1, 2), keepdims=True) / count) * weight for v in (x, y))
    covariance, x_power, y_power = ((p * q).sum((1, 2)) for p, q in ((x, y), (x, x), (y, y)))
    # Rounding leaves a constant image with a spread of about (1e-7)^2 per pixel: that is no signal.
    floor = 1e-12 * count[:, 0, 0]
    defined = (x_power > floor) & (y_power > floor)
    scale = jnp.sqrt(jnp.where(defined, x_power, 1.0)) * jnp.sqrt(jnp.where(defined, y_power, 1.0))
    found = jnp.where(defined, jnp.clip(covariance / scale, -1.0, 1.0), 0.0)
    known = jnp.isfinite(x_power + y_power) & jnp.any(mask, axis=(1, 2))
    return jnp.where(known, found, jnp.nan)
