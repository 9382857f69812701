"""Pictures by which a person judges a registration: checkerboard and contours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MSI_COLOR = (0, 158, 115)
HISTOLOGY_COLOR = (213, 94, 0)


def to_rgb(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Stretches an image to 8-bit RGB for display (1st to 99th percentile per channel).

    Args:
        image: `[H, W]` or `[H, W, C]` real; the first three channels are shown; uint8 RGB is kept.
        mask: `[H, W]` bool, where the percentiles are taken; None means everywhere.

    Returns:
        `[H, W, 3]` uint8.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3:
        return image
    planes = (image[..., None] if image.ndim == 2 else image)[..., :3].astype(np.float64)
    inside = planes.reshape(-1, planes.shape[-1]) if mask is None else planes[mask]
    low, high = np.percentile(inside, [1, 99], axis=0)
    scaled = (planes - low) / np.maximum(high - low, 1e-12)
    scaled = np.repeat(scaled, 3, axis=-1)[..., :3] if scaled.shape[-1] < 3 else scaled
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def checkerboard(first: np.ndarray, second: np.ndarray, *, squares: int = 8) -> np.ndarray:
    """Shows two images on one grid in alternate squares: edges run on where they are aligned.

    Args:
        first: `[H, W, 3]` uint8, in the top left square.
        second: `[H, W, 3]` uint8.
        squares: Squares along the longer side.

    Returns:
        `[H, W, 3]` uint8.
    """
    height, width = first.shape[:2]
    side = max(1, int(np.ceil(max(height, width) / squares)))
    odd = (np.arange(height)[:, None] // side + np.arange(width)[None] // side) % 2
    return np.where(odd[..., None] == 1, second, first)


def contour(mask: np.ndarray, *, width_px: int = 2) -> np.ndarray:
    """Returns the outline of a mask.

    Args:
        mask: `[H, W]` bool.
        width_px: Line width, inside the mask.

    Returns:
        `[H, W]` bool.
    """
    return mask & ~ndimage.binary_erosion(mask, iterations=width_px, border_value=1)


def draw_contours(
    image: np.ndarray, masks: list[tuple[np.ndarray, tuple[int, int, int]]], *, width_px: int = 2
) -> np.ndarray:
    """Draws the outlines of masks on an image.

    Args:
        image: `[H, W, 3]` uint8.
        masks: Pairs of `[H, W]` bool and an RGB colour; later ones lie on top.
        width_px: Line width.

    Returns:
        `[H, W, 3]` uint8, a copy.
    """
    drawn = image.copy()
    for mask, color in masks:
        drawn[contour(mask, width_px=width_px)] = color
    return drawn
