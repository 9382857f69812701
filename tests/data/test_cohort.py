"""The passes over a cohort: sums over ranges and samples, and who is given up."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from msi2he_jax.data import cohort as cohorts
from msi2he_jax.data import survey, work
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.provenance import axis_record
from msi2he_jax.data.recipe import make_recipe
from msi2he_jax.errors import InputError
from msi2he_jax.msi import ranges
from msi2he_jax.msi.axes import mass_axis


@pytest.fixture
def each(tmp_path):
    """Runs units in this process; faults are listed in `each.faults`."""
    faults = []

    def run(function, units):
        return work.each(
            function,
            units,
            mapper=lambda call, items: iter_of(map(call, items)),
            folder=tmp_path,
            on_fault=lambda sample, error: faults.append((sample.sample_id, error.why)),
            on_found=lambda stage, done, count: None,
        )

    run.faults = faults
    return run


def iter_of(items):
    yield from items


@pytest.fixture
def surveyed(cohort, each):
    """Two samples of the cohort and their surveys."""
    samples = read_manifest(cohort)[:2]
    splits = {sample.sample_id: "train" for sample in samples}
    found = cohorts.survey_cohort(cohort, samples, splits, make_recipe("recommended"), each)
    return samples, found


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_the_cohorts_spectrum_is_the_sum_of_its_samples(surveyed, each, preset, monkeypatch):
    samples, surveys = surveyed
    recipe, axis = make_recipe(preset), mass_axis("ppm", mz_min=100, mz_max=900, step=50)
    common = {"axis": axis_record(axis), "recipe": recipe, "gap_tol_da": 0.05}
    expected, spectra = 0.0, 0
    for sample in samples:
        spectrum, count = survey.sample_spectrum(sample, axis, recipe, 0.05)
        expected = expected + spectrum / (spectrum.sum() if recipe.mean_spectra else 1.0)
        spectra += count
    total, count = cohorts._sum_spectra(samples, surveys, common, each)
    np.testing.assert_array_equal(total, expected)
    assert count == spectra
    monkeypatch.setattr(ranges, "RANGE_BYTES", surveys[samples[0].sample_id].ibd_bytes // 3)
    assert len(cohorts._bounds(samples[0], surveys)) >= 3
    total, count = cohorts._sum_spectra(samples, surveys, common, each)
    # Where steep lines cancel, a bin keeps the rounding of terms as tall as the tallest bin, in the
    # order in which this processor adds them: about 1e-12 of it, so 1e-11 allows for any processor.
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-11 * expected.max())
    assert count == spectra


def test_a_sample_that_loses_a_range_leaves_the_cohort(surveyed, each):
    samples, surveys = surveyed
    first, second = (sample.sample_id for sample in samples)
    units = [
        work.make_unit("values", sample, [], bounds=bounds)
        for sample in samples
        for bounds in ((0, 5), (5, 9))
    ]

    def function(sample, bounds):
        if sample.sample_id == first and bounds == (5, 9):
            raise InputError(sample.imzml, "spectrum 6", "is damaged")
        return bounds

    found = list(cohorts._by_sample(each, function, units, surveys))
    assert [sample.sample_id for sample, _ in found] == [second] == list(surveys)
    assert [done.result() for done in found[0][1]] == [(0, 5), (5, 9)]
    assert each.faults == [(first, "is damaged")]


def test_a_sample_that_loses_all_leaves_the_cohort(surveyed, each):
    samples, surveys = surveyed
    first, second = (sample.sample_id for sample in samples)
    units = [work.make_unit("values", sample, [], bounds=(0, 5)) for sample in samples]

    def function(sample, bounds):
        if sample.sample_id == first:
            raise InputError(sample.imzml, "spectrum 1", "is damaged")
        return bounds

    found = list(cohorts._by_sample(each, function, units, surveys))
    assert [sample.sample_id for sample, _ in found] == [second] == list(surveys)


def test_mixed_polarities_are_refused_unless_forced(cohort, each, monkeypatch):
    samples = read_manifest(cohort)[:2]
    splits = {sample.sample_id: "train" for sample in samples}
    survey_sample = survey.survey_sample

    def odd(sample, recipe):
        polarity = {samples[0].sample_id: "positive"}.get(sample.sample_id, "negative")
        return dataclasses.replace(survey_sample(sample, recipe), polarity=polarity)

    monkeypatch.setattr(survey, "survey_sample", odd)
    with pytest.raises(InputError, match=r"manifest\.csv: samples: .*polarit"):
        cohorts.survey_cohort(cohort, samples, splits, make_recipe("recommended"), each)
    forced = make_recipe("recommended", force=True)
    assert len(cohorts.survey_cohort(cohort, samples, splits, forced, each)) == 2


def test_files_are_told_apart_without_reading_them(cohort, tmp_path):
    sample = read_manifest(cohort)[0]
    before = cohorts._file_states(sample)
    assert before == cohorts._file_states(sample)
    assert {Path(path).suffix for path, *_ in before} >= {".imzML", ".ibd", ".csv"}
    copy = tmp_path / "points.csv"
    copy.write_bytes(sample.landmarks.read_bytes() + b"\n")
    assert cohorts._file_states(dataclasses.replace(sample, landmarks=copy)) != before
    gone = dataclasses.replace(sample, imzml=tmp_path / "gone.imzML")
    assert [str(gone.imzml)] in cohorts._file_states(gone)


def test_a_cohort_of_which_nothing_is_left(cohort, each):
    samples = [dataclasses.replace(s, landmarks=None) for s in read_manifest(cohort)[:1]]
    with pytest.raises(InputError, match=r"manifest\.csv: no sample could be used"):
        cohorts.survey_cohort(cohort, samples, {}, make_recipe("recommended"), each)
    assert [why for _, why in each.faults] == ["none are given"]
