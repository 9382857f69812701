"""Random variation of what a discriminator sees, lest it learn few images by heart.

Source: Zhao et al. 2020, https://arxiv.org/abs/2006.10738, and the authors' PyTorch code.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from msi2he_jax.models.layers import fold_in

_COLOR, _TRANSLATION, _CUTOUT = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class DiffAugment:
    """Strengths; 0 is off.

    Attributes:
        color: 1 as published: brightness +-0.5, saturation 0 to 2, contrast 0.5 to 1.5.
        translation: Largest shift, as a part of the side; 0.125 as published.
        cutout: Side of the blank rectangle, as a part of the image's; 0.5 as published.
    """

    color: float = 0.0
    translation: float = 0.0
    cutout: float = 0.0


def augment(
    keys: jax.Array, msi: jax.Array, image: jax.Array, strengths: DiffAugment
) -> tuple[jax.Array, jax.Array]:
    """Varies pairs: colours of the image alone, shift and blank of MSI and image alike.

    Args:
        keys: `[B]`, of each example's draws.
        msi: `[B, H, W, K]` float in [0, 1]; 0 where something is blank.
        image: `[B, H, W, 3]` float in [-1, 1]; 0 (grey) where something is blank.
        strengths: How much.

    Returns:
        `msi` and `image` of the same shapes; differentiable in `image`.
    """
    if strengths.color:
        image = _recolored(fold_in(keys, _COLOR), image, strengths.color)
    if strengths.translation:
        shift_keys = fold_in(keys, _TRANSLATION)
        msi, image = (_shifted(shift_keys, x, strengths.translation) for x in (msi, image))
    if strengths.cutout:
        kept = _kept(fold_in(keys, _CUTOUT), image.shape[1:3], strengths.cutout)
        msi, image = (jnp.where(kept, x, 0) for x in (msi, image))
    return msi, image


def _recolored(keys: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    draw = lambda key: jax.random.uniform(key, (3, 1, 1, 1), minval=-1.0, maxval=1.0)  # noqa: E731
    draws = strength * jax.vmap(draw, out_axes=1)(keys)
    image = image + 0.5 * draws[0]
    grey = jnp.mean(image, axis=-1, keepdims=True)
    image = (image - grey) * (1.0 + draws[1]) + grey
    mean = jnp.mean(image, axis=(1, 2, 3), keepdims=True)
    return (image - mean) * (1.0 + 0.5 * draws[2]) + mean


def _shifted(keys: jax.Array, x: jax.Array, part: float) -> jax.Array:
    """Shifts by whole pixels; what comes in is 0."""
    most = [round(part * size) for size in x.shape[1:3]]
    limits = jnp.array(most)
    start = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * limits + 1))(keys)
    padded = jnp.pad(x, ((0, 0), *((size, size) for size in most), (0, 0)))

    def cut(one: jax.Array, first: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(one, (first[0], first[1], 0), x.shape[1:])

    return jax.vmap(cut)(padded, start)


def _kept(keys: jax.Array, shape: tuple[int, int], part: float) -> jax.Array:
    """What a blank rectangle leaves: bool `[B, H, W, 1]`; it may hang over the border."""
    size = jnp.array([round(part * side) for side in shape])
    # As in the original: the rectangle's middle is anywhere in the image.
    beyond = jnp.array(shape) + 1 - size % 2
    middle = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, beyond))(keys)
    blank = True
    for axis in (0, 1):
        place = jnp.arange(shape[axis])[None] - (middle[:, axis] - size[axis] // 2)[:, None]
        blank &= ((place >= 0) & (place < size[axis])).reshape(
            (len(keys), -1, 1, 1) if axis == 0 else (len(keys), 1, -1, 1)
        )
    return ~blank
