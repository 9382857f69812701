"""Tells stained tissue from glass, ink, print and padding."""

from __future__ import annotations

import os

import numpy as np
import scipy.ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.histology.resampling import resample_area


def tissue_mask(pixels: np.ndarray) -> np.ndarray:
    """Finds stained tissue: not glass, black padding, pen marks, printed labels or specks.

    Stained tissue absorbs green more than red and blue, whatever the stain's strength; ink, glass,
    print and padding do not, or do so with hues that no tissue has.

    Args:
        pixels: [H, W, 3] uint8, sRGB.

    Returns:
        [H, W] bool.
    """
    step = max(1, round(max(pixels.shape[:2]) / 1024))
    small = resample_area(pixels, 1, step).astype(np.float32)
    sigma = max(small.shape[:2]) / 512
    excluded = _not_tissue(small, sigma)
    density = -np.log10(np.maximum(small, 1) / 255)
    signal = density[..., 1] - density[..., [0, 2]].min(axis=-1)
    signal = scipy.ndimage.gaussian_filter(np.where(excluded, 0, signal), sigma)
    mask = (signal > _threshold(signal[~excluded])) & ~excluded
    mask = _tidied(mask, sigma) & ~excluded
    rows = np.minimum(np.arange(pixels.shape[0]) // step, mask.shape[0] - 1)
    columns = np.minimum(np.arange(pixels.shape[1]) // step, mask.shape[1] - 1)
    return mask[np.ix_(rows, columns)]


def require_tissue(path: str | os.PathLike, mask: np.ndarray) -> np.ndarray:
    """Refuses a slide on which no tissue was found: every verb that needs a section asks here.

    Args:
        path: The slide, for the message.
        mask: `[H, W]` bool, as `tissue_mask` found it on what was read of the slide.

    Returns:
        `mask`, `[H, W]` bool.

    Raises:
        InputError: it is empty, as of bare glass or a single pixel.
    """
    if not mask.any():
        why = "no stained tissue is found on it: is this a scan of a section, and the right region?"
        raise InputError(path, "histology", why)
    return mask


def _threshold(signal: np.ndarray) -> float:
    """Otsu's, held between what noise reaches and what pale eosin does."""
    from skimage.filters import threshold_otsu

    if signal.size == 0 or np.ptp(signal) < 1e-6:
        return 0.03
    return float(np.clip(threshold_otsu(signal), 0.02, 0.045))


def _not_tissue(rgb: np.ndarray, sigma: float) -> np.ndarray:
    """Marks ink, print and padding of [H, W, 3] float32 0..255, and their rim."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    chroma = rgb.max(axis=-1) - rgb.min(axis=-1)
    dark_grey = (rgb.max(axis=-1) < 110) & (chroma < 18)
    green_ink = (green > red + 12) & (green > blue - 30) & (chroma > 25)
    blue_ink = (blue > red + 45) & (green > red - 5)
    red_ink = (red > 150) & (green < 0.4 * red) & (blue < 0.45 * red)
    marks = dark_grey | green_ink | blue_ink | red_ink
    marks = scipy.ndimage.binary_opening(marks) | (rgb.max(axis=-1) < 20)
    return scipy.ndimage.binary_dilation(marks, iterations=1 + round(2 * sigma))


def _tidied(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Closes gaps of a few px, fills small holes, drops small objects."""
    from skimage.morphology import remove_small_holes, remove_small_objects

    radius = max(1, round(2 * sigma))
    padded = np.pad(mask, radius, mode="edge")
    closed = scipy.ndimage.binary_closing(padded, iterations=radius)
    closed = closed[radius:-radius, radius:-radius]
    area = max(4, round(mask.size * 5e-4))
    return remove_small_objects(remove_small_holes(closed, max_size=4 * area), max_size=area)
