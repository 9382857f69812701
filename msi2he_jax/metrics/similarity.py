"""Structural similarity and pixel errors, one score per image, with or without a mask.

Local variances are combined from differences to the window's centre (rows first, then columns, by
the law of total variance), never as E[x^2] - E[x]^2: the map stays exact in float32 on flat areas,
where an integral image or plain moments are off by up to 1e-4.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.checks import check_images, check_number, positive

K1, K2 = 0.01, 0.03
GAUSSIAN_SIGMA_PX = 1.5
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GAUSSIAN_WINDOW = 11


def structural_similarity_map(im1, im2, *, data_range, win_size=None, gaussian=False):
    """Structural similarity at every pixel, borders mirrored as scikit-image does.

    Args:
        im1: `[B, H, W, C]` float, any unit.
        im2: `[B, H, W, C]` float, same unit.
        data_range: Largest minus smallest possible value (1 for [0, 1], 2 for [-1, 1]), above 0.
        win_size: Odd window side in px, at least 3; None is 7 (uniform) or 11 (Gaussian).
        gaussian: False: uniform window with sample covariance. True: Gaussian window of sigma
            1.5 px with population covariance.

    Returns:
        `[B, H, W, C]` float32 in [-1, 1]; NaN where the window holds one, and everywhere for a
        traced `data_range` that is not above 0.

    Raises:
        InputError: shapes differ, `data_range` is not above 0, or the window is even, below 3 px or
            larger than the image.

    Source: Wang et al. 2004; equals `skimage.metrics.structural_similarity(..., full=True)` with
    its defaults, or with `gaussian_weights=True, use_sample_covariance=False`.
    """
    size = _window_size(im1, im2, win_size, gaussian)
    data_range = positive("structural_similarity", "data_range", data_range)
    return _similarity_map(im1, im2, data_range, size, gaussian)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _similarity_map(im1, im2, data_range, size, gaussian):
    window, pad = _weights(size, gaussian), size // 2
    edges = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    im1, im2 = (jnp.pad(x, edges, mode="symmetric") for x in (im1, im2))
    return _valid_map(im1, im2, window, data_range, gaussian)


def structural_similarity(im1, im2, *, data_range, mask=None, win_size=None, gaussian=False):
    """Mean structural similarity per image.

    Without a mask it is the mean over the pixels whose window lies inside the image, as in
    scikit-image. With a mask it is the mean over the pixels whose window lies inside the mask as
    well (the mask eroded by the window), so nothing outside the mask can touch the score; an image
    whose mask is too thin for any whole window is averaged over the mask itself.

    Args:
        im1: `[B, H, W, C]` float.
        im2: `[B, H, W, C]` float.
        data_range: Largest minus smallest possible value.
        mask: `[B, H, W]` bool, or None for the whole frame.
        win_size: Odd window side in px, at least 3; None is 7 (uniform) or 11 (Gaussian).
        gaussian: As in `structural_similarity_map`.

    Returns:
        `[B]` float32 in [-1, 1]; NaN where the mask is empty, and as `structural_similarity_map`.

    Raises:
        InputError: as `structural_similarity_map`.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
        >>> structural_similarity(image, image, data_range=1.0).round(6).tolist()
        [1.0]
    """
    where = "structural_similarity"
    check_images(where, 4, mask, im1=im1, im2=im2)
    size = _window_size(im1, im2, win_size, gaussian)
    data_range = positive(where, "data_range", data_range)
    return _mean_similarity(im1, im2, mask, data_range, size, gaussian)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _mean_similarity(im1, im2, mask, data_range, size, gaussian):
    if mask is None:
        ssim = _valid_map(im1, im2, _weights(size, gaussian), data_range, gaussian)
        return jnp.mean(ssim, axis=(1, 2, 3))
    ssim = _similarity_map(im1, im2, data_range, size, gaussian)
    return masked_mean(ssim, window_mask(mask, size))


def ms_ssim(im1, im2, *, data_range, mask=None, scales=5):
    """Multi-scale structural similarity (Gaussian 11x11 window, 2x2 mean pooling between scales).

    Negative contrast terms count as 0. With a mask every scale's map is averaged over the pixels
    of which at least half lie in the mask, windows not eroded.

    Args:
        im1: `[B, H, W, C]` float, sides of at least `ms_ssim_side(scales)` px.
        im2: `[B, H, W, C]` float.
        data_range: Largest minus smallest possible value.
        mask: `[B, H, W]` bool or None.
        scales: 1 to 5; the published weights of the scales used are rescaled to sum to 1.

    Returns:
        `[B]` float32 in [0, 1]; NaN where the mask is empty or a pixel is NaN.

    Raises:
        InputError: the image is too small for `scales`, or an argument of another shape or outside
            its domain.

    Source: Wang, Simoncelli and Bovik 2003; equals `pytorch_msssim.ms_ssim` without a mask.
    """
    check_images("ms_ssim", 4, mask, im1=im1, im2=im2)
    scales = check_number("ms_ssim", "scales", scales, 1, len(MS_SSIM_WEIGHTS))
    rows, columns = np.shape(im1)[1:3]
    if min(rows, columns) < ms_ssim_side(scales):
        why = f"is {rows} x {columns} px, {scales} scales need {ms_ssim_side(scales)}"
        raise InputError("ms_ssim", "im1", why, "use fewer scales")
    return _ms_ssim(im1, im2, mask, positive("ms_ssim", "data_range", data_range), scales)


@functools.partial(jax.jit, static_argnums=4)
def _ms_ssim(im1, im2, mask, data_range, scales):
    share = None if mask is None else mask[..., None].astype(jnp.float32)
    score = jnp.ones(())
    total = sum(MS_SSIM_WEIGHTS[:scales])
    for scale in range(scales):
        last = scale == scales - 1
        value = _scale_score(im1, im2, share, data_range, contrast_only=not last)
        score *= jnp.maximum(value, 0) ** (MS_SSIM_WEIGHTS[scale] / total)
        if not last:
            im1, im2, share = (x if x is None else _halve(x) for x in (im1, im2, share))
    return jnp.mean(score, axis=-1)


def ms_ssim_side(scales: int) -> int:
    """Smallest image side in px on which `scales` scales fit."""
    return GAUSSIAN_WINDOW * 2 ** (scales - 1)


def psnr(im1, im2, *, data_range, mask=None):
    """Peak signal-to-noise ratio.

    Args:
        im1: `[B, H, W, C]` float.
        im2: `[B, H, W, C]` float.
        data_range: Largest minus smallest possible value.
        mask: `[B, H, W]` bool or None; errors outside it do not count.

    Returns:
        `[B]` float32, decibel; inf where the images are equal, NaN where the mask is empty, a pixel
        (in the mask) is NaN or a traced `data_range` is not above 0.

    Raises:
        InputError: shapes differ, or `data_range` is not above 0.

    Example:
        >>> import numpy as np
        >>> black = np.zeros((1, 8, 8, 3), np.float32)
        >>> psnr(black, black + 0.1, data_range=1.0).round(3).tolist()
        [20.0]
    """
    check_images("psnr", 4, mask, im1=im1, im2=im2)
    return _psnr(im1, im2, mask, positive("psnr", "data_range", data_range))


@jax.jit
def _psnr(im1, im2, mask, data_range):
    return 10 * jnp.log10(data_range**2 / masked_mean((im1 - im2) ** 2, mask))


def mae(im1, im2, *, mask=None):
    """Mean absolute error.

    Args:
        im1: `[B, H, W, C]` float.
        im2: `[B, H, W, C]` float.
        mask: `[B, H, W]` bool or None.

    Returns:
        `[B]` float32 in the images' unit; NaN where the mask is empty or a pixel in it is NaN.

    Raises:
        InputError: shapes differ.

    Example:
        >>> import numpy as np
        >>> black = np.zeros((1, 8, 8, 3), np.float32)
        >>> mae(black, black + 0.25).tolist()
        [0.25]
    """
    check_images("mae", 4, mask, im1=im1, im2=im2)
    return _mae(im1, im2, mask)


@jax.jit
def _mae(im1, im2, mask):
    return masked_mean(jnp.abs(im1 - im2), mask)


def r2(predicted, true, *, mask=None):
    """Coefficient of determination: 1 minus the squared error over that of the true mean colour.

    Args:
        predicted: `[B, H, W, C]` float.
        true: `[B, H, W, C]` float.
        mask: `[B, H, W]` bool or None; pixels outside it do not count.

    Returns:
        `[B]` float32, at most 1; below 0 where the mean colour of the true image would have been
        nearer. NaN where the mask is empty, the true image is of one colour, or a pixel is NaN.

    Raises:
        InputError: shapes differ.
    """
    check_images("r2", 4, mask, predicted=predicted, true=true)
    return _r2(predicted, true, mask)


@jax.jit
def _r2(predicted, true, mask):
    inside = jnp.ones(true.shape[:3], bool) if mask is None else mask
    count = jnp.maximum(jnp.sum(inside, axis=(1, 2)), 1)[:, None]
    colour = jnp.sum(jnp.where(inside[..., None], true, 0), axis=(1, 2)) / count
    spread = masked_mean((true - colour[:, None, None]) ** 2, inside)
    return 1 - masked_mean((predicted - true) ** 2, inside) / jnp.where(
        spread > 1e-12, spread, jnp.nan
    )


def masked_mean(values, mask):
    """Mean over pixels and channels, inside the mask.

    Args:
        values: `[B, H, W, C]` float.
        mask: `[B, H, W]` bool, or None for everywhere.

    Returns:
        `[B]` float32; NaN where the mask is empty.
    """
    if mask is None:
        return jnp.mean(values, axis=(1, 2, 3))
    total = jnp.sum(jnp.where(mask[..., None], values, 0), axis=(1, 2, 3))
    return total / (jnp.sum(mask, axis=(1, 2)) * values.shape[-1])


def window_mask(mask, win_size):
    """Pixels whose whole window lies inside the mask; the mask itself where there is none.

    Args:
        mask: `[B, H, W]` bool; outside the image counts as outside the mask.
        win_size: Odd window side in px.

    Returns:
        `[B, H, W]` bool.
    """
    size = (1, win_size, win_size)
    eroded = jax.lax.reduce_window(mask, True, jax.lax.bitwise_and, size, (1, 1, 1), "VALID")
    pad = win_size // 2
    eroded = jnp.pad(eroded, ((0, 0), (pad, pad), (pad, pad)))
    return jnp.where(jnp.any(eroded, axis=(1, 2), keepdims=True), eroded, mask)


def _window_size(im1, im2, win_size, gaussian) -> int:
    """Checks the images and the window against each other; returns its side, px."""
    check_images("structural_similarity", 4, im1=im1, im2=im2)
    size = (GAUSSIAN_WINDOW if gaussian else 7) if win_size is None else win_size
    size, (rows, columns) = (
        check_number("structural_similarity", "win_size", size, 3),
        im1.shape[1:3],
    )
    if size % 2 == 0 or size > min(rows, columns):
        why = f"is {size} px for an image of {rows} x {columns} px"
        raise InputError("structural_similarity", "win_size", why, "odd and not above either side")
    return size


def _weights(size: int, gaussian: bool) -> np.ndarray:
    """Weights of a window, `[size]`, sum 1."""
    offsets = np.arange(size) - size // 2
    weights = np.exp(-0.5 * (offsets / GAUSSIAN_SIGMA_PX) ** 2) if gaussian else np.ones(size)
    return weights / weights.sum()


def _valid_map(im1, im2, window, data_range, gaussian, contrast_only=False):
    """Structural similarity at every pixel whose window lies inside the image.

    The sum and the difference of the images carry all that is needed: var(x) + var(y) and
    2 cov(x, y) are half the sum and half the difference of their variances. Columns and channels
    share an axis, so that one contiguous row is filtered without transposing.

    Args:
        im1: `[B, H, W, C]` float.
        im2: `[B, H, W, C]` float.
        window: `[n]` weights, sum 1.
        data_range: Largest minus smallest possible value.
        gaussian: Whether population (True) or sample covariance is meant.
        contrast_only: Leave the luminance term out (the coarse scales of MS-SSIM).

    Returns:
        `[B, H - n + 1, W - n + 1, C]` float32.
    """
    batch, height, width, channels = im1.shape
    rows, columns = height - window.size + 1, width - window.size + 1
    points = window.size**2
    unbias = 1.0 if gaussian else points / (points - 1)

    def along_rows(im1, im2):
        along = functools.partial(_combine, window=window, axis=1, step=channels)
        return *along(im1 + im2, None), *along(im1 - im2, None)

    def along_columns(mean_sum, var_sum, mean_diff, var_diff):
        along = functools.partial(_combine, window=window, axis=0, step=1)
        mean_sum, var_sum = along(mean_sum, var_sum)
        mean_diff, var_diff = along(mean_diff, var_diff)
        value = _ratio(var_sum * unbias, var_diff * unbias, (K2 * data_range) ** 2)
        if contrast_only:
            return (value,)
        return (value * _ratio(mean_sum**2, mean_diff**2, (K1 * data_range) ** 2),)

    fields = tuple(x.astype(jnp.float32).reshape(batch, height, -1) for x in (im1, im2))
    fields = _materialised(jax.vmap(along_rows)(*fields))
    (value,) = _materialised(jax.vmap(along_columns)(*fields))
    return value.reshape(batch, rows, columns, channels)


def _ratio(of_sum, of_difference, constant):
    return ((of_sum - of_difference) / 2 + constant) / ((of_sum + of_difference) / 2 + constant)


def _materialised(fields):
    """Keeps XLA from fusing what makes `fields` into what reads them.

    XLA for CPU would repeat the first pass for every tap of the second, ignores barriers, and runs
    slices inside a loop several times slower; a branch it cannot decide is a border that it neither
    fuses across nor pays for. Elsewhere `optimization_barrier` is.

    Args:
        fields: Tuple of `[B, H, L]`, float32.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(fields)
    never = fields[0].ravel()[0] > jnp.inf
    return jax.lax.cond(never, lambda f: tuple(-x for x in f), lambda f: f, fields)


def _combine(mean, spread, window, *, axis, step):
    """Merges the means and variances of `n` neighbours along an axis (law of total variance)."""
    length = mean.shape[axis] - (window.size - 1) * step
    shifted = functools.partial(_shifted, axis=axis, step=step, length=length)
    centre = shifted(mean, window.size // 2)
    first = second = within = 0.0
    for tap, weight in enumerate(window.astype(np.float32)):
        offset = shifted(mean, tap) - centre
        first += weight * offset
        second += weight * offset**2
        if spread is not None:
            within += weight * shifted(spread, tap)
    return centre + first, within + jnp.maximum(second - first**2, 0)


def _shifted(field, tap, *, axis, step, length):
    return jax.lax.slice_in_dim(field, tap * step, tap * step + length, axis=axis)


def _scale_score(im1, im2, share, data_range, *, contrast_only):
    """One scale's score per image and channel, `[B, C]`."""
    window = _weights(GAUSSIAN_WINDOW, gaussian=True)
    value = _valid_map(im1, im2, window, data_range, True, contrast_only)
    if share is None:
        return jnp.mean(value, axis=(1, 2))
    pad = window.size // 2
    inside = share[:, pad : share.shape[1] - pad, pad : share.shape[2] - pad] >= 0.5
    inside |= ~jnp.any(inside, axis=(1, 2), keepdims=True) & jnp.any(
        share > 0, axis=(1, 2), keepdims=True
    )
    return jnp.sum(jnp.where(inside, value, 0), axis=(1, 2)) / jnp.sum(inside, axis=(1, 2))


def _halve(image):
    """Means of 2x2 blocks, an odd last row or column dropped; `[B, H, W, C]`."""
    batch, height, width, channels = image.shape
    image = image[:, : height // 2 * 2, : width // 2 * 2]
    return image.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
