"""Peaks written as spectra: one point each (centroid) or sampled peak shapes (profile)."""

from __future__ import annotations

import dataclasses

import numpy as np

RESOLVING_POWER = 20_000.0
_POINTS_PER_WIDTH = 2.5
_REACH = 3


@dataclasses.dataclass(frozen=True)
class Spectra:
    """P spectra, one behind the other.

    Attributes:
        mz: `[N]` float, increasing within each spectrum.
        intensity: `[N]` float32, counts.
        counts: `[P]` int64, points of each spectrum; none is empty.
    """

    mz: np.ndarray
    intensity: np.ndarray
    counts: np.ndarray


def centroid_spectra(
    rng: np.random.Generator, intensity: np.ndarray, mz: np.ndarray, shift_ppm: np.ndarray
) -> Spectra:
    """One point per detected peak, at its m/z but for the mass error.

    Args:
        rng: Source of randomness, for the centroiding error of each peak (1 ppm).
        intensity: `[P, K]` float32, counts; 0 is not written.
        mz: `[K]` float64, increasing.
        shift_ppm: `[P]` float64, mass error of each spectrum, ppm.

    Returns:
        The spectra, float64 m/z.
    """
    error = shift_ppm[:, None] + rng.standard_normal(intensity.shape)
    keep = _detected(intensity)
    return Spectra((mz * (1.0 + 1e-6 * error))[keep], intensity[keep], keep.sum(axis=1))


def profile_spectra(intensity: np.ndarray, mz: np.ndarray, shift_ppm: np.ndarray) -> Spectra:
    """Gaussian peaks on the instrument's fixed axis: a few points, then a zero on either side.

    Args:
        intensity: `[P, K]` float32, counts at the apex; peaks of 0 are not written.
        mz: `[K]` float64, increasing, further apart than two peak widths.
        shift_ppm: `[P]` float64, mass error of each spectrum, ppm.

    Returns:
        The spectra, float32 m/z.
    """
    width = 1.0 / RESOLVING_POWER
    step = width / _POINTS_PER_WIDTH
    center = np.log(mz)[None, :] + 1e-6 * shift_ppm[:, None]
    bins = np.rint(center / step)[..., None] + np.arange(-_REACH, _REACH + 1)
    distance = (bins * step - center[..., None]) / width
    shape = np.exp(-4.0 * np.log(2.0) * distance**2)
    shape[..., [0, -1]] = 0.0
    keep = _detected(intensity)
    height = (shape * intensity[..., None]).astype(np.float32)[keep]
    axis = np.exp(bins[keep] * step).astype(np.float32)
    return Spectra(axis.ravel(), height.ravel(), keep.sum(axis=1) * (2 * _REACH + 1))


def _detected(intensity: np.ndarray) -> np.ndarray:
    """Peaks to write; an empty spectrum keeps its strongest, as no reader expects zero points."""
    keep = intensity > 0
    keep[np.arange(len(keep)), intensity.argmax(axis=1)] = True
    return keep
