"""Aligns the samples of a cohort, where it is not their landmarks that say how they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data import alignment
from msi2he_jax.data.manifest import Alignment, Sample
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.survey import Survey
from msi2he_jax.data.work import Each, Unit, make_unit
from msi2he_jax.io_safety import sha256
from msi2he_jax.registration.transforms import Displacement


def align_cohort(
    samples: Sequence[Sample], surveys: dict[str, Survey], recipe: Recipe, folder: Path, each: Each
) -> list[Sample]:
    """Finds where samples lie on their slides, where it is not their landmarks that say it.

    Args:
        samples: The cohort.
        surveys: From `survey_cohort`; samples that could not be aligned leave it.
        recipe: `align` and `seed`.
        folder: What `register` wrote, for "given".
        each: Runs units.

    Returns:
        The samples, with their alignment.
    """
    if recipe.align == alignment.LANDMARKS:
        return list(samples)
    given = folder if recipe.align == "given" else None
    units = [
        _unit(s, surveys, seed=recipe.seed, folder=given) for s in samples if s.sample_id in surveys
    ]
    found = {done.unit.sample.sample_id: done.result() for done in each(_align, units)}
    for name in set(surveys) - set(found):
        surveys.pop(name)
    return [
        dataclasses.replace(s, alignment=_alignment(**found[s.sample_id]))
        for s in samples
        if s.sample_id in found
    ]


def _unit(sample: Sample, surveys: dict[str, Survey], *, seed: int, folder: Path | None) -> Unit:
    content = [surveys[sample.sample_id].sha256]
    path = folder and folder / sample.sample_id
    content += [sha256(file) for file in sorted(path.glob("*")) if file.is_file()] if path else []
    return make_unit("align", sample, content, seed=seed, folder=folder)


def _align(sample: Sample, seed: int, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        found = alignment.align_automatically(sample, seed=seed)
    else:
        found = alignment.read_alignment(sample, folder)
    field = found.displacement and vars(found.displacement)
    return {"matrix": found.matrix, "record": found.record, "field": field}


def _alignment(matrix: np.ndarray, record: dict[str, Any], field: dict | None) -> Alignment:
    return Alignment(matrix, record, None if field is None else Displacement(**field))
