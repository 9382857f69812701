"""De-isotoping against isotope patterns computed by convolution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi.isotopes import SPACING_DA, find_isotopes


def pattern(carbons, most=6):
    """Heights of M, M+1, ... for so many carbons, by convolving one atom's two isotopes."""
    heights = np.ones(1)
    for _ in range(carbons):
        heights = np.convolve(heights, [0.9893, 0.0107])
    return heights[:most]


def series(mz, carbons, charge=1, height=1.0, most=6):
    heights = pattern(carbons, most)
    return mz + np.arange(len(heights)) * SPACING_DA / charge, height * heights


# Name, neutral mass, carbons: a PAH (the richest in carbon), lipids, a peptide, a sugar.
@pytest.mark.parametrize(
    ("mass", "carbons"),
    [(300.0939, 24), (386.3549, 27), (759.5778, 42), (884.7833, 57), (1045.53, 50), (180.06, 6)],
)
@pytest.mark.parametrize("charge", [1, 2, 3])
def test_whole_patterns_are_recognised(mass, carbons, charge):
    mz, height = series(mass / charge + 1.00728, carbons, charge)
    found = find_isotopes(mz, height, max_charge=charge)
    assert found.order.tolist() == list(range(6))
    assert found.monoisotopic.tolist() == [0] * 6
    assert found.charge.tolist() == [0] + [charge] * 5


def test_a_peptide_whose_second_peak_is_the_taller():
    mz, height = series(2500.2, 111)
    assert height[1] > height[0]
    assert find_isotopes(mz, height).order.tolist() == list(range(6))


@settings(max_examples=100, deadline=None)
@given(st.floats(100, 2000), st.floats(0.1, 0.9), st.floats(1.05, 50))
def test_a_peak_too_tall_for_carbon_is_an_ion_of_its_own(mz, share, factor):
    most = mz / 12 * 0.0107 / 0.9893
    pair = np.array([mz, mz + SPACING_DA])
    assert find_isotopes(pair, np.array([1.0, most * share])).order[1] == 1
    assert find_isotopes(pair, np.array([1.0, most * factor])).order[1] == 0


@pytest.mark.parametrize(("off_ppm", "isotope"), [(0, 1), (4.9, 1), (-4.9, 1), (5.3, 0), (-5.3, 0)])
def test_tolerance_is_of_the_mz(off_ppm, isotope):
    mz = np.array([800.0, (800.0 + SPACING_DA) * (1 + off_ppm * 1e-6)])
    assert find_isotopes(mz, np.array([1.0, 0.3]), tolerance_ppm=5).order[1] == isotope


def test_a_double_bond_more_is_not_an_isotope():
    """PC 34:2 and PC 34:1: M + 2 of the first lies 12 ppm from the second, which is taller."""
    mz, height = series(758.5694, 42, most=4)
    other, other_height = series(760.5851, 42, height=2.0, most=4)
    mz, height = np.append(mz, other), np.append(height, other_height)
    order = np.argsort(mz)
    found = find_isotopes(mz[order], height[order], tolerance_ppm=5)
    alone = np.flatnonzero(found.order == 0)
    np.testing.assert_allclose(mz[order][alone], [758.5694, 760.5851])
    coarse = find_isotopes(mz[order], height[order], tolerance_ppm=30)
    assert 760.5851 in mz[order][coarse.order == 0]


def test_two_series_keep_apart():
    a, b = series(500.3, 28, most=3), series(500.8, 28, height=3.0, most=3)
    mz, height = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    order = np.argsort(mz)
    found = find_isotopes(mz[order], height[order], max_charge=1)
    assert found.order.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.monoisotopic.tolist() == [0, 1, 0, 1, 0, 1]


def test_the_tallest_of_several_near_is_the_parent():
    mz = np.array([499.9990, 500.0, 500.0012, 501.00335])
    found = find_isotopes(mz, np.array([0.1, 5.0, 0.2, 1.0]), tolerance_ppm=10)
    assert found.monoisotopic[3] == 1


def test_nothing_is_no_isotope():
    found = find_isotopes(np.zeros(0), np.zeros(0))
    assert len(found.order) == len(found.charge) == len(found.monoisotopic) == 0


def test_refusals():
    with pytest.raises(InputError, match="height: has 1 values for 2 m/z"):
        find_isotopes(np.array([1.0, 2.0]), np.ones(1))
    with pytest.raises(InputError, match="m/z: do not increase"):
        find_isotopes(np.array([2.0, 2.0]), np.ones(2))
    with pytest.raises(InputError, match="max_charge: is 0, must be at least 1"):
        find_isotopes(np.array([1.0]), np.ones(1), max_charge=0)
