"""A generator applied to an image of any size: whole where it fits, else in blended tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from msi2he_jax.errors import InputError

Apply = Callable[[np.ndarray], np.ndarray]
Tile = tuple[slice, slice, np.ndarray]


def synthesize_tiled(
    apply: Apply,
    msi: np.ndarray,
    *,
    tile_px: int,
    overlap_px: int,
    batch_size: int = 4,
    on_tiles: Callable[[int, int], None] = lambda *_: None,
) -> np.ndarray:
    """Applies a generator to one image.

    An image that fits in a tile goes through whole, at its own size. A larger one is cut into tiles
    of one shape, so that the generator is compiled once; where tiles overlap they are blended with
    raised-cosine weights that sum to one, so a constant stays constant and no seam shows. A tile's
    normalisation, where it uses the image's own statistics, is the tile's: keep tiles as large as
    memory allows.

    Args:
        apply: `[B, H, W, K]` float32 in [0, 1] -> `[B, H, W, C]`.
        msi: `[H, W, K]`, float in [0, 1].
        tile_px: Side of a tile, in pixels of `msi`.
        overlap_px: Least overlap of neighbouring tiles, in pixels; below `tile_px`.
        batch_size: Tiles per call.
        on_tiles: Is told how many tiles are sent to the generator, and of how many.

    Returns:
        `[H, W, C]` float32, in the range of `apply`.

    Raises:
        InputError: a shape or size that cannot be tiled.
    """
    msi = np.asarray(msi, np.float32)
    _check(msi, tile_px, overlap_px, batch_size)
    height, width, _ = msi.shape
    if max(height, width) <= tile_px:
        return np.asarray(apply(msi[None])[0], np.float32)
    padded = np.pad(msi, ((0, max(0, tile_px - height)), (0, max(0, tile_px - width)), (0, 0)))
    tiles = plan_tiles(padded.shape[:2], tile_px=tile_px, overlap_px=overlap_px)
    image, waiting = None, None
    for start in [*range(0, len(tiles), batch_size), len(tiles)]:
        on_tiles(start, len(tiles))
        batch = tiles[start : start + batch_size]
        # The next batch is cut and sent before the last is waited for: jax works meanwhile.
        ahead = apply(_stack(padded, batch, batch_size)) if batch else None
        if waiting is not None:
            image = _blend(image, padded.shape[:2], *waiting)
        waiting = (batch, ahead)
    return image[:height, :width]


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Turns a generator's output into pixels.

    Args:
        image: `[..., 3]` float in [-1, 1].

    Returns:
        `[..., 3]` uint8, sRGB.
    """
    return np.rint(np.clip(np.asarray(image, np.float32) * 127.5 + 127.5, 0, 255)).astype(np.uint8)


def plan_tiles(shape: tuple[int, int], *, tile_px: int, overlap_px: int) -> list[Tile]:
    """Lays evenly spaced tiles over an image.

    Args:
        shape: (H, W) in pixels, each at least `tile_px`.
        tile_px: Side of a tile, in pixels.
        overlap_px: Least overlap of neighbours, in pixels.

    Returns:
        Of each tile its rows, its columns, and its weights `[tile_px, tile_px]` float32 in [0, 1];
        at every pixel of the image the weights of all tiles sum to one.
    """
    rows = _axis_tiles(shape[0], tile_px, overlap_px)
    columns = _axis_tiles(shape[1], tile_px, overlap_px)
    return [
        (
            slice(top, top + tile_px),
            slice(left, left + tile_px),
            np.outer(down, across).astype(np.float32),
        )
        for top, down in rows
        for left, across in columns
    ]


def _axis_tiles(length: int, tile_px: int, overlap_px: int) -> list[tuple[int, np.ndarray]]:
    """Starts and normalised weights `[tile_px]` float64 of tiles along one axis."""
    count = 1 + -(-(length - tile_px) // (tile_px - overlap_px))
    starts = np.rint(np.linspace(0, length - tile_px, count)).astype(int)
    windows = [_window(start, length, tile_px, overlap_px) for start in starts]
    total = np.zeros(length)
    for start, window in zip(starts, windows):
        total[start : start + tile_px] += window
    return [
        (int(start), window / total[start : start + tile_px])
        for start, window in zip(starts, windows)
    ]


def _window(start: int, length: int, tile_px: int, overlap_px: int) -> np.ndarray:
    """Raised-cosine window `[tile_px]`; flat towards the border of the image itself."""
    half = min(overlap_px, tile_px // 2)
    ramp = np.sin(0.5 * np.pi * (np.arange(half) + 0.5) / max(1, half)) ** 2
    window = np.ones(tile_px)
    if start > 0:
        window[:half] *= ramp
    if start + tile_px < length:
        window[tile_px - half :] *= ramp[::-1]
    return window


def _blend(image, shape: tuple[int, int], tiles: Sequence[Tile], fakes) -> np.ndarray:
    """Adds weighted tiles to the image; begins it where it is None."""
    fakes = np.asarray(fakes, np.float32)
    if image is None:
        image = np.zeros((*shape, fakes.shape[-1]), np.float32)
    for (rows, columns, weights), fake in zip(tiles, fakes):
        image[rows, columns] += weights[..., None] * fake
    return image


def _stack(msi: np.ndarray, tiles: Sequence[Tile], batch_size: int) -> np.ndarray:
    """Cuts tiles; the last is repeated up to `batch_size`, so that one shape is compiled."""
    cut = [msi[rows, columns] for rows, columns, _ in tiles]
    return np.stack(cut + [cut[-1]] * (batch_size - len(cut)))


def _check(msi: np.ndarray, tile_px: int, overlap_px: int, batch_size: int) -> None:
    if msi.ndim != 3 or 0 in msi.shape:
        raise InputError("msi", "", f"has shape {msi.shape}, must be [H, W, K], not empty")
    if tile_px < 1:
        raise InputError("tile_px", "", f"is {tile_px}, must be at least 1")
    if not 0 <= overlap_px < tile_px:
        raise InputError("overlap_px", "", f"is {overlap_px}, must be from 0 to below {tile_px}")
    if batch_size < 1:
        raise InputError("batch_size", "", f"is {batch_size}, must be at least 1")
