"""Reading a TIFF page piece by piece, reduced on the way: a slide larger than memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Pages up to this size are read whole: that is faster, and resampled but once.
WHOLE_PIXELS = 64_000_000
_COLOURS = ("RGB", "YCBCR")


def reduction(page, um_per_px: float, target_um_per_px: float | None) -> int:
    """Says by how many pixels a side a page should be averaged while it is read.

    Args:
        page: A `tifffile.TiffPage`.
        um_per_px: Its pixel size, um.
        target_um_per_px: Finest pixel size needed, um; None means that nothing is averaged.

    Returns:
        1 where it is read whole: it is small, or is needed as fine, or is no plain 8-bit RGB.
    """
    plain = (
        page.photometric.name in _COLOURS
        and page.planarconfig == 1
        and page.dtype == np.uint8
        and page.samplesperpixel in (3, 4)
        and len(page.dataoffsets) > 1
        and ("Orientation" not in page.tags or int(page.tags["Orientation"].value) == 1)
    )
    if not plain or page.imagewidth * page.imagelength <= WHOLE_PIXELS:
        return 1
    return max(1, int((target_um_per_px or 0) / um_per_px * 1.001))


def read_reduced(page, factor: int, to_rgb: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Averages blocks of `factor` x `factor` pixels, one tile or strip in memory at a time.

    Args:
        page: A `tifffile.TiffPage` for which `reduction` gave `factor`.
        factor: Pixels a side, at least 1.
        to_rgb: Turns a decoded piece `[h, w, C]` uint8 to `[h, w, 3]` uint8.

    Returns:
        `[ceil(H / factor), ceil(W / factor), 3]` uint8; blocks at the far edges hold fewer pixels.

    Raises:
        ValueError: a compression that cannot be decoded.
    """
    height, width = page.imagelength, page.imagewidth
    shape = -(-height // factor), -(-width // factor)
    total = np.zeros((*shape, 3), np.uint32)
    for data, (_, _, top, left, _), _ in page.segments():
        if data is None:  # a tile left out of a sparse file
            continue
        piece = to_rgb(data[0, : height - top, : width - left])
        _add(total, piece, top, left, factor)
    rows, columns = (
        np.minimum(factor, size - factor * np.arange(count))
        for size, count in ((height, shape[0]), (width, shape[1]))
    )
    area = (rows[:, None] * columns)[..., None]
    return ((total + area // 2) // area).astype(np.uint8)


def _add(total: np.ndarray, piece: np.ndarray, top: int, left: int, factor: int) -> None:
    """Adds the pixels of a piece to the blocks they belong to."""
    starts = []
    for axis, offset in ((0, top), (1, left)):
        blocks = (offset + np.arange(piece.shape[axis])) // factor
        starts.append(np.flatnonzero(np.diff(blocks, prepend=blocks[0] - 1)))
    sums = np.add.reduceat(piece.astype(np.uint32), starts[0], axis=0)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    row, column = top // factor, left // factor
    total[row : row + sums.shape[0], column : column + sums.shape[1]] += sums
