"""Losses, in float32 whatever the networks compute in; means over every pixel and channel."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from msi2he_jax.errors import InputError


def discriminator_loss(real: jax.Array, fake: jax.Array, *, gan: str) -> jax.Array:
    """Loss of the discriminator, halved as pix2pix does (but for wgangp, which no one halves).

    Args:
        real: Logits of real pairs `[B, h, w, 1]`.
        fake: Logits of synthetic pairs `[B, h, w, 1]`.
        gan: `"vanilla"` (cross-entropy), `"lsgan"` (squares), `"hinge"` or `"wgangp"`.

    Returns:
        Scalar float32.

    Raises:
        InputError: `gan` is none of these.

    Source: GANLoss of pytorch-CycleGAN-and-pix2pix; hinge: Lim and Ye 2017; wgangp: Gulrajani et
    al. 2017.
    """
    real, fake = _wide(real), _wide(fake)
    if gan == "vanilla":
        return 0.5 * (jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)))
    if gan == "lsgan":
        return 0.5 * (jnp.mean((real - 1.0) ** 2) + jnp.mean(fake**2))
    if gan == "hinge":
        return 0.5 * (jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake)))
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
    """
    fake = _wide(fake)
    if gan == "vanilla":
        return jnp.mean(jax.nn.softplus(-fake))
    if gan == "lsgan":
        return jnp.mean((fake - 1.0) ** 2)
    return -jnp.mean(fake)


def reconstruction_loss(fake: jax.Array, real: jax.Array, *, kind: str) -> jax.Array:
    """How far synthetic images are from the real ones.

    Args:
        fake: `[B, H, W, 3]` float in [-1, 1].
        real: `[B, H, W, 3]` float in [-1, 1].
        kind: `"l1"`: mean absolute difference in that range, as pix2pix; `"mse"`: mean squared
            difference in [0, 1], as a Keras U-Net with sigmoid output.

    Returns:
        Scalar float32.
    """
    difference = _wide(fake) - _wide(real)
    if kind == "l1":
        return jnp.mean(jnp.abs(difference))
    return jnp.mean((0.5 * difference) ** 2)


def gradient_penalty(
    judge: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Mean squared distance from 1 of the gradient's norm, between real and synthetic images.

    Args:
        judge: From images `[B, H, W, 3]` to logits `[B, h, w, 1]`.
        real: `[B, H, W, 3]` float in [-1, 1].
        fake: `[B, H, W, 3]` float in [-1, 1].
        key: Draws the place between the two, one per image.

    Returns:
        Scalar float32.

    Source: Gulrajani et al. 2017, equation 3.
    """
    place = jax.random.uniform(key, (real.shape[0], 1, 1, 1))
    between = place * real + (1.0 - place) * fake
    gradient = jax.grad(lambda x: jnp.sum(jnp.mean(_wide(judge(x)), axis=(1, 2, 3))))(between)
    # The tiny constant keeps the root's own gradient finite where the gradient vanishes.
    norm = jnp.sqrt(jnp.sum(_wide(gradient) ** 2, axis=(1, 2, 3)) + 1e-12)
    return jnp.mean((norm - 1.0) ** 2)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32; float64 stays."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
