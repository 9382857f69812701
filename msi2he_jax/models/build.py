"""From a configuration to a network; the one place where ranges are mapped and sizes padded."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.regression import METHODS, WIDEST_PX
from msi2he_jax.models import convolution, layers, resnet
from msi2he_jax.models.linear import LinearMap
from msi2he_jax.models.patchgan import MultiScale, PatchGAN
from msi2he_jax.models.resnet import ResNet
from msi2he_jax.models.ronneberger import RonnebergerUNet
from msi2he_jax.models.unet import UNet

GENERATORS = ("unet_pix2pix", "resnet", "unet_ronneberger", "linear")
STARTS = ("none", *METHODS)
DTYPES = ("float32", "bfloat16", "float64")
_DEFAULT_DEPTH = {"unet_pix2pix": 8, "unet_ronneberger": 4, "resnet": 2, "linear": 0}
_DEPTHS = {"unet_pix2pix": (5, 9), "unet_ronneberger": (1, 6)}


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """What `build_generator` reads, with its defaults; any object with such attributes will do.

    Attributes:
        in_channels: Channels of the MSI.
        name: One of `GENERATORS`.
        out_channels: Channels of the image.
        depth: Halvings. `unet_pix2pix`: 5 to 9, default 8 (`unet_256`; 7 `unet_128`, 9 `unet_512`).
            `unet_ronneberger`: 1 to 6, default 4. `resnet` has two, `linear` none, always.
        features: Channels of the first level (`ngf`).
        norm: `"batch"`, `"instance"` or `"none"`.
        dropout: Rate, in [0, 1), where the architecture has dropout; it acts only where a key is
            handed in.
        upsample: `"deconv"` (the original) or `"resize"` (nearest, then convolution).
        blocks: Residual blocks of `resnet`.
        start: `"ridge"` or `"pls"`: the image is a linear map of the MSI, fitted so, plus what the
            network adds, which is zero at first. `"none"`: the network alone. `linear` is the map
            alone.
        neighbours_px: Side of the square whose mean the linear map sees beside each pixel, px, odd;
            1: none.
        dtype: Compute dtype, one of `DTYPES`; parameters and statistics stay float32 (float64 for
            float64).
        lowering: One of `convolution.LOWERINGS`.
    """

    in_channels: int = 50
    name: str = "unet_pix2pix"
    out_channels: int = 3
    depth: int | None = None
    features: int = 64
    norm: str = "batch"
    dropout: float = 0.5
    upsample: str = "deconv"
    blocks: int = 9
    start: str = "none"
    neighbours_px: int = 3
    dtype: str = "float32"
    lowering: str = "auto"


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """What `build_discriminator` reads, with its defaults; any object with such attributes will do.

    Attributes:
        in_channels: Channels of the MSI.
        out_channels: Channels of the image.
        features: Channels of the first convolution (`ndf`).
        n_layers: Convolutions of stride 2, 0 to 5; 3 sees 70x70 px, 0 is the pixel discriminator.
        norm: `"batch"`, `"instance"` or `"none"`.
        conditional: Whether it sees the MSI beside the image.
        scales: Discriminators, each on images half as large as the one before.
        dtype: Compute dtype, one of `DTYPES`.
        lowering: One of `convolution.LOWERINGS`.
    """

    in_channels: int = 50
    out_channels: int = 3
    features: int = 64
    n_layers: int = 3
    norm: str = "batch"
    conditional: bool = True
    scales: int = 1
    dtype: str = "float32"
    lowering: str = "auto"


class Generator(nnx.Module):
    """A network from MSI in [0, 1] to images in [-1, 1], at any size.

    Args:
        core: The network proper, in its own ranges; None for a linear model.
        channels: Channels of the MSI it takes.
        multiple: H and W are padded to a multiple of this, px.
        minimum: ... and to at least this, px.
        unit_range: Whether the core works in [0, 1] (Keras) rather than in [-1, 1] (pix2pix).
        line: A linear map that the core's image is added to, or None.
    """

    def __init__(
        self,
        core: nnx.Module | None,
        *,
        channels: int,
        multiple: int,
        minimum: int,
        unit_range: bool,
        line: LinearMap | None = None,
    ):
        self.core, self.line, self.channels = core, line, channels
        self.multiple, self.minimum, self.unit_range = multiple, minimum, unit_range

    def __call__(
        self,
        msi: Array,
        *,
        train: bool = False,
        norm: str = "batch",
        dropout_key: Array | None = None,
    ) -> Array:
        """Translates MSI to images.

        Sizes that do not fit are padded with 0 (nothing measured, as the loader pads) at the bottom
        and the right and cropped back. Padding takes part in batch statistics.

        Args:
            msi: `[B, H, W, K]`, float in [0, 1].
            train: Whether running statistics are updated; only with `norm="batch"`.
            norm: `"batch"`: normalise with this batch's statistics; `"running"`: with the tracked
                ones.
            dropout_key: Key of the dropout masks, or `[B]` keys, one per image; None: no dropout.

        Returns:
            `[B, H, W, out_channels]`, float32, in [-1, 1]; with a linear map beyond it where
            `train`, since a clipped pixel teaches nothing.

        Raises:
            InputError: the number of channels is not the one the network was built for.
        """
        if msi.shape[-1] != self.channels:
            why = f"has {msi.shape[-1]} channels, the network takes {self.channels} channels"
            raise InputError("msi", "shape", why, "use the data the network was configured for")
        if self.line is None:
            return self._core_image(msi, train=train, norm=norm, dropout_key=dropout_key)
        image = self.line(msi)
        if self.core is not None:
            image += self._core_image(msi, train=train, norm=norm, dropout_key=dropout_key)
        return image if train else jnp.clip(image, -1.0, 1.0)

    def _core_image(self, msi: Array, **modes: Any) -> Array:
        height, width = msi.shape[1:3]
        x = _pad_to_multiple(msi, self.multiple, self.minimum)
        x = x if self.unit_range else 2.0 * x - 1.0
        y = self.core(x, **modes)[:, :height, :width]
        return 2.0 * y - 1.0 if self.unit_range else y


class Discriminator(nnx.Module):
    """A network from MSI in [0, 1] and an image in [-1, 1] to logits.

    Args:
        core: The network proper, on channels in [-1, 1]: MSI first (where conditional), then the
            image.
        conditional: Whether it sees the MSI.
    """

    def __init__(self, core: nnx.Module, *, conditional: bool):
        self.core = core
        self.conditional = conditional

    def __call__(
        self,
        msi: Array | None,
        image: Array,
        *,
        train: bool,
        norm: str | None = None,
        features: bool = False,
    ) -> Any:
        """Scores images.

        Args:
            msi: `[B, H, W, K]`, float in [0, 1]; not looked at where unconditional.
            image: `[B, H, W, 3]`, float in [-1, 1].
            train: Whether running statistics are updated; only with `norm="batch"`.
            norm: `"batch"` or `"running"`; None for `"batch"` in training and `"running"`
                otherwise.
            features: Whether what the stages give is returned, too.

        Returns:
            Logits `[B, h, w, 1]`, float32; a tuple of such where there are several scales. With
            `features` also the features `[B, h, w, C]` of all stages, likewise.
        """
        norm = norm or ("batch" if train else "running")
        x = jnp.concatenate([2.0 * msi - 1.0, image], axis=-1) if self.conditional else image
        return self.core(x, train=train, norm=norm, features=features)


def build_generator(config: Any, *, rngs: nnx.Rngs, axis_name: str | None = None) -> Generator:
    """Builds a generator with fresh weights.

    Args:
        config: Any object with (some of) the attributes of `GeneratorConfig`.
        rngs: Stream `params` is used.
        axis_name: Mapped axis (of `jax.pmap` or `jax.shard_map`) to synchronise batch statistics
            over, or None.

    Raises:
        InputError: an attribute has a value no network has.
    """
    config = generator_config(config)
    line = None
    if config.start != "none":
        shape = config.in_channels, config.out_channels
        line = LinearMap(*shape, neighbours_px=config.neighbours_px)
    core = _build_core(config, axis_name=axis_name, rngs=rngs)
    if core is not None and line is not None:
        _silence(core)
    return Generator(
        core,
        channels=config.in_channels,
        multiple=multiple_of(config),
        minimum=resnet.MINIMUM_PX if config.name == "resnet" else 1,
        unit_range=config.name == "unet_ronneberger",
        line=line,
    )


def _build_core(config: GeneratorConfig, **context: Any) -> nnx.Module | None:
    """The network proper; None where there is a linear map alone."""
    common = {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "features": config.features,
        "norm": config.norm,
        "rate": config.dropout,
        "upsample": config.upsample,
        "dtype": config.dtype,
        "lowering": config.lowering,
        **context,
    }
    if config.name == "linear":
        return None
    if config.name == "resnet":
        return ResNet(blocks=config.blocks, **common)
    if config.name == "unet_pix2pix":
        return UNet(depth=config.depth, **common)
    return RonnebergerUNet(depth=config.depth, **common)


def _silence(core: nnx.Module) -> None:
    """Sets the last convolution to zero: tanh(0) and 2 sigmoid(0) - 1 add nothing to an image."""
    last = core.ups[0].conv if isinstance(core, UNet) else core.head
    nnx.update(last, jax.tree.map(jnp.zeros_like, nnx.state(last, nnx.Param)))


def build_discriminator(
    config: Any, *, rngs: nnx.Rngs, axis_name: str | None = None
) -> Discriminator:
    """Builds a discriminator with fresh weights.

    Args:
        config: Any object with (some of) the attributes of `DiscriminatorConfig`.
        rngs: Stream `params` is used.
        axis_name: Mapped axis to synchronise batch statistics over, or None.

    Raises:
        InputError: an attribute has a value no network has.
    """
    config = discriminator_config(config)
    options = {
        "in_channels": config.out_channels + (config.in_channels if config.conditional else 0),
        "features": config.features,
        "n_layers": config.n_layers,
        "norm": config.norm,
        "dtype": config.dtype,
        "lowering": config.lowering,
        "axis_name": axis_name,
        "rngs": rngs,
    }
    cores = [PatchGAN(**options) for _ in range(config.scales)]
    core = cores[0] if config.scales == 1 else MultiScale(cores)
    return Discriminator(core, conditional=config.conditional)


def multiple_of(config: Any) -> int:
    """Returns what H and W are padded to a multiple of, px, by the generator of `config`.

    Example:
        >>> multiple_of(GeneratorConfig(name="unet_pix2pix", depth=7))
        128
    """
    return 2 ** generator_config(config).depth


def generator_config(config: Any) -> GeneratorConfig:
    """Returns `config` with defaults filled in and every value checked.

    Raises:
        InputError: an attribute has a value no network has.
    """
    read = _read(GeneratorConfig, config)
    _one_of("name", read.name, GENERATORS)
    if read.depth is None or read.name not in _DEPTHS:
        read = dataclasses.replace(read, depth=_DEFAULT_DEPTH[read.name])
    _check_shared(read)
    _one_of("upsample", read.upsample, ("deconv", "resize"))
    if read.name in _DEPTHS:
        _within("depth", read.depth, *_DEPTHS[read.name])
    _one_of("start", read.start, STARTS[1:] if read.name == "linear" else STARTS)
    _within("neighbours_px", read.neighbours_px, 1, WIDEST_PX)
    if read.neighbours_px % 2 == 0:
        raise InputError("config", "neighbours_px", f"is {read.neighbours_px}, expected an odd one")
    _within("blocks", read.blocks, 0, 64)
    rate = read.dropout
    if not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
        raise InputError("config", "dropout", f"is {rate!r}, expected a rate in [0, 1)")
    return read


def discriminator_config(config: Any) -> DiscriminatorConfig:
    """Returns `config` with defaults filled in and every value checked.

    Raises:
        InputError: an attribute has a value no network has.
    """
    read = _read(DiscriminatorConfig, config)
    _check_shared(read)
    _within("n_layers", read.n_layers, 0, 5)
    _within("scales", read.scales, 1, 4)
    return read


def _read(kind: type, config: Any) -> Any:
    fields = dataclasses.fields(kind)
    return kind(**{field.name: getattr(config, field.name, field.default) for field in fields})


def _check_shared(config: GeneratorConfig | DiscriminatorConfig) -> None:
    _one_of("norm", config.norm, layers.NORMS)
    _one_of("dtype", config.dtype, DTYPES)
    _one_of("lowering", config.lowering, convolution.LOWERINGS)
    _within("in_channels", config.in_channels, 1, 100_000)
    _within("out_channels", config.out_channels, 1, 1_000)
    _within("features", config.features, 1, 4_096)


def _one_of(field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError("config", field, f"is {value!r}, expected one of {', '.join(allowed)}")


def _within(field: str, value: int, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        why = f"is {value!r}, expected a whole number from {lowest} to {highest}"
        raise InputError("config", field, why)


def _pad_to_multiple(x: Array, multiple: int, minimum: int) -> Array:
    """Pads `[B, H, W, C]` with 0 at the bottom and the right."""
    pads = [max(-(-size // multiple) * multiple, minimum) - size for size in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), (0, pads[0]), (0, pads[1]), (0, 0)))
