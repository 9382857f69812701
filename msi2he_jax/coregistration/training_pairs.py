"""Aligns training pairs where it is not their landmarks that say how they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.coregistration.moving import msi_picture
from msi2he_jax.coregistration.section_pair import section_pair
from msi2he_jax.data.alignment import LANDMARKS, median_error_um
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.survey import Survey
from msi2he_jax.data.work import Each, Unit, make_unit
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_folder, sha256
from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import scale_warnings
from msi2he_jax.registration.export import JSON_NAME, TransformRecord, read_transform
from msi2he_jax.registration.landmarks import read_landmarks
from msi2he_jax.registration.transforms import Displacement, Transform
from msi2he_jax.registration.verdict import RELIABLE


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
    if recipe.align == LANDMARKS:
        return list(samples)
    given = folder if recipe.align == "given" else None
    units = [
        _unit(s, surveys, seed=recipe.seed, folder=given) for s in samples if s.sample_id in surveys
    ]
    found = {done.unit.sample.sample_id: done.result() for done in each(_align, units)}
    for name in set(surveys) - set(found):
        surveys.pop(name)
    return [
        dataclasses.replace(s, alignment=_alignment(found[s.sample_id]))
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
        found = align_automatically(sample, seed=seed)
    else:
        found = read_alignment(sample, folder)
    matrix, field = found.transform.matrix, found.transform.displacement
    plain = {"matrix": matrix, "field": field and vars(field)}
    return plain | {"method": found.method, "scores": found.scores}


def _alignment(found: dict[str, Any]) -> TransformRecord:
    field = None if found["field"] is None else Displacement(**found["field"])
    return TransformRecord(Transform(found["matrix"], field), found["method"], found["scores"])


def align_automatically(sample: Sample, *, seed: int = 0) -> TransformRecord:
    """Aligns a sample without its landmarks: all ions against the slide.

    What the verdict does not call reliable is an error, never a pair.

    Args:
        sample: One sample. Landmarks, where it has any, only score the result.
        seed: Of the starting angles.

    Raises:
        InputError: the alignment is not reliable, or a file is no good.
    """
    # Here, since every process of a pool would otherwise load jax for the landmarks of others.
    from msi2he_jax.coregistration.coregister import CoregisterOptions, coregister

    pair = section_pair(sample, msi_picture("ions", sample, seed=seed))
    found = coregister(pair, CoregisterOptions(seed=seed))
    verdict = found.verdict
    if verdict.word != RELIABLE:
        hint = "mark landmarks, or leave it out: --on_error=skip"
        why = f"{verdict.word}: {verdict.reason}"
        raise InputError(f"sample {sample.sample_id}", "--align", why, hint)
    record = {"score": found.search.score, **verdict.as_row()}
    record |= _landmark_error(sample, found.transform) | _shape(found.transform.matrix)
    return TransformRecord(found.transform, found.method, record)


def _landmark_error(sample: Sample, transform: Transform) -> dict[str, float]:
    if sample.landmarks is None:
        return {}
    affine = Transform(transform.matrix)
    return {"landmark_median_um": median_error_um(affine, read_landmarks(sample.landmarks))}


def _shape(matrix: np.ndarray) -> dict[str, Any]:
    known = {"leave_one_out_median_um": None, "warnings": scale_warnings(matrix, "the alignment")}
    return known | transforms.decompose(matrix)


def read_alignment(sample: Sample, folder: Path) -> TransformRecord:
    """Takes a sample's alignment from a folder that `register` wrote.

    Args:
        sample: One sample.
        folder: Holds SAMPLE/transform.json.

    Raises:
        InputError: no such file, or not a transform.
    """
    path = existing_folder(folder, "--align") / sample.sample_id / JSON_NAME
    found = read_transform(path)
    record = _landmark_error(sample, found.transform) | _shape(found.transform.matrix)
    return TransformRecord(found.transform, f"given ({found.method})", record)
