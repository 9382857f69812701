"""Ranges of spectra: fixed by the file, whole, and read apart as together."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msi2he_jax.msi import images, ranges, spectra
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.normalization import size_floor, size_weights, spectrum_sizes


@given(st.integers(1, 10**7), st.integers(16, 10**13))
def test_ranges_are_consecutive_and_about_equal(count, size):
    bounds = ranges.range_bounds(count, size)
    assert bounds[0][0] == 0 and bounds[-1][1] == count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    lengths = {stop - first for first, stop in bounds}
    assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1
    assert len(bounds) == min(count, -(-size // ranges.RANGE_BYTES))


@pytest.fixture
def file(pair, request, monkeypatch):
    """A file of 30 spectra, which ranges of 7 or so read."""
    positions = [(x, y) for y in range(1, 6) for x in range(1, 7)]
    made = pair(positions=positions, points=40, shared=request.param == "shared")
    monkeypatch.setattr(ranges, "RANGE_BYTES", made.ibd.stat().st_size // 4)
    opened = open_imzml(made.path)
    assert len(ranges.spectrum_ranges(opened)) in (4, 5)
    return opened


both = pytest.mark.parametrize("file", ["shared", "apart"], indirect=True)


@both
@pytest.mark.parametrize("method", ["linear", "sum"])
def test_ion_images_in_ranges(file, method, monkeypatch):
    axis = spectra.mass_axis("ppm", mz_min=100.0, mz_max=200.0, step=200.0)
    total = spectra.summed_spectrum(file, axis, method=method)
    peaks = spectra.pick_peaks(axis, total, count=8)
    apart = images.ion_images(file, peaks, axis, method=method)
    parts = [
        images.ion_values(file, peaks, axis, method=method, indices=indices)
        for indices in ranges.spectrum_ranges(file)
    ]
    rows, columns = file.coordinates.T
    np.testing.assert_array_equal(np.concatenate(parts).astype(np.float32), apart[rows, columns])
    monkeypatch.setattr(ranges, "RANGE_BYTES", 10**9)
    whole = images.ion_images(file, peaks, axis, method=method)
    np.testing.assert_allclose(apart, whole, rtol=1e-6)
    assert whole.any()


@both
def test_sums_and_sizes_in_ranges(file):
    """Weights need the sizes of all spectra, of which one number travels."""
    axis = spectra.mass_axis("ppm", mz_min=100.0, mz_max=200.0, step=200.0)
    parts = ranges.spectrum_ranges(file)
    sizes = [spectrum_sizes(file, "tic", indices=indices) for indices in parts]
    floor, total = size_floor(np.concatenate(sizes)), 0.0
    for indices, part in zip(parts, sizes, strict=True):
        weight = np.zeros(file.n)
        weight[indices] = size_weights(part, floor)
        total += spectra.summed_spectrum(file, axis, weight=weight, pixels=indices)
    whole = spectra.summed_spectrum(file, axis, weight=size_weights(file.tic()))
    np.testing.assert_allclose(total, whole, rtol=1e-9, atol=1e-11 * whole.max())
