"""Reading a slide piece by piece, reduced on the way: one larger than memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

# Levels up to this size are read whole: that is faster, and resampled but once.
WHOLE_PIXELS = 64_000_000
# Two levels of a slide differ by less of white; a label or macro picture by more, somewhere.
_MOST_APART = 0.12
_JPEGS = (6, 7, 33003, 33005, 34712)  # Their decoders turn YCbCr into RGB themselves.
_COLOURS = ("RGB", "YCBCR")


def reduction(width: int, height: int, um_per_px: float, target_um_per_px: float | None) -> int:
    """Says by how many pixels a side a level should be averaged while it is read.

    Args:
        width: Pixels.
        height: Pixels.
        um_per_px: Pixel size of the level, um.
        target_um_per_px: Finest pixel size needed, um; None means that nothing is averaged.

    Returns:
        1 where it is read whole: it is small, or is needed as fine.
    """
    if width * height <= WHOLE_PIXELS:
        return 1
    return max(1, int((target_um_per_px or 0) / um_per_px * 1.001))


def needs_pillow(page) -> bool:
    """Says whether the colours of a `tifffile.TiffPage` are turned into RGB by Pillow alone."""
    kind = page.photometric.name
    return kind == "SEPARATED" or (kind == "YCBCR" and page.compression not in _JPEGS)


def comes_in_pieces(page) -> bool:
    """Says whether a `tifffile.TiffPage` is plain 8-bit RGB in several tiles or strips."""
    return (
        page.photometric.name in _COLOURS
        and not needs_pillow(page)
        and page.planarconfig == 1
        and page.dtype == np.uint8
        and page.samplesperpixel in (3, 4)
        and len(page.dataoffsets) == math.prod(page.chunked) > 1
        and ("Orientation" not in page.tags or int(page.tags["Orientation"].value) == 1)
    )


def page_pieces(page, to_rgb: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple]:
    """Decodes a page one tile or strip at a time.

    Args:
        page: A `tifffile.TiffPage` that `comes_in_pieces`.
        to_rgb: Turns a decoded piece `[h, w, C]` uint8 to `[h, w, 3]` uint8.

    Yields:
        Top row, left column, `[h, w, 3]` uint8; tiles left out of a sparse file are skipped.

    Raises:
        ValueError: a compression that cannot be decoded.
    """
    height, width = page.imagelength, page.imagewidth
    for data, (_, _, top, left, _), _ in page.segments():
        if data is not None:
            yield top, left, to_rgb(data[0, : height - top, : width - left])


def same_picture(base, page, factor: int) -> bool:
    """Compares a slide with a page that may be a level of it, at up to nine places.

    Args:
        base: A tiled `tifffile.TiffPage`.
        page: Another, `factor` times coarser.
        factor: Pixels a side.

    Returns:
        Whether mean colours agree everywhere; also true where nothing can be compared.
    """
    for top, left in _places(base):
        fine, coarse = _tile(base, top, left), _tile(page, top // factor, left // factor)
        if fine is None or coarse is None:
            continue
        y, x = (top // factor) % page.tilelength, (left // factor) % page.tilewidth
        coarse = coarse[y : y + len(fine) // factor, x : x + fine.shape[1] // factor]
        apart = fine.mean(axis=(0, 1)) - coarse.mean(axis=(0, 1)) if coarse.size else 0.0
        if np.abs(apart).max() > _MOST_APART * np.iinfo(fine.dtype).max:
            return False
    return True


def _places(page) -> list[tuple[int, int]]:
    """Corners of up to nine tiles that lie wholly on the image, spread over it."""
    rows, columns = (
        step * np.unique(np.linspace(0, max(whole // step - 1, 0), 5).astype(int)[1:-1])
        for whole, step in ((page.imagelength, page.tilelength), (page.imagewidth, page.tilewidth))
    )
    return [(int(top), int(left)) for top in rows for left in columns]


def _tile(page, top: int, left: int) -> np.ndarray | None:
    """Decodes the tile around a position; None where it was left out or cannot be decoded."""
    index = top // page.tilelength * -(-page.imagewidth // page.tilewidth) + left // page.tilewidth
    if index >= len(page.dataoffsets) or not page.databytecounts[index]:
        return None
    handle = page.parent.filehandle
    handle.seek(page.dataoffsets[index])
    data = handle.read(page.databytecounts[index])
    try:
        return page.decode(data, index, jpegtables=page.jpegtables)[0][0]
    except Exception:  # Who reads the pixels says what is wrong with them.
        return None


def average_pieces(pieces: Iterable[tuple], height: int, width: int, factor: int) -> np.ndarray:
    """Averages blocks of `factor` x `factor` pixels, one piece in memory at a time.

    Args:
        pieces: Top row, left column and `[h, w, 3]` uint8 of each.
        height: Pixels of the whole.
        width: Pixels of the whole.
        factor: Pixels a side, at least 1.

    Returns:
        `[ceil(H / factor), ceil(W / factor), 3]` uint8; blocks at the far edges hold fewer pixels.
    """
    shape = -(-height // factor), -(-width // factor)
    total = np.zeros((*shape, 3), np.uint32)
    for top, left, piece in pieces:
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
