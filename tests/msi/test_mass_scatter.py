"""The scatter of ions over centroid spectra, and the bins and peaks that follow from it."""

import dataclasses

import numpy as np
import pytest

from msi2he_jax.data.cohort_axis import choose_axis, cohort_scatter_ppm
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.recipe import make_recipe
from msi2he_jax.data.survey import Survey, choose_peaks, survey_imzml
from msi2he_jax.msi import axes
from msi2he_jax.msi.axes import (
    estimate_axis_step_ppm,
    in_steps,
    ion_scatter_ppm,
    mass_axis,
    scatter_bins,
)
from msi2he_jax.msi.images import ion_images
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.mass_scatter import last_digit, mass_scatter
from msi2he_jax.msi.overview import named_ion_images, own_axis, own_peak_images
from msi2he_jax.msi.peaks import pick_peaks
from msi2he_jax.msi.spectra import summed_spectrum

ROWS, COLUMNS = 15, 20
GRID = [(x, y) for y in range(1, ROWS + 1) for x in range(1, COLUMNS + 1)]


def ions(rng, jitter_ppm, count=60, twins=12):
    """m/z apart from each other, the first of them with a neighbour 3 scatters above."""
    mz = np.sort(rng.uniform(150, 900, count))
    mz = mz[np.concatenate([[True], np.diff(mz) / mz[:-1] > 20e-6 * jitter_ppm])]
    return np.sort(np.concatenate([mz, mz[:twins] * (1 + 3e-6 * jitter_ppm)]))


def centroids(rng, mz, *, own_ppm=0.0, shift_ppm=0.0, digits=None, noise=30):
    """Spectra of a section: ions that are there or not, each with its error, and noise peaks."""
    level = rng.lognormal(6, 0.5, len(mz))
    for twin in np.flatnonzero(
        np.diff(mz) / mz[:-1] < 150e-6
    ):  # At 3 scatters a tall one hides a small one.
        level[twin + 1] = level[twin] * rng.uniform(0.8, 1)
    spectra = []
    for _ in GRID:
        there = rng.random(len(mz)) < 0.7
        error = rng.normal(0, own_ppm, there.sum()) + rng.normal(0, shift_ppm)
        found = np.concatenate([mz[there] * (1 + 1e-6 * error), rng.uniform(150, 900, noise)])
        found = found if digits is None else np.round(found, digits)
        y = np.concatenate([rng.poisson(level[there]), rng.poisson(15, noise)]) + 1.0
        order = np.argsort(found)
        spectra.append((found[order], y[order]))
    return spectra


def errors_ppm(found, truth):
    """Distance of each true ion to the nearest peak."""
    return np.abs(found[:, None] / truth - 1).min(0) * 1e6


CASES = [
    *((1.0, {"own_ppm": 1.0}), (4.0, {"own_ppm": 4.0}), (15.0, {"own_ppm": 15.0})),
    *((40.0, {"own_ppm": 40.0}), (4.0, {"shift_ppm": 4.0}), (5.0, {"own_ppm": 3, "shift_ppm": 4})),
]


@pytest.mark.parametrize(("scatter", "planted"), CASES)
def test_peaks_are_known_to_a_fraction_of_the_scatter(pair, scatter, planted):
    """Near-isobars three scatters apart stay apart, no ion is split, little signal is lost."""
    rng = np.random.default_rng(1)
    truth = ions(rng, scatter)
    file = open_imzml(pair(centroids(rng, truth, **planted), GRID, mode="centroid").path)
    assert ion_scatter_ppm(file) == pytest.approx(scatter, rel=0.35)
    made = own_axis(file)
    smooth = scatter_bins(made, ion_scatter_ppm(file))
    peaks = pick_peaks(
        made,
        summed_spectrum(file, made),
        count=len(truth),
        smooth_bins=smooth,
        min_separation_ppm=3 * made.step,
    )
    error = errors_ppm(peaks.mz, truth)
    assert np.median(error) < 0.3 * scatter and (error < scatter).mean() > 0.95
    # Each ion has one peak, and each peak one ion.
    assert (errors_ppm(truth, peaks.mz) < scatter).mean() > 0.95
    signal = ion_images(file, peaks, made).sum() / file.tic().sum()
    assert signal > 0.9
    _, own = own_peak_images(file, count=len(truth))
    assert np.median(errors_ppm(own, truth)) < 0.3 * scatter


def test_a_named_ion_is_read_nearly_whole_and_its_neighbour_is_not(pair):
    rng = np.random.default_rng(2)
    truth = np.array([300.0, 500.0, 500.0 * (1 + 40e-6), *np.linspace(600, 800, 40)])
    spectra = centroids(rng, truth, own_ppm=4.0, noise=0)
    file = open_imzml(pair(spectra, GRID, mode="centroid").path)
    near = sum(y[np.abs(mz / 500 - 1) < 20e-6].sum() for mz, y in spectra)
    assert named_ion_images(file, [500.0]).sum() == pytest.approx(near, rel=0.05)


@pytest.mark.parametrize("kind", ["tof", "orbitrap"])
def test_scatter_of_other_axes_is_that_at_mz_200(pair, kind):
    rng = np.random.default_rng(3)
    truth = ions(rng, 10.0, twins=0)
    relative = (truth / 200) ** {"tof": -0.5, "orbitrap": 0.5}[kind]
    spectra = []
    for _ in GRID:
        mz = truth * (1 + 1e-6 * relative * rng.normal(0, 10, len(truth)))
        spectra.append((np.sort(mz), rng.random(len(mz)) + 0.1))
    file = open_imzml(pair(spectra, GRID, mode="centroid").path)
    assert ion_scatter_ppm(file, kind) == pytest.approx(10, rel=0.25)
    assert estimate_axis_step_ppm(file, kind) == pytest.approx(5, rel=0.25)


@pytest.mark.parametrize(("digits", "own_ppm"), [(3, 0.3), (3, 4.0), (2, 4.0), (2, 15.0)])
def test_bins_are_not_finer_than_rounding(pair, digits, own_ppm):
    """Else each ion would be a comb, a peak for every value of the last digit."""
    rng = np.random.default_rng(4)
    truth = ions(rng, 40.0, twins=0)
    spectra = centroids(rng, truth, own_ppm=own_ppm, digits=digits)
    file = open_imzml(pair(spectra, GRID, mode="centroid").path)
    made, digit_ppm = own_axis(file), 10.0**-digits / 500 * 1e6
    assert made.step > 0.7 * digit_ppm
    smooth = scatter_bins(made, ion_scatter_ppm(file))
    peaks = pick_peaks(made, summed_spectrum(file, made), count=len(truth), smooth_bins=smooth)
    close = errors_ppm(peaks.mz, truth)
    assert np.median(close) < max(0.5 * own_ppm, 0.5 * digit_ppm)
    assert (errors_ppm(truth, peaks.mz) < 2 * max(own_ppm, digit_ppm)).mean() > 0.95


def test_channels_and_lists_do_not_scatter(pair):
    rng = np.random.default_rng(5)
    listed = np.sort(rng.uniform(150, 900, 200))
    spectra = [(listed[there], there[there] + 0.0) for there in rng.random((300, 200)) < 0.5]
    file = open_imzml(pair(spectra, GRID, mode="centroid").path)
    assert ion_scatter_ppm(file) is None
    rounded = [(np.round(mz, 1), y) for mz, y in spectra]
    few = np.unique(np.round(listed[::10], 1))
    assert last_digit(few) == 0 and last_digit(np.concatenate([m for m, _ in rounded])) in (0, 0.1)
    file = open_imzml(pair([(few, few)] * 300, GRID, mode="centroid").path)
    assert ion_scatter_ppm(file) is None


@pytest.mark.parametrize(("kind", "scatters"), [("ppm", 1), ("orbitrap", 2)])
def test_a_file_is_looked_at_once(pair, monkeypatch, kind, scatters):
    """However many ask: bins, ions and windows; "ppm" beside another kind of axis."""
    asked, real = [], axes.mass_scatter
    monkeypatch.setattr(axes, "mass_scatter", lambda spectra: asked.append(1) or real(spectra))
    rng = np.random.default_rng(8)
    file = open_imzml(pair(centroids(rng, ions(rng, 4.0), own_ppm=4.0), GRID, mode="centroid").path)
    recipe = dataclasses.replace(make_recipe("recommended"), axis_kind=kind)
    sample = Sample("s", "g", file.path, file.path, None)
    found = survey_imzml(sample, file, recipe, (50.0, 50.0), {})
    assert found.scatter_ppm == ion_scatter_ppm(file, kind) and len(found.ions)
    own_peak_images(file, count=3)
    assert len(asked) == scatters


def test_spectra_without_an_ion_in_common_do_not_tell():
    rng = np.random.default_rng(6)
    for count, points in ((1, 300), (6, 30), (100, 3000)):
        spectra = [(np.sort(rng.uniform(0, 2e6, points)), np.ones(points)) for _ in range(count)]
        assert mass_scatter(spectra) is None
    assert mass_scatter([]) is None
    assert mass_scatter([(np.zeros(0), np.zeros(0))] * 5) is None


def test_profiles_have_no_scatter(pair):
    mz = 100 * np.exp(np.arange(400) * 8e-6)
    assert ion_scatter_ppm(open_imzml(pair([(mz, np.ones(400))] * 6).path)) is None


def _survey(name, mz, scatter):
    values = (name, (150.0, 900.0), 2.0, np.inf, "centroid", "positive", False, (50, 50), {}, ())
    return Survey(*values, scatter_ppm=scatter, ions=tuple(mz))


def test_shifts_between_files_widen_the_bins():
    """Sections whose calibrations differ by 6 ppm: one ion must not become a peak per section."""
    rng = np.random.default_rng(7)
    truth = ions(rng, 20.0, count=120, twins=0)
    shifts = rng.normal(0, 6, 8)
    surveys = [_survey(f"s{i}", truth * (1 + 1e-6 * s), 1.5) for i, s in enumerate(shifts)]
    recipe = make_recipe("recommended")
    expected = np.hypot(1.5, 6)
    assert cohort_scatter_ppm(surveys, recipe) == pytest.approx(expected, rel=0.5)
    assert choose_axis(surveys, recipe).step == pytest.approx(expected / 2, rel=0.5)
    recalibrated = make_recipe("recommended", recalibrate="sums")
    assert cohort_scatter_ppm(surveys, recalibrated) == 1.5
    assert cohort_scatter_ppm([*surveys, _survey("x", truth, None)], recipe) is None


def test_peaks_of_a_cohort_are_smoothed_by_half_the_scatter():
    made = mass_axis("ppm", mz_min=200, mz_max=210, step=2.0)
    spectrum = np.zeros(len(made.mz))
    spectrum[[1000, 1002]] = 10, 9  # One ion, by chance in two bins that are not neighbours.
    recipe = make_recipe("recommended", min_separation_steps=0.0)
    assert len(choose_peaks(made, spectrum, recipe)) == 2
    assert len(choose_peaks(made, spectrum, recipe, None, 4.0)) == 1
    assert scatter_bins(mass_axis("fixed_da", mz_min=200, mz_max=210, step=0.01), 4.0) == 0


def test_steps_of_one_ppm():
    np.testing.assert_allclose(
        in_steps("ppm", np.array([200, 200 * (1 + 1e-6)])), [0, 1], atol=1e-6
    )
