"""The paper's baseline: a Ronneberger U-Net as it is commonly written in Keras.

Two 3x3 ReLU convolutions per level with 'same' padding, max pooling, concatenated skips, dropout at
the two deepest levels, sigmoid output. The paper states only "minimal modifications"; padding,
dropout and initialisation here are assumptions: those of the widely copied Keras code (he_normal,
nearest up-sampling with a 2x2 convolution), with three outputs instead of a mask.
Source: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from msi2he_jax.models import layers

_KERAS_NORM = {"momentum": 0.01, "epsilon": 1e-3, "scale_stddev": 0.0, "unbiased": False}


class Level(nnx.Module):
    """Two 3x3 convolutions with ReLU, each with Keras' batch normalisation where asked for."""

    def __init__(self, inputs: int, outputs: int, *, norm: str, rate: float, layer, axis_name):
        channels = ((inputs, outputs), (outputs, outputs))
        self.convs = nnx.List(_he_conv(i, o, 3, layer) for i, o in channels)
        self.norms = nnx.List(_norm(norm, outputs, layer, axis_name) for _ in channels)
        self.rate = rate

    def __call__(self, x: Array, *, dropout_key: Array | None, **mode) -> Array:
        """`[B, H, W, inputs]` -> `[B, H, W, outputs]`."""
        for conv, norm in zip(self.convs, self.norms):
            x = jax.nn.relu(norm(conv(x), **mode))
        return layers.dropout(x, self.rate, dropout_key)


class RonnebergerUNet(nnx.Module):
    """The core: any float input, output in [0, 1].

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        depth: Poolings; H and W must be multiples of `2**depth`.
        features: Channels of the first level; doubled at each pooling.
        norm: One of `layers.NORMS`; batch with Keras' defaults (epsilon 1e-3, momentum 0.99).
        rate: Dropout rate at the two deepest levels.
        upsample: `"resize"` (nearest and 2x2 convolution) or `"deconv"` (2x2 transposed
            convolution).
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
        depth: int,
        features: int,
        norm: str,
        rate: float,
        upsample: str,
        dtype: str,
        lowering: str,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ):
        layer = {"dtype": dtype, "lowering": lowering, "rngs": rngs}
        common = {"norm": norm, "layer": layer, "axis_name": axis_name}
        widths = [features * 2**level for level in range(depth + 1)]
        self.encoder = nnx.List(
            Level(i, o, rate=rate if level >= depth - 1 else 0.0, **common)
            for level, (i, o) in enumerate(zip([in_channels, *widths], widths))
        )
        self.rises = nnx.List(
            _rise(widths[n + 1], widths[n], upsample, layer) for n in range(depth)
        )
        self.decoder = nnx.List(
            Level(2 * widths[n], widths[n], rate=0.0, **common) for n in range(depth)
        )
        glorot = jax.nn.initializers.glorot_uniform()
        self.head = layers.Conv(features, out_channels, 1, bias=True, init=glorot, **layer)

    def __call__(
        self, x: Array, *, train: bool, norm: str, dropout_key: Array | None = None
    ) -> Array:
        """Translates images.

        Args:
            x: `[B, H, W, in_channels]`, float.
            train: Whether running statistics are updated.
            norm: `"batch"` or `"running"` statistics.
            dropout_key: Key of the dropout masks, or `[B]` keys, one per image; None: no dropout.

        Returns:
            `[B, H, W, out_channels]`, float32 or better, in [0, 1].
        """
        mode = {"train": train, "norm": norm}
        skips = []
        for index, level in enumerate(self.encoder):
            key = layers.fold_in(dropout_key, index)
            x = level(x if index == 0 else _max_pool(x), dropout_key=key, **mode)
            skips.append(x)
        for n in reversed(range(len(self.decoder))):
            x = jnp.concatenate([skips[n], jax.nn.relu(self.rises[n](x))], axis=-1)
            x = self.decoder[n](x, dropout_key=None, **mode)
        x = self.head(x)
        return jax.nn.sigmoid(x.astype(layers.param_dtype(x.dtype)))


def _he_conv(inputs: int, outputs: int, size: int, layer: dict) -> layers.Conv:
    return layers.Conv(
        inputs, outputs, size, padding="same", bias=True, init=layers.he_normal, **layer
    )


def _rise(inputs: int, outputs: int, upsample: str, layer: dict) -> nnx.Module:
    if upsample == "resize":
        return layers.ResizeConv(inputs, outputs, 2, bias=True, init=layers.he_normal, **layer)
    deconv = {"stride": 2, "transposed": True, "init": layers.he_normal_transposed}
    return layers.Conv(inputs, outputs, 2, bias=True, **deconv, **layer)


def _norm(kind: str, channels: int, layer: dict, axis_name: str | None) -> nnx.Module:
    if kind != "batch":
        return layers.make_norm(kind, channels, rngs=layer["rngs"], dtype=layer["dtype"])
    return layers.BatchNorm(
        channels, axis_name=axis_name, rngs=layer["rngs"], dtype=layer["dtype"], **_KERAS_NORM
    )


def _max_pool(x: Array) -> Array:
    """2x2 maximum: `[B, H, W, C]` -> `[B, H/2, W/2, C]`."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
