"""What one file shows by itself, for people: named ions, and its own strongest peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import (
    MassAxis,
    estimate_axis_step_ppm,
    ion_scatter_ppm,
    mass_axis,
    sample_indices,
    scatter_bins,
)
from msi2he_jax.msi.images import ion_images, normalize, tic_image, tic_is_meaningful
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import summed_spectrum

OWN_PEAKS, STRONG_IONS = 50, 200
BINS_PER_WINDOW = 3.0
_SCATTERS_PER_WINDOW = 2.5  # Of a normal distribution 99 % lie within.


def named_ion_images(msi: MsiFile, mz: Sequence[float], ion_ppm: float | None = None) -> np.ndarray:
    """Reads the images of named ions in one pass.

    Args:
        msi: An open file.
        mz: K ions.
        ion_ppm: Half width of the window, ppm; None takes 2.5 times the scatter of an ion's m/z in
            centroid spectra, else three bins of the file's own axis.

    Returns:
        `[H, W, K]` float32, intensities as measured.

    Raises:
        InputError: an ion outside the file's range, or without any signal.
    """
    axis = own_axis(msi)
    for value in mz:
        if not axis.mz[0] <= value <= axis.mz[-1]:
            why = f"m/z {value:g} is outside the file's {axis.mz[0]:.4f} to {axis.mz[-1]:.4f}"
            raise InputError(msi.path, "--ions", why)
    ppm = float(ion_ppm or _half_window_ppm(msi, axis))
    order = np.argsort(mz)
    ions = np.asarray(mz, np.float64)[order]
    images = ion_images(msi, Peaks(ions, ions, ions, np.ones(len(ions))), axis, window=ppm)
    for k, value in enumerate(ions):
        if not images[..., k].any():
            why = f"no signal within {ppm:.3g} ppm of m/z {value:g}"
            raise InputError(msi.path, "--ions", why, "widen --ion_ppm or name another ion")
    return images[..., np.argsort(order)]


def _half_window_ppm(msi: MsiFile, axis: MassAxis) -> float:
    scatter = ion_scatter_ppm(msi)
    return BINS_PER_WINDOW * axis.step if scatter is None else _SCATTERS_PER_WINDOW * scatter


def own_axis(msi: MsiFile) -> MassAxis:
    """Returns a mass axis over a file's range, as fine as its points lie or its ions scatter.

    Args:
        msi: An open file.
    """
    low, high = msi.mz_range
    return mass_axis("ppm", mz_min=low, mz_max=high, step=estimate_axis_step_ppm(msi))


def strong_ions(msi: MsiFile, *, count: int = STRONG_IONS) -> np.ndarray:
    """Finds the strongest ions of a centroid file's sampled spectra, to compare files by.

    Args:
        msi: An open file.
        count: Most ions.

    Returns:
        m/z, float64 [K], increasing; none where the m/z of ions do not scatter.
    """
    scatter = ion_scatter_ppm(msi)
    if scatter is None:
        return np.zeros(0)
    axis, sampled = own_axis(msi), sample_indices(msi)
    spectrum = summed_spectrum(msi, axis, method="sum", pixels=sampled)
    return pick_peaks(axis, spectrum, count=count, smooth_bins=scatter_bins(axis, scatter)).mz


def own_peak_images(msi: MsiFile, *, count: int = OWN_PEAKS) -> tuple[np.ndarray, np.ndarray]:
    """Reads the strongest peaks of a file, per total ion count where that means something.

    Args:
        msi: An open file.
        count: Peaks.

    Returns:
        `[H, W, K]` float32 and their m/z `[K]` float64, increasing.
    """
    axis = own_axis(msi)
    smooth = scatter_bins(axis, ion_scatter_ppm(msi))
    peaks = pick_peaks(axis, summed_spectrum(msi, axis), count=count, smooth_bins=smooth)
    kind = "tic" if tic_is_meaningful(msi) else "none"
    images = normalize(ion_images(msi, peaks, axis), tic_image(msi), msi.mask, kind)
    order = np.argsort(peaks.mz)
    return images[..., order], peaks.mz[order]
