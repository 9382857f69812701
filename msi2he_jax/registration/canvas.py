"""Putting two images of any size on square canvases of one shape, so that code compiles once.

Both canvases of a pair share one pixel size in micrometres. Canvas coordinates `u` are (y, x) from
-1 to 1 across the canvas, 0 at its centre.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, stats

from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Transform

MARGIN = 1.08  # canvas radius over tissue radius, so that the outline and some background show
MIN_TISSUE_PIXELS = 16


@dataclasses.dataclass(frozen=True)
class Side:
    """One image of a pair, ready to be drawn on canvases.

    Attributes:
        image: `[H, W, C]` float32, any scale.
        mask: `[H, W]` bool, tissue.
        valid: `[H, W]` bool, pixels of which anything is known.
        um_per_px: `[2]` float64 (y, x).
        center_um: `[2]` float64 (y, x), what falls on the canvas centre.
        confidence: `[H, W]` float32 in [0, 1], how much each valid pixel's say counts.
    """

    image: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    um_per_px: np.ndarray
    center_um: np.ndarray
    confidence: np.ndarray

    def radius_um(self) -> float:
        """Returns how far from the centre the tissue reaches (99.5th percentile), um."""
        points = (np.argwhere(self.mask) + 0.5) * self.um_per_px
        return float(np.percentile(np.linalg.norm(points - self.center_um, axis=1), 99.5))


def make_side(image, mask, um_per_px, *, valid=None, confidence=None, name: str = "image") -> Side:
    """Checks one image of a pair and finds the middle of its tissue.

    Args:
        image: `[H, W]` or `[H, W, C]`, any real dtype.
        mask: `[H, W]` bool tissue, or None: every valid pixel.
        um_per_px: Pixel size, um; one number or (y, x).
        valid: `[H, W]` bool, pixels of which anything is known; None means all.
        confidence: `[H, W]` float in [0, 1], how much each pixel's say counts; None: all alike.
        name: What to call it in errors.

    Returns:
        The side.

    Raises:
        InputError: shapes differ, no (or next to no) tissue, no pixel size, not finite.
    """
    image = np.asarray(image, np.float32)
    image = image[..., None] if image.ndim == 2 else image
    valid = np.ones(image.shape[:2], bool) if valid is None else np.asarray(valid, bool)
    mask = valid if mask is None else np.asarray(mask, bool)
    um = np.broadcast_to(np.asarray(um_per_px, np.float64), 2)
    _check(image, mask, valid, um, name)
    image, mask = np.where(valid[..., None], image, 0), mask & valid
    where = (np.argwhere(mask) + 0.5) * um
    low, high = np.percentile(where, [0.5, 99.5], axis=0)
    confidence = valid if confidence is None else np.clip(confidence, 0, 1) * valid
    return Side(image, mask, valid, um, (low + high) / 2, np.asarray(confidence, np.float32))


def _check(image, mask, valid, um, name: str) -> None:
    if mask.shape != image.shape[:2] or valid.shape != image.shape[:2]:
        raise InputError(name, "mask", f"is {mask.shape}, the image is {image.shape[:2]}")
    if not np.all(np.isfinite(um)) or np.any(um <= 0):
        raise InputError(name, "um per pixel", f"is {um.tolist()}, must be positive")
    found = int((mask & valid).sum())
    if found < MIN_TISSUE_PIXELS:
        why = f"{found} pixels of it were found, at least {MIN_TISSUE_PIXELS} are needed"
        raise InputError(name, "tissue", why)
    if not np.all(np.isfinite(image[valid])):
        raise InputError(name, "pixels", "some are not finite")


def shared_radius_um(moving: Side, fixed: Side) -> float:
    """Returns the half width of the canvases that hold either image's tissue at any angle, um."""
    return MARGIN * max(moving.radius_um(), fixed.radius_um())


def draw(
    side: Side,
    radius_um: float,
    n: int,
    blur_um: float = 0.0,
    frame: Transform | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws one side on an `n` by `n` canvas, its grey values levelled to ranks within tissue.

    Args:
        side: The image.
        radius_um: Half the canvas width, um.
        n: Canvas pixels per side.
        blur_um: Standard deviation of a blur drawn over it, to match a coarser partner, um.
        frame: From the canvas, whose corner is its origin, to the side's frame; None centres the
            side.

    Returns:
        values `[C, n, n]` float32 in [0, 1] (0 outside tissue), tissue share `[n, n]` float32,
        share known, by confidence, `[n, n]` float32.
    """
    um = 2 * radius_um / n
    frame = Transform().in_images(side.center_um - radius_um) if frame is None else frame
    grid = {"source_um_per_px": side.um_per_px, "out_shape": (n, n), "out_um_per_px": um}
    layers = np.concatenate(
        [side.image * side.mask[..., None], side.mask[..., None], side.confidence[..., None]],
        axis=-1,
    ).astype(np.float32)
    drawn = frame.warp(layers, **grid)
    if blur_um > 0:
        drawn[..., :-1] = ndimage.gaussian_filter(drawn[..., :-1], (blur_um / um, blur_um / um, 0))
    mask = np.clip(drawn[..., -2], 0, 1)
    grey = drawn[..., :-2] / np.maximum(mask, 1e-3)[..., None]
    values = np.stack([_ranks(plane, mask) for plane in np.moveaxis(grey, -1, 0)])
    return values, mask, np.clip(drawn[..., -1], 0, 1)


def _ranks(plane: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Levels the histogram within tissue: equal numbers per grey bin, whatever the stain or ion."""
    inside = mask > 0.5
    out = np.zeros(plane.shape, np.float32)
    if not inside.any():
        return out
    known = np.sort(plane[inside])
    ranks = (stats.rankdata(known) - 0.5) / len(known)
    out[:] = np.interp(plane, known, ranks)
    return out


def matrix_um(linear, shift, moving: Side, fixed: Side, radius_um: float) -> np.ndarray:
    """Turns a canvas transform `u -> linear u + shift` into micrometres.

    Args:
        linear: `[2, 2]` float.
        shift: `[2]` float, in canvas half widths.
        moving: The moving side.
        fixed: The fixed side.
        radius_um: Half the canvas width, um.

    Returns:
        `[3, 3]` float64, moving to fixed, acting on (y, x, 1), um.
    """
    linear = np.asarray(linear, np.float64)
    offset = fixed.center_um + radius_um * np.asarray(shift, np.float64) - linear @ moving.center_um
    return transforms.from_parts(linear, offset)


def pose(
    matrix: np.ndarray, moving: Side, fixed: Side, radius_um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Turns micrometres into a canvas transform: the inverse of `matrix_um`.

    Args:
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        moving: The moving side.
        fixed: The fixed side.
        radius_um: Half the canvas width, um.

    Returns:
        linear `[2, 2]` and shift `[2]` (half widths), float64.
    """
    there = transforms.apply_affine(matrix, moving.center_um)
    return np.asarray(matrix, np.float64)[:2, :2], (there - fixed.center_um) / radius_um
