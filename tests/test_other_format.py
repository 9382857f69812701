"""A reader of another format takes a module and an entry of a table: every verb then reads it."""

import csv
import json
import pathlib

import numpy as np
import pytest

from msi2he_jax import doctor, preprocess, simulate
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.msi import open_msi as formats
from msi2he_jax.msi.block import BLOCK_POINTS, Block, packed_blocks
from msi2he_jax.msi.imzml import open_imzml


class Columns:
    """An image stored as columns in one NumPy archive, which no instrument writes."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.files, self.bytes = (self.path,), self.path.stat().st_size
        with np.load(path) as stored:
            self._mz, self._intensity = stored["mz"], stored["intensity"]
            self.points, self.coordinates = stored["points"], stored["coordinates"]
            self.pixel_size_um = tuple(stored["pixel_size_um"].tolist())
        self._ends = np.concatenate([[0], np.cumsum(self.points)])
        self.n, self.origin_px = len(self.points), (0, 0)
        self.shape = tuple((self.coordinates.max(axis=0) + 1).tolist())
        self.mask = np.zeros(self.shape, bool)
        self.mask[tuple(self.coordinates.T)] = True
        self.spectrum_type, self.polarity, self.shares_mz = "centroid", "negative", False
        self.uuid, self.warnings, self.checksum_recorded = self.path.stem, [], None
        self.mz_range = (float(self._mz.min()), float(self._mz.max()))

    def block(self, indices):
        starts = np.concatenate([[0], np.cumsum(self.points[indices])])
        spans = [np.arange(self._ends[i], self._ends[i + 1]) for i in indices]
        chosen = np.concatenate(spans) if spans else np.zeros(0, int)
        return Block(indices, self._mz[chosen], self._intensity[chosen], starts, False)

    def packed(self, indices=None, points=BLOCK_POINTS):
        return packed_blocks(self, indices, points)

    def spectrum(self, index):
        block = self.block(np.array([index]))
        return block.mz, block.intensity.astype(np.float32)

    def shared_mz(self):
        raise AssertionError("asked for though shares_mz is False")

    def tic(self):
        return np.concatenate([b.per_spectrum(b.intensity) for b in self.packed()])

    def verify_checksum(self, *, recheck=False):
        return None

    def describe(self):
        return {"columns": 4}


def _convert(path):
    """Writes what an imzML holds as columns, beside it."""
    msi = open_imzml(path)
    (block,) = msi.packed(points=10**9)
    target = path.with_suffix(".columns")
    with open(target, "wb") as file:
        arrays = {"mz": block.mz, "intensity": block.intensity, "points": msi.points}
        places = {"coordinates": msi.coordinates, "pixel_size_um": msi.pixel_size_um}
        np.savez(file, **arrays, **places)
    return target


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """The same cohort twice: as imzML, and as columns."""
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=3", "--grid=16", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5"]) == 0
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["imzml"] = _convert(folder / row["imzml"])
    with open(folder / "columns.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv", folder / "columns.csv"


@pytest.fixture
def reader(monkeypatch):
    made = formats.Reader("columns", lambda path, **_: Columns(path), lambda path: (path,))
    monkeypatch.setitem(formats.READERS, ".columns", made)


@pytest.mark.usefixtures("reader")
def test_preprocess_reads_it_as_imzml(manifests, tmp_path):
    flags = ["--peaks=8", "--recalibrate=sums"]
    for manifest, name in zip(manifests, ("imzml", "columns"), strict=True):
        assert preprocess.main([f"--manifest={manifest}", f"--out={tmp_path / name}", *flags]) == 0
    both = [load_arrays(tmp_path / name, "train") for name in ("imzml", "columns")]
    np.testing.assert_array_equal(both[0].msi, both[1].msi)
    texts = [(tmp_path / name / "provenance.json").read_text() for name in ("imzml", "columns")]
    first, second = map(json.loads, texts)
    assert first["peaks"] == second["peaks"]
    assert any(each["mass_shift"]["ppm"] for each in second["samples"])


@pytest.mark.usefixtures("reader")
def test_doctor_reads_it(manifests, capsys):
    path = next(manifests[1].parent.rglob("*.columns"))
    assert doctor.main([str(path), "--cross-check"]) == 0
    said = capsys.readouterr()
    assert f"{path}: columns: columns 4, checksum unknown, spectra " in said.out
    assert "not cross-checked: pyimzML reads imzML only" in said.err
    assert doctor.main([str(manifests[1])]) == 0


def test_without_a_reader_it_is_refused(manifests, tmp_path, capsys):
    assert preprocess.main([f"--manifest={manifests[1]}", f"--out={tmp_path / 'a'}"]) == 2
    said = capsys.readouterr().err
    assert "is no mass spectrometry image in a known format (known: imzML)" in said
