"""What a cohort's files say: what may not be mixed, which axis, which peaks, whose spectra."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from msi2he_jax.data.cohort_axis import choose_axis, gap_tolerance_da
from msi2he_jax.data.consistency import check_leakage, cohort_warnings, mixtures
from msi2he_jax.data.manifest import Sample, read_manifest
from msi2he_jax.data.recipe import PRESETS, make_recipe
from msi2he_jax.data.survey import (
    Survey,
    choose_peaks,
    sample_spectrum,
    survey_sample,
)
from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import mass_axis

PLAIN = Survey("s0", (100.02, 900.0), 10.0, 0.05, "profile", "negative", False, (50, 50), {}, ())


def _with(**changes):
    return dataclasses.replace(PLAIN, sample_id="s1", **changes)


def test_one_kind_is_no_mixture():
    assert mixtures([PLAIN, _with(mz_range=(800.0, 1500.0)), _with(spectrum_type=None)]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spectrum_type": "centroid"}, "spectrum types are mixed: 1 centroid, 2 profile; s1"),
        ({"polarity": "positive"}, "polarities are mixed: 2 negative, 1 positive; s1"),
        ({"discrete": True}, "single channels and of spectra are mixed"),
        ({"mz_range": (901.0, 950.0)}, "m/z ranges do not overlap: s0 ends at 900.0000, s1 starts"),
    ],
)
def test_mixtures_are_named(changes, expected):
    (found,) = mixtures([PLAIN, PLAIN, _with(**changes)])
    assert expected in found


def test_axis_from_the_data_and_from_the_recipe():
    surveys = [PLAIN, _with(mz_range=(150.0, 950.03), step_ppm=4.0)]
    axis = choose_axis(surveys, make_recipe("recommended"))
    assert (axis.kind, axis.step) == ("ppm", 4.0)
    assert axis.mz[0] == pytest.approx(100.0) and 950.1 <= axis.mz[-1] < 950.11
    axis = choose_axis(
        surveys, make_recipe("recommended", mz_min=200.0, mz_max=300.0, axis_step=20.0)
    )
    assert axis.step == 20 and axis.mz[0] == 200 and axis.mz[-1] == pytest.approx(300, abs=0.01)
    axis = choose_axis(surveys, PRESETS["paper"])
    assert (axis.kind, axis.step) == ("fixed_da", 0.01)


def test_gap_tolerance():
    assert gap_tolerance_da([PLAIN, _with(gap_tol_da=0.2)], make_recipe("recommended")) == 0.2
    assert gap_tolerance_da([PLAIN], make_recipe("paper")) is None
    assert gap_tolerance_da([_with(gap_tol_da=np.inf)], make_recipe("recommended")) is None


def test_excluded_ions_are_no_peaks():
    axis = mass_axis("ppm", mz_min=100, mz_max=200, step=100)
    spectrum = np.zeros(len(axis.mz))
    spectrum[[500, 2000, 4000]] = 3, 2, 1
    solvent = axis.mz[500] * (1 + 2e-5)
    recipe = make_recipe("recommended", peaks=2, exclude_mz=(solvent,))
    np.testing.assert_allclose(choose_peaks(axis, spectrum, recipe).mz, axis.mz[[2000, 4000]])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sha256": {"ibd": "same"}}, "spectra"),
        ({"sha256": {"histology": "same"}}, "slide"),
        ({"uuid": "51cf9d8f-0000-4000-8000-000000000001"}, r"measurement \(by its UUID\)"),
    ],
)
def test_copies_in_two_splits_are_refused(changes, what):
    samples = [Sample(f"s{i}", f"p{i}", Path(f"{i}.imzML"), Path(f"{i}.png")) for i in range(2)]
    surveys = [dataclasses.replace(s, **changes) for s in (PLAIN, _with())]
    check_leakage(surveys, {"s0": "train", "s1": "train"}, samples)
    with pytest.raises(InputError, match=rf"s0 \(train\) and s1 \(test\) hold the same {what}"):
        check_leakage(surveys, {"s0": "train", "s1": "test"}, samples)


def test_regions_of_one_file_and_uuids_of_zeros_are_no_copies():
    samples = [Sample(f"s{i}", f"p{i}", Path("one.imzML"), Path("one.png")) for i in range(2)]
    content = {"sha256": {"ibd": "same", "histology": "same"}, "uuid": "same"}
    splits = {"s0": "train", "s1": "test"}
    check_leakage([dataclasses.replace(s, **content) for s in (PLAIN, _with())], splits, samples)
    apart = [dataclasses.replace(each, imzml=Path(each.sample_id)) for each in samples]
    zeros = {"uuid": "00000000-0000-0000-0000-000000000000"}
    check_leakage([dataclasses.replace(s, **zeros) for s in (PLAIN, _with())], splits, apart)


def test_survey_and_summed_spectrum_of_a_section(cohort):
    sample = read_manifest(cohort)[0]
    survey = survey_sample(sample)
    assert (survey.spectrum_type, survey.discrete) == ("profile", False)
    assert set(survey.sha256) == {"imzml", "ibd", "histology", "landmarks"}
    recipe = make_recipe("recommended")
    axis = choose_axis([survey], recipe)
    tissue, on_tissue = sample_spectrum(sample, axis, recipe, 0.05)
    everywhere = dataclasses.replace(recipe, tissue_only=False)
    whole, measured = sample_spectrum(sample, axis, everywhere, 0.05)
    assert 0.2 * measured < on_tissue < 0.8 * measured
    tissue, whole = tissue / tissue.sum(), whole / whole.sum()
    # Glass gives chemical noise and little else: what is tallest on tissue is taller there.
    assert tissue[tissue.argmax()] > 1.1 * whole[tissue.argmax()]


def test_survey_finds_bad_landmarks_early(cohort, tmp_path):
    sample = dataclasses.replace(read_manifest(cohort)[0], landmarks=None)
    with pytest.raises(InputError, match="landmarks"):
        survey_sample(sample)


def test_recipe():
    assert make_recipe("paper", peaks=None).peaks == 50
    assert make_recipe("paper", target_um_per_px=10.0).fit_px == 0
    assert make_recipe("recommended", padding="black").pad_value == 0
    with pytest.raises(InputError, match="one of recommended, paper"):
        make_recipe("papers")


def test_a_fine_section_that_makes_the_grid_of_all_too_fine_is_named():
    fine, recipe = _with(pixel_size_um=(14, 14)), make_recipe("recommended")
    third = dataclasses.replace(PLAIN, sample_id="s2")
    assert cohort_warnings([PLAIN, _with(pixel_size_um=(40, 40))], recipe) == []
    (said,) = cohort_warnings([PLAIN, third, fine], recipe)
    assert said.startswith("the grid of all pairs is 7 um/px: pixels of 2 of 3 sections are drawn")
    assert "those of s0 7.14 times; the finest section is s1 (14 um)" in said
    assert "--target_um_per_px=25 makes smaller pairs" in said
    chosen = make_recipe("recommended", target_um_per_px=25)
    assert (
        cohort_warnings(
            [PLAIN, third, fine],
            chosen,
        )
        == []
    )
    assert cohort_warnings([PLAIN, fine], make_recipe("paper")) == []
