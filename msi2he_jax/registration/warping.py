"""Drawing large images through a transform, band by band, each from the part that it needs."""

from __future__ import annotations

import numpy as np

from msi2he_jax.registration.transforms import Transform, apply_affine

BAND_PIXELS = 1_000_000
# Beyond the pixels reached: the low-pass' reach (4 sigma of at most half a step) and bilinear's.
MARGIN_STEPS, MARGIN_PX = 2.5, 3


def warp_by_bands(
    image: np.ndarray,
    *,
    source_um_per_px,
    out_to_source: Transform,
    out_shape: tuple[int, int],
    out_um_per_px,
    order: int = 1,
    fill=0,
    band_pixels: int = BAND_PIXELS,
) -> np.ndarray:
    """Does as `Transform.warp` does, in memory that the output's size does not decide.

    Args:
        image: `[H, W]` or `[H, W, C]`, any dtype; only slices of rows and columns are taken of it,
            so that it may be a memory map.
        source_um_per_px: Its pixel size, um; one number or (y, x).
        out_to_source: From the output's frame to the image's.
        out_shape: (rows, columns) of the result.
        out_um_per_px: Pixel size of the result, um; one number or (y, x).
        order: 0 nearest, 1 bilinear.
        fill: Value outside the image, a number or `[C]`.
        band_pixels: Output pixels drawn at once.

    Returns:
        `[h, w]` or `[h, w, C]` in the dtype of `image` (float64 stays, other floats float32).
    """
    out_um = np.broadcast_to(np.asarray(out_um_per_px, np.float64), 2)
    source_um = np.broadcast_to(np.asarray(source_um_per_px, np.float64), 2)
    rows = max(1, band_pixels // max(out_shape[1], 1))
    bands = []
    for start in range(0, out_shape[0], rows):
        shape = (min(rows, out_shape[0] - start), out_shape[1])
        down = np.array([start * out_um[0], 0.0])
        band = out_to_source.in_images(down)
        box = _needed(band, shape, out_um, source_um, image.shape)
        corner = np.array([box[0].start, box[1].start]) * source_um
        bands.append(
            band.in_images(to_yx=corner).warp(
                np.asarray(image[box]),
                source_um_per_px=source_um,
                out_shape=shape,
                out_um_per_px=out_um,
                order=order,
                fill=fill,
            )
        )
    return np.concatenate(bands) if bands else np.empty((*out_shape, *image.shape[2:]), image.dtype)


def _needed(band: Transform, shape, out_um, source_um, source_shape) -> tuple[slice, slice]:
    """The part of the source on which a band depends; at least one pixel."""
    far = np.asarray(shape) * out_um
    corners = np.array([[0, 0], [0, far[1]], [far[0], 0], far])
    reached = apply_affine(band.matrix, corners)
    low, high = reached.min(axis=0), reached.max(axis=0)
    if band.displacement is not None:
        low = low + np.asarray(band.displacement.disp_um).min(axis=(0, 1))
        high = high + np.asarray(band.displacement.disp_um).max(axis=(0, 1))
    step_px = np.linalg.norm(band.matrix[:2, :2] * out_um / source_um[:, None], axis=1)
    margin = MARGIN_STEPS * step_px + MARGIN_PX
    first = np.floor(low / source_um - margin).astype(int)
    last = np.ceil(high / source_um + margin).astype(int)
    size = np.asarray(source_shape[:2])
    first = np.clip(first, 0, size - 1)
    last = np.clip(last, first + 1, size)
    return slice(first[0], last[0]), slice(first[1], last[1])


def out_grid(extent_um, um_per_px) -> tuple[int, int]:
    """Returns how many (rows, columns) cover an extent.

    Args:
        extent_um: (y, x), um.
        um_per_px: Pixel size, um; one number or (y, x).
    """
    count = np.ceil(np.asarray(extent_um, np.float64) / um_per_px - 1e-6)
    return max(1, int(count[0])), max(1, int(count[1]))
