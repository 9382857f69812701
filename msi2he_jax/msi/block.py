"""Spectra as they are read: several at once, end to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from msi2he_jax.msi.open_msi import MsiFile

BLOCK_POINTS = 1 << 15


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive spectra, end to end.

    Attributes:
        indices: int64 [n], numbers of the spectra.
        mz: float64 [P], all their m/z; [P / n] where `shared`.
        intensity: float64 [P], all their intensities.
        starts: int64 [n + 1], spectrum i is `intensity[starts[i] : starts[i + 1]]`.
        shared: Whether all spectra have the one m/z array given.
    """

    indices: np.ndarray
    mz: np.ndarray
    intensity: np.ndarray
    starts: np.ndarray
    shared: bool

    def spectra(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (m/z float64 [P], intensity float64 [P]) of each spectrum."""
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield (self.mz if self.shared else self.mz[start:stop]), self.intensity[start:stop]

    def per_spectrum(self, values: np.ndarray) -> np.ndarray:
        """Sums `values` [P] over the points of each spectrum, float64 [n]."""
        sums = np.zeros(len(self.indices))
        filled = np.diff(self.starts) > 0
        if filled.any():
            sums[filled] = np.add.reduceat(values, self.starts[:-1][filled])
        return sums


def packed_blocks(
    msi: MsiFile, indices: np.ndarray | None = None, points: int = BLOCK_POINTS
) -> Iterator[Block]:
    """Yields spectra in blocks of about `points` points: the `packed` of a reader.

    Args:
        msi: An open file; its `n`, `points` and `block` are used.
        indices: int64 [k], numbers of spectra, or None for all.
        points: How many points a block holds at most, apart from its last spectrum.
    """
    indices = np.arange(msi.n) if indices is None else np.asarray(indices, np.int64)
    if not len(indices):
        return
    number = np.cumsum(msi.points[indices]) // points
    for part in np.split(indices, np.flatnonzero(np.diff(number)) + 1):
        yield msi.block(part)
