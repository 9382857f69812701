"""The files are read back with pyimzML, which shares no code with the writer."""

import contextlib
import hashlib
import uuid

import numpy as np
import pytest
from pyimzml.ImzMLParser import ImzMLParser

from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.spectra import centroid_spectra, profile_spectra

MZ = np.array([112.9856, 281.2486, 885.5499])
POSITIONS = np.array([[4, 2], [5, 2], [3, 3]])
INTENSITY = np.array([[10.0, 0.0, 5.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)
SHIFT_PPM = np.array([0.0, 8.0, -8.0])
NAME = uuid.UUID("bcde972d-effa-439c-b5e1-fcb287810862")


@contextlib.contextmanager
def _written(path, kind):
    """Writes three spectra; gives them as pyimzML reads them."""
    rng = np.random.default_rng(0)
    if kind == "profile":
        spectra = profile_spectra(INTENSITY, MZ, SHIFT_PPM)
    else:
        spectra = centroid_spectra(rng, INTENSITY, MZ, SHIFT_PPM)
    size = {"um_yx": (75.0, 50.0), "identifier": NAME, "version": "1"}
    write_imzml(path, spectra, POSITIONS, kind=kind, polarity="negative", **size)
    with ImzMLParser(str(path)) as parser:
        yield parser


@pytest.mark.parametrize("kind", ["profile", "centroid"])
def test_read_back(tmp_path, kind):
    with _written(tmp_path / "a.imzML", kind) as parser:
        assert [c[:2] for c in parser.coordinates] == [(4, 2), (5, 2), (3, 3)]
        assert parser.spectrum_mode == kind and parser.polarity == "negative"
        assert parser.imzmldict["pixel size x"] == 50.0
        assert parser.imzmldict["pixel size y"] == 75.0
        assert parser.imzmldict["max count of pixels x"] == 5
        for index in range(3):
            mz, intensity = parser.getspectrum(index)
            assert len(mz) == len(intensity) > 0
            assert (np.diff(mz) > 0).all() and (intensity >= 0).all()


@pytest.mark.parametrize("kind", ["profile", "centroid"])
def test_uuid_and_checksum_hold(tmp_path, kind):
    with _written(tmp_path / "a.imzML", kind):
        pass
    binary = (tmp_path / "a.ibd").read_bytes()
    text = (tmp_path / "a.imzML").read_text("latin-1")
    assert binary[:16] == NAME.bytes
    assert f"{{{NAME}}}".upper() in text
    assert hashlib.sha1(binary).hexdigest().upper() in text


def test_centroid_has_one_point_per_detected_peak(tmp_path):
    with _written(tmp_path / "a.imzML", "centroid") as parser:
        mz, intensity = parser.getspectrum(0)
        assert np.allclose(intensity, [10.0, 5.0])
        assert (np.abs(mz / MZ[[0, 2]] - 1) * 1e6 < 5).all()


def test_profile_peaks_have_width_and_fall_to_zero(tmp_path):
    with _written(tmp_path / "a.imzML", "profile") as parser:
        mz, intensity = parser.getspectrum(1)
        assert len(mz) == 21 and (intensity[0::7] == 0).all() and (intensity[6::7] == 0).all()
        last = slice(14, 21)
        apex = intensity[last].max()
        assert 2.4 < apex <= 3.0
        above = mz[last][intensity[last] > apex / 2]
        width = 885.5499 / 20_000
        assert 0.3 * width < np.ptp(above) < 1.2 * width
        center = (mz[last] * intensity[last]).sum() / intensity[last].sum()
        assert abs((center / 885.5499 - 1) * 1e6 - 8.0) < 2.0


def test_an_empty_spectrum_keeps_a_point(tmp_path):
    with _written(tmp_path / "a.imzML", "centroid") as parser:
        assert list(parser.getspectrum(2)[1]) == [0.0]
