"""Which positions MSI measured: a rectangle, a region drawn around the tissue, a crop inside it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.hardness import NONE, Hardness
from msi2he_jax.phantom.textures import Canvas, smooth_noise

_MISSING = 0.003
_ONE_PIECE = 0.4  # Of the sections of two pieces, where MSI measured one of them.
_LEAST_PIECE = 0.15


def draw_measured(
    rng: np.random.Generator, tissue: np.ndarray, levels: Hardness = NONE
) -> np.ndarray:
    """Draws which positions were measured.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool, tissue on the raster.
        levels: The section's own; `margin`, `crop` and `two_pieces` matter here.

    Returns:
        `[H, W]` bool.
    """
    own = rng.spawn(1)[0]
    if levels.two_pieces and own.random() < _ONE_PIECE:
        tissue = one_piece(own, tissue)
    measured = draw_rectangle(rng, tissue)
    if levels.crop:
        measured = inner_rectangle(own, tissue)
    elif levels.margin:
        measured = follow_outline(own, tissue, own.uniform(1.5, 0.07 * max(tissue.shape) + 1.5))
    else:
        return measured
    return measured & (own.random(tissue.shape) >= _MISSING)


def one_piece(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Keeps one of the larger pieces of tissue.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool.

    Returns:
        `[H, W]` bool.
    """
    labels, _ = ndimage.label(tissue, np.ones((3, 3)))
    area = np.bincount(labels.ravel())[1:]
    large = np.flatnonzero(area >= _LEAST_PIECE * area.sum()) + 1
    return labels == rng.choice(large) if len(large) else tissue


def follow_outline(rng: np.random.Generator, tissue: np.ndarray, margin_px: float) -> np.ndarray:
    """Draws a region around the tissue, as users do: its outline, coarsely, and a margin.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool.
        margin_px: Mean distance of the region's border from the tissue, MSI pixels.

    Returns:
        `[H, W]` bool.
    """
    bulges = smooth_noise(rng, Canvas(tissue.shape, 1.0), max(tissue.shape) / 6.0)
    solid = ndimage.binary_opening(tissue, iterations=1) | (tissue.sum() < 30) & tissue
    reach = max(2, int(max(tissue.shape) / 16))
    disk = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    near = ndimage.binary_closing(np.pad(solid, reach), disk)[reach:-reach, reach:-reach]
    distance = ndimage.distance_transform_edt(~near)
    return ndimage.binary_fill_holes(distance <= margin_px * (1.0 + 0.3 * bulges))


def inner_rectangle(
    rng: np.random.Generator, tissue: np.ndarray, area: float | None = None
) -> np.ndarray:
    """Draws a rectangle inside the tissue.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool.
        area: Share of the tissue's area to measure; default: as large as the tissue holds, at
            random a little smaller.

    Returns:
        `[H, W]` bool; some corners may leave the tissue where it is too narrow.
    """
    aspect = np.exp(rng.uniform(-0.3, 0.3))
    if area is not None:
        return _placed(rng, tissue, np.sqrt(area * tissue.sum()), aspect)[0]
    for share in np.linspace(0.75, 0.25, 21):
        found, cover = _placed(rng, tissue, np.sqrt(share * tissue.sum()), aspect)
        if cover >= 0.985:
            break
    return found


def _placed(rng, tissue: np.ndarray, side: float, aspect: float) -> tuple[np.ndarray, float]:
    """A rectangle where it covers most tissue, and how much of it is tissue."""
    height, width = (
        int(np.clip(round(s), 3, n))
        for s, n in zip((side * aspect, side / aspect), tissue.shape, strict=True)
    )
    total = np.pad(np.cumsum(np.cumsum(tissue, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width]
    inside = inside + total[:-height, :-width]
    places = np.argwhere(inside >= 0.99 * inside.max())
    row, column = places[rng.integers(len(places))]
    measured = np.zeros_like(tissue)
    measured[row : row + height, column : column + width] = True
    return measured, float(inside[row, column] / (height * width))


def draw_rectangle(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Draws a rectangle around the tissue, with parts missing where there is none.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool.

    Returns:
        `[H, W]` bool.
    """
    near = ndimage.binary_dilation(tissue, iterations=2)
    rows, columns = np.nonzero(near.any(1))[0], np.nonzero(near.any(0))[0]
    measured = np.zeros_like(tissue)
    measured[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    for corner in range(4):
        size = rng.uniform(0.15, 0.5, 2) * rng.integers(0, 2)
        _cut_corner(measured, near, (rows, columns), corner, size)
    late_line = rng.integers(rows[0], rows[-1] + 1)
    start = slice(columns[0], columns[0] + rng.integers(2, 8))
    measured[late_line, start] &= near[late_line, start]
    return measured & (rng.random(tissue.shape) >= _MISSING)


def _cut_corner(measured, near, span, corner: int, size: np.ndarray) -> None:
    """Leaves out a triangle at a corner of the rectangle where there is no tissue."""
    rows, columns = span
    y = np.arange(measured.shape[0])[:, None] - rows[0]
    x = np.arange(measured.shape[1])[None, :] - columns[0]
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    y = height - y if corner & 1 else y
    x = width - x if corner & 2 else x
    outside = y / (size[0] * height + 1e-9) + x / (size[1] * width + 1e-9) < 1.0
    measured[outside & ~near] = False
