"""The ResNet generator (`resnet_9blocks`, `resnet_6blocks`) with any number of channels in.

Source: Johnson et al. 2016, https://arxiv.org/abs/1603.08155, as in pix2pix' PyTorch implementation
    (`ResnetGenerator`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from msi2he_jax.models import layers

MINIMUM_PX = 8


class ConvNorm(nnx.Module):
    """A convolution, its normalisation and, where `relu`, a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, norm: str, relu: bool = True, layer, **conv
    ):
        self.conv = layers.Conv(
            inputs,
            outputs,
            size,
            bias=norm == "instance",
            dtype=layer["dtype"],
            lowering=layer["lowering"],
            rngs=layer["rngs"],
            **conv,
        )
        self.norm = layers.make_norm(
            norm,
            outputs,
            rngs=layer["rngs"],
            axis_name=layer["axis_name"],
            dtype=layer["dtype"],
        )
        self.relu = relu

    def __call__(self, x: Array, **mode) -> Array:
        """`[B, H, W, inputs]` -> `[B, h, w, outputs]`."""
        x = self.norm(self.conv(x), **mode)
        return jax.nn.relu(x) if self.relu else x


class Block(nnx.Module):
    """x + f(x), with two 3x3 convolutions over reflected borders and dropout between."""

    def __init__(self, channels: int, *, norm: str, rate: float, layer: dict):
        self.first = ConvNorm(channels, channels, 3, norm=norm, layer=layer)
        self.second = ConvNorm(channels, channels, 3, norm=norm, relu=False, layer=layer)
        self.rate = rate

    def __call__(self, x: Array, *, dropout_key: Array | None, **mode) -> Array:
        """`[B, H, W, C]` -> `[B, H, W, C]`."""
        inner = layers.dropout(self.first(_reflect(x, 1), **mode), self.rate, dropout_key)
        return x + self.second(_reflect(inner, 1), **mode)


class ResNet(nnx.Module):
    """The generator's core: input and output in [-1, 1].

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        blocks: Residual blocks.
        features: Channels of the first convolution.
        norm: One of `layers.NORMS`.
        rate: Dropout rate inside each block.
        upsample: `"deconv"` or `"resize"`.
        dtype: Compute dtype.
        lowering: One of `convolution.LOWERINGS`.
        axis_name: Mapped axis to synchronise batch statistics over, or None.
        rngs: Stream `params` is used.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        blocks: int,
        features: int,
        norm: str,
        rate: float,
        upsample: str,
        dtype: str,
        lowering: str,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ):
        layer = {"dtype": dtype, "lowering": lowering, "axis_name": axis_name, "rngs": rngs}
        self.stem = ConvNorm(in_channels, features, 7, norm=norm, layer=layer)
        self.downs = nnx.List(
            ConvNorm(features * f, features * f * 2, 3, stride=2, padding=1, norm=norm, layer=layer)
            for f in (1, 2)
        )
        self.blocks = nnx.List(
            Block(features * 4, norm=norm, rate=rate, layer=layer) for _ in range(blocks)
        )
        up = {"padding": "same"}
        if upsample == "deconv":
            up = {"stride": 2, "padding": 1, "output_padding": 1, "transposed": True}
        self.ups = nnx.List(
            ConvNorm(features * f, features * f // 2, 3, norm=norm, layer=layer, **up)
            for f in (4, 2)
        )
        self.head = layers.Conv(
            features, out_channels, 7, bias=True, dtype=dtype, lowering=lowering, rngs=rngs
        )
        self.resize = upsample == "resize"

    def __call__(
        self, x: Array, *, train: bool, norm: str, dropout_key: Array | None = None
    ) -> Array:
        """Translates images.

        Args:
            x: `[B, H, W, in_channels]`, float in [-1, 1]; H and W multiples of 4, at least 8.
            train: Whether running statistics are updated.
            norm: `"batch"` or `"running"` statistics.
            dropout_key: Key of the dropout masks, or `[B]` keys, one per image; None: no dropout.

        Returns:
            `[B, H, W, out_channels]`, float32 or better, in [-1, 1].
        """
        x = self.stem(_reflect(x, 3), train=train, norm=norm)
        for down in self.downs:
            x = down(x, train=train, norm=norm)
        for index, block in enumerate(self.blocks):
            key = layers.fold_in(dropout_key, index)
            x = block(x, dropout_key=key, train=train, norm=norm)
        for up in self.ups:
            x = up(layers.double(x) if self.resize else x, train=train, norm=norm)
        x = self.head(_reflect(x, 3))
        return jnp.tanh(x.astype(layers.param_dtype(x.dtype)))


def _reflect(x: Array, margin: int) -> Array:
    """Mirrors `margin` px at each border, the border pixel itself not repeated."""
    return jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
