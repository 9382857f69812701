"""How far the m/z of one ion differ from spectrum to spectrum, in centroid data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STRONGEST = 200  # Faint peaks are noise more often than ions.
_PAIRS = 600  # Of spectra.
_REACH = 1000.0  # Five times the spread of a poor time-of-flight instrument.
_BACKGROUND = 300.0  # From here to the reach lie differences of different ions.
_LEAST = 0.01
_GRID = 1.08
_WINDOW = 1.25
_FEWEST, _FEWEST_SHARE, _FEWEST_IONS = 50, 0.05, 10
_STANDS_OUT = 3.0
_EXACT_SHARE = 0.5
_HALF_WIDTH = 1.1774100225154747 * 2**0.5  # Of a difference of two, per standard deviation of one.
_ROUNDED_SHARE, _NEIGHBOURING_SHARE = 0.98, 0.2
_REPEATED, _FEWEST_STEPS = 3, 20


def mass_scatter(spectra: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Estimates the standard deviation of an ion's position over spectra.

    The strongest peaks of pairs of spectra, near and far ones, are compared. Differences of one ion
    heap up around 0, those of different ions lie anywhere; half the width at half the height of the
    heap is that of a difference of two normal deviates. No ion need be known or identified, and a
    few odd ones move nothing.

    Args:
        spectra: Position (in any unit that is about 1 ppm, such as 1e6 times the logarithm of m/z)
            float64 [P], increasing, and intensity float64 [P], of each.

    Returns:
        In the unit of the positions; None where no heap stands out: one spectrum, no ion in
        common, or positions that repeat exactly, as those of a list of channels do.
    """
    strong = [_strongest(*each) for each in spectra]
    apart = [np.abs(_differences(strong[i], strong[j])) for i, j in _pairs(len(strong))]
    distance = np.sort(np.concatenate(apart)) if apart else np.zeros(0)
    if len(distance) < _FEWEST or _repeats(distance):
        return None
    return _half_width(distance)


def shift_scatter(files: Sequence[np.ndarray], width: float) -> float:
    """Estimates the standard deviation of what shifts whole files against each other.

    Args:
        files: Positions of each file's strongest ions, float64 [K], increasing, as `mass_scatter`.
        width: Scatter of an ion within a file.

    Returns:
        In the unit of the positions; 0 where no two files show a common shift.
    """
    found = [_shift(files[i], files[j], 4 * width) for i, j in _pairs(len(files))]
    shifts = np.array([shift for shift in found if shift is not None])
    return float(np.sqrt(np.mean(shifts**2) / 2)) if len(shifts) else 0.0


def _shift(one: np.ndarray, other: np.ndarray, width: float) -> float | None:
    """Returns the middle of the densest window of differences, None where it does not stand out."""
    apart = np.sort(_differences(one, other))
    if not len(apart):
        return None
    inside = np.searchsorted(apart, apart + width, "right") - np.arange(len(apart))
    first = int(np.argmax(inside))
    by_chance = len(apart) * width / (2 * _REACH)
    if inside[first] < max(_FEWEST_IONS, 2 * _STANDS_OUT * by_chance):
        return None
    return float(np.median(apart[first : first + inside[first]]))


def _pairs(count: int) -> list[tuple[int, int]]:
    """Lists pairs of near and far ones, each with as many others, about 600 or all."""
    if count < 2:
        return []
    most = max(1, min(count // 2, _PAIRS // count))
    steps = np.unique(np.linspace(1, count // 2, most).astype(int))
    return [(i, (i + step) % count) for step in steps for i in range(count)]


def _strongest(position: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    if len(position) <= _STRONGEST:
        return position[intensity > 0]
    return position[np.sort(np.argpartition(-intensity, _STRONGEST)[:_STRONGEST])]


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the signed differences of all pairs within reach, float64 [k]."""
    first, last = np.searchsorted(other, one - _REACH), np.searchsorted(other, one + _REACH)
    pairs = last - first
    start = np.repeat(first - np.cumsum(pairs) + pairs, pairs)
    return other[start + np.arange(len(start))] - np.repeat(one, pairs)


def _repeats(distance: np.ndarray) -> bool:
    """Tells whether most pairs of one ion are equal, as far as rounding to float64 goes."""
    near = np.searchsorted(distance, _BACKGROUND)
    return near > 0 and np.searchsorted(distance, 1e-6, "right") > _EXACT_SHARE * near


def _half_width(distance: np.ndarray) -> float | None:
    """Finds where the density of distances has fallen half-way to that of different ions."""
    grid = _LEAST * _GRID ** np.arange(int(np.log(_REACH / _LEAST) / np.log(_GRID)) - 3)
    density = np.diff(np.searchsorted(distance, np.outer(grid, [1 / _WINDOW, _WINDOW])), axis=1)
    density = density[:, 0] / (grid * (_WINDOW - 1 / _WINDOW))
    background = np.sum(distance > _BACKGROUND) / (_REACH - _BACKGROUND)
    core = np.searchsorted(distance, grid)
    enough = np.flatnonzero(core >= max(_FEWEST, _FEWEST_SHARE * len(distance)))
    if not len(enough):
        return None
    start = enough[0]
    height = core[start] / grid[start]
    if height < _STANDS_OUT * background:
        return None
    below = np.flatnonzero(density[start:] < (height + background) / 2)
    return float(grid[start + below[0]] / _HALF_WIDTH) if len(below) else None


def last_digit(mz: np.ndarray) -> float:
    """Finds to which step the scattering m/z of some spectra were rounded when written.

    Args:
        mz: float64 [P], of several spectra.

    Returns:
        Da, 0.1, 0.01, 0.001 or 0.0001; 0 where they were not rounded so, or where ions do not fall
        on neighbouring steps, as the channels of a list.
    """
    for step in (0.1, 0.01, 0.001, 0.0001):
        tolerance = 0.02 + np.spacing(mz.astype(np.float32)) / step  # As float32 keeps them.
        rounded = np.abs(mz / step - np.round(mz / step)) < tolerance
        if len(mz) and np.mean(rounded & (tolerance < 0.2)) > _ROUNDED_SHARE:
            steps, times = np.unique(np.round(mz / step), return_counts=True)
            ions = steps[times >= _REPEATED]
            many = len(ions) >= _FEWEST_STEPS
            return step if many and np.mean(np.diff(ions) == 1) > _NEIGHBOURING_SHARE else 0.0
    return 0.0
