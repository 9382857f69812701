"""Values of an image at any positions, low-passed first where it shrinks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def pixel_centers(shape: tuple[int, int], um_per_px) -> np.ndarray:
    """Returns where the pixels of an image are.

    Args:
        shape: (rows, columns).
        um_per_px: Pixel size, um; one number or (y, x).

    Returns:
        `[rows, columns, 2]` float64 (y, x), um.
    """
    size = np.broadcast_to(np.asarray(um_per_px, np.float64), 2)
    axes = [(np.arange(count) + 0.5) * um for count, um in zip(shape, size, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def draw(
    image: np.ndarray, where_px: np.ndarray, sigma_px: np.ndarray | tuple, order: int, fill
) -> np.ndarray:
    """Takes an image's values at fractional pixel indices.

    Args:
        image: `[H, W]` or `[H, W, C]`, any dtype; uint8 is rounded, bool thresholded at one half.
        where_px: `[h, w, 2]` float (row, column); 0 is the centre of the first pixel.
        sigma_px: `[2]` float, Gaussian low-pass before, px; 0 for none.
        order: 0 nearest, 1 bilinear.
        fill: Value beyond the outer edges of the border pixels, a number or `[C]`.

    Returns:
        `[h, w]` or `[h, w, C]` in the dtype of `image` (float64 stays, other floats float32).
    """
    planes = image[..., None] if image.ndim == 2 else image
    outside = ~_inside(where_px, planes.shape[:2])
    fills = np.broadcast_to(fill, planes.shape[-1])
    drawn = [
        _plane(planes[..., c], where_px, sigma_px, order, outside, fills[c])
        for c in range(len(fills))
    ]
    result = np.stack(drawn, axis=-1)
    return result[..., 0] if image.ndim == 2 else result


def _plane(plane, where, sigma, order, outside, fill) -> np.ndarray:
    """Samples one channel; the border pixel's value holds up to its outer edge, `fill` beyond."""
    values = plane.astype(np.float64 if plane.dtype == np.float64 else np.float32)
    if max(sigma) > 0:
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    drawn = ndimage.map_coordinates(values, np.moveaxis(where, -1, 0), order=order, mode="nearest")
    drawn[outside] = fill
    if plane.dtype == bool:
        return drawn >= 0.5
    if np.issubdtype(plane.dtype, np.integer):
        limits = np.iinfo(plane.dtype)
        return np.clip(np.rint(drawn), limits.min, limits.max).astype(plane.dtype)
    return drawn


def _inside(where: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether fractional indices lie within the pixels' outer edges."""
    return np.all((where >= -0.5) & (where <= np.asarray(shape) - 0.5), axis=-1)


def prefilter_sigma_px(matrix, source_um: np.ndarray, out_um) -> np.ndarray:
    """Gaussian width per image axis that stands in for the area of one output pixel.

    Args:
        matrix: `[3, 3]` float, output (y, x, 1) um to image um.
        source_um: `[2]` float, pixel size of the image, um.
        out_um: Pixel size of the output, um; one number or (y, x).

    Returns:
        `[2]` float64, px of the image.

    Source: the `(factor - 1) / 2` rule of skimage.transform.resize, per axis of the rotated pixel.
    """
    out = np.broadcast_to(np.asarray(out_um, np.float64), 2)
    step_px = np.asarray(matrix, np.float64)[:2, :2] * out / source_um[:, None]
    return np.maximum(np.linalg.norm(step_px, axis=1) - 1.0, 0.0) / 2.0
