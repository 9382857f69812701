"""Random variation of training pairs on the device: warps of both images alike, MSI intensities.

Every draw is a function of one key per example. What is zero in `Augmentation` costs nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from msi2he_jax.data import sampling

# Below these lie the numbers that splitting an example's key in three uses up.
_AFFINE, _ELASTIC, _INTENSITY = 16, 17, 18
MOST_ELASTIC = 0.2  # of a cell; beyond, a warp could fold


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of random variation; 0 is none. Draws are uniform but where said otherwise.

    Attributes:
        jitter: Part by which images are enlarged before a crop of the old size is drawn.
        rotation_deg: Largest rotation either way, degrees.
        scaling: Largest enlargement or reduction, as a part: 0.1 is from 1/1.1 to 1.1.
        elastic_px: Largest displacement of a knot of the elastic warp, px; at most a fifth of
            `elastic_cell_px`.
        elastic_cell_px: Distance of the knots, px.
        channel_gain: Standard deviation of the logarithm of each channel's gain (normal).
        channel_dropout: Probability that a channel is zero.
        noise_additive: Standard deviation of noise added where measured, full range 1 (normal).
    """

    jitter: float = 0.0
    rotation_deg: float = 0.0
    scaling: float = 0.0
    elastic_px: float = 0.0
    elastic_cell_px: float = 64.0
    channel_gain: float = 0.0
    channel_dropout: float = 0.0
    noise_additive: float = 0.0

    @property
    def warps(self) -> bool:
        """Whether pixels move."""
        return any((self.rotation_deg, self.scaling, self.elastic_px))

    @property
    def varies(self) -> bool:
        """Whether intensities of the MSI change."""
        return any((self.channel_gain, self.channel_dropout, self.noise_additive))


def enlarged(
    image: jax.Array, part: float, start: Any = (0, 0), crop: tuple[int, int] | None = None
) -> jax.Array:
    """Enlarges an image by a part of its size, as pix2pix does before it crops; or a crop of that.

    Args:
        image: `[H, W, ...]`: float and uint8 by bicubic interpolation within their range, bool by
            the nearest pixel.
        part: 0.1 makes it 1.1 times as large, rounded to whole px.
        start: First row and column of the crop in the enlarged image, px; may be traced.
        crop: Rows and columns, px; None for the whole.

    Returns:
        `[h, w, ...]` in the dtype of `image`; the whole is `[round(H + part H), ...]`.

    Source: `load_size` of pytorch-CycleGAN-and-pix2pix, which rounds to 8 bits as well; Keys 1981,
    with a = -1/2, as `jax.image.resize`.
    """
    sides = enlarged_sides(image.shape[:2], part)
    drawn = image
    # Of each result four taps by four are read, not the whole image multiplied by two matrices:
    # that moved a quarter of all bytes of a training step (docs/gpu_plan.md).
    for axis, (new, size) in enumerate(zip(sides, crop or sides, strict=True)):
        at = (start[axis] + jnp.arange(size) + 0.5) * (image.shape[axis] / new) - 0.5
        drawn = _read_nearest(drawn, at, axis) if image.dtype == bool else _cubic(drawn, at, axis)
    if jnp.issubdtype(image.dtype, jnp.integer):
        return jnp.clip(jnp.round(drawn), 0, jnp.iinfo(image.dtype).max).astype(image.dtype)
    return drawn if image.dtype == bool else jnp.clip(drawn, 0.0, 1.0).astype(image.dtype)


def _read_nearest(image: jax.Array, at: jax.Array, axis: int) -> jax.Array:
    """Values at positions `[n]`, px, along an axis, of the nearest pixel."""
    index = jnp.floor(at + 0.5).astype(jnp.int32)
    return jnp.take(image, jnp.clip(index, 0, image.shape[axis] - 1), axis)


def _cubic(image: jax.Array, at: jax.Array, axis: int) -> jax.Array:
    """Values at positions `[n]`, px, along an axis, float32; beyond the border no pixel counts."""
    first = jnp.floor(at)
    total, weights = 0.0, 0.0
    for tap in range(-1, 3):
        index = (first + tap).astype(jnp.int32)
        inside = (index >= 0) & (index < image.shape[axis])
        weight = jnp.where(inside, _keys_kernel(jnp.abs(at - first - tap)), 0.0)
        values = jnp.take(image, jnp.clip(index, 0, image.shape[axis] - 1), axis)
        along = [-1 if number == axis else 1 for number in range(image.ndim)]
        total += weight.reshape(along) * values.astype(jnp.float32)
        weights += weight.reshape(along)
    return total / weights


def _keys_kernel(distance: jax.Array) -> jax.Array:
    """Keys' cubic kernel with a = -1/2 at distances of at most 2 px."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return jnp.where(distance <= 1.0, near, far)


def enlarged_sides(sides: tuple[int, int], part: float) -> tuple[int, int]:
    """Returns rows and columns, px, of an image of `sides` px enlarged by `part`.

    Example:
        >>> enlarged_sides((256, 256), 30 / 256)
        (286, 286)
    """
    rows, columns = (round(side * (1.0 + part)) for side in sides)
    return rows, columns


def draw_positions(
    key: jax.Array,
    ranges: Augmentation,
    shape: tuple[int, int],
    start: jax.Array,
    centre: jax.Array,
) -> jax.Array:
    """Draws a warp: where in its example each pixel of a crop is read.

    Args:
        key: Of the example.
        ranges: What to draw from.
        shape: Rows and columns of the crop, px.
        start: `[2]` first row and column of the crop in the example, px.
        centre: `[2]` row and column that rotation and scaling leave in place, px.

    Returns:
        `[h, w, 2]` float32: row and column, px.
    """
    matrix = _draw_affine(jax.random.fold_in(key, _AFFINE), ranges)
    index = sampling.positions(shape) + start[None, None]
    # Displacements are added to positions, so that a warp of zero is exactly none.
    moved = index + (index - centre[None, None]) @ (matrix - jnp.eye(2)).T
    if ranges.elastic_px:
        moved = moved + _draw_elastic(jax.random.fold_in(key, _ELASTIC), ranges, shape)
    return moved


def _draw_affine(key: jax.Array, ranges: Augmentation) -> jax.Array:
    """A matrix `[2, 2]`: a rotation and one scale."""
    draws = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(ranges.rotation_deg) * draws[0]
    size = jnp.exp(jnp.log1p(ranges.scaling) * draws[1])
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return size * jnp.array([[cosine, -sine], [sine, cosine]])


def _draw_elastic(key: jax.Array, ranges: Augmentation, shape: tuple[int, int]) -> jax.Array:
    """A smooth displacement `[h, w, 2]`, px: random at knots, cubic between them."""
    knots = [max(2, round(size / ranges.elastic_cell_px)) for size in shape]
    cell = min(size / count for size, count in zip(shape, knots, strict=True))
    # On an image smaller than two cells the knots stand closer: less, lest it fold.
    most = ranges.elastic_px * min(1.0, cell / ranges.elastic_cell_px)
    drawn = jax.random.uniform(key, (*knots, 2), minval=-most, maxval=most)
    return jax.image.resize(drawn, (*shape, 2), "cubic")


def vary_msi(key: jax.Array, msi: jax.Array, valid: jax.Array, ranges: Augmentation) -> jax.Array:
    """Changes intensities as another measurement would; what was not measured stays 0.

    Args:
        key: Of the example.
        msi: `[H, W, K]` float in [0, 1].
        valid: `[H, W]` bool, where MSI was measured.
        ranges: What to draw from.

    Returns:
        `[H, W, K]` in [0, 1], in the dtype of `msi`.
    """
    keys = jax.random.split(jax.random.fold_in(key, _INTENSITY), 4)
    channels, values = (1, 1, msi.shape[-1]), msi.astype(jnp.float32)
    if ranges.channel_gain:
        values *= jnp.exp(ranges.channel_gain * jax.random.normal(keys[0], channels))
    if ranges.channel_dropout:
        values *= jax.random.bernoulli(keys[1], 1.0 - ranges.channel_dropout, channels)
    if ranges.noise_additive:
        noise = ranges.noise_additive * jax.random.normal(keys[3], msi.shape)
        values += jnp.where(valid[..., None], noise, 0.0)
    return jnp.clip(values, 0.0, 1.0).astype(msi.dtype)
