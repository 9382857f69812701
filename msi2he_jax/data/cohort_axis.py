"""The mass axis of a cohort, from what the surveys of its files say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msi2he_jax.data.recipe import Recipe
from msi2he_jax.msi.axes import MassAxis, in_steps, mass_axis, scatter_step_ppm
from msi2he_jax.msi.mass_scatter import shift_scatter

if TYPE_CHECKING:
    from msi2he_jax.data.survey import Survey

_ROUND_MZ = 0.1


def ppm_kind(recipe: Recipe) -> str:
    """Returns the kind of axis that relative widths are estimated for."""
    return "ppm" if recipe.axis_kind == "fixed_da" else recipe.axis_kind


def cohort_scatter_ppm(surveys: Sequence[Survey], recipe: Recipe) -> float | None:
    """Estimates the scatter of an ion's m/z over a cohort: within files, and from file to file.

    Args:
        surveys: Those whose spectra decide.
        recipe: Kind of mass axis; where it recalibrates, files are taken not to differ.

    Returns:
        Standard deviation, ppm as `Survey.step_ppm`: the files' median, and that of their strongest
        ions over files added to it as variances; None unless all files have one.
    """
    within = [survey.scatter_ppm for survey in surveys if survey.scatter_ppm is not None]
    if not within or len(within) < len(surveys):
        return None
    kind = ppm_kind(recipe)
    usual, files = float(np.median(within)), [in_steps(kind, np.array(s.ions)) for s in surveys]
    between = shift_scatter(files, usual) if recipe.recalibrate == "none" else 0.0
    return float(np.hypot(usual, between))


def choose_axis(surveys: Sequence[Survey], recipe: Recipe) -> MassAxis:
    """Makes the mass axis: the recipe's range and step, or else the pooled range and a step.

    The step is half of `cohort_scatter_ppm`, else the least that a file suggests.

    Args:
        surveys: Those whose spectra may decide.
        recipe: `mz_min`, `mz_max`, `axis_kind` and `axis_step` (None = from the data).
    """
    low = min(s.mz_range[0] for s in surveys) if recipe.mz_min is None else recipe.mz_min
    high = max(s.mz_range[1] for s in surveys) if recipe.mz_max is None else recipe.mz_max
    if recipe.mz_min is None:
        low = max(math.floor(low / _ROUND_MZ) * _ROUND_MZ, _ROUND_MZ)
    if recipe.mz_max is None:
        high = math.ceil(high / _ROUND_MZ) * _ROUND_MZ
    step = recipe.axis_step
    if step is None:
        scatter = cohort_scatter_ppm(surveys, recipe)
        ppm = min(s.step_ppm for s in surveys) if scatter is None else scatter_step_ppm(scatter)
        step = ppm * 1e-6 * low if recipe.axis_kind == "fixed_da" else ppm
    return mass_axis(recipe.axis_kind, mz_min=low, mz_max=high, step=step)


def gap_tolerance_da(surveys: Sequence[Survey], recipe: Recipe) -> float | None:
    """Returns the widest gap that interpolation bridges, Da, or None for any."""
    gaps = [s.gap_tol_da for s in surveys]
    widest = math.inf if None in gaps else max(gaps)  # JSON keeps no infinity.
    return widest if recipe.limit_gaps and math.isfinite(widest) else None
