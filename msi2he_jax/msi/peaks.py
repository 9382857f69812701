"""Picks peaks of a summed spectrum, each with the bounds its ion image is summed between."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.signal
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.isotopes import find_isotopes

_WINDOW_BINS = 2000
_FEWEST_TO_TELL_NOISE = 20
_GAUSSIAN_STD_PER_MAD = 1.482602218505602


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
    smooth_bins: float = 0.0,
    min_separation_ppm: float = 0.0,
    prominence: float = 0.0,
    min_snr: float = 0.0,
    exclude: Sequence[float] = (),
    exclude_ppm: float = 0.0,
    deisotope: bool = False,
    isotope_ppm: float = 5.0,
    max_charge: int = 1,
) -> Peaks:
    """Takes the tallest local maxima of a summed spectrum.

    A local maximum is a bin (or the middle of a run of equal bins) above both neighbours, the
    outside of the axis counting as 0. Its bounds are the adjacent minima, reached by walking
    downhill on both sides. Of equal heights the lower m/z wins. Peaks that an option refuses make
    room for the next tallest.

    Args:
        axis: M bins.
        spectrum: float64 [M].
        count: How many; fewer are returned where there are fewer.
        smooth_bins: Standard deviation of a Gaussian that smooths the spectrum first, bins, lest
            chance split an ion whose m/z scatter over several; heights are of what was smoothed.
        min_separation_ppm: A peak closer than this to a taller one is left out.
        prominence: Least prominence, as `scipy.signal.peak_prominences` measures it, as a fraction
            (0 to 1) of the peak's own height; a summed spectrum has no unit to state it in. 0.5
            refuses shoulders that stand less than half their height above the saddle.
        min_snr: Least height above the local level, in units of the noise of `estimate_noise`.
        exclude: m/z that must not become peaks (solvent, matrix; see `background.named`).
        exclude_ppm: How near to them, ppm.
        deisotope: Leaves out the 13C isotopes of any other local maximum, excluded ones included.
        isotope_ppm: How exactly their distance must fit, ppm of the m/z, added to one bin width.
        max_charge: Highest charge of an isotope series.

    Raises:
        InputError: an option outside its range, sizes that differ, or no peak at all.

    Source: SpectralAnalysis, GradientPeakDetection and PeakTopXFilter.
    """
    _check_options(count, prominence, min_snr)
    spectrum = _smoothed(axis, spectrum, smooth_bins)
    apex, lower, upper = _local_maxima(spectrum)
    allowed = _not_near(axis.mz[apex], exclude, exclude_ppm)
    if deisotope:
        allowed &= ~_are_isotopes(axis, spectrum, apex, isotope_ppm, max_charge)
    if min_snr > 0:
        allowed &= _above_noise(spectrum, apex, min_snr)
    if prominence > 0:
        allowed[allowed] = _prominent(spectrum, apex[allowed], prominence)
    apex, lower, upper = apex[allowed], lower[allowed], upper[allowed]
    order = np.argsort(-spectrum[apex], kind="stable")
    chosen = np.sort(order[_separated(axis.mz[apex[order]], count, min_separation_ppm)])
    _check_found(chosen)
    apex, lower, upper = apex[chosen], lower[chosen], upper[chosen]
    return Peaks(axis.mz[apex], axis.mz[lower], axis.mz[upper], spectrum[apex])


def estimate_noise(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimates the level and the spread of a spectrum between its peaks.

    In windows of 2,000 bins the median of the positive bins is the level, interpolated linearly
    from centre to centre; the median absolute deviation from it, scaled to the standard deviation
    of a Gaussian, is the spread, interpolated likewise. Peaks hold the smaller part of the bins
    and hardly move a median. Windows with fewer than 20 positive bins take the whole spectrum's
    values; a spectrum with fewer in all (channels) has no noise to tell: level and spread 0.

    Args:
        spectrum: float64 [M].

    Returns:
        Level and spread, float64 [M] each.

    Source:
        MALDIquant's estimateNoise(method="MAD") (Gibb and Strimmer 2012), here by windows.
    """
    positive = spectrum > 0
    level = _windowed_median(spectrum, positive)
    return level, _GAUSSIAN_STD_PER_MAD * _windowed_median(np.abs(spectrum - level), positive)


def _windowed_median(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns the running median of the counted bins, float64 [M]."""
    if counted.sum() < _FEWEST_TO_TELL_NOISE:
        return np.zeros(len(values))
    windows = np.array_split(np.arange(len(values)), max(1, len(values) // _WINDOW_BINS))
    overall = np.median(values[counted])
    medians = [
        np.median(values[window][counted[window]])
        if counted[window].sum() >= _FEWEST_TO_TELL_NOISE
        else overall
        for window in windows
    ]
    return np.interp(np.arange(len(values)), [window.mean() for window in windows], medians)


def _check_found(chosen: np.ndarray) -> None:
    if not len(chosen):
        hint = "the spectrum is empty, or all its peaks are excluded"
        raise InputError("peaks", "summed spectrum", "holds no peak", hint)


def _smoothed(axis: MassAxis, spectrum: np.ndarray, smooth_bins: float) -> np.ndarray:
    """The spectrum as float64, checked against its axis."""
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.shape != axis.mz.shape:
        why = f"has {spectrum.size} values for {len(axis.mz)} bins"
        raise InputError("peaks", "summed spectrum", why)
    if smooth_bins > 0:
        return ndimage.gaussian_filter1d(spectrum, smooth_bins, mode="constant")
    return spectrum


def _check_options(count: int, prominence: float, min_snr: float) -> None:
    if count < 1:
        raise InputError("peaks", "count", f"is {count}, must be at least 1")
    if not 0 <= prominence <= 1:
        why = f"is {prominence}, must be a fraction of the peak's height, 0 to 1"
        raise InputError("peaks", "prominence", why)
    if not 0 <= min_snr < np.inf:
        raise InputError("peaks", "min_snr", f"is {min_snr}, must be 0 or above")


def _above_noise(spectrum: np.ndarray, apex: np.ndarray, min_snr: float) -> np.ndarray:
    """Returns bool [n]: the peak stands `min_snr` spreads above its level."""
    level, spread = estimate_noise(spectrum)
    return spectrum[apex] - level[apex] >= min_snr * spread[apex]


def _prominent(spectrum: np.ndarray, apex: np.ndarray, fraction: float) -> np.ndarray:
    """Returns bool [n]: the prominence is at least this fraction of the height."""
    padded = np.concatenate([[0.0], spectrum, [0.0]])  # As for maxima, the outside counts as 0.
    prominence = scipy.signal.peak_prominences(padded, apex + 1)[0]
    return prominence >= fraction * spectrum[apex]


def _are_isotopes(
    axis: MassAxis, spectrum: np.ndarray, apex: np.ndarray, isotope_ppm: float, max_charge: int
) -> np.ndarray:
    """Returns bool [n]; a bin's width is allowed for, since an apex is known no better."""
    mz = axis.mz[apex]
    tolerance_ppm = isotope_ppm + np.diff(axis.edges)[apex] / mz * 1e6
    found = find_isotopes(mz, spectrum[apex], tolerance_ppm=tolerance_ppm, max_charge=max_charge)
    return found.order > 0


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
