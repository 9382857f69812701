"""Picks peaks of a summed spectrum, each with the bounds its ion image is summed between."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis


@dataclasses.dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks in order of m/z.

    Attributes:
        mz: float64 [K], m/z of the apex.
        lower: float64 [K], m/z of the first bin that belongs to the peak.
        upper: float64 [K], m/z of the last bin that belongs to the peak.
        height: float64 [K], summed intensity at the apex.
    """

    mz: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    height: np.ndarray

    def __len__(self) -> int:
        return len(self.mz)


def pick_peaks(
    axis: MassAxis,
    spectrum: np.ndarray,
    *,
    count: int,
    min_separation_ppm: float = 0.0,
    exclude: Sequence[float] = (),
    exclude_ppm: float = 0.0,
) -> Peaks:
    """Takes the tallest local maxima of a summed spectrum.

    A local maximum is a bin (or the middle of a run of equal bins) above both neighbours, the
    outside of the axis counting as 0. Its bounds are the adjacent minima, reached by walking
    downhill on both sides. Of equal heights the lower m/z wins.

    Args:
        axis: M bins.
        spectrum: float64 [M].
        count: How many; fewer are returned where there are fewer.
        min_separation_ppm: A peak closer than this to a taller one is left out.
        exclude: m/z that must not become peaks (solvent, matrix).
        exclude_ppm: How near to them, ppm.

    Raises:
        InputError: `count` below 1, sizes that differ, or no peak at all.

    Source:
        SpectralAnalysis, GradientPeakDetection and PeakTopXFilter.
    """
    if count < 1:
        raise InputError("peaks", "count", f"is {count}, must be at least 1")
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.shape != axis.mz.shape:
        why = f"has {spectrum.size} values for {len(axis.mz)} bins"
        raise InputError("peaks", "summed spectrum", why)
    apex, lower, upper = _local_maxima(spectrum)
    allowed = _not_near(axis.mz[apex], exclude, exclude_ppm)
    apex, lower, upper = apex[allowed], lower[allowed], upper[allowed]
    order = np.argsort(-spectrum[apex], kind="stable")
    chosen = np.sort(order[_separated(axis.mz[apex[order]], count, min_separation_ppm)])
    if not len(chosen):
        hint = "the spectrum is empty, or all its peaks are excluded"
        raise InputError("peaks", "summed spectrum", "holds no peak", hint)
    apex, lower, upper = apex[chosen], lower[chosen], upper[chosen]
    return Peaks(axis.mz[apex], axis.mz[lower], axis.mz[upper], spectrum[apex])


def _local_maxima(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns bins of apex, lower and upper bound of every maximum, int64 each."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(spectrum)) + 1])
    ends = np.append(starts[1:], len(spectrum)) - 1
    runs = np.concatenate([[0.0], spectrum[starts], [0.0]])
    rising = np.diff(runs) > 0
    maxima = np.flatnonzero(rising[:-1] & (np.diff(runs)[1:] < 0))
    minima = np.flatnonzero(~rising[:-1] & (np.diff(runs)[1:] >= 0))
    below = np.searchsorted(minima, maxima) - 1
    # A side without a minimum runs downhill to the first or last run of the axis.
    valleys = np.concatenate([[0], minima, [len(starts) - 1]])
    left = np.minimum(ends[valleys[below + 1]], starts[maxima])
    right = np.maximum(starts[valleys[below + 2]], ends[maxima])
    return (starts[maxima] + ends[maxima]) // 2, left, right


def _not_near(mz: np.ndarray, exclude: Sequence[float], exclude_ppm: float) -> np.ndarray:
    """Returns bool [n]: no excluded m/z lies within the tolerance."""
    allowed = np.ones(len(mz), bool)
    for each in exclude:
        allowed &= np.abs(mz - each) > each * exclude_ppm * 1e-6
    return allowed


def _separated(mz: np.ndarray, count: int, min_separation_ppm: float) -> np.ndarray:
    """Returns the first `count` indices into `mz` (tallest first) that keep their distance."""
    if min_separation_ppm <= 0:
        return np.arange(min(count, len(mz)))
    taken: list[int] = []
    for i, value in enumerate(mz):
        if len(taken) == count:
            break
        if not taken or np.abs(mz[taken] - value).min() >= value * min_separation_ppm * 1e-6:
            taken.append(i)
    return np.array(taken, np.int64)
