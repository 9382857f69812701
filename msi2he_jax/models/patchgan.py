"""pix2pix's patch discriminator, 1x1 to 286x286.

Source: Isola et al. 2017, https://arxiv.org/abs/1611.07004, as in the authors' PyTorch
    implementation
(`NLayerDiscriminator`, `PixelDiscriminator`).
"""

from __future__ import annotations

from flax import nnx
from jax import Array

from msi2he_jax.models import layers


class Stage(nnx.Module):
    """A convolution, its normalisation and LeakyReLU 0.2."""

    def __init__(self, inputs, outputs, size, *, stride, padding, norm, bias, layer, axis_name):
        self.conv = layers.Conv(
            inputs, outputs, size, stride=stride, padding=padding, bias=bias, **layer
        )
        self.norm = layers.make_norm(
            norm, outputs, rngs=layer["rngs"], axis_name=axis_name, dtype=layer["dtype"]
        )

    def __call__(self, x: Array, **mode) -> Array:
        """`[B, H, W, inputs]` -> `[B, h, w, outputs]`."""
        return layers.leaky_relu(self.norm(self.conv(x), **mode))


class PatchGAN(nnx.Module):
    """The discriminator's core: one logit per patch.

    `n_layers` from 1 to 5 sees patches of 16, 34, 70, 142, 286 px; 0 is the pixel discriminator of
    1x1 convolutions. The last two convolutions have stride 1 and padding 1, so 256 px give 30x30
    logits with `n_layers=3`.

    Args:
        in_channels: Channels in: MSI (where conditional) and image together.
        features: Channels of the first convolution.
        n_layers: Convolutions of stride 2.
        norm: One of `layers.NORMS`.
        dtype: Compute dtype.
        lowering: One of `convolution.LOWERINGS`.
        axis_name: Mapped axis to synchronise batch statistics over, or None.
        rngs: Stream `params` is used.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        features: int,
        n_layers: int,
        norm: str,
        dtype: str,
        lowering: str,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ):
        layer = {"dtype": dtype, "lowering": lowering, "rngs": rngs}
        size, padding = (1, 0) if n_layers == 0 else (4, 1)
        widths = [features * min(2**n, 8) for n in range(max(n_layers, 1) + 1)]
        strides = [1, 1] if n_layers == 0 else [2] * n_layers + [1]
        self.stages = nnx.List(
            Stage(
                widths[n - 1] if n else in_channels,
                widths[n],
                size,
                stride=strides[n],
                padding=padding,
                norm=norm if n else "none",
                bias=n == 0 or norm == "instance",
                layer=layer,
                axis_name=axis_name,
            )
            for n in range(len(widths))
        )
        bias = n_layers > 0 or norm == "instance"
        self.head = layers.Conv(widths[-1], 1, size, padding=padding, bias=bias, **layer)

    def __call__(self, x: Array, *, train: bool, norm: str) -> Array:
        """Judges images.

        Args:
            x: `[B, H, W, in_channels]`, float in [-1, 1].
            train: Whether running statistics are updated.
            norm: `"batch"` or `"running"` statistics.

        Returns:
            Logits `[B, h, w, 1]`, float32 or better.
        """
        for stage in self.stages:
            x = stage(x, train=train, norm=norm)
        x = self.head(x)
        return x.astype(layers.param_dtype(x.dtype))
