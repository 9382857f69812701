"""Brings spectra to a mass axis: by interpolation (profile) or by summing into bins (centroid).

Interpolation: an axis point takes the value on the straight line between its two neighbouring
measured points, 0 outside the spectrum, and 0 between two points further apart than the gap
tolerance. Summing: every measured point is added to the bin it falls in, which keeps the total.
"""

from __future__ import annotations

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.block import Block

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

    Example:
        >>> from msi2he_jax.msi.axes import mass_axis
        >>> axis = mass_axis("fixed_da", mz_min=100.0, mz_max=101.0, step=0.5)
        >>> rebin(np.array([100.1, 100.9]), np.array([3.0, 4.0]), axis, method="sum").tolist()
        [3.0, 0.0, 4.0]
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
        self.line = np.zeros(self.chunks * _CHUNK, np.complex128)  # offset + 1j * slope
        self.lines = np.zeros(self.chunks * _CHUNK, np.int64)
        self.hits = np.zeros(len(axis.mz))

    def add(self, block: Block, weight: np.ndarray) -> None:
        """Adds spectra, each times its weight.

        Args:
            block: n spectra with their own m/z arrays.
            weight: float64 [n].
        """
        mz, points = block.mz, np.diff(block.starts)
        if len(mz) == 0:
            return
        y = block.intensity * np.repeat(weight, points)
        low = self.axis.first_not_below(mz)
        covers = low[1:] > low[:-1]
        ends = block.starts[1:][points > 0] - 1
        covers[ends[:-1]] = False
        if self.gap_tol_da is not None:
            wide = np.diff(mz) > self.gap_tol_da
            covers &= ~wide
            ends = np.union1d(ends, np.flatnonzero(wide))
        self._add_hits(mz[ends], y[ends], low[ends])
        covers &= (y[1:] > 0) | (y[:-1] > 0)
        k = np.flatnonzero(covers)
        slope = (y[k + 1] - y[k]) / (mz[k + 1] - mz[k])
        self._add_lines(low[k], low[k + 1], mz[k], y[k], slope)

    def _add_hits(self, mz, y, low) -> None:
        """Keeps the value of a point that lies on an axis point but starts no line."""
        inside = low < len(self.axis.mz)
        mz, y, low = mz[inside], y[inside], low[inside]
        same = self.axis.mz[low] == mz
        np.add.at(self.hits, low[same], y[same])

    def _add_lines(self, low, high, mz, y, slope) -> None:
        """Adds lines over the axis points low <= j < high, cut where a chunk ends."""
        while len(low):
            edge = (low // _CHUNK + 1) * _CHUNK
            line = y + slope * (self.axis.mz[edge - _CHUNK] - mz) + 1j * slope
            np.add.at(self.line, low, line)
            np.add.at(self.lines, low, 1)
            ends = np.flatnonzero(high < edge)
            np.subtract.at(self.line, high[ends], line[ends])
            np.subtract.at(self.lines, high[ends], 1)
            rest = np.flatnonzero(high > edge)
            low, high, mz, y, slope = edge[rest], high[rest], mz[rest], y[rest], slope[rest]

    def total(self) -> np.ndarray:
        """Returns the sum so far, float64 [M]."""
        line, lines = (
            np.cumsum(each.reshape(-1, _CHUNK), axis=1) for each in (self.line, self.lines)
        )
        padded = np.resize(self.axis.mz, self.chunks * _CHUNK).reshape(-1, _CHUNK)
        value = np.where(lines > 0, line.real + line.imag * (padded - padded[:, :1]), 0.0)
        return np.maximum(value, 0.0).ravel()[: len(self.hits)] + self.hits
