"""The benchmark on outside sections: its errors, its table, and the page that shows it."""

import types

import numpy as np
import pytest

from benchmarks import bench_outside
from msi2he_jax.io_safety import read_json
from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Transform


@pytest.fixture
def truth(tmp_path):
    """An outside generator's file: x and y scaled unlike, no warp, and tissue in one corner."""
    (tmp_path / "truth").mkdir()
    matrix = np.array([[2.0, 0, 30], [0, 3.0, 50], [0, 0, 1]])  # of (x, y)
    axis = np.linspace(0, 400, 9)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)  # [y, x] of (x, y)
    tissue = np.zeros((4, 4))
    tissue[:2, 1:] = 1.0
    np.savez(
        tmp_path / "truth" / "s1.npz",
        matrix=matrix,
        best_affine=matrix,
        fwd_x_um=axis,
        fwd_y_um=axis,
        fwd_he_um=grid @ matrix[:2, :2].T + matrix[:2, 2],
        tissue_msi=tissue,
        measured=tissue > -1,
        msi_um=100.0,
    )
    sample = types.SimpleNamespace(sample_id="s1")
    moving = types.SimpleNamespace(native_um=np.array([100.0, 100.0]))
    return bench_outside.Truth(tmp_path, types.SimpleNamespace(sample=sample, moving=moving))


def test_the_truth_has_no_error_and_a_shift_counts_in_msi_pixels(truth):
    assert truth.msi_yx_um.shape == (6, 2)
    np.testing.assert_allclose(truth.errors_px(truth.best), 0.0, atol=1e-9)
    there = truth.best.matrix @ transforms.translation((150.0, 0.0))  # 1.5 MSI px down
    np.testing.assert_allclose(truth.errors_px(Transform(there)), 1.5, atol=1e-9)


def test_rows_are_condensed_per_method():
    rows = [
        {"method": "a", "median_px": px, "scale": 1.0, "cpu_s": s}
        for px, s in ((0.5, 90.0), (1.5, 2.0), (7.0, 4.0))
    ]
    rows.append({"method": "b", "median_px": 2.5, "scale": 0.9})
    first, second = bench_outside.condense(rows)
    assert (first["sections"], first["success"], first["gross"]) == (3, 2, 1)
    assert (first["median_px"], first["cpu_s"]) == (1.5, 3.0)
    assert (second["success"], second["gross"], second["cpu_s"]) == (0, 0, None)


def test_the_page_shows_what_was_measured():
    part = bench_outside.page_part(read_json(bench_outside.RESULT))
    assert part in bench_outside.PAGE.read_text()
