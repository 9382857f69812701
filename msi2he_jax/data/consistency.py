"""Do the files of a cohort belong together: mixed kinds, copies in two splits, pixel sizes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.survey import Survey
from msi2he_jax.errors import InputError

_MOST_UPSAMPLING = 3.0


def mixtures(surveys: Sequence[Survey]) -> list[str]:
    """Lists in words why the files should not be put together; empty where they should."""
    found: list[str] = []
    if not surveys:
        return found
    kinds = {
        "spectrum types": [s.spectrum_type for s in surveys],
        "polarities": [s.polarity for s in surveys],
        "files of single channels and of spectra": [str(s.discrete) for s in surveys],
    }
    for name, values in kinds.items():
        known = Counter(value for value in values if value is not None)
        if len(known) > 1:
            rarest = min(known, key=known.get)
            which = surveys[values.index(rarest)].sample_id
            counts = ", ".join(f"{count} {value}" for value, count in sorted(known.items()))
            found.append(f"{name} are mixed: {counts}; {which} is one of the fewer")
    low = max(surveys, key=lambda s: s.mz_range[0])
    high = min(surveys, key=lambda s: s.mz_range[1])
    if low.mz_range[0] > high.mz_range[1]:
        found.append(
            f"m/z ranges do not overlap: {high.sample_id} ends at {high.mz_range[1]:.4f}, "
            f"{low.sample_id} starts at {low.mz_range[0]:.4f}"
        )
    return found


def refuse_mixtures(surveys: Sequence[Survey], manifest: str | os.PathLike) -> None:
    """Refuses files that should not be put together.

    Raises:
        InputError: why, see `mixtures`.
    """
    mixed = mixtures(surveys)
    if mixed:
        hint = "make one data set of each kind, or pass --force"
        raise InputError(manifest, "samples", "; ".join(mixed), hint)


def cohort_warnings(surveys: Sequence[Survey], recipe: Recipe) -> list[str]:
    """Lists in words what makes the data set less than it should be, mixtures apart."""
    found = []
    centroid = sum(s.spectrum_type == "centroid" for s in surveys)
    if recipe.preset == "paper" and recipe.method is None and centroid:
        found.append(
            f"{centroid} samples with centroid spectra were summed into bins, not interpolated as "
            "published, which would invent signal between their peaks"
        )
    if recipe.method == "linear" and centroid:
        found.append(
            f"{centroid} samples with centroid spectra were interpolated, which "
            "invents signal between their peaks"
        )
    return found + _upsampling(surveys, recipe)


def target_um(surveys: Sequence[Survey], recipe: Recipe) -> float:
    """Returns the pixel size of all pairs, um: the recipe's, or half the finest measurement's."""
    return recipe.target_um_per_px or min(min(s.pixel_size_um) for s in surveys) / 2


def _upsampling(surveys: Sequence[Survey], recipe: Recipe) -> list[str]:
    """Names the section whose fine pixels make the grid of all too fine for the others."""
    um = target_um(surveys, recipe)
    factors = {s.sample_id: max(s.pixel_size_um) / um for s in surveys}
    many = sum(factor > _MOST_UPSAMPLING for factor in factors.values())
    if recipe.fit_px or not many:
        return []
    most = max(factors, key=factors.get)
    finest = min(surveys, key=lambda s: min(s.pixel_size_um))
    usual = float(np.median([min(s.pixel_size_um) for s in surveys]))
    return [
        f"the grid of all pairs is {um:g} um/px: pixels of {many} of {len(surveys)} sections are "
        f"drawn more than {_MOST_UPSAMPLING:g} times finer, those of {most} {factors[most]:.3g} "
        f"times; the finest section is {finest.sample_id} ({min(finest.pixel_size_um):g} um). "
        f"--target_um_per_px={max(um, usual / 2):g} makes smaller pairs"
    ]


def check_leakage(
    surveys: Sequence[Survey],
    splits: dict[str, str],
    samples: Sequence[Sample],
    manifest: str | os.PathLike = "manifest",
) -> None:
    """Refuses a copy of one measurement or slide, under another name, in another split.

    Raises:
        InputError: names the two samples.
    """
    for error in leaks(surveys, splits, samples, manifest):
        raise error


def leaks(
    surveys: Sequence[Survey],
    splits: dict[str, str],
    samples: Sequence[Sample],
    manifest: str | os.PathLike,
) -> Iterator[InputError]:
    """Yields what `check_leakage` refuses, one error for each measurement or slide."""
    of = {sample.sample_id: sample for sample in samples}
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for survey in surveys:
        name = survey.sample_id
        for what, content, path in _identities(survey, of[name]):
            other, place = first.setdefault((what, content), (name, path.resolve()))
            if splits[other] != splits[name] and place != path.resolve():
                why = f"{other} ({splits[other]}) and {name} ({splits[name]}) hold the same {what}"
                yield InputError(manifest, "split", why, "give both the same group_id")


def _identities(survey: Survey, sample: Sample) -> list[tuple[str, str, Path]]:
    """Lists what tells a sample's files from all others, and the file."""
    found = [
        ("spectra", survey.sha256.get("ibd", ""), sample.imzml),
        ("measurement (by its UUID)", survey.uuid.strip("0-"), sample.imzml),
        ("slide", survey.sha256.get("histology", ""), sample.histology),
    ]
    return [each for each in found if each[1]]
