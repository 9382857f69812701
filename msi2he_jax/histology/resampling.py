"""Resamples images by the area that pixels cover."""

from __future__ import annotations

import numpy as np
import scipy.sparse


def resample_area(pixels: np.ndarray, from_um: float, to_um: float) -> np.ndarray:
    """Resamples by the area that each new pixel covers; the outer corner stays.

    Args:
        pixels: [H, W] or [H, W, C], any real dtype or bool.
        from_um: Pixel size of `pixels`, um.
        to_um: Pixel size wanted, um; meant for minification, otherwise pixels become blocks.

    Returns:
        [h, w(, C)], h = round(H * from_um / to_um); uint8 stays uint8, all else becomes float32.
    """
    if from_um == to_um:
        return pixels
    flat = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    for axis in (0, 1):
        weights = _area_weights(flat.shape[axis], from_um / to_um)
        moved = np.moveaxis(flat, axis, 0)
        summed = weights @ moved.reshape(moved.shape[0], -1)
        flat = np.moveaxis(summed.reshape(-1, *moved.shape[1:]), 0, axis)
    result = flat.reshape(*flat.shape[:2], *pixels.shape[2:])
    if pixels.dtype == np.uint8:
        return np.clip(np.rint(result), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(result)


def _area_weights(size: int, scale: float) -> scipy.sparse.csr_array:
    """[round(size * scale), size]: row i averages the input that output pixel i covers."""
    count = max(1, round(size * scale))
    edges = np.minimum(np.arange(count + 1) / scale, size)
    first = np.floor(edges[:-1]).astype(int)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    rows = np.repeat(np.arange(count), last - first)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, last)]).clip(max=size - 1)
    overlap = np.minimum(columns + 1, edges[rows + 1]) - np.maximum(columns, edges[rows])
    matrix = scipy.sparse.csr_array((overlap.clip(0), (rows, columns)), shape=(count, size))
    total = np.maximum(matrix.sum(axis=1), 1e-9)
    return (matrix.multiply(1 / total[:, None])).astype(np.float32).tocsr()
