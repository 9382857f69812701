"""From a list of samples to a data set, in two passes over the files.

Both passes are maps over samples with sums in between, so they run in one process, on a pool, or on
a cluster alike: `Each` is whatever maps a function over samples and leaves out those it gave up on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data import survey as surveying
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.pairs import make_pair
from msi2he_jax.data.plan import ScaleSample, make_plan
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.split import SPLITS
from msi2he_jax.data.survey import Survey
from msi2he_jax.errors import InputError

Each = Callable[[Callable[[Sample], Any], Sequence[Sample]], Iterator[tuple[Sample, Any]]]


def survey_cohort(
    manifest: Path, samples: Sequence[Sample], splits: dict[str, str], recipe: Recipe, each: Each
) -> dict[str, Survey]:
    """Opens all files once and checks that they belong together.

    Args:
        manifest: Named in messages.
        samples: The cohort.
        splits: Split by sample_id.
        recipe: `force` lets mixtures pass.
        each: Maps over samples.

    Returns:
        Surveys by sample_id, without samples that were given up.

    Raises:
        InputError: a damaged file, mixed kinds of data, or one measurement in two splits.
    """
    found = {s.sample_id: survey for s, survey in each(surveying.survey_sample, samples)}
    if not found:
        raise InputError(manifest, "", "no sample could be used")
    surveying.check_leakage(list(found.values()), splits, samples)
    mixed = surveying.mixtures(list(found.values()))
    if mixed and not recipe.force:
        hint = "make one data set of each kind, or pass --force"
        raise InputError(manifest, "samples", "; ".join(mixed), hint)
    return found


def plan_cohort(
    manifest: Path,
    samples: Sequence[Sample],
    splits: dict[str, str],
    recipe: Recipe,
    surveys: dict[str, Survey],
    each: Each,
) -> dict[str, Any]:
    """First pass over the spectra: chooses mass axis and peaks.

    Args:
        manifest: The manifest.
        samples: The cohort.
        splits: Split by sample_id.
        recipe: The choices.
        surveys: From `survey_cohort`.
        each: Maps over samples.

    Returns:
        The plan, see `plan.make_plan`.

    Raises:
        InputError: no sample to choose from, or no peak.
    """
    if any(survey.discrete for survey in surveys.values()):
        # Between single channels lies nothing that could be interpolated.
        recipe = dataclasses.replace(recipe, method=None)
    all_of_them = recipe.statistics == "all"
    deciding = [
        s
        for s in samples
        if s.sample_id in surveys and (all_of_them or splits[s.sample_id] == "train")
    ]
    if not deciding:
        raise InputError(manifest, "split", "the train split is empty", "peaks are chosen from it")
    chosen = [surveys[s.sample_id] for s in deciding]
    axis = surveying.choose_axis(chosen, recipe)
    gap = surveying.gap_tolerance_da(chosen, recipe)
    total, count = np.zeros(len(axis.mz)), 0
    summing = functools.partial(surveying.sample_spectrum, axis=axis, recipe=recipe, gap_tol_da=gap)
    for _, (spectrum, spectra) in each(summing, deciding):
        size = spectrum.sum() if recipe.mean_spectra else 1.0
        total, count = total + spectrum / (size or 1.0), count + spectra
    plan = make_plan(
        manifest,
        list(surveys.values()),
        recipe,
        axis=axis,
        spectrum=total,
        spectra=count,
        gap_tol_da=gap,
    )
    return plan | {"doubts": surveying.doubts(list(surveys.values()), recipe)}


def cohort_examples(
    samples: Sequence[Sample],
    splits: dict[str, str],
    surveys: dict[str, Survey],
    plan: dict[str, Any],
    each: Each,
) -> tuple[dict[str, Callable[[], Iterator[dict[str, Any]]]], Callable[[], None]]:
    """Second pass: makes the pairs of each split, one at a time.

    What is learned of each pair is added to `plan` while it is drawn.

    Args:
        samples: The cohort.
        splits: Split by sample_id.
        surveys: From `survey_cohort`.
        plan: From `plan_cohort`.
        each: Maps over samples.

    Returns:
        For each split a function that yields its examples; and one to call once all were drawn,
        which adds the intensity scale to the plan.
    """
    scale = ScaleSample()
    making = functools.partial(make_pair, provenance={**plan, "samples": []})

    def draw(split: str) -> Iterator[dict[str, Any]]:
        members = [s for s in samples if s.sample_id in surveys and splits[s.sample_id] == split]
        for sample, (example, record) in each(making, members):
            plan["samples"].append(_sample_record(sample, split, surveys) | record)
            if split == "train" or plan["scaling"]["statistics"] == "all":
                scale.add(example["msi"], example["msi_mask"])
            yield example

    def finish() -> None:
        plan["scaling"] = {**plan["scaling"], "scale": scale.scale()}
        order = [s.sample_id for s in samples]
        plan["samples"].sort(key=lambda record: order.index(record["sample_id"]))

    return {split: functools.partial(draw, split) for split in SPLITS}, finish


def _sample_record(sample: Sample, split: str, surveys: dict[str, Survey]) -> dict[str, Any]:
    survey = surveys[sample.sample_id]
    return {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "split": split,
        "section": sample.section,
        "msi_roi": sample.msi_roi,
        "histology_roi": sample.histology_roi,
        "sha256": survey.sha256,
        "mz_range": survey.mz_range,
        "doubts": survey.doubts,
    }
