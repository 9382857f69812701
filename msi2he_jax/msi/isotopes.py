"""Tells the 13C isotopes in a list of peaks from the monoisotopic peaks they belong to."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.errors import InputError

# Mass of 13C less that of 12C, Da; and the odds of 13C against 12C in nature.
SPACING_DA = 1.00335483507
ODDS_13C = 0.0107 / 0.9893
_LEAST_DA_PER_CARBON = 12.0


@dataclasses.dataclass(frozen=True, eq=False)
class Isotopes:
    """What each of K peaks is.

    Attributes:
        order: int64 [K], number of 13C: 0 for a monoisotopic peak.
        monoisotopic: int64 [K], index of the monoisotopic peak; a peak's own where it is one.
        charge: int64 [K], of the isotope series; 0 for a monoisotopic peak, whose charge only its
            isotopes tell.
    """

    order: np.ndarray
    monoisotopic: np.ndarray
    charge: np.ndarray


def find_isotopes(
    mz: np.ndarray,
    height: np.ndarray,
    *,
    tolerance_ppm: float | np.ndarray = 5.0,
    max_charge: int = 1,
) -> Isotopes:
    """Finds 13C isotopes: a peak 1.00335/z above another, and no higher than carbon can explain.

    An ion of mass m has at most m / 12 carbon atoms, so that M + k reaches at most
    (n - k + 1) / k * 0.0108 times M + k - 1, with n = m / 12 (binomial). A higher peak there is an
    ion of its own, as is one whose distance does not fit; lipids, at one carbon in 14 to 18 Da,
    and peptides (averagine, one in 22.5 Da) stay well below. Isotopes of other elements (34S,
    37Cl) are not looked for.

    Args:
        mz: float64 [K], increasing.
        height: float64 [K], any unit, >= 0.
        tolerance_ppm: How exactly the distance must fit, ppm of the m/z; one number or [K].
        max_charge: Series of charge 1 to this are looked for, the highest first.

    Returns:
        One entry per peak.

    Raises:
        InputError: sizes that differ, m/z that do not increase, or a charge below 1.

    Source:
        Natural abundances: IUPAC 2003 (de Laeter et al.); averagine: Senko et al. 1995.
    """
    mz, height = np.asarray(mz, np.float64), np.asarray(height, np.float64)
    _check(mz, height, max_charge)
    order, charge = np.zeros(len(mz), np.int64), np.zeros(len(mz), np.int64)
    monoisotopic = np.arange(len(mz))
    for i, z, below in _candidates(mz, height, tolerance_ppm, max_charge):
        if order[i] or charge[below] not in (0, z):
            continue
        k = order[below] + 1
        if height[i] <= _most(mz[i], z, k) * height[below]:
            order[i], charge[i], monoisotopic[i] = k, z, monoisotopic[below]
    return Isotopes(order, monoisotopic, charge)


def _check(mz: np.ndarray, height: np.ndarray, max_charge: int) -> None:
    if mz.ndim != 1 or mz.shape != height.shape:
        raise InputError("isotopes", "height", f"has {height.size} values for {mz.size} m/z")
    if (np.diff(mz) <= 0).any():
        raise InputError("isotopes", "m/z", "do not increase")
    if max_charge < 1:
        raise InputError("isotopes", "max_charge", f"is {max_charge}, must be at least 1")


def _most(mz, charge, order):
    """Most that M + order can be of M + order - 1."""
    carbons = mz * charge / _LEAST_DA_PER_CARBON
    return np.maximum(carbons - order + 1, 0) / order * ODDS_13C


def _candidates(mz, height, tolerance_ppm, max_charge: int) -> list[tuple[int, int, int]]:
    """Lists (peak, charge, the peak one step below), by m/z, then from the highest charge down."""
    found = []
    for z in range(max_charge, 0, -1):
        below = _tallest_near(mz, height, mz - SPACING_DA / z, mz * tolerance_ppm * 1e-6)
        peak = np.flatnonzero(below >= 0)
        peak = peak[height[peak] <= _most(mz[peak], z, 1) * height[below[peak]]]
        found += [(i, z, b) for i, b in zip(peak.tolist(), below[peak].tolist(), strict=True)]
    return sorted(found, key=lambda each: (each[0], -each[1]))


def _tallest_near(mz, height, at, tolerance_da) -> np.ndarray:
    """Returns the tallest peak within the tolerance of each m/z, int64 [K]; -1 where none is."""
    first = np.searchsorted(mz, at - tolerance_da)
    stop = np.searchsorted(mz, at + tolerance_da, "right")
    best = np.where(stop > first, first, -1)
    for step in range(1, int((stop - first).max(initial=0))):
        other = np.minimum(first + step, len(mz) - 1)
        taller = (first + step < stop) & (height[other] > height[best])
        best = np.where(taller, other, best)
    return best
