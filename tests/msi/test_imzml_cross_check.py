"""Every spectrum is compared with pyimzML's own reading, and the first that differs is named."""

import dataclasses
import uuid

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import Imzml, open_imzml
from msi2he_jax.msi.imzml_cross_check import NotReadByPyimzml, compare_with_pyimzml
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.spectra import centroid_spectra, profile_spectra

MZ = np.array([112.9856, 281.2486, 885.5499])
POSITIONS = np.array([[4, 2], [5, 2], [3, 3]])
INTENSITY = np.array([[10.0, 0.0, 5.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)


@pytest.fixture
def complete(pair):
    """Writes a pair with an element that pyimzML wants to find."""

    def write(*args, **options):
        element = "<instrumentConfigurationList></instrumentConfigurationList><run>"
        written = pair(*args, **options)
        written.edit("<run>", element)
        return written

    return write


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("types", [("f8", "f4"), ("f4", "f4"), ("f8", "i4")])
def test_equal_files_pass(complete, shared, types):
    file = open_imzml(complete(shared=shared, mz_type=types[0], intensity_type=types[1]).path)
    calls = []
    compare_with_pyimzml(file, lambda *done: calls.append(done))
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize("kind", ["profile", "centroid"])
def test_what_the_simulator_writes_passes(tmp_path, kind):
    if kind == "profile":
        spectra = profile_spectra(INTENSITY, MZ, np.zeros(3))
    else:
        spectra = centroid_spectra(np.random.default_rng(0), INTENSITY, MZ, np.zeros(3))
    size = {"um_yx": (75.0, 50.0), "identifier": uuid.uuid4(), "version": "1"}
    write_imzml(tmp_path / "a.imzML", spectra, POSITIONS, kind=kind, polarity="negative", **size)
    compare_with_pyimzml(open_imzml(tmp_path / "a.imzML"))


def test_real_files_pass(sample_data):
    paths = [
        path for kind in ("imzml_tiny", "desi*") for path in sample_data.glob(f"{kind}/*.imzML")
    ]
    assert paths
    for path in paths:
        compare_with_pyimzml(open_imzml(path))


def test_spectra_that_are_not_used_are_passed_over(complete):
    positions = [(1, 1), (2, 1), (1, 1), (1, 2), (2, 2), (2, 2)]
    file = open_imzml(complete(positions=positions).path, duplicates="first")
    assert file.numbers.tolist() == [0, 1, 3, 4] and file.stored == 6
    compare_with_pyimzml(file)


@pytest.mark.parametrize("field", ["mz", "intensity"])
def test_the_first_spectrum_that_differs_is_named(complete, monkeypatch, field):
    file, read = open_imzml(complete().path), Imzml.block

    def misread(self, indices):
        block = read(self, indices)
        values = getattr(block, field).copy()
        values[block.starts[2] + 4] *= 1 + 1e-6
        values[block.starts[5] + 1] *= 2
        return dataclasses.replace(block, **{field: values})

    monkeypatch.setattr(Imzml, "block", misread)
    with pytest.raises(InputError) as caught:
        compare_with_pyimzml(file)
    name = "m/z" if field == "mz" else "intensities"
    start = f"{file.path}: spectrum 3 (x 1, y 2): {name} differ from what pyimzML reads: point 5"
    assert str(caught.value).startswith(f"{start} is ")


def test_positions_lengths_and_counts_are_compared(complete, monkeypatch):
    file = open_imzml(complete().path)
    read = Imzml.block
    file.coordinates[4] += 1
    with pytest.raises(InputError, match=r"spectrum 5 \(x 2, y 4\): pyimzML reads it at x 1, y 3"):
        compare_with_pyimzml(file)
    file = open_imzml(file.path)
    monkeypatch.setattr(Imzml, "block", lambda self, i: _shortened(read(self, i)))
    with pytest.raises(InputError, match=r"spectrum 6 .*: 29 points, there 30"):
        compare_with_pyimzml(file)
    file.stored = 7
    with pytest.raises(InputError, match="number of spectra: 7 are found, 6 by pyimzML"):
        compare_with_pyimzml(file)


def _shortened(block):
    """Loses the last point of the last spectrum."""
    starts = block.starts - np.eye(1, len(block.starts), len(block.starts) - 1, dtype=int)[0]
    return dataclasses.replace(block, starts=starts)


def test_what_pyimzml_cannot_read_is_no_fault(pair):
    with pytest.raises(NotReadByPyimzml, match="reads no compressed arrays"):
        compare_with_pyimzml(open_imzml(pair(packed=True).path))
    with pytest.raises(NotReadByPyimzml, match=r"pyimzML cannot read the file: AttributeError: "):
        compare_with_pyimzml(open_imzml(pair().path))
