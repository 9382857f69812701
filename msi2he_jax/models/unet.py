"""pix2pix's U-Net generator (`unet_128`, `unet_256`, `unet_512`) with any number of channels in.

Source: Isola et al. 2017, https://arxiv.org/abs/1611.07004, as in the authors' PyTorch
    implementation (`UnetGenerator`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from msi2he_jax.models import layers


class Down(nnx.Module):
    """LeakyReLU (not at the outermost level), 4x4 convolution of stride 2, normalisation."""

    def __init__(self, inputs: int, outputs: int, *, norm: str, bias: bool, first: bool, options):
        self.conv = _conv(inputs, outputs, bias=bias, options=options)
        self.norm = _norm(norm, outputs, options)
        self.first = first

    def __call__(self, x: Array, **mode) -> Array:
        """`[B, H, W, inputs]` -> `[B, H/2, W/2, outputs]`."""
        return self.norm(self.conv(x if self.first else layers.leaky_relu(x)), **mode)


class Up(nnx.Module):
    """ReLU, 4x4 transposed convolution of stride 2, normalisation, dropout."""

    def __init__(self, inputs: int, outputs: int, *, norm: str, bias: bool, rate: float, options):
        if options["upsample"] == "resize":
            self.conv = layers.ResizeConv(inputs, outputs, bias=bias, **_layer(options))
        else:
            self.conv = _conv(inputs, outputs, bias=bias, transposed=True, options=options)
        self.norm = _norm(norm, outputs, options)
        self.rate = rate

    def __call__(self, x: Array, *, dropout_key: Array | None, **mode) -> Array:
        """`[B, h, w, inputs]` -> `[B, 2h, 2w, outputs]`."""
        x = self.norm(self.conv(jax.nn.relu(x)), **mode)
        return layers.dropout(x, self.rate, dropout_key)


class UNet(nnx.Module):
    """The generator's core: input and output in [-1, 1].

    Level 0 is the outermost; level l has `features * min(2**l, 8)` channels after going down. The
    skip at level l is the input of the next level's down, before its LeakyReLU:
    `relu(leaky_relu(x)) = relu(x)`, so the original's in-place LeakyReLU changes nothing.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        depth: Halvings, 5 or more; H and W must be multiples of `2**depth`.
        features: Channels after the first level.
        norm: One of `layers.NORMS`.
        rate: Dropout rate of the `depth - 5` levels above the innermost.
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
        options = {
            "upsample": upsample,
            "dtype": dtype,
            "lowering": lowering,
            "axis_name": axis_name,
            "rngs": rngs,
        }
        widths = [features * min(2**level, 8) for level in range(depth)]
        bias = norm == "instance"
        self.downs = nnx.List(
            Down(
                in_channels if level == 0 else widths[level - 1],
                widths[level],
                norm="none" if level in (0, depth - 1) else norm,
                bias=bias,
                first=level == 0,
                options=options,
            )
            for level in range(depth)
        )
        self.ups = nnx.List(
            Up(
                widths[level] * (1 if level == depth - 1 else 2),
                out_channels if level == 0 else widths[level - 1],
                norm="none" if level == 0 else norm,
                bias=bias or level == 0,
                rate=rate if 4 <= level <= depth - 2 else 0.0,
                options=options,
            )
            for level in range(depth)
        )

    def __call__(
        self, x: Array, *, train: bool, norm: str, dropout_key: Array | None = None
    ) -> Array:
        """Translates images.

        Args:
            x: `[B, H, W, in_channels]`, float in [-1, 1].
            train: Whether running statistics are updated.
            norm: `"batch"` or `"running"` statistics.
            dropout_key: Key of the dropout masks, or `[B]` keys, one per image; None: no dropout.

        Returns:
            `[B, H, W, out_channels]`, float32 or better, in [-1, 1].
        """
        skips = []
        for down in self.downs:
            x = down(x, train=train, norm=norm)
            skips.append(x)
        skips.pop()
        for level in reversed(range(len(self.ups))):
            key = layers.fold_in(dropout_key, level)
            x = self.ups[level](x, dropout_key=key, train=train, norm=norm)
            if level > 0:
                x = jnp.concatenate([skips[level - 1], x], axis=-1)
        return jnp.tanh(x.astype(layers.param_dtype(x.dtype)))


def _conv(inputs: int, outputs: int, *, bias: bool, options: dict, transposed: bool = False):
    return layers.Conv(
        inputs,
        outputs,
        4,
        stride=2,
        padding=1,
        bias=bias,
        transposed=transposed,
        **_layer(options),
    )


def _norm(kind: str, channels: int, options: dict) -> nnx.Module:
    return layers.make_norm(
        kind,
        channels,
        rngs=options["rngs"],
        axis_name=options["axis_name"],
        dtype=options["dtype"],
    )


def _layer(options: dict) -> dict:
    return {name: options[name] for name in ("dtype", "lowering", "rngs")}
