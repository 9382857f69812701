"""Images read at fractional positions, on the device and differentiable."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def bilinear(image: jax.Array, where: jax.Array, fill: float | None = None) -> jax.Array:
    """Interpolates an image; at whole positions its values come back exactly.

    Args:
        image: `[H, W, C]` float, finite.
        where: `[h, w, 2]` float: row and column, px; pixel centres at whole numbers.
        fill: Value of what lies outside; None repeats the border.

    Returns:
        `[h, w, C]` in the dtype of `image`.
    """
    low = jax.lax.stop_gradient(jnp.floor(where))
    part, low = where - low, low.astype(jnp.int32)
    total = 0.0
    for row in (0, 1):
        for column in (0, 1):
            weight = jnp.abs(1 - row - part[..., 0]) * jnp.abs(1 - column - part[..., 1])
            corner = _pixels(image, low + jnp.array([[[row, column]]]), fill)
            total = total + weight[..., None] * corner
    return total.astype(image.dtype)


def nearest(image: jax.Array, where: jax.Array, fill: float | bool | None = None) -> jax.Array:
    """Takes the value of the nearest pixel.

    Args:
        image: `[H, W, ...]`, any dtype.
        where: `[h, w, 2]` float: row and column, px; pixel centres at whole numbers.
        fill: Value of what lies outside; None repeats the border.

    Returns:
        `[h, w, ...]` in the dtype of `image`.
    """
    return _pixels(image, jnp.round(where).astype(jnp.int32), fill)


def displace(image: jax.Array, displacement: jax.Array) -> jax.Array:
    """Moves images by a displacement: each pixel is taken from where it points to.

    Args:
        image: `[B, H, W, C]` float; its border is repeated.
        displacement: `[B, H, W, 2]` float: rows and columns to go, px.

    Returns:
        `[B, H, W, C]` in the dtype of `image`.
    """
    return jax.vmap(bilinear)(image, positions(image.shape[1:3])[None] + displacement)


def positions(shape: tuple[int, int]) -> jax.Array:
    """Returns row and column of every pixel of an image of `shape`: `[H, W, 2]` float32."""
    axes = [jnp.arange(size, dtype=jnp.float32) for size in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)


def _pixels(image: jax.Array, index: jax.Array, fill) -> jax.Array:
    """Values at whole positions `[h, w, 2]`."""
    last = jnp.array([[image.shape[:2]]]) - 1
    inside = jnp.clip(index, 0, last)
    values = image[inside[..., 0], inside[..., 1]]
    if fill is None:
        return values
    known = jnp.all(index == inside, axis=-1).reshape(index.shape[:2] + (1,) * (values.ndim - 2))
    return jnp.where(known, values, jnp.asarray(fill, values.dtype))
