"""Shared by the tests of data: a tiny simulated cohort, and the examples of a small data set."""

import numpy as np
import pytest

from msi2he_jax import preprocess, simulate


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """The manifest of six simulated sections of three patients, 24 pixels a side."""
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=6", "--grid=24", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--seed=3"]) == 0
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def pairs(cohort, tmp_path_factory):
    """The data set made of that cohort with 10 peaks."""
    out = tmp_path_factory.mktemp("data") / "pairs"
    assert preprocess.main([f"--manifest={cohort}", f"--out={out}", "--peaks=10"]) == 0
    return out


@pytest.fixture
def make_example():
    """Makes an example of random content: make_example(number, height, width, channels)."""

    def make(number, height=10, width=12, channels=4):
        rng = np.random.default_rng(number)
        return {
            "sample_id": f"s{number}",
            "group_id": f"g{number}",
            "msi": rng.random((height, width, channels), np.float32),
            "histology": rng.integers(0, 256, (height, width, 3), np.uint8),
            "view": rng.integers(0, 256, (height, width, 3), np.uint8),
            "msi_mask": rng.random((height, width)) < 0.7,
            "tissue_mask": rng.random((height, width)) < 0.6,
            "msi_to_histology": rng.random((3, 3)),
            "um_per_px": 12.5 + number,
        }

    return make


@pytest.fixture
def provenance():
    """A provenance with just what writing and loading need, for 4 channels."""
    return {
        "format": "msi2he_jax pairs 1",
        "axis": {},
        "peaks": {n: [100.0, 200.0, 300.0, 400.0] for n in ("mz", "lower", "upper", "height")},
        "rebin": {},
        "normalization": "none",
        "scaling": {"transform": "sqrt", "scale": [1.0, 1.0, 0.5, 0.25]},
        "pad_value": 255,
        "grid": {},
    }
