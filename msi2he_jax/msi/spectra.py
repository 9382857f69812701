"""Summed spectra of imzML files, and the choice of how to rebin them."""

from __future__ import annotations

import warnings

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import (
    MassAxis,
    estimate_axis_step_ppm,
    estimate_gap_tol_da,
    mass_axis,
    sample_indices,
)
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.rebinning import LinearSum, check_method, interpolate, rebin

__all__ = [
    "MIN_TIC_CHANNELS",
    "CentroidInterpolationWarning",
    "MassAxis",
    "Peaks",
    "estimate_axis_step_ppm",
    "estimate_gap_tol_da",
    "interpolation_inflation",
    "is_discrete",
    "mass_axis",
    "pick_peaks",
    "rebin",
    "rebin_method",
    "summed_spectrum",
]

MIN_TIC_CHANNELS = 20


class CentroidInterpolationWarning(UserWarning):
    """Centroid spectra were interpolated, which invents signal between their peaks."""


def is_discrete(msi: MsiFile) -> bool:
    """Tells whether a file holds channels rather than spectra: a median of under 20 points each."""
    return bool(np.median(msi.points) < MIN_TIC_CHANNELS)


def rebin_method(msi: MsiFile) -> str:
    """Chooses "linear" for profile spectra and "sum" for centroid spectra and discrete channels.

    Where the file does not say which it holds, a shared m/z array of 20 points or more is taken as
    profile and everything else is summed, which never invents signal.
    """
    if is_discrete(msi) or msi.spectrum_type == "centroid":
        return "sum"
    return "linear" if msi.spectrum_type == "profile" or msi.shares_mz else "sum"


def interpolation_inflation(msi: MsiFile, axis: MassAxis) -> float:
    """Measures how many times too large the total becomes when spectra are interpolated.

    Args:
        msi: An open file, up to 200 spectra of which are read.
        axis: The mass axis.

    Returns:
        Sum of the interpolated spectra over the measured total inside the axis; NaN where there is
        no signal. 30 to 500 is usual for centroid spectra. For profile spectra it is the number of
        bins per point, and no fault.
    """
    dense = true = 0.0
    for block in msi.packed(sample_indices(msi)):
        for mz, intensity in block.spectra():
            dense += interpolate(axis.mz, mz, intensity).sum()
            true += rebin(mz, intensity, axis, method="sum").sum()
    return dense / true if true > 0 else float("nan")


def summed_spectrum(
    msi: MsiFile,
    axis: MassAxis,
    *,
    method: str | None = None,
    weight: np.ndarray | None = None,
    pixels: np.ndarray | None = None,
    gap_tol_da: float | None = None,
) -> np.ndarray:
    """Sums the rebinned spectra of a file; sums over files, or parts of one, add.

    Args:
        msi: An open file.
        axis: M bins.
        method: "linear" or "sum"; None: `rebin_method`.
        weight: float64 [n], a factor for each spectrum of the file, as `size_weights`; None for 1.
        pixels: Which spectra: None for all, bool [H, W], bool [n], or numbers of spectra.
        gap_tol_da: Da; for "linear", wider gaps between points are not interpolated.

    Returns:
        float64 [M].

    Raises:
        InputError: a damaged spectrum, or an unknown option.

    Warns:
        CentroidInterpolationWarning: centroid spectra and "linear", with the factor of inflation.
    """
    method = method or rebin_method(msi)
    check_method(method)
    if method == "linear" and rebin_method(msi) == "sum" and msi.spectrum_type != "profile":
        _warn_inflation(msi, axis)
    indices = spectrum_indices(msi, pixels)
    weight = np.ones(msi.n) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != (msi.n,):
        why = f"has shape {weight.shape}, the file {msi.n} spectra"
        raise InputError(msi.path, "weight", why)
    if msi.shares_mz:
        return _sum_shared(msi, axis, method, weight, indices, gap_tol_da)
    return _sum_apart(msi, axis, method, weight, indices, gap_tol_da)


def _warn_inflation(msi: MsiFile, axis: MassAxis) -> None:
    factor = interpolation_inflation(msi, axis)
    text = f"{msi.path}: interpolating centroid spectra makes their total {factor:.3g} times"
    text += " the measured one; rebin them by summing"
    warnings.warn(text, CentroidInterpolationWarning, stacklevel=3)


def _sum_shared(msi, axis, method, weight, indices, gap_tol_da) -> np.ndarray:
    """Rebinning is linear, so spectra on one m/z array are summed first and rebinned once."""
    mz = msi.shared_mz()
    total = np.zeros(len(mz))
    for block in msi.packed(indices):
        total += weight[block.indices] @ block.intensity.reshape(-1, len(mz))
    return rebin(mz, total, axis, method=method, gap_tol_da=gap_tol_da)


def _sum_apart(msi, axis, method, weight, indices, gap_tol_da) -> np.ndarray:
    lines, total = LinearSum(axis, gap_tol_da), np.zeros(len(axis.mz))
    for block in msi.packed(indices):
        chosen = weight[block.indices]
        if method == "linear":
            lines.add(block, chosen)
        else:
            y = block.intensity * np.repeat(chosen, np.diff(block.starts))
            total += rebin(block.mz, y, axis, method="sum")
    return lines.total() if method == "linear" else total


def spectrum_indices(msi: MsiFile, pixels: np.ndarray | None) -> np.ndarray:
    """Turns a choice of pixels into numbers of spectra, int64 [n].

    Args:
        msi: An open file.
        pixels: None, bool [H, W], bool [n], or integers.

    Raises:
        InputError: a shape that fits neither the grid nor the spectra.
    """
    if pixels is None:
        return np.arange(msi.n)
    pixels = np.asarray(pixels)
    if pixels.dtype != bool:
        return pixels.astype(np.int64).ravel()
    if pixels.shape == msi.shape:
        return np.flatnonzero(pixels[tuple(msi.coordinates.T)])
    if pixels.shape == (msi.n,):
        return np.flatnonzero(pixels)
    why = f"has shape {pixels.shape}, the grid {msi.shape}"
    raise InputError(msi.path, "pixels", why)
