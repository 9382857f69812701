"""Losses, in float32 whatever the networks compute in; means over every pixel and channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from msi2he_jax.errors import InputError


def discriminator_loss(real: jax.Array, fake: jax.Array, *, gan: str) -> jax.Array:
    """Loss of the discriminator, halved as pix2pix does (but for wgangp, which no one halves).

    Args:
        real: Logits of real pairs `[B, h, w, 1]`.
        fake: Logits of synthetic pairs `[B, h, w, 1]`.
        gan: `"vanilla"` (cross-entropy), `"lsgan"` (squares) or `"wgangp"`.

    Returns:
        Scalar float32.

    Raises:
        InputError: `gan` is none of these.

    Source: GANLoss of pytorch-CycleGAN-and-pix2pix; wgangp: Gulrajani et
    al. 2017.

    Example:
        >>> real, fake = jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1))
        >>> float(discriminator_loss(real, fake, gan="lsgan"))
        0.0
    """
    real, fake = _wide(real), _wide(fake)
    if gan == "vanilla":
        return 0.5 * (jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)))
    if gan == "lsgan":
        return 0.5 * (jnp.mean((real - 1.0) ** 2) + jnp.mean(fake**2))
    if gan == "wgangp":
        return jnp.mean(fake) - jnp.mean(real)
    raise InputError("config", "loss.gan", f"is {gan!r}, which is no loss known here")


def generator_loss(fake: jax.Array, *, gan: str) -> jax.Array:
    """Adversarial loss of the generator.

    Args:
        fake: Logits of synthetic pairs `[B, h, w, 1]`.
        gan: As for `discriminator_loss`.

    Returns:
        Scalar float32.

    Example:
        >>> float(generator_loss(jnp.ones((1, 2, 2, 1)), gan="lsgan"))
        0.0
    """
    fake = _wide(fake)
    if gan == "vanilla":
        return jnp.mean(jax.nn.softplus(-fake))
    if gan == "lsgan":
        return jnp.mean((fake - 1.0) ** 2)
    return -jnp.mean(fake)


def over_scales(loss: Callable[..., jax.Array], *logits: Any, **options: Any) -> jax.Array:
    """Applies a loss to logits; where there are several scales, the mean over them.

    pix2pixHD sums over scales; with the mean, weights keep their meaning whatever the number.

    Args:
        loss: Such as `generator_loss`.
        *logits: Logits `[B, h, w, 1]`, or tuples of such, one per scale.
        **options: Of the loss.

    Returns:
        Scalar float32.
    """
    if not isinstance(logits[0], tuple):
        return loss(*logits, **options)
    values = [loss(*one, **options) for one in zip(*logits, strict=True)]
    return sum(values) / len(values)


def reconstruction_loss(
    fake: jax.Array,
    real: jax.Array,
    *,
    kind: str,
    levels: int = 1,
    pixel_weights: jax.Array | None = None,
) -> jax.Array:
    """How far synthetic images are from the real ones.

    Args:
        fake: `[B, H, W, 3]` float in [-1, 1].
        real: `[B, H, W, 3]` float in [-1, 1].
        kind: `"l1"`: mean absolute difference in that range, as pix2pix; `"mse"`: mean squared
            difference in [0, 1], as a Keras U-Net with sigmoid output.
        levels: The mean is taken over images halved 0, 1, ... levels - 1 times: small
            displacements vanish in the smaller ones.
        pixel_weights: `[B, H, W]` float, at least 0, or None for a plain mean. An image's loss is
            the weighted mean over its pixels.

    Returns:
        Scalar float32.

    Source: of the levels: Liu et al. 2022 (PyramidPix2pix), https://arxiv.org/abs/2204.11425.

    Example:
        >>> white = jnp.ones((1, 4, 4, 3))
        >>> float(reconstruction_loss(-white, white, kind="l1"))
        2.0
        >>> float(reconstruction_loss(-white, white, kind="mse"))
        1.0
    """
    if levels == 1 and pixel_weights is None:
        return jnp.mean(_error(fake, real, kind))
    weights = jnp.ones(fake.shape[:3]) if pixel_weights is None else pixel_weights
    values = 0.0
    for level in range(levels):
        if level:
            fake, real, weights = _halve(fake), _halve(real), _halve(weights)
        error = jnp.mean(_error(fake, real, kind), axis=-1)
        # Per image, so that a share of a batch needs nothing of the others.
        total = jnp.maximum(jnp.sum(weights, axis=(1, 2)), 1e-6)
        values += jnp.sum(weights * error, axis=(1, 2)) / total
    return jnp.mean(values) / levels


def _error(fake: jax.Array, real: jax.Array, kind: str) -> jax.Array:
    difference = _wide(fake) - _wide(real)
    return jnp.abs(difference) if kind == "l1" else (0.5 * difference) ** 2


def _halve(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels of `[B, H, W, ...]`; an odd last row or column is left out."""
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2, *x.shape[3:])
    return jnp.mean(x, axis=(2, 4))


def feature_matching_loss(fake: Any, real: Any) -> jax.Array:
    """How far a discriminator's features of synthetic images are from those of real ones.

    Args:
        fake: Tuple of features `[B, h, w, C]` of the stages; a tuple of such where there are
            several scales.
        real: Likewise.

    Returns:
        Scalar float32: 4 times the mean over stages and scales of the mean absolute difference.

    Source: Wang et al. 2018 (pix2pixHD), equation 4, with the weights of the authors' code.
    """
    if isinstance(fake[0], tuple):
        values = [feature_matching_loss(*one) for one in zip(fake, real, strict=True)]
        return sum(values) / len(values)
    values = [jnp.mean(jnp.abs(_wide(a) - _wide(b))) for a, b in zip(fake, real, strict=True)]
    return 4.0 * sum(values) / len(values)


def roughness(flow: jax.Array) -> jax.Array:
    """Mean squared difference of neighbours in a displacement.

    Args:
        flow: `[B, H, W, 2]` float, px.

    Returns:
        Scalar float32: the sum over the two directions.

    Source: `smooothing_loss` of RegGAN, Kong et al. 2021.

    Example:
        >>> float(roughness(jnp.ones((1, 4, 4, 2))))
        0.0
    """
    down, across = flow[:, 1:] - flow[:, :-1], flow[:, :, 1:] - flow[:, :, :-1]
    return jnp.mean(_wide(down) ** 2) + jnp.mean(_wide(across) ** 2)


def gradient_penalty(
    logits: Callable[[jax.Array], Any],
    real: jax.Array,
    fake: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """Mean squared distance from 1 of the gradient's norm, between real and synthetic images.

    Args:
        logits: From images `[B, H, W, 3]` to logits `[B, h, w, 1]`, or a tuple of such.
        real: `[B, H, W, 3]` float in [-1, 1].
        fake: `[B, H, W, 3]` float in [-1, 1].
        keys: `[B]`: each draws an image's place between the two.

    Returns:
        Scalar float32.

    Source: Gulrajani et al. 2017, equation 3.
    """
    place = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)
    between = place * real + (1.0 - place) * fake
    gradient = jax.grad(lambda x: _total_score(logits(x)))(between)
    # The tiny constant keeps the root's own gradient finite where the gradient vanishes.
    norm = jnp.sqrt(jnp.sum(_wide(gradient) ** 2, axis=(1, 2, 3)) + 1e-12)
    return jnp.mean((norm - 1.0) ** 2)


def _total_score(logits: Any) -> jax.Array:
    """Sum over images of the mean of their logits, and over scales."""

    def score(one: jax.Array) -> jax.Array:
        return jnp.sum(jnp.mean(_wide(one), axis=(1, 2, 3)))

    return over_scales(score, logits)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32; float64 stays."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
