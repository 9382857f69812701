"""Convolutions in three exact forms ("lowerings"), because no backend runs every form well.

Kernels are `[kh, kw, in, out]` of a *convolution*. A transposed convolution takes the kernel of the
convolution it is the input gradient of, `[kh, kw, out, in]`: then PyTorch's weights map the same
way for both, `weight.transpose(2, 3, 1, 0)`, and no kernel is ever flipped.

- `plain`: one `conv_general_dilated` each way, as XLA differentiates it.
- `vjp`: as plain, but the kernel gradient of the transposed convolution is written as the strided
  convolution's; XLA's CPU backend runs its own form of that gradient some thirty times slower.
- `matmul`: patches times the kernel as it lies in memory; for 4x4 kernels of stride 2 only (others
  fall back to `vjp`). Best where the image is small and the channels are many.
- `auto`: `matmul` up to `MATMUL_MAX_PX` pixels per image (of the smaller side), `vjp` above.
  CPU: a whole step at 256 px and 64 features, batch 1, on 2 cores takes 0.556, 0.531, 0.545, 0.564
  and 0.561 s where that limit is 64, 256, 1024, 4096 and none; batch 4 does not tell them apart
  (`python -m benchmarks.bench_train_step --full` has the ratios). Accelerators: XLA does not
  recognise the gradients of layers of 4x4 px and below as cuDNN's, and copies and transposes their
  kernels; as matrix products they move less. Planned by its compiler, not measured:
  docs/gpu_plan.md.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

LOWERINGS = ("auto", "plain", "vjp", "matmul")
MATMUL_MAX_PX = {"cpu": 256}
_ACCELERATOR_MAX_PX = 16
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv(
    x: Array,
    kernel: Array,
    *,
    stride: int,
    padding: int,
    lowering: str = "auto",
    apart: int = 0,
) -> Array:
    """Convolves with explicit zero padding on all four sides, as `torch.nn.Conv2d` does.

    Args:
        x: Images `[B, H, W, I]`, float.
        kernel: `[kh, kw, I, O]`, same dtype.
        stride: Step in px, both axes.
        padding: Zeros added on each side, px.
        lowering: One of `LOWERINGS`.
        apart: The last channels in, whose gradient is computed apart from that of the others:
            where only theirs is used, as of an image beside the MSI, nothing else is computed.

    Returns:
        `[B, h, w, O]` with `h = (H + 2 padding - kh) // stride + 1`.
    """
    halves = kernel.shape[:2] == (4, 4) and stride == 2 and padding == 1
    form = resolve_lowering(lowering, (x.shape[1] // 2) * (x.shape[2] // 2))
    if halves and form == "matmul":
        return _halving_matmul(x, kernel)
    if 0 < apart < x.shape[-1]:
        return _conv_apart(x, kernel, stride, padding, apart)
    return _conv(x, kernel, stride, padding)


def transposed_conv(
    x: Array,
    kernel: Array,
    *,
    stride: int,
    padding: int,
    output_padding: int = 0,
    lowering: str = "auto",
) -> Array:
    """Enlarges by `stride`: the input gradient of `conv`, as `torch.nn.ConvTranspose2d`.

    Args:
        x: Images `[B, h, w, I]`, float.
        kernel: `[kh, kw, O, I]`: the kernel of the convolution from O to I channels; same dtype.
        stride: Enlargement, both axes.
        padding: The convolution's padding, px.
        output_padding: Rows and columns added at the bottom and the right, px.
        lowering: One of `LOWERINGS`.

    Returns:
        `[B, H, W, O]` with `H = (h - 1) stride - 2 padding + kh + output_padding`.
    """
    doubles = kernel.shape[:2] == (4, 4) and (stride, padding, output_padding) == (2, 1, 0)
    form = resolve_lowering(lowering, x.shape[1] * x.shape[2])
    if form == "plain":
        return _transposed(x, kernel, stride, padding, output_padding)
    if doubles and form == "matmul":
        return _doubling_matmul(x, kernel)
    return _transposed_vjp(x, kernel, stride, padding, output_padding)


def resolve_lowering(lowering: str, small_px: int, backend: str | None = None) -> str:
    """Chooses the form `auto` stands for.

    Args:
        lowering: One of `LOWERINGS`.
        small_px: Pixels of one image on the smaller side of the layer.
        backend: A jax backend; None for the default one.
    """
    if lowering != "auto":
        return lowering
    most = MATMUL_MAX_PX.get(backend or jax.default_backend(), _ACCELERATOR_MAX_PX)
    return "matmul" if small_px <= most else "vjp"


def _conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    pads = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=_DIMENSIONS
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_apart(x: Array, kernel: Array, stride: int, padding: int, apart: int) -> Array:
    return _conv(x, kernel, stride, padding)


def _apart_forward(x, kernel, stride, padding, apart):
    return _conv(x, kernel, stride, padding), (x, kernel)


def _apart_backward(stride, padding, apart, saved, cotangent):
    """XLA drops a part that nobody slices out of the concatenation."""
    x, kernel = saved

    def gradient(channels: slice) -> Array:
        part = lambda each: _conv(each, kernel[:, :, channels], stride, padding)  # noqa: E731
        return jax.vjp(part, x[..., channels])[1](cotangent)[0]

    parts = [gradient(slice(None, -apart)), gradient(slice(-apart, None))]
    of_kernel = jax.vjp(lambda k: _conv(x, k, stride, padding), kernel)[1](cotangent)[0]
    return jnp.concatenate(parts, axis=-1), of_kernel


_conv_apart.defvjp(_apart_forward, _apart_backward)


def _transposed(x: Array, kernel: Array, stride: int, padding: int, output_padding: int) -> Array:
    pads = [(size - 1 - padding, size - 1 - padding + output_padding) for size in kernel.shape[:2]]
    return lax.conv_transpose(
        x, kernel, (stride, stride), pads, dimension_numbers=_DIMENSIONS, transpose_kernel=True
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _transposed_vjp(
    x: Array, kernel: Array, stride: int, padding: int, output_padding: int
) -> Array:
    return _transposed(x, kernel, stride, padding, output_padding)


def _transposed_forward(x, kernel, stride, padding, output_padding):
    return _transposed(x, kernel, stride, padding, output_padding), (x, kernel)


def _transposed_backward(stride, padding, output_padding, saved, cotangent):
    """T is the adjoint of C in its input: <g, T(x, k)> = <C(g, k), x>, bilinear in x and k."""
    x, kernel = saved
    image_gradient, kernel_vjp = jax.vjp(lambda k: _conv(cotangent, k, stride, padding), kernel)
    return image_gradient, kernel_vjp(x)[0]


_transposed_vjp.defvjp(_transposed_forward, _transposed_backward)


@jax.custom_vjp
def _halving_matmul(x: Array, kernel: Array) -> Array:
    """4x4, stride 2, padding 1: patches times the kernel as it lies in memory.

    Where images are small and channels many, the kernel is the larger factor by far: no form that
    reorders it, or its gradient, is fast. Gradients are written out, so that what overlaps is added
    up in float32 at least.
    """
    return _product(_image_patches(x), _as_matrix(kernel), x.dtype)


def _halving_forward(x, kernel):
    return _halving_matmul(x, kernel), (x, kernel)


def _halving_backward(saved, cotangent):
    x, kernel = saved
    by_image = _placed_patches(_product(cotangent, _as_matrix(kernel).T), x.shape)
    by_kernel = _kernel_gradient(_image_patches(x), cotangent, kernel)
    return by_image.astype(x.dtype), by_kernel


_halving_matmul.defvjp(_halving_forward, _halving_backward)


@jax.custom_vjp
def _doubling_matmul(x: Array, kernel: Array) -> Array:
    """4x4, stride 2, padding 1, transposed: the adjoint of the above, step by step."""
    batch, height, width, _ = x.shape
    shape = (batch, 2 * height, 2 * width, kernel.shape[2])
    return _placed_patches(_product(x, _as_matrix(kernel).T), shape).astype(x.dtype)


def _doubling_forward(x, kernel):
    return _doubling_matmul(x, kernel), (x, kernel)


def _doubling_backward(saved, cotangent):
    x, kernel = saved
    patches = _image_patches(cotangent)
    by_image = _product(patches, _as_matrix(kernel), x.dtype)
    return by_image, _kernel_gradient(patches, x, kernel)


_doubling_matmul.defvjp(_doubling_forward, _doubling_backward)


def _as_matrix(kernel: Array) -> Array:
    """`[4, 4, I, O]` -> `[16 I, O]`."""
    return kernel.reshape(-1, kernel.shape[3])


def _product(x: Array, matrix: Array, dtype: Any = None) -> Array:
    """`[..., N]` times `[N, M]`, added up in float32 at least; left so where `dtype` is None."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    found = lax.dot_general(x, matrix, (((3,), (0,)), ((), ())), preferred_element_type=wide)
    return found if dtype is None else found.astype(dtype)


def _kernel_gradient(patches: Array, x: Array, kernel: Array) -> Array:
    """Sum over pixels of patches `[B, h, w, 16 I]` times `x` `[B, h, w, O]`, as the kernel lies."""
    pixels = ((0, 1, 2), (0, 1, 2))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    found = lax.dot_general(patches, x, (pixels, ((), ())), preferred_element_type=wide)
    return found.astype(kernel.dtype).reshape(kernel.shape)


def _image_patches(x: Array) -> Array:
    """What each 4x4 window of stride 2 sees: `[B, H, W, C]` -> `[B, H // 2, W // 2, 16 C]`."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, : 2 * rows + 2, : 2 * columns + 2]
    patches = _patches(x.reshape(batch, rows + 1, 2, columns + 1, 2, channels))
    return patches.reshape(batch, rows, columns, 16 * channels)


def _placed_patches(patches: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint: adds up windows `[B, h, w, 16 C]` in an image of `shape` `[B, H, W, C]`."""
    batch, rows, columns, _ = patches.shape
    y = _overlapped(patches.reshape(batch, rows, columns, 4, 4, shape[3]))
    y = y.reshape(batch, 2 * rows + 2, 2 * columns + 2, shape[3])
    # An odd last row or column of the image is seen by the last windows only.
    return y[:, 1 : 1 + shape[1], 1 : 1 + shape[2]]


def _patches(blocks: Array) -> Array:
    """Patches of 2x2 neighbouring blocks: `[B, h+1, 2, w+1, 2, C]` -> `[B, h, w, 4, 4, C]`."""
    tall = jnp.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2)
    whole = jnp.concatenate([tall[:, :, :, :-1], tall[:, :, :, 1:]], axis=4)
    return whole.transpose(0, 1, 3, 2, 4, 5)


def _overlapped(patches: Array) -> Array:
    """Adds patches up where they overlap: `[B, h, w, 4, 4, C]` -> `[B, h+1, 2, w+1, 2, C]`."""
    whole = patches.transpose(0, 1, 3, 2, 4, 5)
    tall = _one_later(whole[..., :2, :], whole[..., 2:, :], axis=3)
    return _one_later(tall[:, :, :2], tall[:, :, 2:], axis=1)


def _one_later(first: Array, second: Array, axis: int) -> Array:
    """Adds `second`, moved on by one along an axis, to `first`."""
    after, before = ([(0, 0)] * first.ndim for _ in range(2))
    after[axis], before[axis] = (0, 1), (1, 0)
    return jnp.pad(first, after) + jnp.pad(second, before)
