"""The measures that calibrate the simulator, on images whose values are known."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import desi_measures as measures


def _seen(gain=0.0, noise=0.0, blur=0.0):
    """A square of tissue in three ions, one ion off the tissue and one on its rim."""
    rng = np.random.default_rng(0)
    tissue = np.pad(np.ones((60, 60)), 20)
    inner = ndimage.binary_erosion(tissue, iterations=2)
    maps = np.stack([tissue, tissue, tissue, 1.0 - tissue, tissue - inner], axis=-1)
    cube = 1e5 * ndimage.gaussian_filter(0.001 + maps, (blur, blur, 0))
    cube *= np.exp(
        gain * rng.standard_normal((100, 1, 1)) + noise * rng.standard_normal(cube.shape)
    )
    return measures.see(cube, np.array([True, True, True, False, False]))


def test_the_tissue_is_found_and_foreign_ions_counted():
    seen = _seen(noise=0.05)
    assert np.sum(seen.depth > 0) == pytest.approx(3600, rel=0.08)
    assert measures.off_tissue(seen) == measures.on_rim(seen) == pytest.approx(0.2)


def test_gain_and_noise_are_read_off():
    assert measures.line_gain(_seen(gain=0.2, noise=0.1)) == pytest.approx(0.19, abs=0.03)
    assert measures.line_gain(_seen(noise=0.1)) < 0.02
    # Beside the mean of three ions, two thirds of an ion's variance are left.
    assert measures.own_noise(_seen(noise=0.3)) == pytest.approx(0.3 * (2 / 3) ** 0.5, rel=0.15)


def test_a_halo_grows_with_the_point_spread():
    halos = [measures.halo(_seen(blur=blur)) for blur in (0.0, 1.0, 2.0)]
    assert halos[0] < halos[1] < halos[2] > 5 * halos[0]
