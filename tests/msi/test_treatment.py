"""Treated files against the libraries' own filters, one spectrum after the other."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from msi2he_jax.errors import InputError
from msi2he_jax.msi import treatment as treatments
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.block import Block
from msi2he_jax.msi.imzml import Imzml, open_imzml
from msi2he_jax.msi.normalization import KINDS, spectrum_sizes
from msi2he_jax.msi.spectra import is_discrete, rebin_method, summed_spectrum
from msi2he_jax.msi.treatment import Treatment, treat


def profile(rng, points, low=100.0, step=0.01):
    """A few peaks on a falling baseline with noise, evenly spaced."""
    mz = low + step * np.arange(points)
    y = 50 * np.exp(-np.arange(points) / 200) + rng.random(points)
    for centre in rng.uniform(0, points, 5):
        y += rng.gamma(1, 300) * np.exp(-(((np.arange(points) - centre) / 3) ** 2) / 2)
    return mz, y.astype(np.float32)


def packed(parts):
    starts = np.concatenate([[0], np.cumsum([len(mz) for mz, _ in parts])])
    mz, intensity = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return Block(np.arange(len(parts)), mz, intensity, starts, False)


@pytest.fixture
def files(pair, tmp_path):
    """One file with a shared m/z array and one with spectra of other lengths, one of them empty."""
    rng = np.random.default_rng(1)
    positions = [(x, y) for y in (1, 2) for x in (1, 2)]
    shared = [profile(rng, 300) for _ in positions]
    apart = [profile(rng, 300), profile(rng, 120), (np.zeros(0), np.zeros(0)), profile(rng, 301)]
    first = pair(shared, positions, shared=True)
    for path in (first.path, first.ibd):
        path.rename(tmp_path / f"shared{path.suffix}")
    return [open_imzml(tmp_path / "shared.imzML"), open_imzml(pair(apart, positions).path)]


def slow_snip(y, half):
    """As published: a point is clipped where the window fits into the spectrum."""
    y = y.copy()
    for k in range(half, 0, -1):
        old = y.copy()
        for i in range(k, len(y) - k):
            y[i] = min(old[i], (old[i - k] + old[i + k]) / 2)
    return y


SLOW = {
    "savgol": lambda y: signal.savgol_filter(y, 7, 2, mode="nearest"),
    "gaussian": lambda y: ndimage.gaussian_filter1d(y, 7 / 2.3548200450309493, mode="nearest"),
    "snip": lambda y: y - slow_snip(y, 10),
    "tophat": lambda y: y - ndimage.grey_opening(np.pad(y, 20, mode="edge"), size=21)[20:-20],
    "median": lambda y: y - ndimage.median_filter(y, size=21, mode="nearest"),
}


@pytest.mark.parametrize("smoothing", treatments.SMOOTHINGS)
@pytest.mark.parametrize("baseline", treatments.BASELINES)
def test_filters_equal_the_libraries(files, smoothing, baseline):
    treatment = Treatment(
        smoothing=smoothing, smoothing_points=7, baseline=baseline, baseline_points=21
    )
    for file in files:
        treated = treat(file, treatment)
        for i in range(file.n):
            mz, raw = file.spectrum(i)
            y = raw.astype(np.float64)
            for name in (smoothing, baseline):
                y = np.maximum(SLOW[name](y), 0) if name != "none" and len(y) else y
            got_mz, got = treated.spectrum(i)
            np.testing.assert_array_equal(got_mz, mz)
            np.testing.assert_allclose(got, y, rtol=1e-6, atol=1e-5)


def test_whole_interface(files):
    """Whatever reads a file reads the treated one: a copy of the treated points agrees with all."""
    treatment = Treatment(shift_ppm=50.0, smoothing="gaussian", baseline="tophat")
    axis = mass_axis("ppm", mz_min=99.0, mz_max=104.0, step=40.0)
    for file in files:
        treated = treat(file, treatment)
        assert not isinstance(treated, Imzml)
        assert treated.n == file.n and treated.path == file.path and treated.shape == file.shape
        np.testing.assert_array_equal(treated.mask, file.mask)
        assert is_discrete(treated) == is_discrete(file)
        assert rebin_method(treated) == "linear"
        spectra = [treated.spectrum(i) for i in range(file.n)]
        tic = [y.astype(np.float64).sum() for _, y in spectra]
        np.testing.assert_allclose(treated.tic(), tic, rtol=1e-6)
        for kind in KINDS[:4]:
            assert spectrum_sizes(treated, kind).shape == (file.n,)
        np.testing.assert_allclose(spectrum_sizes(treated, "tic"), tic, rtol=1e-6)
        ends = [mz[[0, -1]] for mz, _ in spectra if len(mz)]
        assert treated.mz_range == (np.min(ends), np.max(ends))
        blocks = [each for block in treated.packed(points=200) for each in block.spectra()]
        for (mz, y), (other_mz, other) in zip(spectra, blocks, strict=True):
            np.testing.assert_array_equal(mz, other_mz)
            np.testing.assert_allclose(y, other, rtol=1e-6, atol=1e-5)
        expected = sum(np.interp(axis.mz, mz, y, left=0, right=0) for mz, y in spectra if len(mz))
        got = summed_spectrum(treated, axis)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_the_original_stays_as_it_is(files):
    for file in files:
        before = file.tic(), file.mz_range, file.spectrum(0)[1]
        treat(file, Treatment(shift_ppm=9.0, smoothing="savgol")).tic()
        assert file.mz_range == before[1]
        np.testing.assert_array_equal(file.tic(), before[0])
        np.testing.assert_array_equal(file.spectrum(0)[1], before[2])


def test_nothing_to_do_costs_nothing(files):
    assert treat(files[0], Treatment()) is files[0]
    assert treat(files[0], Treatment(baseline_points=31)) is files[0]


def test_shift_moves_the_scale_and_nothing_else(files):
    for file in files:
        treated = treat(file, Treatment(shift_ppm=12.0))
        mz, y = file.spectrum(0)
        got_mz, got = treated.spectrum(0)
        np.testing.assert_allclose((mz / got_mz - 1) * 1e6, 12.0, rtol=1e-6)
        np.testing.assert_array_equal(got, y)
        np.testing.assert_array_equal(treated.tic(), file.tic())
    back = treat(treated, Treatment(shift_ppm=(1 / 1.000012 - 1) * 1e6))
    np.testing.assert_allclose(back.spectrum(0)[0], mz, rtol=1e-14)


def test_shift_suits_centroids_and_channels(pair):
    for options in ({"mode": "centroid"}, {"points": 5}):
        file = open_imzml(pair(**options).path)
        mz = treat(file, Treatment(shift_ppm=-5.0)).spectrum(0)[0]
        np.testing.assert_allclose(mz, file.spectrum(0)[0] / (1 - 5e-6), rtol=1e-15)


def test_peaks_do_not_leak_over_a_gap(pair, tmp_path):
    """Zeros that a file leaves out are zeros: filters see the spectrum as if they were there."""
    rng = np.random.default_rng(2)
    mz = 100 + 0.01 * np.arange(400)
    full = np.zeros(400)
    for centre in (60, 200, 215, 330):
        full[centre - 9 : centre + 10] += 100 * rng.random() * np.hanning(21)[1:-1]
    kept = full > 0
    kept[[0, 399]] = True
    positions = [(1, 1), (2, 1)]
    first = pair([(mz[kept], full[kept])] * 2, positions)
    for path in (first.path, first.ibd):
        path.rename(tmp_path / f"sparse{path.suffix}")
    sparse = tmp_path / "sparse.imzML"
    whole = open_imzml(pair([(mz, full)] * 2, positions).path)
    methods = [{"smoothing": name} for name in treatments.SMOOTHINGS[1:]]
    methods += [{"baseline": name} for name in treatments.BASELINES[1:]]
    for method in methods:
        treatment = Treatment(**method, smoothing_points=7, baseline_points=41)
        expected = treat(whole, treatment).spectrum(1)[1][kept]
        got = treat(open_imzml(sparse), treatment).spectrum(1)[1]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    smoothing=st.sampled_from(treatments.SMOOTHINGS),
    baseline=st.sampled_from(treatments.BASELINES),
    windows=st.tuples(st.integers(2, 12), st.integers(1, 30)),
)
def test_spectra_and_islands_do_not_know_each_other(seed, smoothing, baseline, windows):
    """A block of spectra with gaps is treated as its spectra are, one by one, zeros filled in."""
    rng = np.random.default_rng(seed)
    parts, whole = [], []
    for _ in range(int(rng.integers(1, 5))):
        full = np.zeros(400)
        for start in (0, 100, 200, 310):
            full[start : start + 45] = rng.gamma(0.5, 100, 45)
        full[[0, 399]] += 1
        kept = full > 0
        parts.append((100 + 0.01 * np.flatnonzero(kept), full[kept]))
        whole.append((100 + 0.01 * np.arange(400), full))
    options = {"smoothing_points": 2 * windows[0] + 1, "baseline_points": 2 * windows[1] + 1}
    treatment = Treatment(smoothing=smoothing, baseline=baseline, **options)
    got = treatments.filter_intensity(packed(parts), treatment, 0.015)
    expected = [
        treatments.filter_intensity(packed([one]), treatment, 0.015)[one[1] > 0] for one in whole
    ]
    if smoothing == "none" or baseline == "none":  # Smoothing fills a gap, and that is not kept.
        np.testing.assert_allclose(got, np.concatenate(expected), rtol=1e-9, atol=1e-9)
    assert got.min() >= 0


def test_a_baseline_goes_and_peaks_stay():
    rng = np.random.default_rng(5)
    x = np.arange(2000)
    peaks = sum(500 * np.exp(-(((x - c) / 4) ** 2) / 2) for c in rng.uniform(100, 1900, 10))
    slope = 200 * np.exp(-x / 800)
    block = packed([(100 + 0.01 * x, peaks + slope)])
    for name in ("snip", "tophat", "median"):
        got = treatments.filter_intensity(block, Treatment(baseline=name), np.inf)
        inner = slice(60, -60)
        assert np.abs(got - peaks)[inner].max() < 40
        assert got.min() >= 0


@pytest.mark.parametrize(
    ("options", "asked", "message"),
    [
        (
            {"mode": "centroid"},
            {"baseline": "snip"},
            "baseline: needs profile spectra, the file holds centroid spectra",
        ),
        (
            {"points": 6},
            {"smoothing": "savgol"},
            "smoothing: needs profile spectra, the file holds single channels",
        ),
        (
            {"mode": None},
            {"smoothing": "gaussian"},
            "smoothing: needs profile spectra, "
            "the file holds spectra that are not known to be profiles",
        ),
    ],
)
def test_files_that_are_refused(pair, options, asked, message):
    file = open_imzml(pair(**options).path)
    with pytest.raises(InputError) as caught:
        treat(file, Treatment(**asked))
    assert str(caught.value) == f"{file.path}: {message} (--smoothing=none --baseline=none)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": "wavelet"}, "smoothing: is 'wavelet' (one of none, savgol, gaussian)"),
        ({"baseline": "hull"}, "baseline: is 'hull' (one of none, snip, tophat, median)"),
        ({"smoothing_points": 6}, "smoothing_points: is 6 (an odd number from 5 to 1001)"),
        ({"baseline_points": 1}, "baseline_points: is 1 (an odd number from 3 to 1001)"),
        ({"baseline_points": 9.0}, "baseline_points: is 9.0 (an odd number from 3 to 1001)"),
        ({"shift_ppm": float("nan")}, "shift_ppm: is nan (less than 100000)"),
    ],
)
def test_treatments_that_are_refused(options, message):
    with pytest.raises(InputError) as caught:
        Treatment(**options)
    assert str(caught.value) == f"treatment: {message}"


def test_a_treatment_is_plain_data():
    made = Treatment(shift_ppm=3.5, baseline="median")
    assert Treatment(**dataclasses.asdict(made)) == made


def test_snip_says_what_it_needs(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pybaselines", None)
    with pytest.raises(InputError, match=r"snip needs pybaselines \(pip install 'msi2he_jax\["):
        treat(files[0], Treatment(baseline="snip"))


def test_real_profiles_in_both_storages(sample_data):
    """The same measurement, stored with one m/z array or with nine, is treated the same."""
    one, nine = (open_imzml(path) for path in sorted((sample_data / "imzml_tiny").glob("*.imzML")))
    assert one.shares_mz != nine.shares_mz
    for treatment in (
        Treatment(shift_ppm=3.0, smoothing="savgol", baseline="snip"),
        Treatment(smoothing="gaussian", baseline="tophat", baseline_points=301),
        Treatment(baseline="median"),
    ):
        both = [treat(file, treatment) for file in (one, nine)]
        np.testing.assert_allclose(both[0].tic(), both[1].tic(), rtol=1e-9)
        # Nothing is lifted up, except that what Savitzky-Golay makes negative becomes 0.
        assert 0 < both[0].tic().sum() < 1.05 * one.tic().sum()
        for a, b in zip(both[0].spectrum(4), both[1].spectrum(4), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
