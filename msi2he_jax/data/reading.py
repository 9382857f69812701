"""Opens a sample's MSI as a recipe wants it: recalibrated, smoothed, without a baseline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import numpy as np

from msi2he_jax.data.recipe import Recipe
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.open_msi import MsiFile, open_msi
from msi2he_jax.msi.recalibration import (
    Shift,
    reference_peaks,
    section_shift,
    shift_axis,
    smooth_spectrum,
)
from msi2he_jax.msi.treatment import Treatment, treat


def read_spectra(
    path: str | os.PathLike, recipe: Recipe, axis: MassAxis, gap_tol_da: float | None
) -> tuple[MsiFile, Shift | None]:
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
    msi = treat(open_msi(path, duplicates=recipe.duplicates), _treatment(recipe, 0.0))
    if recipe.recalibrate == "none" or not recipe.lock_mz:
        return msi, None
    shift = _shift(msi, recipe)
    if shift.ppm == 0:
        return msi, shift
    return treat(open_msi(path, duplicates=recipe.duplicates), _treatment(recipe, shift.ppm)), shift


def _treatment(recipe: Recipe, shift_ppm: float) -> Treatment:
    return Treatment(
        shift_ppm=shift_ppm,
        smoothing=recipe.smoothing,
        smoothing_points=recipe.smoothing_points,
        baseline=recipe.baseline,
        baseline_points=recipe.baseline_points,
    )


def _shift(msi: MsiFile, recipe: Recipe) -> Shift:
    return section_shift(
        msi,
        np.array(recipe.lock_mz),
        max_ppm=recipe.recalibrate_ppm,
        trusted=recipe.recalibrate == "lock",
    )


def sampled_spectrum(msi: MsiFile, recipe: Recipe, axis: MassAxis) -> np.ndarray:
    """Sums up to 2,000 spectra spread over a file, on the `shift_axis` of the data set's axis.

    Args:
        msi: An open file.
        recipe: Says how large a shift is looked for.
        axis: M bins, of the data set.

    Returns:
        float64 [N], with a total of about 1; see `recalibration.smooth_spectrum`.
    """
    return smooth_spectrum(msi, _shift_axis(recipe, axis))


def _shift_axis(recipe: Recipe, axis: MassAxis) -> MassAxis:
    return shift_axis(axis.mz[0], axis.mz[-1], recipe.recalibrate_ppm)


def with_reference(recipe: Recipe, axis: MassAxis, spectra: Iterable[np.ndarray]) -> Recipe:
    """Fills in the lock masses of "sums": the strongest peaks that the files show together.

    Args:
        recipe: The choices.
        axis: M bins, of the data set.
        spectra: `sampled_spectrum` of each deciding file, float64 [N].

    Raises:
        InputError: none shows a peak.
    """
    fine = _shift_axis(recipe, axis)
    total = np.zeros(len(fine.mz))
    for spectrum in spectra:
        total += spectrum
    return dataclasses.replace(recipe, lock_mz=tuple(reference_peaks(fine, total).tolist()))
