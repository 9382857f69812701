"""Planted shifts come back, and random lists give none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.recalibration import (
    Shift,
    apex_mz,
    estimate_shift_ppm,
    reference_peaks,
    section_shift,
    shift_axis,
    smooth_spectrum,
    spectrum_shift,
)
from msi2he_jax.msi.spectra import summed_spectrum
from msi2he_jax.msi.treatment import Treatment, treat

STEP_PPM = 10.0
AXIS = mass_axis("ppm", mz_min=100.0, mz_max=600.0, step=STEP_PPM)
POSITIONS = [(x, y) for y in (1, 2, 3) for x in (1, 2, 3)]


def ions(rng, shift_ppm, references, noise):
    """Seven in ten references, shifted, and as many peaks that are none: m/z and abundance."""
    there = references[rng.random(len(references)) < 0.7]
    mz = there * (1 + (shift_ppm + rng.normal(0, 0.7, len(there))) * 1e-6)
    mz = np.concatenate([mz, rng.uniform(101, 599, noise)])
    return mz, rng.gamma(2.0, 100.0, len(mz))


def centroid_spectra(rng, mz, abundance):
    """Each ion in most pixels, 2 ppm off at random."""
    spectra = []
    for _ in POSITIONS:
        seen = rng.random(len(mz)) < 0.8
        measured = mz[seen] * (1 + rng.normal(0, 2e-6, seen.sum()))
        order = np.argsort(measured)
        spectra.append((measured[order], rng.poisson(abundance[seen])[order].astype(np.float32)))
    return spectra


def profile_spectra(rng, mz, abundance):
    """Peaks of 40 ppm full width, measured every 8 ppm on a grid of its own."""
    grid = 100 * np.exp((np.arange(224_000) + rng.random()) * 8e-6)
    spectra = []
    for _ in POSITIONS:
        y = np.zeros(len(grid))
        for centre, height in zip(mz, rng.poisson(abundance), strict=True):
            at = slice(*np.searchsorted(grid, centre * (1 + np.array([-1e-4, 1e-4]))))
            y[at] += height * np.exp(-(((grid[at] / centre - 1) / 17e-6) ** 2) / 2)
        kept = y > 0
        spectra.append((grid[kept], y[kept].astype(np.float32)))
    return spectra


@pytest.mark.parametrize("mode", ["centroid", "profile"])
@pytest.mark.parametrize("shift_ppm", [-20.0, -7.3, 0.0, 4.9, 20.0])
def test_a_planted_shift_is_found_and_undone(pair, mode, shift_ppm):
    rng = np.random.default_rng(int(shift_ppm * 10) + 1000)
    references = np.sort(rng.uniform(105, 595, 50))
    make = centroid_spectra if mode == "centroid" else profile_spectra
    spectra = make(rng, *ions(rng, shift_ppm, references, 40))
    file = open_imzml(pair(spectra, POSITIONS, mode=mode).path)
    found = section_shift(file, references, max_ppm=30.0)
    assert found.why == "" and 20 <= found.matched <= 50
    assert found.ppm == pytest.approx(shift_ppm, abs=0.15 * STEP_PPM)
    assert found.spread_ppm < STEP_PPM
    treated = treat(file, Treatment(shift_ppm=found.ppm))
    rest = section_shift(treated, references, max_ppm=30.0)
    assert rest.ppm == pytest.approx(0.0, abs=0.05 * STEP_PPM)
    # On the cohort's axis, where a bin may swallow a cloud of centroids whole:
    coarse = spectrum_shift(AXIS, summed_spectrum(file, AXIS), references, max_ppm=30.0)
    tolerance = 0.2 if mode == "profile" else 0.35
    assert coarse.ppm == pytest.approx(shift_ppm, abs=tolerance * STEP_PPM)


def test_a_cohort_is_its_own_reference(pair, tmp_path):
    """Sections differ by what was planted, whatever they are in common; kinds may be mixed."""
    rng = np.random.default_rng(5)
    known, abundance = np.sort(rng.uniform(105, 595, 60)), rng.gamma(2.0, 100.0, 60)
    planted, files = [0.0, 6.0, -9.0, 3.0], []
    for number, shift_ppm in enumerate(planted):
        make = profile_spectra if number == 3 else centroid_spectra
        spectra = make(rng, known * (1 + shift_ppm * 1e-6), abundance)
        written = pair(spectra, POSITIONS, mode="profile" if number == 3 else "centroid")
        for path in (written.path, written.ibd):
            path.rename(tmp_path / f"section{number}{path.suffix}")
        files.append(open_imzml(tmp_path / f"section{number}.imzML"))
    axis = shift_axis(100.0, 600.0, 40.0)
    references = reference_peaks(axis, sum(smooth_spectrum(file, axis) for file in files))
    found = np.array([section_shift(file, references, max_ppm=40.0).ppm for file in files])
    np.testing.assert_allclose(found - found[0], planted, atol=1.5)


def test_a_file_without_signal_says_so(pair):
    file = open_imzml(pair([(np.linspace(150, 160, 30), np.zeros(30))] * 6).path)
    found = section_shift(file, [152.0, 155.0, 158.0], max_ppm=20.0)
    assert found == Shift(0.0, 0, 0.0, "the spectrum is empty")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shift_ppm=st.floats(-20, 20),
    references=st.integers(12, 200),
    noise=st.integers(0, 1000),
)
def test_peak_lists(seed, shift_ppm, references, noise):
    rng = np.random.default_rng(seed)
    known = np.sort(rng.uniform(105, 595, references))
    mz, height = ions(rng, shift_ppm, known, noise)
    found = estimate_shift_ppm(mz, height, known, max_ppm=30.0, strongest=2000)
    assert found.why or found.ppm == pytest.approx(shift_ppm, abs=2.0)
    again = estimate_shift_ppm(mz[::-1], height[::-1] * 7, known[::-1], max_ppm=30, strongest=2000)
    assert again.ppm == pytest.approx(found.ppm, abs=1e-9) and again.matched == found.matched


def test_random_lists_give_no_shift():
    """Of 300 pairs of unrelated lists hardly any (1 in 100 is allowed for) seem to agree."""
    false = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        mz, known = rng.uniform(100, 600, 200), rng.uniform(100, 600, 30 + seed)
        found = estimate_shift_ppm(mz, rng.gamma(1, 1, 200), known, max_ppm=30.0)
        false += found.ppm != 0
        assert (found.ppm == 0.0 and found.spread_ppm == 0.0) or found.why == ""
    assert false <= 6


def test_too_few_matches_say_so():
    found = estimate_shift_ppm([200.0, 300.0], [1, 1], [200.001, 300.001, 400.0], max_ppm=10)
    why = "2 of 3 references have a peak within 10 ppm, at least 3 are needed"
    assert found == Shift(0.0, 2, 0.0, why)
    none = estimate_shift_ppm([], [], [200.0], max_ppm=10, trusted=True)
    assert none.matched == 0 and none.why.startswith("0 of 1 references have a peak")


def test_scattered_matches_say_so():
    known = np.array([100.0, 200, 300, 400])
    off = np.array([-9, -3, 3, 9])
    found = estimate_shift_ppm(known * (1 + off * 1e-6), np.ones(4), known, max_ppm=10)
    assert found.ppm == 0.0
    assert found.why == "only 1 of 4 matches agree, which may be chance"


def test_ambiguous_matches_are_dropped():
    """Two peaks beside one reference, and one peak between two references, do not count."""
    known = np.array([100.0, 200.0, 300.0, 400.0, 500.0, 500.001])
    clear = known[:4] * (1 + 5e-6)
    mz = np.concatenate([clear, [200.0 * (1 + 6e-6)], [500.0005 * (1 + 5e-6)]])
    found = estimate_shift_ppm(mz, np.ones(len(mz)), known, max_ppm=30)
    assert found.matched == 3 and found.ppm == pytest.approx(5.0)


def test_lock_masses_take_the_strongest_peak():
    locks = np.array([255.2330, 554.2615])
    mz = np.concatenate([locks * (1 + 8e-6), locks * (1 - 1e-6), [700.0]])
    height = np.array([5.0, 9.0, 1.0, 8.0, 100.0])
    found = estimate_shift_ppm(mz, height, locks, max_ppm=20, trusted=True)
    assert found.matched == 2 and found.ppm == pytest.approx(8.0)
    one = estimate_shift_ppm(mz, height, locks[:1], max_ppm=20, trusted=True)
    assert one == Shift(pytest.approx(8.0), 1, 0.0)


def test_a_weak_lock_mass_is_found_in_a_spectrum():
    spectrum = np.zeros(len(AXIS.mz))
    spectrum[::50] = 100.0
    at = 1025
    spectrum[at - 1 : at + 2] = [0.5, 1.0, 0.5]
    lock = AXIS.mz[at] / (1 + 12e-6)
    found = spectrum_shift(AXIS, spectrum, np.array([lock]), max_ppm=40, trusted=True)
    assert found.matched == 1 and found.ppm == pytest.approx(12.0, abs=0.01)
    empty = spectrum_shift(AXIS, np.zeros(len(AXIS.mz)), np.array([lock]), max_ppm=40)
    assert empty == Shift(0.0, 0, 0.0, "the spectrum is empty")


@pytest.mark.parametrize("kind", ["ppm", "tof", "orbitrap", "fixed_da"])
def test_apex_between_bins(kind):
    step = 0.004 if kind == "fixed_da" else 20.0
    axis = mass_axis(kind, mz_min=199.0, mz_max=201.0, step=step)
    true = np.random.default_rng(0).uniform(199.1, 200.9, 30)
    for centre in true:
        spectrum = np.exp(-(((axis.mz - centre) / 0.006) ** 2) / 2)
        peaks = pick_peaks(axis, spectrum, count=1)
        assert apex_mz(axis, spectrum, peaks)[0] == pytest.approx(centre, abs=4e-5)
    lonely = np.zeros(len(axis.mz))
    lonely[7] = 1.0
    peaks = Peaks(*(axis.mz[[7]] for _ in range(4)))
    assert apex_mz(axis, lonely, peaks) == axis.mz[7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mz": np.ones(2)}, "recalibration: mz: has shape (2,), the heights (1,)"),
        ({"reference_mz": []}, "recalibration: reference_mz: must hold m/z, all positive"),
        ({"reference_mz": [0.0]}, "recalibration: reference_mz: must hold m/z, all positive"),
        ({"max_ppm": 0.0}, "recalibration: max_ppm: is 0.0, must be positive"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError) as caught:
        estimate_shift_ppm(
            **({"mz": [1.0], "height": [1.0], "reference_mz": [1.0], "max_ppm": 5.0} | options)
        )
    assert str(caught.value) == message
