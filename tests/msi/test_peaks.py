"""Peak picking against a loop that walks."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.peaks import estimate_noise, pick_peaks


def axis(size):
    return mass_axis("fixed_da", mz_min=100.0, mz_max=100.0 + size - 1, step=1.0)


def walk(values):
    """Maxima (start, end of run, lower bound, upper bound), found by walking."""
    found, n, i = [], len(values), 0
    while i < n:
        j = i
        while j + 1 < n and values[j + 1] == values[i]:
            j += 1
        left = values[i - 1] if i else 0.0
        right = values[j + 1] if j + 1 < n else 0.0
        if values[i] > left and values[i] > right:
            low, high = i, j
            while low > 0 and values[low - 1] != values[low] and values[low - 1] < values[low]:
                low -= 1
                while low > 0 and values[low - 1] == values[low] and _falls(values, low, -1):
                    low -= 1
            while high + 1 < n and values[high + 1] < values[high]:
                high += 1
                while high + 1 < n and values[high + 1] == values[high] and _falls(values, high, 1):
                    high += 1
            found.append(((i + j) // 2, low, high))
        i = j + 1
    return found


def _falls(values, at, direction):
    """Whether the run of equal values that starts at `at` goes on downhill."""
    n, k = len(values), at
    while 0 <= k + direction < n and values[k + direction] == values[at]:
        k += direction
    return 0 <= k + direction < n and values[k + direction] < values[at]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=25))
def test_maxima_and_bounds_equal_walking(values):
    values = np.array(values, np.float64)
    expected = walk(values)
    if not expected:
        with pytest.raises(InputError, match="holds no peak"):
            pick_peaks(axis(len(values)), values, count=100)
        return
    peaks = pick_peaks(axis(len(values)), values, count=100)
    assert [(int(a), int(b), int(c)) for a, b, c in expected] == [
        (int(m - 100), int(a - 100), int(b - 100))
        for m, a, b in zip(peaks.mz, peaks.lower, peaks.upper, strict=True)
    ]
    np.testing.assert_array_equal(peaks.height, values[[a for a, _, _ in expected]])


def test_tallest_ordered_by_mz_and_ties_to_the_lower():
    values = np.array([0, 5, 0, 9, 0, 5, 0, 1, 0.0])
    assert pick_peaks(axis(9), values, count=2).mz.tolist() == [101.0, 103.0]
    assert pick_peaks(axis(9), values, count=3).mz.tolist() == [101.0, 103.0, 105.0]
    assert len(pick_peaks(axis(9), values, count=50)) == 4


def test_edges_of_the_axis_can_be_peaks():
    peaks = pick_peaks(axis(4), np.array([3.0, 0, 0, 2.0]), count=5)
    assert peaks.mz.tolist() == [100.0, 103.0]
    assert peaks.lower.tolist() == [100.0, 102.0] and peaks.upper.tolist() == [101.0, 103.0]


def test_minimum_separation_prefers_the_taller():
    values = np.array([0, 5, 0, 9, 0, 5, 0, 1, 0.0])
    peaks = pick_peaks(axis(9), values, count=3, min_separation_ppm=30_000)
    assert peaks.mz.tolist() == [103.0, 107.0]


def test_excluded_ions_make_room_for_others():
    values = np.array([0, 5, 0, 9, 0, 5, 0, 1, 0.0])
    peaks = pick_peaks(axis(9), values, count=2, exclude=[103.0004], exclude_ppm=5)
    assert peaks.mz.tolist() == [101.0, 105.0]
    with pytest.raises(InputError, match="all its peaks are excluded"):
        pick_peaks(axis(9), values, count=2, exclude=[104.0], exclude_ppm=1e5)


def test_refusals():
    with pytest.raises(InputError, match="peaks: count: is 0, must be at least 1"):
        pick_peaks(axis(3), np.ones(3), count=0)
    with pytest.raises(InputError, match="summed spectrum: has 2 values for 3 bins"):
        pick_peaks(axis(3), np.ones(2), count=1)


def bumps(places, heights, size=400, width=2.0):
    bins = np.arange(size)
    return sum(
        h * np.exp(-0.5 * ((bins - p) / width) ** 2) for p, h in zip(places, heights, strict=True)
    )


def test_prominence_is_scipys_as_a_fraction_of_the_height():
    values = np.array([0, 5, 4, 9, 0, 5, 2, 2.5, 0.0])  # 5 and 2.5 stand on saddles of 4 and 2.
    every = pick_peaks(axis(9), values, count=9)
    assert every.mz.tolist() == [101.0, 103.0, 105.0, 107.0]
    for fraction, left in [(0.19, 4), (0.2, 4), (0.21, 2), (1.0, 2)]:
        assert len(pick_peaks(axis(9), values, count=9, prominence=fraction)) == left
    taken = pick_peaks(axis(9), values, count=2, prominence=0.5)
    assert taken.mz.tolist() == [103.0, 105.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.floats(0.01, 1))
def test_prominence_equals_find_peaks(values, fraction):
    padded = np.array([0, *values, 0], np.float64)
    places, found = scipy.signal.find_peaks(padded, prominence=0)
    expected = places[found["prominences"] >= fraction * padded[places]]
    try:
        picked = pick_peaks(axis(len(values)), padded[1:-1], count=99, prominence=fraction).mz - 99
    except InputError:
        picked = np.zeros(0)
    assert picked.tolist() == expected.tolist()


def test_noise_of_a_gaussian_floor_is_its_level_and_spread():
    rng = np.random.default_rng(0)
    values = 50 + rng.normal(0, 2, 20_000)
    values[::100] += 500
    level, spread = estimate_noise(values)
    assert level.shape == spread.shape == (20_000,)
    np.testing.assert_allclose(level, 50, atol=0.3)
    np.testing.assert_allclose(spread, 2, rtol=0.12)


def test_noise_follows_the_spectrum():
    rng = np.random.default_rng(1)
    scale = np.linspace(10, 1, 40_000)
    _, spread = estimate_noise(scale * (20 + rng.normal(0, 1, 40_000)))
    np.testing.assert_allclose(spread[[8000, -8000]], scale[[8000, -8000]], rtol=0.12)


def test_snr_leaves_peaks_and_drops_noise():
    rng = np.random.default_rng(2)
    values = 10 + rng.normal(0, 1, 6000)
    values += bumps([1000, 3000, 5000], [40, 30, 20], 6000)
    peaks = pick_peaks(axis(6000), values, count=50, min_snr=8)
    np.testing.assert_allclose(peaks.mz - 100, [1000, 3000, 5000], atol=2)
    assert len(pick_peaks(axis(6000), values, count=50)) == 50


def test_channels_have_no_noise_to_tell():
    values = np.array([0, 5, 0, 9, 0, 5, 0, 1, 0.0])
    assert len(pick_peaks(axis(9), values, count=9, min_snr=1000)) == 4
    assert estimate_noise(np.zeros(50))[1].max() == 0


def isotopic():
    """One ion of 40 carbons at 700 with its isotopes, another ion 1 Da above 800 as tall as it."""
    fine = mass_axis("ppm", mz_min=690, mz_max=810, step=5)
    places = [700 + k * 1.00335 for k in range(4)] + [800.0, 801.00335]
    heights = [100, 43.2, 9.1, 1.3, 60, 59]
    return fine, bumps(fine.nearest(np.array(places)), heights, len(fine.mz))


def test_deisotoping_makes_room_for_other_ions():
    fine, values = isotopic()
    plain = pick_peaks(fine, values, count=3)
    np.testing.assert_allclose(plain.mz, [700, 800, 801.003], atol=0.01)
    assert len(pick_peaks(fine, values, count=9)) == 6
    left = pick_peaks(fine, values, count=9, deisotope=True)
    np.testing.assert_allclose(left.mz, [700, 800, 801.003], atol=0.01)


def test_isotopes_of_an_excluded_ion_go_with_it():
    fine, values = isotopic()
    options = {"count": 9, "exclude": [700.0], "exclude_ppm": 20}
    assert len(pick_peaks(fine, values, **options)) == 5
    left = pick_peaks(fine, values, deisotope=True, **options)
    np.testing.assert_allclose(left.mz, [800, 801.003], atol=0.01)


def test_options_outside_their_range():
    with pytest.raises(InputError, match="prominence: is 2, must be a fraction"):
        pick_peaks(axis(3), np.ones(3), count=1, prominence=2)
    with pytest.raises(InputError, match="min_snr: is -1, must be 0 or above"):
        pick_peaks(axis(3), np.ones(3), count=1, min_snr=-1)
