"""From a list of samples to a data set, in two passes over the files.

Both passes are maps over units of work with sums in between, so they run in one process, on a pool,
or on a cluster alike: `Each` is whatever runs a function on units and yields those that went well.
A unit is a sample, or a range of the spectra of a large one; what ranges give is put together in
their order, so that the result never depends on who did the work.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from msi2he_jax.data import cohort_axis, consistency
from msi2he_jax.data import survey as surveying
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import Measured, measure, read_like
from msi2he_jax.data.pairs import make_pair, sample_arrays
from msi2he_jax.data.plan import ScaleSample, make_plan
from msi2he_jax.data.provenance import axis_of, axis_record
from msi2he_jax.data.reading import with_reference
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.split import SPLITS, no_train
from msi2he_jax.data.survey import Survey
from msi2he_jax.data.views import fit_views, pixels_to_fit
from msi2he_jax.data.work import Each, Finished, Unit, load, make_unit
from msi2he_jax.errors import InputError
from msi2he_jax.msi.normalization import size_floor
from msi2he_jax.msi.open_msi import msi_files
from msi2he_jax.msi.ranges import range_bounds

_NOT_FOR_PAIRS = ("manifest", "cohort", "simulated", "versions", "samples", "skipped", "warnings")


def survey_cohort(
    manifest: Path, samples: Sequence[Sample], splits: dict[str, str], recipe: Recipe, each: Each
) -> dict[str, Survey]:
    """Opens all files once and checks that they belong together.

    Args:
        manifest: Named in messages.
        samples: The cohort.
        splits: Split by sample_id.
        recipe: `force` lets mixtures pass.
        each: Runs units.

    Returns:
        Surveys by sample_id, without samples that were given up.

    Raises:
        InputError: a damaged file, mixed kinds of data, or one measurement in two splits.
    """
    # Only what the survey looks at: other choices must not have all files read again.
    names = ("duplicates", "axis_kind", "align")
    looked_at = Recipe(**{name: getattr(recipe, name) for name in names})
    units = [make_unit("survey", s, _file_states(s), recipe=looked_at) for s in samples]
    found = {done.unit.sample.sample_id: Survey(**done.result()) for done in each(_survey, units)}
    if not found:
        raise InputError(manifest, "", "no sample could be used")
    consistency.check_leakage(list(found.values()), splits, samples, manifest)
    if not recipe.force:
        consistency.refuse_mixtures(list(found.values()), manifest)
    return found


def _survey(sample: Sample, recipe: Recipe) -> dict[str, Any]:
    return vars(surveying.survey_sample(sample, recipe))


def _file_states(sample: Sample) -> list[Any]:
    """Tells versions of a sample's files apart without reading them: size, time, and start.

    An .ibd starts with the UUID of its pair.
    """
    paths = [value for value in vars(sample).values() if isinstance(value, Path)]
    with contextlib.suppress(InputError):  # Which the survey itself will say.
        paths += msi_files(sample.imzml)[1:]
    return [_file_state(path) for path in paths]


def _file_state(path: Path) -> list[Any]:
    if not path.is_file():
        return [str(path)]
    with open(path, "rb") as handle:
        start = handle.read(16).hex()
    return [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns, start]


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
        each: Runs units.

    Returns:
        The plan, see `plan.make_plan`.

    Raises:
        InputError: no sample to choose from, or no peak.
    """
    if any(survey.discrete for survey in surveys.values()):
        # Between single channels lies nothing that could be interpolated.
        recipe = dataclasses.replace(recipe, method=None)
    deciding = _deciding(samples, splits, surveys, recipe.statistics)
    if not deciding:
        raise no_train(manifest)
    chosen = [surveys[s.sample_id] for s in deciding]
    axis = cohort_axis.choose_axis(chosen, recipe)
    gap = cohort_axis.gap_tolerance_da(chosen, recipe)
    common = {"axis": axis_record(axis), "gap_tol_da": gap}
    if recipe.recalibrate == "sums":
        units = [_unit("file", s, surveys, **common, recipe=recipe) for s in deciding]
        spectra = (done.result() for _, (done,) in _by_sample(each, _file_spectrum, units, surveys))
        recipe = with_reference(recipe, axis, spectra)
    common["recipe"] = recipe
    total, count = _sum_spectra(deciding, surveys, common, each)
    plan = make_plan(
        manifest,
        list(surveys.values()),
        recipe,
        axis=axis,
        spectrum=total,
        spectra=count,
        gap_tol_da=gap,
        scatter_ppm=cohort_axis.cohort_scatter_ppm(chosen, recipe),
    )
    found = list(surveys.values())
    said = [*consistency.mixtures(found), *consistency.cohort_warnings(found, recipe)]
    return plan | {"warnings": said}


def _deciding(
    samples: Sequence[Sample], splits: dict[str, str], surveys: dict[str, Survey], statistics: str
) -> list[Sample]:
    """Returns the samples that decide peaks, scaling and fitted views."""
    usable = [s for s in samples if s.sample_id in surveys]
    return [s for s in usable if statistics == "all" or splits[s.sample_id] == "train"]


def _file_spectrum(sample: Sample, axis: dict[str, Any], **options: Any) -> np.ndarray:
    """The mass axis travels as its record, which is short."""
    return surveying.file_spectrum(sample, axis_of({"axis": axis}), **options)


def _for_pairs(plan: dict[str, Any]) -> dict[str, Any]:
    """What of a plan decides how a pair is made; the rest must not make finished ones stale."""
    return {name: value for name, value in plan.items() if name not in _NOT_FOR_PAIRS}


def _sum_spectra(
    deciding: Sequence[Sample], surveys: dict[str, Survey], common: dict[str, Any], each: Each
) -> tuple[np.ndarray, int]:
    """Sums the cohort's spectra: within ranges, then over ranges, then over samples."""
    floors, bins = _floors(deciding, surveys, common, each), common["axis"]["bins"]
    units = [
        _unit("sum", s, surveys, **common, bounds=bounds, floor=floors.get(s.sample_id))
        for s in deciding
        for bounds in _bounds(s, surveys)
    ]
    total, count = np.zeros(bins), 0
    for _, parts in _by_sample(each, _sum, units, surveys):
        spectrum = np.zeros(bins)
        for part, spectra in (done.result() for done in parts):
            spectrum, count = spectrum + part, count + spectra
        size = spectrum.sum() if common["recipe"].mean_spectra else 1.0
        total += spectrum / (size or 1.0)
    return total, count


def _sum(sample: Sample, axis: dict[str, Any], **options: Any) -> tuple[np.ndarray, int]:
    return surveying.sample_spectrum(sample, axis_of({"axis": axis}), **options)


def _sizes(sample: Sample, axis: dict[str, Any], **options: Any) -> np.ndarray:
    return surveying.sample_sizes(sample, axis_of({"axis": axis}), **options)


def _floors(
    deciding: Sequence[Sample], surveys: dict[str, Survey], common: dict[str, Any], each: Each
) -> dict[str, float]:
    """Finds the floor of sizes of samples that are summed in ranges; others find their own."""
    units = [
        _unit("sizes", s, surveys, **common, bounds=bounds)
        for s in _in_ranges(deciding, surveys)
        for bounds in _bounds(s, surveys)
    ]
    found = _by_sample(each, _sizes, units, surveys)
    return {
        sample.sample_id: size_floor(np.concatenate([done.result() for done in parts]))
        for sample, parts in found
    }


def _unit(stage: str, sample: Sample, surveys: dict[str, Survey], **arguments: Any) -> Unit:
    return make_unit(stage, sample, surveys[sample.sample_id].sha256, **arguments)


def _bounds(sample: Sample, surveys: dict[str, Survey]) -> list[tuple[int, int]] | list[None]:
    """Returns a sample's ranges of spectra; [None], which is all of them, where it is one."""
    survey = surveys.get(sample.sample_id)
    if survey is None:
        return []
    found = range_bounds(survey.spectra, survey.ibd_bytes)
    return found if len(found) > 1 else [None]


def _in_ranges(samples: Sequence[Sample], surveys: dict[str, Survey]) -> list[Sample]:
    return [s for s in samples if len(_bounds(s, surveys)) > 1]


def _by_sample(
    each: Each, function: Callable[..., Any], units: Sequence[Unit], surveys: dict[str, Survey]
) -> Iterator[tuple[Sample, list[Finished]]]:
    """Runs units and yields them by sample; a sample that lost one leaves the surveys."""
    expected = collections.Counter(unit.sample.sample_id for unit in units)
    for name, group in itertools.groupby(
        each(function, units), lambda done: done.unit.sample.sample_id
    ):
        parts = list(group)
        if len(parts) == expected.pop(name):
            yield parts[0].unit.sample, parts
        else:
            surveys.pop(name)
    for name in expected:
        surveys.pop(name)


def cohort_examples(
    samples: Sequence[Sample],
    splits: dict[str, str],
    surveys: dict[str, Survey],
    plan: dict[str, Any],
    each: Each,
) -> tuple[dict[str, Callable[[], Iterator[dict[str, Any]]]], Callable[[], None]]:
    """Second pass: makes the pairs of each split, one at a time.

    The values of samples in ranges are read here, of others while their pair is drawn. Views are
    fitted here, where the recipe wants that. What is learned is added to `plan`.

    Args:
        samples: The cohort.
        splits: Split by sample_id.
        surveys: From `survey_cohort`.
        plan: From `plan_cohort`.
        each: Runs units.

    Returns:
        For each split a function that yields its examples; and one to call once all were drawn,
        which adds the intensity scale to the plan.
    """
    scale = ScaleSample()
    to_fit = []
    if plan["recipe"]["view_fit"] == "train":
        to_fit = _deciding(samples, splits, surveys, plan["scaling"]["statistics"])
    parts = _measured(samples, to_fit, surveys, _for_pairs(plan), each)
    if to_fit:
        plan["view_models"] = _fit_views(to_fit, surveys, plan, parts, each)
    provenance = _for_pairs(plan)

    def draw(split: str) -> Iterator[dict[str, Any]]:
        units = [
            _unit("pair", s, surveys, provenance=provenance, parts=parts.get(s.sample_id))
            for s in samples
            if s.sample_id in surveys and splits[s.sample_id] == split
        ]
        for done in each(_pair, units):
            example, record = done.result()
            known = _sample_record(done.unit.sample, split, surveys)
            warnings = list(dict.fromkeys([*known["warnings"], *record["warnings"]]))
            plan["samples"].append(known | record | {"warnings": warnings})
            if split == "train" or plan["scaling"]["statistics"] == "all":
                scale.add(example["msi"], example["msi_mask"])
            yield example

    def finish() -> None:
        plan["scaling"] = {**plan["scaling"], "scale": scale.scale()}
        order = [s.sample_id for s in samples]
        plan["samples"].sort(key=lambda record: order.index(record["sample_id"]))

    return {split: functools.partial(draw, split) for split in SPLITS}, finish


def _measured(
    samples: Sequence[Sample],
    to_fit: Sequence[Sample],
    surveys: dict[str, Survey],
    provenance: dict[str, Any],
    each: Each,
) -> dict[str, tuple[str, ...]]:
    """Reads the ion values of samples in ranges, or needed twice; returns where they lie."""
    apart = [s for s in samples if len(_bounds(s, surveys)) > 1 or s in to_fit]
    units = [
        _unit("values", s, surveys, provenance=provenance, bounds=bounds)
        for s in apart
        for bounds in _bounds(s, surveys)
    ]
    found = _by_sample(each, _values, units, surveys)
    return {sample.sample_id: tuple(str(done.path) for done in parts) for sample, parts in found}


def _values(
    sample: Sample, provenance: dict[str, Any], bounds: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    msi, _ = read_like(sample.imzml, provenance)
    return vars(measure(msi, provenance, np.arange(*(bounds or (0, msi.n)))))


def _fit_views(
    to_fit: Sequence[Sample],
    surveys: dict[str, Survey],
    plan: dict[str, Any],
    parts: dict[str, tuple[str, ...]],
    each: Each,
) -> dict[str, Any]:
    units = [
        _unit("view", s, surveys, provenance=_for_pairs(plan), parts=parts[s.sample_id])
        for s in to_fit
        if s.sample_id in surveys
    ]
    found = [done.result() for _, (done,) in _by_sample(each, _view_pixels, units, surveys)]
    if not found:
        raise InputError("train", "", "no sample of this split could be used")
    with threadpool_limits(1):  # As for units: how sums are shared out decides their last bits.
        return fit_views(found, method=plan["view"], seed=plan["seed"])


def _view_pixels(
    sample: Sample, provenance: dict[str, Any], parts: tuple[str, ...]
) -> dict[str, Any]:
    arrays, _ = sample_arrays(sample, provenance, _loaded(parts))
    return pixels_to_fit(arrays, seed=provenance["seed"])


def _pair(sample: Sample, provenance: dict[str, Any], parts: tuple[str, ...] | None):
    return make_pair(sample, provenance, None if parts is None else _loaded(parts))


def _loaded(parts: tuple[str, ...]) -> Iterator[Measured]:
    return (Measured(**load(path)) for path in parts)


def _sample_record(sample: Sample, split: str, surveys: dict[str, Survey]) -> dict[str, Any]:
    survey = surveys[sample.sample_id]
    return {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "split": split,
        "section": sample.section,
        "msi_roi": sample.msi_roi,
        "histology_roi": sample.histology_roi,
        "histology_channels": sample.histology_channels,
        "sha256": survey.sha256,
        "mz_range": survey.mz_range,
        "warnings": survey.warnings,
    }
