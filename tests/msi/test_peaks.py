"""Peak picking against a loop that walks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.peaks import pick_peaks


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
