"""Tissue from ions: whatever is brighter outside, as long as it is a minority."""

import numpy as np
import pytest

from msi2he_jax.msi.tissue import tissue_from_ions
from msi2he_jax.registration.scores import dice

ROWS, COLUMNS = np.mgrid[:40, :44]


def ions(rng, inside, count, contrast=3.0):
    """Ion images that are brighter where `inside`, each by its own amount, with counting noise."""
    levels = rng.uniform(20, 200, count)
    gains = 1 + (contrast - 1) * rng.uniform(0.5, 1.5, count)
    return rng.poisson(levels * np.where(inside[..., None], gains, 1.0)).astype(np.float32)


@pytest.mark.parametrize("foreign", [0, 4, 8])
def test_a_minority_of_matrix_and_rim_ions_changes_nothing(foreign):
    rng = np.random.default_rng(foreign)
    away = np.hypot(ROWS - 19, COLUMNS - 22) + 2 * np.sin(COLUMNS / 5)
    tissue, measured = away < 13, away < 18
    matrix = ions(rng, ~tissue, foreign, contrast=8.0)
    rim = ions(rng, abs(away - 14) < 1.5, foreign // 2, contrast=20.0)
    found = tissue_from_ions(np.concatenate([ions(rng, tissue, 20), matrix, rim], -1), measured)
    assert not (found & ~measured).any()
    assert dice(found, tissue) > 0.9 > dice(measured, tissue)


def test_where_no_ion_tells_all_that_was_measured_is_tissue():
    measured = ROWS > 4
    np.testing.assert_array_equal(tissue_from_ions(np.ones((40, 44, 3)), measured), measured)
