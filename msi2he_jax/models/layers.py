"""The layers all networks share: convolution, transposed convolution, normalisation, dropout.

Parameters are float32 and cast to the compute dtype at use; statistics are always taken in float32
or better. Variables are `nnx.Param` and `nnx.BatchStat` only: no layer holds a random state.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from msi2he_jax.models import convolution

INIT_STDDEV = 0.02
NORMS = ("batch", "instance", "none")
CONVOLVED = "convolved"  # name of what rematerialisation may keep


class Conv(nnx.Module):
    """Convolution, or transposed convolution where `transposed`, with PyTorch's padding.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Kernel side, px.
        stride: Step, or enlargement where transposed.
        padding: Zeros on each side, px; `"same"` for Keras' rule at stride 1 (the odd zero at the
            end).
        bias: Whether a bias is added; it starts at 0.
        transposed: Whether this is the transposed convolution.
        output_padding: Rows and columns added at the end of a transposed convolution.
        dtype: Compute dtype.
        lowering: One of `convolution.LOWERINGS`.
        init: Initialiser `(key, shape, dtype)` of the kernel; None for N(0, 0.02).
        apart: As `convolution.conv` takes it.
        rngs: Stream `params` is used.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        bias: bool,
        transposed: bool = False,
        output_padding: int = 0,
        dtype: str = "float32",
        lowering: str = "auto",
        init=None,
        apart: int = 0,
        rngs: nnx.Rngs,
    ):
        self.apart = apart
        init = init or small_normal
        shape = (size, size, outputs, inputs) if transposed else (size, size, inputs, outputs)
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype(dtype)))
        self.bias = nnx.Param(jnp.zeros(outputs, param_dtype(dtype))) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.transposed, self.dtype, self.lowering = transposed, dtype, lowering

    def __call__(self, x: Array) -> Array:
        """Applies it: `[B, H, W, inputs]` -> `[B, h, w, outputs]` in the compute dtype."""
        return self._applied(x, self.kernel[...])

    def _applied(self, x: Array, kernel: Array) -> Array:
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = self._transposed(x, kernel) if self.transposed else self._forward(x, kernel)
        y = y if self.bias is None else y + per_channel(self.bias[...].astype(self.dtype))
        return checkpoint_name(y, CONVOLVED)

    def _forward(self, x: Array, kernel: Array) -> Array:
        padding = self.padding
        if padding == "same":
            before, after = (kernel.shape[0] - 1) // 2, kernel.shape[0] // 2
            x = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
            padding = 0
        options = {"stride": self.stride, "lowering": self.lowering, "apart": self.apart}
        return convolution.conv(x, kernel, padding=padding, **options)

    def _transposed(self, x: Array, kernel: Array) -> Array:
        return convolution.transposed_conv(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            lowering=self.lowering,
        )


class ResizeConv(nnx.Module):
    """Nearest-neighbour doubling and a convolution: no checkerboard as transposed ones make.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Kernel side, px.
        bias: Whether a bias is added.
        dtype: Compute dtype.
        lowering: One of `convolution.LOWERINGS`.
        init: Initialiser of the kernel; None for N(0, 0.02).
        rngs: Stream `params` is used.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, bias: bool, **options):
        self.conv = Conv(inputs, outputs, size, padding="same", bias=bias, **options)

    def __call__(self, x: Array) -> Array:
        """Applies it: `[B, h, w, inputs]` -> `[B, 2h, 2w, outputs]`."""
        return self.conv(double(x))


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's semantics.

    Normalises with the biased variance and tracks the *unbiased* one; the variance is taken in two
    passes, in float32 or better. With `axis_name` the moments are those of the whole batch over
    that mapped axis (equal shares per device).

    Args:
        channels: Channels.
        momentum: Weight of the new value in the running one (PyTorch's convention).
        epsilon: Added to the variance.
        unbiased: Whether the tracked variance is the unbiased one.
        scale_stddev: The scale starts as N(1, scale_stddev).
        axis_name: Mapped axis to synchronise over, or None.
        dtype: Compute dtype.
        rngs: Stream `params` is used.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        unbiased: bool = True,
        scale_stddev: float = INIT_STDDEV,
        axis_name: str | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        kind = param_dtype(dtype)
        noise = _draw(rngs.params(), (channels,), kind)
        self.scale = nnx.Param(1.0 + scale_stddev * noise)
        self.bias = nnx.Param(jnp.zeros(channels, kind))
        self.mean = nnx.BatchStat(jnp.zeros(channels, kind))
        self.var = nnx.BatchStat(jnp.ones(channels, kind))
        self.momentum, self.epsilon, self.unbiased = momentum, epsilon, unbiased
        self.axis_name, self.dtype = axis_name, dtype

    def __call__(self, x: Array, *, train: bool, norm: str) -> Array:
        """Normalises per channel.

        Args:
            x: `[B, H, W, C]`.
            train: Whether the running statistics are updated (only with `norm="batch"`).
            norm: `"batch"`: this batch's statistics; `"running"`: the tracked ones.

        Returns:
            `[B, H, W, C]` in the compute dtype.
        """
        wide = x.astype(param_dtype(self.dtype))
        if norm == "running":
            mean, var = per_channel(self.mean[...]), per_channel(self.var[...])
        else:
            mean, var = _moments(wide, (0, 1, 2), self.axis_name)
            if train:
                self._track(mean.ravel(), var.ravel(), x.size // x.shape[-1])
        factor = per_channel(self.scale[...]) * lax.rsqrt(var + self.epsilon)
        return ((wide - mean) * factor + per_channel(self.bias[...])).astype(self.dtype)

    def _track(self, mean: Array, var: Array, count: int) -> None:
        mean, var = lax.stop_gradient((mean, var))
        if self.axis_name is not None:
            count = count * lax.psum(1, self.axis_name)
        if self.unbiased:
            var = var * (count / max(count - 1, 1))
        keep = 1.0 - self.momentum
        self.mean.set_value(keep * self.mean[...] + self.momentum * mean)
        self.var.set_value(keep * self.var[...] + self.momentum * var)


class InstanceNorm(nnx.Module):
    """Instance normalisation without scale or shift, as pix2pix uses it; never tracks anything.

    Args:
        epsilon: Added to the variance.
        dtype: Compute dtype.
    """

    def __init__(self, *, epsilon: float = 1e-5, dtype: str = "float32"):
        self.epsilon, self.dtype = epsilon, dtype

    def __call__(self, x: Array, *, train: bool, norm: str) -> Array:
        """Normalises each image and channel of `[B, H, W, C]`, whatever `train` and `norm`."""
        del train, norm
        wide = x.astype(param_dtype(self.dtype))
        mean, var = _moments(wide, (1, 2), None)
        return ((wide - mean) * lax.rsqrt(var + self.epsilon)).astype(self.dtype)


class NoNorm(nnx.Module):
    """Leaves its input alone, with a normalisation's call."""

    def __call__(self, x: Array, *, train: bool, norm: str) -> Array:
        """Returns `x`."""
        del train, norm
        return x


def make_norm(
    kind: str, channels: int, *, rngs: nnx.Rngs, axis_name: str | None = None, dtype: str
) -> nnx.Module:
    """Returns the normalisation `kind` (one of `NORMS`) for `channels`."""
    if kind == "batch":
        return BatchNorm(channels, rngs=rngs, axis_name=axis_name, dtype=dtype)
    return InstanceNorm(dtype=dtype) if kind == "instance" else NoNorm()


def small_normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draws N(0, 0.02), as pix2pix starts every kernel."""
    return INIT_STDDEV * _draw(key, shape, dtype)


def he_normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draws a kernel `[kh, kw, in, out]` as Keras' he_normal: cut at two standard deviations."""
    # A standard normal cut at +-2 has this standard deviation.
    stddev = math.sqrt(2.0 / math.prod(shape[:3])) / 0.87962566103423978
    return stddev * _draw(key, shape, dtype, truncated=True)


def he_normal_transposed(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """As `he_normal`, for the kernel `[kh, kw, out, in]` of a transposed convolution."""
    kh, kw, outputs, inputs = shape
    return he_normal(key, (kh, kw, inputs, outputs), dtype).swapaxes(2, 3)


def _draw(key, shape: tuple[int, ...], dtype: jnp.dtype, *, truncated: bool = False) -> Array:
    """Standard normal numbers; drawn in powers of two, since each count of numbers is compiled."""
    count = math.prod(shape)
    padded = max(4096, 1 << (count - 1).bit_length())
    return _draw_flat(key, padded, jnp.dtype(dtype).name, truncated)[:count].reshape(shape)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _draw_flat(key: Array, count: int, dtype: str, truncated: bool) -> Array:
    if truncated:
        return jax.random.truncated_normal(key, -2.0, 2.0, (count,), dtype)
    return jax.random.normal(key, (count,), dtype)


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a share `rate` of `x`, scales the rest by 1 / (1 - rate); only with a key.

    Args:
        x: `[B, ...]` float.
        rate: In [0, 1).
        key: One key; or `[B]` keys, one per example, so that an example's mask does not depend on
            what else is in the batch; or None.

    Returns:
        The shape and dtype of `x`.
    """
    if key is None or rate == 0.0:
        return x
    if key.ndim:
        kept = jax.vmap(lambda one: jax.random.bernoulli(one, 1.0 - rate, x.shape[1:]))(key)
    else:
        kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0).astype(x.dtype)


def fold_in(key: Array | None, number: int) -> Array | None:
    """Returns other keys from one key or `[B]` keys and a number; None from None."""
    if key is None or not key.ndim:
        return key if key is None else jax.random.fold_in(key, number)
    return jax.vmap(lambda one: jax.random.fold_in(one, number))(key)


def double(x: Array) -> Array:
    """Repeats each pixel in both directions: `[B, h, w, C]` -> `[B, 2h, 2w, C]`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def leaky_relu(x: Array) -> Array:
    """max(x, 0.2 x), any shape."""
    return jax.nn.leaky_relu(x, 0.2)


def per_channel(values: Array) -> Array:
    """Lays one value per channel, `[C]`, along the last axis of images: `[1, 1, 1, C]`."""
    return values.reshape(1, 1, 1, -1)


def param_dtype(dtype: str) -> jnp.dtype:
    """The dtype of parameters and statistics: float32, or float64 where that is computed in."""
    return jnp.promote_types(dtype, jnp.float32)


def _moments(x: Array, axes: tuple[int, ...], axis_name: str | None) -> tuple[Array, Array]:
    """Mean and biased variance over `axes`, which are kept with size 1, in two passes.

    The mean of squares minus the squared mean loses every digit in float32 when the mean is large
    beside the spread.
    """
    mean = jnp.mean(x, axes, keepdims=True)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    var = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var
