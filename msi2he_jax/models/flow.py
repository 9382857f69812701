"""A small network that says how far a synthetic image is displaced from the real one."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from flax import nnx
from jax import Array

from msi2he_jax.models import layers

KERNEL = 4


class FlowNet(nnx.Module):
    """A U-Net from two images to a displacement, which is exactly zero before training.

    Args:
        features: Channels of the first level; twice as many further down.
        depth: Halvings.
        dtype: Compute dtype.
        lowering: One of `convolution.LOWERINGS`.
        rngs: Stream `params` is used.

    Source: the registration network of RegGAN, Kong et al. 2021, https://arxiv.org/abs/2110.06465,
    much smaller and without its residual blocks.
    """

    def __init__(
        self,
        *,
        features: int,
        depth: int,
        dtype: str = "float32",
        lowering: str = "auto",
        rngs: nnx.Rngs,
    ):
        layer = {"dtype": dtype, "lowering": lowering, "rngs": rngs}
        widths = [6, features, *[2 * features] * (depth - 1)]
        learnt = {**layer, "init": layers.he_normal}
        self.downs = nnx.List(
            layers.Conv(before, after, KERNEL, stride=2, padding=1, bias=True, **learnt)
            for before, after in itertools.pairwise(widths)
        )
        below, ups = widths[-1], []
        for width in reversed(widths[:-1]):
            after = max(width, features)
            ups.append(layers.ResizeConv(below, after, bias=True, **learnt))
            below = after + width
        self.ups = nnx.List(ups)
        zeros = {**layer, "init": lambda key, shape, dtype: jnp.zeros(shape, dtype)}
        self.head = layers.Conv(below, 2, 3, padding=1, bias=True, **zeros)
        self.multiple = 2**depth

    def __call__(self, fake: Array, real: Array) -> Array:
        """Estimates where each pixel of `real` lies in `fake`, as far as it is not where it is.

        Args:
            fake: `[B, H, W, 3]`, float in [-1, 1].
            real: `[B, H, W, 3]`, float in [-1, 1].

        Returns:
            `[B, H, W, 2]` float32: rows and columns to go, px.
        """
        height, width = fake.shape[1:3]
        pads = [(0, -size % self.multiple) for size in (height, width)]
        x = jnp.pad(jnp.concatenate([fake, real], -1), ((0, 0), *pads, (0, 0)), mode="edge")
        skips = []
        for down in self.downs:
            skips.append(x)
            x = layers.leaky_relu(down(x))
        for up in self.ups:
            x = layers.leaky_relu(up(x))
            x = jnp.concatenate([x, skips.pop().astype(x.dtype)], axis=-1)
        x = self.head(x)[:, :height, :width]
        return x.astype(layers.param_dtype(x.dtype))
