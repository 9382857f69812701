"""Opens a sample's MSI as a recipe wants it: recalibrated, smoothed, without a baseline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import numpy as np

from msi2he_jax.data.recipe import Recipe
from msi2he_jax.msi.axes import MassAxis, sample_indices
from msi2he_jax.msi.imzml import Imzml, open_imzml
from msi2he_jax.msi.peaks import pick_peaks
from msi2he_jax.msi.recalibration import STRONGEST, Shift, apex_mz, estimate_shift_ppm
from msi2he_jax.msi.spectra import summed_spectrum
from msi2he_jax.msi.treatment import Treatment, treat

_SPECTRA = 2000  # Summed to find a file's shift: plenty for its strong peaks, quick in any file.


def read_spectra(
    path: str | os.PathLike, recipe: Recipe, axis: MassAxis, gap_tol_da: float | None
) -> tuple[Imzml, Shift | None]:
    """Opens an imzML with what the recipe does to its spectra.

    Args:
        path: The .imzML file.
        recipe: Decides on duplicates, recalibration, smoothing and baseline.
        axis: M bins, of the data set; a shift is measured on it.
        gap_tol_da: Da, of the data set.

    Returns:
        The file, and its mass shift or None where the recipe looks for none.

    Raises:
        InputError: the file is damaged, or cannot be treated so.
    """
    imzml = treat(open_imzml(path, duplicates=recipe.duplicates), _treatment(recipe, 0.0))
    if recipe.recalibrate == "none" or not recipe.lock_mz:
        return imzml, None
    shift = _shift(imzml, recipe, axis, gap_tol_da)
    if shift.ppm == 0:
        return imzml, shift
    return treat(
        open_imzml(path, duplicates=recipe.duplicates), _treatment(recipe, shift.ppm)
    ), shift


def _treatment(recipe: Recipe, shift_ppm: float) -> Treatment:
    return Treatment(
        shift_ppm=shift_ppm,
        smoothing=recipe.smoothing,
        smoothing_points=recipe.smoothing_points,
        baseline=recipe.baseline,
        baseline_points=recipe.baseline_points,
    )


def _shift(imzml: Imzml, recipe: Recipe, axis: MassAxis, gap_tol_da: float | None) -> Shift:
    spectrum = sampled_spectrum(imzml, recipe, axis, gap_tol_da)
    if not spectrum.any():
        return Shift(0.0, 0, 0.0, "the file shows no peak")
    peaks = pick_peaks(axis, spectrum, count=10 * STRONGEST)
    return estimate_shift_ppm(
        apex_mz(axis, spectrum, peaks),
        peaks.height,
        np.array(recipe.lock_mz),
        max_ppm=recipe.recalibrate_ppm,
        trusted=recipe.recalibrate == "lock",
    )


def sampled_spectrum(
    imzml: Imzml, recipe: Recipe, axis: MassAxis, gap_tol_da: float | None
) -> np.ndarray:
    """Sums up to 2,000 spectra spread over a file, float64 [M], scaled to a total of 1."""
    spectrum = summed_spectrum(
        imzml,
        axis,
        method=recipe.method,
        pixels=sample_indices(imzml, _SPECTRA),
        gap_tol_da=gap_tol_da,
    )
    return spectrum / (spectrum.sum() or 1.0)


def with_reference(recipe: Recipe, axis: MassAxis, spectra: Iterable[np.ndarray]) -> Recipe:
    """Fills in the lock masses of "sums": the strongest peaks that the files show together.

    Args:
        recipe: The choices.
        axis: M bins.
        spectra: `sampled_spectrum` of each deciding file, float64 [M].

    Raises:
        InputError: none shows a peak.
    """
    total = np.zeros(len(axis.mz))
    for spectrum in spectra:
        total += spectrum
    peaks = pick_peaks(axis, total, count=STRONGEST)
    return dataclasses.replace(recipe, lock_mz=tuple(apex_mz(axis, total, peaks).tolist()))
