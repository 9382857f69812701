"""Brings spectra to a mass axis: by interpolation (profile) or by summing into bins (centroid).

Interpolation: an axis point takes the value on the straight line between its two neighbouring
measured points, 0 outside the spectrum, and 0 between two points further apart than the gap
tolerance. Summing: every measured point is added to the bin it falls in, which keeps the total.
"""

from __future__ import annotations

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.imzml import Block

METHODS = ("linear", "sum")
_CHUNK = 1024


def check_method(method: str) -> None:
    """Raises InputError unless `method` is "linear" or "sum"."""
    if method not in METHODS:
        raise InputError("rebinning", "method", f"is {method!r}", f"one of {', '.join(METHODS)}")


def rebin(
    mz: np.ndarray,
    intensity: np.ndarray,
    axis: MassAxis,
    *,
    method: str = "linear",
    gap_tol_da: float | None = None,
) -> np.ndarray:
    """Brings one spectrum to a mass axis.

    Args:
        mz: [P], m/z, not decreasing.
        intensity: [P].
        axis: M bins.
        method: "linear" or "sum".
        gap_tol_da: Da; wider gaps between measured points are not interpolated. None: any gap is.

    Returns:
        float64 [M].

    Raises:
        InputError: an unknown method.
    """
    check_method(method)
    if method == "linear":
        return interpolate(axis.mz, mz, intensity, gap_tol_da)
    bins = axis.nearest(np.asarray(mz, np.float64))
    inside = bins >= 0
    return np.bincount(bins[inside], np.asarray(intensity)[inside], len(axis.mz))


def interpolate(
    at: np.ndarray, mz: np.ndarray, intensity: np.ndarray, gap_tol_da: float | None = None
) -> np.ndarray:
    """Interpolates a spectrum at increasing m/z.

    Args:
        at: float64 [T], m/z.
        mz: float64 [P], m/z, not decreasing.
        intensity: [P].
        gap_tol_da: Da; points inside wider gaps become 0, points on a measured m/z keep its value.

    Returns:
        float64 [T].
    """
    if len(mz) == 0:
        return np.zeros(len(at))
    values = np.interp(at, mz, intensity, left=0.0, right=0.0)
    if gap_tol_da is None:
        return values
    gaps = np.flatnonzero(np.diff(mz) > gap_tol_da)
    first, last = np.searchsorted(at, mz[gaps], "right"), np.searchsorted(at, mz[gaps + 1])
    inside = np.zeros(len(at) + 1)
    np.add.at(inside, first, 1)
    np.add.at(inside, last, -1)
    return np.where(np.cumsum(inside)[:-1] > 0, 0.0, values)


class LinearSum:
    """The sum of many interpolated spectra, without forming any of them.

    Between two measured points the interpolant is a line, so a spectrum adds (slope, offset) at the
    first axis point of each segment and takes them away at the first of the next; one cumulative
    sum at the end gives the total. Lines are kept relative to the start of the chunk of 1024 axis
    points they lie in, and cumulative sums restart there, so that rounding stays at the level of
    the chunk's own signal; a count of the lines above each point makes empty stretches exactly 0.

    Args:
        axis: M bins.
        gap_tol_da: See `interpolate`.
    """

    def __init__(self, axis: MassAxis, gap_tol_da: float | None = None):
        self.axis, self.gap_tol_da = axis, gap_tol_da
        self.chunks = -(-len(axis.mz) // _CHUNK)
        self.slope, self.offset, self.lines = np.zeros((3, self.chunks * _CHUNK))
        self.hits = np.zeros(len(axis.mz))

    def add(self, block: Block, weight: np.ndarray) -> None:
        """Adds spectra, each times its weight.

        Args:
            block: n spectra with their own m/z arrays.
            weight: float64 [n].
        """
        if len(block.mz) == 0:
            return
        mz, low = block.mz, self.axis.first_not_below(block.mz)
        y = block.intensity * np.repeat(weight, np.diff(block.starts))
        width, high = np.diff(mz, append=mz[-1]), np.append(low[1:], low[-1])
        open_end = np.zeros(len(mz), bool)
        open_end[block.starts[1:][np.diff(block.starts) > 0] - 1] = True
        if self.gap_tol_da is not None:
            open_end |= width > self.gap_tol_da
        self._add_hits(mz, y, low, open_end)
        taller = np.maximum(y, np.append(y[1:], 0.0))
        lines = np.flatnonzero(~open_end & (high > low) & (taller > 0))
        slope = (y[lines + 1] - y[lines]) / width[lines]
        self._add_lines(low[lines], high[lines], mz[lines], y[lines], slope)

    def _add_hits(self, mz, y, low, open_end) -> None:
        """Keeps the value of a point that lies on an axis point but starts no line."""
        ends = np.flatnonzero(open_end & (low < len(self.axis.mz)))
        ends = ends[self.axis.mz[low[ends]] == mz[ends]]
        self.hits += np.bincount(low[ends], y[ends], len(self.hits))

    def _add_lines(self, low, high, mz, y, slope) -> None:
        """Adds lines over the axis points low <= j < high, cut where a chunk ends."""
        first, last = low // _CHUNK, (high - 1) // _CHUNK
        pieces = last - first + 1
        if (pieces > 1).any():
            number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            low, high, mz, y, slope, first = (
                np.repeat(each, pieces) for each in (low, high, mz, y, slope, first)
            )
            first = first + number
            low, high = np.maximum(low, first * _CHUNK), np.minimum(high, (first + 1) * _CHUNK)
        offset = y + slope * (self.axis.mz[first * _CHUNK] - mz)
        ends = high % _CHUNK != 0
        size = len(self.slope)
        for total, value in ((self.slope, slope), (self.offset, offset), (self.lines, None)):
            total += np.bincount(low, value, size)
            total -= np.bincount(high[ends], None if value is None else value[ends], size)

    def total(self) -> np.ndarray:
        """Returns the sum so far, float64 [M]."""
        slope, offset, lines = (
            np.cumsum(each.reshape(-1, _CHUNK), axis=1)
            for each in (self.slope, self.offset, self.lines)
        )
        padded = np.resize(self.axis.mz, self.chunks * _CHUNK).reshape(-1, _CHUNK)
        value = np.where(lines > 0.5, offset + slope * (padded - padded[:, :1]), 0.0)
        return np.maximum(value, 0.0).ravel()[: len(self.hits)] + self.hits
