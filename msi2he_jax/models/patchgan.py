"""pix2pix's patch discriminator, 1x1 to 286x286.

Source: Isola et al. 2017, https://arxiv.org/abs/1611.07004, as in the authors' PyTorch
    implementation
(`NLayerDiscriminator`, `PixelDiscriminator`).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from msi2he_jax.models import layers

IMAGE_CHANNELS = 3  # The generator asks for their gradient, and nobody for the MSI's.


class Stage(nnx.Module):
    """A convolution, its normalisation and LeakyReLU 0.2."""

    def __init__(self, inputs, outputs, size, *, stride, padding, norm, bias, layer, axis_name):
        shape = {"stride": stride, "padding": padding, "bias": bias}
        self.conv = layers.Conv(inputs, outputs, size, **shape, **layer)
        self.norm = layers.make_norm(
            norm, outputs, rngs=layer["rngs"], axis_name=axis_name, dtype=layer["dtype"]
        )

    def __call__(self, x: Array, *, train: bool, norm: str) -> Array:
        """`[B, H, W, inputs]` -> `[B, h, w, outputs]`."""
        return layers.leaky_relu(self.norm(self.conv(x), train=train, norm=norm))


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
                layer=layer | ({"apart": IMAGE_CHANNELS} if n == 0 else {}),
                axis_name=axis_name,
            )
            for n in range(len(widths))
        )
        bias = n_layers > 0 or norm == "instance"
        self.head = layers.Conv(widths[-1], 1, size, padding=padding, bias=bias, **layer)

    def __call__(
        self, x: Array, *, train: bool, norm: str, features: bool = False
    ) -> Array | tuple[Array, tuple[Array, ...]]:
        """Scores images.

        Args:
            x: `[B, H, W, in_channels]`, float in [-1, 1].
            train: Whether running statistics are updated.
            norm: `"batch"` or `"running"` statistics.
            features: Whether what each stage gives is returned, too.

        Returns:
            Logits `[B, h, w, 1]`, float32 or better; with `features` also `[B, h, w, C]` of every
            stage.
        """
        seen = []
        for stage in self.stages:
            x = stage(x, train=train, norm=norm)
            seen.append(x)
        x = self.head(x)
        x = x.astype(layers.param_dtype(x.dtype))
        return (x, tuple(seen)) if features else x


class MultiScale(nnx.Module):
    """Discriminators of one kind, each on images half as large as the one before.

    Args:
        cores: The discriminators.

    Source: Wang et al. 2018 (pix2pixHD), https://arxiv.org/abs/1711.11585, section 3.2.
    """

    def __init__(self, cores: list[PatchGAN]):
        self.cores = nnx.List(cores)

    def __call__(
        self, x: Array, *, train: bool, norm: str, features: bool = False
    ) -> tuple[Array, ...] | tuple[tuple[Array, ...], tuple]:
        """Scores images `[B, H, W, C]`, as `PatchGAN` does, at every scale.

        Returns:
            One `[B, h, w, 1]` per scale; with `features` also those of every scale.
        """
        outputs = []
        for number, core in enumerate(self.cores):
            x = halve(x) if number else x
            outputs.append(core(x, train=train, norm=norm, features=features))
        return tuple(zip(*outputs)) if features else tuple(outputs)


def halve(x: Array) -> Array:
    """Averages 3x3 neighbourhoods at every second pixel: `[B, H, W, C]` -> `[B, h, w, C]`.

    Beyond the border nothing is counted.
    """

    def total(values: Array) -> Array:
        window, pads = (1, 3, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(values, 0.0, lax.add, window, (1, 2, 2, 1), pads)

    count = total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
    return total(x) / count
