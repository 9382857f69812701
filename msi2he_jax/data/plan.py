"""The plan of a data set: all that is decided before the first pair is made, as its provenance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data.consistency import target_um
from msi2he_jax.data.provenance import FORMAT, axis_record, peaks_record, versions
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.survey import Survey, choose_peaks, size_kind
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json, sha256
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.images import PERCENTILE, intensity_scale

_PIXELS_PER_SAMPLE = 20_000


def make_plan(
    manifest: Path,
    surveys: Sequence[Survey],
    recipe: Recipe,
    *,
    axis: MassAxis,
    spectrum: np.ndarray,
    spectra: int,
    gap_tol_da: float | None,
    scatter_ppm: float | None = None,
) -> dict[str, Any]:
    """Writes down how pairs will be made; the data set's provenance grows from it.

    Args:
        manifest: The manifest; a `cohort.json` beside it marks a simulated one.
        surveys: Of all samples.
        recipe: The choices.
        axis: M bins.
        spectrum: float64 [M], the cohort's summed spectrum.
        spectra: How many spectra went into it.
        gap_tol_da: Da, or None.
        scatter_ppm: Of an ion's m/z over the deciding files, see `cohort_axis.cohort_scatter_ppm`.

    Returns:
        A provenance without samples, counts and scale.

    Raises:
        InputError: the spectrum holds no peak.
    """
    kinds = _kinds(surveys)
    peaks = choose_peaks(axis, spectrum, recipe, kinds["polarity"], scatter_ppm)
    target = target_um(surveys, recipe)
    return {
        "format": FORMAT,
        "versions": versions(),
        "simulated": False,
        **_cohort(manifest),
        "preset": recipe.preset,
        "recipe": dataclasses.asdict(recipe),
        "manifest": {"name": manifest.name, "sha256": sha256(manifest)},
        "spectra": kinds | {"scatter_ppm": scatter_ppm, "summed": spectra},
        "axis": axis_record(axis),
        "rebin": {"method": recipe.method, "gap_tol_da": gap_tol_da, "window": "bounds"},
        "peaks": peaks_record(peaks),
        "peak_names": list(recipe.listed_names),
        "normalization": size_kind(recipe.normalization, any(s.discrete for s in surveys)),
        "scaling": {
            "transform": recipe.transform,
            "percentile": PERCENTILE,
            "statistics": recipe.statistics,
        },
        "grid": {"fit_px": recipe.fit_px, "target_um_per_px": None if recipe.fit_px else target},
        "padding": recipe.padding,
        "pad_value": recipe.pad_value,
        "view": recipe.view,
        "seed": recipe.seed,
        "samples": [],
        "skipped": [],
        "warnings": [],
    }


def _kinds(surveys: Sequence[Survey]) -> dict[str, Any]:
    """What all spectra are; None where they differ."""
    names = ("spectrum_type", "polarity", "discrete")
    return {name: _agreed([getattr(survey, name) for survey in surveys]) for name in names}


def _agreed(values: list) -> Any:
    """Returns the one value that all known ones share, or None."""
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def _cohort(manifest: Path) -> dict[str, Any]:
    """Reads what the simulator left beside the manifest, if it did."""
    path = manifest.parent / "cohort.json"
    if not path.is_file():
        return {}
    cohort = read_json(path)
    if not isinstance(cohort, dict):
        raise InputError(path, "", "is not a JSON object", "remove it if it is not the simulator's")
    return {"simulated": bool(cohort.get("simulated", True)), "cohort": cohort}


class ScaleSample:
    """Collects pixels of pairs, at most 20,000 evenly spread ones of each, to scale by."""

    def __init__(self):
        self._pixels: list[np.ndarray] = []

    def add(self, msi: np.ndarray, mask: np.ndarray) -> None:
        """Adds a pair.

        Args:
            msi: float32 [H, W, K].
            mask: bool [H, W].
        """
        pixels = msi[mask]
        self._pixels.append(pixels[:: max(1, -(-len(pixels) // _PIXELS_PER_SAMPLE)), None])

    def scale(self) -> list[float]:
        """Returns each channel's 99.5th percentile.

        Raises:
            InputError: no pair was added.
        """
        if not self._pixels:
            raise InputError("train", "", "no sample of this split could be used")
        masks = [np.ones(pixels.shape[:2], bool) for pixels in self._pixels]
        return intensity_scale(self._pixels, masks).tolist()
