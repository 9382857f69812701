"""Sizes of spectra against plain numpy, one spectrum after the other."""

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.normalization import KINDS, size_floor, size_weights, spectrum_sizes

REFERENCE = {"reference_mz": 150.0, "reference_ppm": 20_000.0}


def slow_size(kind, mz, intensity):
    y = intensity.astype(np.float64)
    positive = y[y > 0]
    return {
        "none": lambda: 1.0,
        "tic": y.sum,
        "rms": lambda: np.sqrt(np.mean(y**2)) if len(y) else 0.0,
        "median": lambda: np.median(positive) if len(positive) else 0.0,
        "reference": lambda: y[np.abs(mz / 150.0 - 1) <= 0.02].sum(),
    }[kind]()


def uneven_spectra():
    """Other lengths, an empty spectrum, one of zeros, one of a single point."""
    rng = np.random.default_rng(3)
    spectra = []
    for points in (40, 0, 7, 1, 33, 12):
        mz = np.sort(rng.uniform(100, 200, points))
        spectra.append((mz, rng.gamma(0.5, 100, points).astype(np.float32)))
    spectra[2][1][:] = 0
    spectra[0][1][::3] = 0
    return spectra


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", ["shared", "apart", "uneven"])
def test_sizes_equal_the_loop(pair, kind, made):
    spectra = uneven_spectra() if made == "uneven" else None
    file = open_imzml(pair(spectra, shared=made == "shared", points=61).path)
    got = spectrum_sizes(file, kind, **REFERENCE)
    expected = [slow_size(kind, *file.spectrum(i)) for i in range(file.n)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    some = np.array([4, 1, 2])
    part = spectrum_sizes(file, kind, **REFERENCE, indices=some)
    np.testing.assert_array_equal(part, got[some])
    none = spectrum_sizes(file, kind, **REFERENCE, indices=np.zeros(0, np.int64))
    assert none.shape == (0,)


def test_parts_of_a_file_are_the_whole(pair):
    """Blocks are cut elsewhere, and nothing changes."""
    file = open_imzml(pair(points=9000).path)
    for kind in KINDS:
        whole = spectrum_sizes(file, kind, **REFERENCE)
        parts = [
            spectrum_sizes(file, kind, **REFERENCE, indices=np.array([i])) for i in range(file.n)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "area"},
            "normalization: kind: is 'area' (one of none, tic, rms, median, reference)",
        ),
        ({"kind": "reference"}, "normalization: reference_mz: is None, must be positive"),
        (
            {"kind": "reference", "reference_mz": 150.0, "reference_ppm": -3},
            "normalization: reference_ppm: is -3, must be positive",
        ),
        (
            {"kind": "reference", "reference_mz": 50.0, "reference_ppm": 10},
            "normalization: no spectrum has signal within 10 ppm of m/z 50 "
            "(name another ion: --reference_mz)",
        ),
    ],
)
def test_refusals(pair, options, message):
    file = open_imzml(pair().path)
    for indices in (None, np.arange(file.n)):
        with pytest.raises(InputError) as caught:
            spectrum_sizes(file, **options, indices=indices)
        assert str(caught.value).endswith(message)


def test_a_part_without_the_reference_is_no_error(pair):
    file = open_imzml(pair().path)
    nowhere = {"reference_mz": 50.0, "reference_ppm": 10.0}
    assert spectrum_sizes(file, "reference", **nowhere, indices=np.arange(2)).tolist() == [0, 0]


def test_weights_are_floored():
    weights = size_weights(np.array([0.0, 1e-9, 100.0, 200.0, 100.0]))
    assert weights.max() == pytest.approx(1 / 5) and weights[2] == pytest.approx(0.01)
    assert size_weights(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert size_floor(np.zeros(3)) == 0.0
    assert size_weights(np.ones((2, 3))).tolist() == [[1.0] * 3] * 2


def test_the_floor_of_a_whole_serves_its_parts():
    sizes = np.random.default_rng(0).gamma(0.2, 10, 50)
    floor = size_floor(sizes)
    parts = [size_weights(part, floor) for part in np.split(sizes, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), size_weights(sizes))


def test_real_totals_equal_pyimzml(sample_data):
    """As pyimzML reads the points, to 1e-6."""
    from pyimzml.ImzMLParser import ImzMLParser

    paths = sorted(sample_data.glob("*/*.imzML"))
    assert paths
    for path in paths:
        file = open_imzml(path)
        chosen = np.unique(np.linspace(0, file.n - 1, min(file.n, 500)).astype(int))
        with ImzMLParser(str(path)) as theirs:
            expected = [theirs.getspectrum(i)[1].sum(dtype=np.float64) for i in chosen]
        got = spectrum_sizes(file, "tic")
        np.testing.assert_allclose(got[chosen], expected, rtol=1e-6)
