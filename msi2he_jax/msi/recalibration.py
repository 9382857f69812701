"""Estimates by how many ppm a section's m/z are off, from the peaks of its summed spectrum."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, stats

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis, mass_axis, relative_spacing_ppm, sample_indices
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import rebin_method, summed_spectrum

MIN_MATCHES = 3
STRONGEST = 200
CHANCE = 0.01
_AGREEMENT = 0.1  # Matches that agree lie within this part of max_ppm on both sides of the mode.
_SPREAD_OF_NORMAL = 1.4826
_SAMPLED_SPECTRA = 2000
_BINS = 30  # In max_ppm.
_LEAST_STEP_PPM = 0.5


@dataclasses.dataclass(frozen=True)
class Shift:
    """A recalibration; dividing m/z by 1 + ppm * 1e-6 undoes it.

    Attributes:
        ppm: How much too high the measured m/z are; 0 where they do not tell.
        matched: How many reference m/z it rests on, or found a peak at all where `why` is not "".
        spread_ppm: How far those differ, as the standard deviation of a normal distribution (1.4826
            times the median absolute deviation), ppm.
        why: Why there is no estimate, in words; "" where there is one.
    """

    ppm: float
    matched: int
    spread_ppm: float
    why: str = ""


def estimate_shift_ppm(
    mz: np.ndarray,
    height: np.ndarray,
    reference_mz: np.ndarray,
    *,
    max_ppm: float,
    trusted: bool = False,
    strongest: int = STRONGEST,
    min_matches: int | None = None,
) -> Shift:
    """Estimates a shift from peaks near reference m/z.

    Without `trusted`, references (a cohort's peak list) may be absent and peaks may be noise: all
    pairs of a strong peak and a reference within `max_ppm` vote, the mode of their differences is
    the shift, provided that as many would hardly (1 in 100) agree by chance; pairs that share a
    peak or a reference with another agreeing pair are dropped, and the weighted median of the rest
    is returned. With `trusted`, references are lock masses that are known to be in the spectrum:
    the strongest peak within `max_ppm` is theirs, and their median is the shift.

    Args:
        mz: float64 [K], peaks of a summed spectrum, m/z; see `apex_mz`.
        height: float64 [K], their heights, not negative.
        reference_mz: float64 [R], true m/z.
        max_ppm: Largest shift that is looked for, ppm.
        trusted: Whether the references are lock masses.
        strongest: How many of the tallest peaks count, without `trusted`.
        min_matches: Fewest references to rest on; None: 3, or 1 for lock masses.

    Returns:
        The shift; 0 ppm where too few peaks match or agree, and `why`.

    Raises:
        InputError: sizes that differ, no reference, or a `max_ppm` that is not positive.

    Source:
        The mode of the density of ppm errors: Inglese et al. 2021, "Mass recalibration for
        desorption electrospray ionization mass spectrometry imaging using endogenous reference
        ions" (there per pixel, by a kernel density). The test against chance is the union bound of
        the scan statistic. The strongest peak near each calibrant: as `calibrate` of xcms. Cardinal
        (`mzAlign`, `recalibrate`) instead warps each spectrum to the nearest reference maxima.
    """
    mz, height, reference = _checked(mz, height, reference_mz, max_ppm)
    least = min_matches or (1 if trusted else MIN_MATCHES)
    kept = slice(None) if trusted else np.argsort(-height, kind="stable")[:strongest]
    mz, height = mz[kept], height[kept]
    peak, ref, ppm = _pairs(mz, reference, max_ppm)
    found = len(np.unique(ref))
    if found < least:
        why = f"{found} of {len(reference)} references have a peak within {max_ppm:g} ppm"
        return Shift(0.0, found, 0.0, f"{why}, at least {least} are needed")
    if trusted:
        ppm = ppm[_strongest_of_each(ref, height[peak])]
        return _about(ppm, np.median(ppm))
    return _mode(peak, ref, ppm, np.sqrt(height[peak]), max_ppm, least)


def section_shift(
    msi: MsiFile, reference_mz: np.ndarray, *, max_ppm: float, trusted: bool = False
) -> Shift:
    """Estimates the shift of a section from up to 2000 of its spectra, spread over it.

    Args:
        msi: An open file.
        reference_mz: float64 [R], lock masses, or `reference_peaks` of the cohort.
        max_ppm: Largest shift that is looked for, ppm.
        trusted: Whether the references are lock masses, as for `estimate_shift_ppm`.

    Returns:
        The shift; 0 ppm where the spectra do not tell, and `why`.

    Raises:
        InputError: as `estimate_shift_ppm`, or a damaged spectrum.
    """
    reference = _checked((), (), reference_mz, max_ppm)[2]
    axis = shift_axis(reference[0], reference[-1], max_ppm)
    spectrum = smooth_spectrum(msi, axis)
    return spectrum_shift(axis, spectrum, reference, max_ppm=max_ppm, trusted=trusted)


def shift_axis(mz_min: float, mz_max: float, max_ppm: float) -> MassAxis:
    """Makes an axis fine enough to find shifts on: 30 bins in `max_ppm`, 0.5 ppm or more each.

    Args:
        mz_min: Least m/z of interest.
        mz_max: Greatest.
        max_ppm: Largest shift that is looked for, ppm; the axis reaches twice as far.
    """
    reach, step = 2 * max_ppm * 1e-6, max(max_ppm / _BINS, _LEAST_STEP_PPM)
    return mass_axis("ppm", mz_min=mz_min * (1 - reach), mz_max=mz_max * (1 + reach), step=step)


def smooth_spectrum(msi: MsiFile, axis: MassAxis) -> np.ndarray:
    """Sums up to 2000 spectra of a file, each point as a Gaussian, so that no bins show.

    A Gaussian is as wide as profile points usually lie apart, for centroids two bins; so both show
    one peak where an ion is, wherever in its bin.

    Args:
        axis: M bins, from `shift_axis`.
        msi: An open file.

    Returns:
        float64 [M] with a total of about 1, so that sections count alike when they are added; all
        0 where there is no signal.
    """
    chosen = sample_indices(msi, _SAMPLED_SPECTRA)
    spectrum = summed_spectrum(msi, axis, method="sum", pixels=chosen)
    bins = 2.0
    if rebin_method(msi) == "linear":
        bins = max(bins, float(np.median(relative_spacing_ppm(msi))) / axis.step)
    spectrum = ndimage.gaussian_filter1d(spectrum, bins, mode="constant")
    return spectrum / (spectrum.sum() or 1.0)


def reference_peaks(axis: MassAxis, spectrum: np.ndarray) -> np.ndarray:
    """Returns the m/z of the 200 strongest peaks of added `smooth_spectrum`, for `section_shift`.

    Args:
        axis: M bins.
        spectrum: float64 [M].

    Returns:
        float64 [R], m/z.

    Raises:
        InputError: it holds no peak.
    """
    return apex_mz(axis, spectrum, pick_peaks(axis, spectrum, count=STRONGEST))


def spectrum_shift(
    axis: MassAxis,
    spectrum: np.ndarray,
    reference_mz: np.ndarray,
    *,
    max_ppm: float,
    trusted: bool = False,
) -> Shift:
    """Estimates the shift of a section from its summed spectrum.

    Args:
        axis: M bins, narrower than its peaks; where all of a peak lies in one bin, `section_shift`
            is more exact.
        spectrum: float64 [M], the section's own summed spectrum.
        reference_mz: float64 [R], lock masses, or the peaks of the cohort.
        max_ppm: Largest shift that is looked for, ppm.
        trusted: Whether the references are lock masses, as for `estimate_shift_ppm`.

    Returns:
        The shift; 0 ppm where the spectrum does not tell, and `why`.

    Raises:
        InputError: as `estimate_shift_ppm`.
    """
    if not spectrum.any():
        return Shift(0.0, 0, 0.0, "the spectrum is empty")
    # A lock mass may be a small peak; the references of a cohort are not.
    peaks = pick_peaks(axis, spectrum, count=len(spectrum) if trusted else STRONGEST)
    mz = apex_mz(axis, spectrum, peaks)
    return estimate_shift_ppm(mz, peaks.height, reference_mz, max_ppm=max_ppm, trusted=trusted)


def _checked(mz, height, reference, max_ppm) -> tuple[np.ndarray, ...]:
    mz, height = np.asarray(mz, np.float64), np.asarray(height, np.float64)
    reference = np.unique(np.asarray(reference, np.float64))
    if mz.shape != height.shape or mz.ndim != 1:
        why = f"has shape {mz.shape}, the heights {height.shape}"
        raise InputError("recalibration", "mz", why)
    if not len(reference) or not (reference > 0).all():
        raise InputError("recalibration", "reference_mz", "must hold m/z, all positive")
    if not 0 < max_ppm < 1e5:
        raise InputError("recalibration", "max_ppm", f"is {max_ppm}, must be positive")
    return mz, height, reference


def _pairs(mz, reference, max_ppm) -> tuple[np.ndarray, ...]:
    """Returns peak, reference (int64 [n]) and difference (ppm, [n]) of all that lie near."""
    order = np.argsort(mz, kind="stable")
    low = np.searchsorted(mz[order], reference * (1 - max_ppm * 1e-6))
    high = np.searchsorted(mz[order], reference * (1 + max_ppm * 1e-6), "right")
    ref = np.repeat(np.arange(len(reference)), high - low)
    inside = np.arange(len(ref)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    peak = order[low[ref] + inside]
    return peak, ref, (mz[peak] / reference[ref] - 1) * 1e6


def _strongest_of_each(group: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Returns where each group's greatest height stands, int64 [groups]."""
    order = np.lexsort((-height, group))
    return order[np.unique(group[order], return_index=True)[1]]


def _about(ppm: np.ndarray, middle: float) -> Shift:
    spread = _SPREAD_OF_NORMAL * float(np.median(np.abs(ppm - middle)))
    return Shift(float(middle), len(ppm), spread)


def _mode(peak, ref, ppm, weight, max_ppm, least) -> Shift:
    """Finds where differences agree, if more do than chance would bring together."""
    half = _AGREEMENT * max_ppm
    order = np.argsort(ppm, kind="stable")
    end = np.searchsorted(ppm[order], ppm[order] + 2 * half, "right")
    count = end - np.arange(len(ppm))
    best = int(np.argmax(count))
    chance = _chance(len(ppm), int(count[best]), half / max_ppm)
    middle = np.median(ppm[order[best : end[best]]])
    near = np.flatnonzero(np.abs(ppm - middle) <= 2 * half)
    near = near[_single(peak[near]) & _single(ref[near])]
    if len(near) < least or chance > CHANCE:
        why = f"only {count[best]} of {len(ppm)} matches agree, which may be chance"
        return Shift(0.0, len(near), 0.0, why)
    return _about(ppm[near], _centre(ppm[near], weight[near]))


def _centre(values: np.ndarray, weight: np.ndarray) -> float:
    """Returns the weighted median of the means of all pairs (Hodges and Lehmann 1963).

    Bins make the errors of centroids nearly uniform, where a plain median is a poor estimate.
    """
    means = (values[:, None] + values).ravel() / 2
    weights = (weight[:, None] * weight).ravel()
    return float(np.quantile(means, 0.5, weights=weights, method="inverted_cdf"))


def _single(numbers: np.ndarray) -> np.ndarray:
    """Returns which numbers occur once, bool [n]."""
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return counts[place] == 1


def _chance(pairs: int, agreeing: int, share: float) -> float:
    """Bounds the probability that so many of evenly spread differences agree.

    Each difference may start a window that holds `share` of the range.
    """
    return min(1.0, pairs * float(stats.binom.sf(agreeing - 2, pairs - 1, share)))


def apex_mz(axis: MassAxis, spectrum: np.ndarray, peaks: Peaks) -> np.ndarray:
    """Finds the m/z of peaks between the bins, by a Gaussian through the three highest.

    Args:
        axis: M bins.
        spectrum: float64 [M].
        peaks: K peaks of it.

    Returns:
        float64 [K], m/z, at most half a bin from `peaks.mz`; that itself where a neighbour is 0.
    """
    padded = np.concatenate([[0.0], spectrum, [0.0]])
    apex = np.maximum(axis.nearest(peaks.mz), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, top, right = (np.log(padded[apex + k]) for k in range(3))
        part = (right - left) / 2 / (2 * top - left - right)
    part = np.where(np.isfinite(part), np.clip(part, -0.5, 0.5), 0.0)
    return peaks.mz * (1 + part * axis.step_ppm(peaks.mz) * 1e-6)
