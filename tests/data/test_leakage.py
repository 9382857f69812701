"""What is learned from spectra is learned from training samples, and from nothing else."""

import csv
import json
import uuid

import numpy as np
import pytest

from msi2he_jax import preprocess
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.spectra import Spectra

LEARNED = ("axis", "peaks", "scaling", "view_models")
SPLITS = ("train", "train", "validation", "test")


@pytest.fixture(scope="module")
def rows(cohort):
    """Four samples of as many patients, with absolute paths."""
    with open(cohort, newline="") as file:
        rows = list(csv.DictReader(file))[: len(SPLITS)]
    for number, (row, split) in enumerate(zip(rows, SPLITS, strict=True)):
        paths = {k: str(cohort.parent / row[k]) for k in ("imzml", "histology", "landmarks")}
        row |= {"split": split, "group_id": f"g{number}"} | paths
    return rows


def _learned(rows, folder, *altered):
    """What a data set has learned, and its test images, where some samples' spectra are altered."""
    folder.mkdir()
    rows = [_altered(row, folder) if n in altered else row for n, row in enumerate(rows)]
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    flags = [f"--manifest={folder / 'manifest.csv'}", f"--out={folder / 'out'}"]
    assert preprocess.main([*flags, "--peaks=8", "--view_fit=train"]) == 0
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert record["counts"] == {"train": 2, "validation": 1, "test": 1}
    return {part: record[part] for part in LEARNED}, load_arrays(folder / "out", "test").msi


def _altered(row, folder):
    """The sample with every line at another height, many elsewhere, and one at a larger m/z."""
    imzml = open_imzml(row["imzml"])
    factors = np.random.default_rng(0).permutation(np.geomspace(0.01, 100.0, 1000))
    spectra = []
    for number in range(imzml.n):
        mz, intensity = imzml.spectrum(number)
        nominal = mz.astype(int)
        moved = np.append(mz + 0.3 * (nominal % 3 == 0), 950.0)
        order = np.argsort(moved)
        spectra.append((moved[order], np.append(intensity * factors[nominal], 1.0)[order]))
    counts = np.array([len(mz) for mz, _ in spectra])
    mz, intensity = (np.concatenate(values) for values in zip(*spectra, strict=True))
    path = folder / f"{row['sample_id']}.imzML"
    write_imzml(
        path,
        Spectra(mz, intensity.astype(np.float32), counts),
        imzml.coordinates[:, ::-1] + 1,
        kind="profile",
        polarity="negative",
        um_yx=(50.0, 50.0),
        identifier=uuid.uuid4(),
        version="0",
    )
    return row | {"imzml": str(path)}


def test_spectra_of_validation_and_test_teach_nothing(rows, tmp_path):
    """Altered there, all that is learned stays; altered in one training sample, all changes."""
    learned, shown = _learned(rows, tmp_path / "as_is")
    same, other = _learned(rows, tmp_path / "test", 2, 3)
    changed, _ = _learned(rows, tmp_path / "train", 1)
    for part in LEARNED:
        assert same[part] == learned[part], part
        assert changed[part] != learned[part], part
    assert (shown != other).any()
