"""Rebinning and summed spectra against slow, plain numpy."""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi import spectra
from msi2he_jax.msi.block import Block, packed_blocks
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.rebinning import LinearSum


def axis(kind="ppm", mz_min=100.0, mz_max=200.0, step=500.0):
    return spectra.mass_axis(kind, mz_min=mz_min, mz_max=mz_max, step=step)


AXES = [axis(), axis(step=20.0), axis("fixed_da", step=0.5), axis("fixed_da", step=0.003)]


# Rebinning ---------------------------------------------------------------------------------------


def slow_linear(made, mz, intensity, gap):
    """One axis point after the other."""
    result = np.zeros(len(made.mz))
    for j, at in enumerate(made.mz):
        exact = np.flatnonzero(mz == at)
        left = np.searchsorted(mz, at, "right") - 1
        if len(exact):
            result[j] = intensity[exact[-1]]
        elif 0 <= left < len(mz) - 1 and mz[left + 1] - mz[left] <= gap:
            part = (at - mz[left]) / (mz[left + 1] - mz[left])
            result[j] = (1 - part) * intensity[left] + part * intensity[left + 1]
    return result


def slow_sum(made, mz, intensity):
    result = np.zeros(len(made.mz))
    for value, height in zip(mz, intensity, strict=True):
        if made.edges[0] <= value < made.edges[-1]:
            result[np.searchsorted(made.edges, value, "right") - 1] += height
    return result


def some_spectrum(seed, points):
    rng = np.random.default_rng(seed)
    mz = np.sort(rng.uniform(99, 201, points))
    on_axis = rng.random(points) < 0.2
    mz[on_axis] = AXES[0].mz[np.abs(AXES[0].mz[:, None] - mz[on_axis]).argmin(0)]
    return np.sort(mz), rng.gamma(0.3, 100.0, points) * (rng.random(points) > 0.3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), points=st.integers(0, 60), gap=st.sampled_from([None, 0.2, 5.0]))
def test_rebin_equals_slow_loops(seed, points, gap):
    mz, intensity = some_spectrum(seed, points)
    made = AXES[0]
    linear = spectra.rebin(mz, intensity, made, method="linear", gap_tol_da=gap)
    expected = slow_linear(made, mz, intensity, gap or np.inf)
    np.testing.assert_allclose(linear, expected, rtol=1e-9, atol=1e-9)
    summed = spectra.rebin(mz, intensity, made, method="sum")
    np.testing.assert_allclose(summed, slow_sum(made, mz, intensity), rtol=1e-12)


def test_summing_keeps_the_total_and_interpolation_does_not():
    mz, intensity = np.array([120.0, 150.0]), np.array([3.0, 4.0])
    assert spectra.rebin(mz, intensity, AXES[0], method="sum").sum() == 7.0
    assert spectra.rebin(mz, intensity, AXES[0], method="linear").sum() > 1000


def test_outside_the_spectrum_is_zero():
    dense = spectra.rebin(np.array([150.0, 151.0]), np.array([5.0, 5.0]), AXES[2])
    assert dense[AXES[2].mz < 150].sum() == 0 and dense[AXES[2].mz > 151].sum() == 0
    assert dense[(AXES[2].mz >= 150) & (AXES[2].mz <= 151)].tolist() == [5.0, 5.0, 5.0]


def test_unknown_method():
    with pytest.raises(InputError, match=r"rebinning: method: is 'cubic' \(one of linear, sum\)"):
        spectra.rebin(np.zeros(1), np.zeros(1), AXES[0], method="cubic")


def packed(parts):
    starts = np.concatenate([[0], np.cumsum([len(mz) for mz, _ in parts])])
    mz, intensity = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return Block(np.arange(len(parts)), mz, intensity, starts, False)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    which=st.integers(0, 3),
    gap=st.sampled_from([None, 0.2, 3.0]),
)
def test_accumulated_lines_equal_np_interp(seed, sizes, which, gap):
    """Also across the chunks in which lines are kept, and where axis points are measured points."""
    made, rng = AXES[which], np.random.default_rng(seed)
    parts = [some_spectrum(seed + i, size) for i, size in enumerate(sizes)]
    weight = rng.random(len(parts)) * 1e6
    lines = LinearSum(made, gap)
    lines.add(packed(parts), weight)
    expected = np.zeros(len(made.mz))
    for (mz, intensity), factor in zip(parts, weight, strict=True):
        expected += factor * spectra.rebin(mz, intensity, made, gap_tol_da=gap)
    scale = max(expected.max(), 1e-300)
    np.testing.assert_allclose(lines.total() / scale, expected / scale, rtol=1e-9, atol=1e-11)
    assert (lines.total()[expected == 0] < 1e-11 * scale).all()


def test_empty_stretches_of_a_sum_are_exactly_zero():
    mz = np.concatenate([np.linspace(110, 110.1, 20), np.linspace(180, 180.1, 20)])
    intensity = np.concatenate([[0], np.full(18, 1e9), [0], [0], np.full(18, 1e9), [0]])
    lines = LinearSum(AXES[3])
    lines.add(packed([(mz, intensity)] * 3), np.ones(3))
    total = lines.total()
    assert (total[(AXES[3].mz > 110.11) & (AXES[3].mz < 179.99)] == 0).all()
    assert total.max() == pytest.approx(3e9)


# Summed spectra ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", ["linear", "sum"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.0, 0.5, 3.0, 1e-3])])
def test_summed_spectrum_equals_the_loop(pair, shared, method, weight):
    file = open_imzml(pair(shared=shared, points=60).path)
    made = AXES[1]
    expected = np.zeros(len(made.mz))
    for i in range(file.n):
        dense = spectra.rebin(*file.spectrum(i), made, method=method)
        expected += dense * (1.0 if weight is None else weight[i])
    got = spectra.summed_spectrum(file, made, method=method, weight=weight)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11 * expected.max())


class InMemory:
    """Spectra that lie in no file, for many cases quickly."""

    def __init__(self, parts, spectrum_type, shares_mz):
        self.parts, self.spectrum_type, self.shares_mz = parts, spectrum_type, shares_mz
        self.n, self.path = len(parts), "memory"
        self.points = np.array([len(mz) for mz, _ in parts])

    def shared_mz(self):
        return self.parts[0][0]

    def packed(self, indices=None):
        return packed_blocks(self, indices)

    def block(self, indices):
        whole = packed([self.parts[i] for i in indices])
        mz = self.shared_mz() if self.shares_mz else whole.mz
        return dataclasses.replace(whole, indices=indices, mz=mz, shared=self.shares_mz)


@st.composite
def in_memory(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, shared = draw(st.integers(1, 8)), draw(st.booleans())
    points = rng.integers(2, 80, n)
    parts = [some_spectrum(int(rng.integers(10**6)), size) for size in points]
    if shared:
        parts = [(parts[0][0], rng.gamma(0.3, 100.0, points[0])) for _ in parts]
    kind = draw(st.sampled_from(["profile", "centroid"]))
    return InMemory(parts, kind, shared), rng


@settings(max_examples=40, deadline=None)
@given(made=in_memory(), which=st.integers(0, 2), gap=st.sampled_from([None, 0.3, 4.0]))
def test_sums_equal_plain_numpy_and_parts_add_up(made, which, gap):
    """Both methods, both storages, any weights, and any cut of the spectra into two ranges."""
    (file, rng), wanted = made, [axis(), axis("fixed_da", step=0.05), axis("tof")][which]
    weight = rng.gamma(0.5, 1e-3, file.n)
    cut = int(rng.integers(0, file.n + 1))
    for method in ("linear", "sum"):
        options = {"method": method, "weight": weight, "gap_tol_da": gap}
        expected = np.zeros(len(wanted.mz))
        for (mz, y), factor in zip(file.parts, weight, strict=True):
            if method == "sum":
                expected += factor * slow_sum(wanted, mz, y)
            elif gap is None:
                expected += factor * np.interp(wanted.mz, mz, y, left=0, right=0)
            else:
                expected += factor * slow_linear(wanted, mz, y, gap)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", spectra.CentroidInterpolationWarning)
            whole = spectra.summed_spectrum(file, wanted, **options)
            first = spectra.summed_spectrum(file, wanted, pixels=np.arange(cut), **options)
            rest = spectra.summed_spectrum(file, wanted, pixels=np.arange(cut, file.n), **options)
        scale = max(expected.max(), 1e-300)
        # Steep lines between close points cancel: errors are relative to the tallest bin.
        np.testing.assert_allclose(whole / scale, expected / scale, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose((first + rest) / scale, whole / scale, rtol=1e-9, atol=1e-11)


def test_gap_tolerance_reaches_the_sum(pair):
    for shared in (False, True):
        file = open_imzml(pair(shared=shared).path)
        parts = [spectra.rebin(*file.spectrum(i), AXES[1], gap_tol_da=2.0) for i in range(file.n)]
        got = spectra.summed_spectrum(file, AXES[1], method="linear", gap_tol_da=2.0)
        np.testing.assert_allclose(got, sum(parts), rtol=1e-9, atol=1e-9)


def test_chosen_pixels_add_up(pair):
    file = open_imzml(pair().path)
    grid = np.zeros(file.shape, bool)
    grid[:2] = True
    part = spectra.summed_spectrum(file, AXES[1], pixels=grid)
    rest = spectra.summed_spectrum(file, AXES[1], pixels=~grid)
    whole = spectra.summed_spectrum(file, AXES[1])
    np.testing.assert_allclose(part + rest, whole, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(part, spectra.summed_spectrum(file, AXES[1], pixels=np.arange(4)))
    none = spectra.summed_spectrum(file, AXES[1], pixels=np.zeros(file.n, bool))
    assert none.sum() == 0
    with pytest.raises(InputError, match=r"pixels: has shape \(2, 2\), the grid \(3, 2\)"):
        spectra.summed_spectrum(file, AXES[1], pixels=np.zeros((2, 2), bool))


def test_weight_of_another_file(pair):
    file = open_imzml(pair().path)
    with pytest.raises(InputError, match=r"weight: has shape \(5,\), the file 6 spectra"):
        spectra.summed_spectrum(file, AXES[1], weight=np.ones(5))


def test_interpolating_centroids_warns_with_the_number(pair):
    file = open_imzml(pair(mode="centroid").path)
    made = axis("fixed_da", step=0.01)
    factor = spectra.interpolation_inflation(file, made)
    assert 100 < factor < 1000
    with pytest.warns(spectra.CentroidInterpolationWarning, match=f"total {factor:.3g} times"):
        spectra.summed_spectrum(file, made, method="linear")


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"mode": "profile"}, "linear"),
        ({"mode": "centroid"}, "sum"),
        ({"mode": "profile", "points": 6}, "sum"),
        ({"mode": None}, "sum"),
        ({"mode": None, "shared": True}, "linear"),
        ({"mode": "centroid", "shared": True}, "sum"),
    ],
)
def test_choice_of_method(pair, options, method):
    assert spectra.rebin_method(open_imzml(pair(**options).path)) == method


def test_estimated_steps(pair):
    mz = 100 * np.exp(np.arange(400) * 8e-6)
    profile = open_imzml(pair([(mz, np.ones(400))] * 6).path)
    assert spectra.estimate_axis_step_ppm(profile) == pytest.approx(8.0)
    assert spectra.estimate_gap_tol_da(profile) == pytest.approx(3 * 8e-4, rel=0.01)
    few = open_imzml(pair([([703.6, 703.7, 800.0], [1, 1, 1])] * 6, mode="centroid").path)
    assert 1 <= spectra.estimate_axis_step_ppm(few) < 142 / 3
    single = open_imzml(pair([([703.6], [1])] * 6, mode="centroid").path)
    assert spectra.estimate_axis_step_ppm(single) == 100.0
    assert spectra.estimate_gap_tol_da(single) == np.inf


def test_real_channels_become_peaks(sample_data):
    """Six transitions, three ions: every channel is found, and nothing else."""
    for name, channels in (
        ("desi_lung_mrm/lung_crop96_continuous.imzML", 6),
        ("desi_lung_mrm/lung_crop96_processed.imzML", 6),
        ("maldi_mouse_brain/brain_crop96_continuous.imzML", 3),
    ):
        file = open_imzml(sample_data / name)
        low, high = file.mz_range
        step = spectra.estimate_axis_step_ppm(file)
        made = spectra.mass_axis("ppm", mz_min=low, mz_max=high, step=step)
        peaks = spectra.pick_peaks(made, spectra.summed_spectrum(file, made), count=50)
        measured = np.unique(np.concatenate([file.spectrum(i)[0] for i in range(0, file.n, 7)]))
        assert len(peaks) == len(measured) == channels
        assert (np.abs(peaks.mz / measured - 1) * 1e6 <= step / 2).all()
        assert peaks.height.sum() == pytest.approx(file.tic().sum())


def test_real_profiles_equal_np_interp(sample_data):
    """Spectra of 8,399 points, in both storages."""
    made = spectra.mass_axis("ppm", mz_min=90.0, mz_max=820.0, step=30.0)
    for path in sorted((sample_data / "imzml_tiny").glob("*.imzML")):
        file = open_imzml(path)
        parts = [file.spectrum(i) for i in range(file.n)]
        expected = sum(np.interp(made.mz, mz, y, left=0, right=0) for mz, y in parts)
        got = spectra.summed_spectrum(file, made, method="linear")
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11 * expected.max())
        binned = spectra.summed_spectrum(file, made, method="sum")
        assert binned.sum() == pytest.approx(file.tic().sum(), rel=1e-12)
