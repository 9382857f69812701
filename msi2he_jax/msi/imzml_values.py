"""What an imzML file's arrays hold, against what is stated: number types, order, kind of spectrum.

A few spectra are looked at when a file is opened, since a stated number type or kind may be wrong
though every size agrees. Each array is checked again when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError

LARGEST_MZ = 1e6  # No ion that is measured one by one is heavier.
LARGEST = 1e30  # More is damage, and sums of it would leave float32.
_LEAST_MZ = 0.5  # Half a proton's.
_LEAST_COUNT, _MOST_COUNT = 1e-12, 1e15
_FEWEST_VALUES = 8  # A few may make sense by chance.
_FEWEST_POINTS = 100  # Fewer do not tell a profile from peaks.
_ALIKE = np.log(1.2)
_EVEN, _UNEVEN = 0.5, 0.25  # Of peaks that lie at random 1 in 11 spacings is alike.
_FINE_DA, _FINE_RELATIVE = 0.4, 3e-4  # Peaks at every mass number are even too, but further apart.
# Counts and m/z of the wrong number type: whole numbers read as floats are tiny, floats read as
# whole numbers are huge (1.0 is 1065353216, or 4607182418800017408).
_TINY = 1e-30
_HUGE = {4: 5e8, 8: 1e17}


def number_type(dtype: np.dtype) -> str:
    """Returns a number type in words, such as "32-bit float"."""
    kind = {"f": "float", "i": "integer", "u": "unsigned integer"}[dtype.kind]
    order = ", big-endian" if dtype.byteorder == ">" else ""
    return f"{8 * dtype.itemsize}-bit {kind}{order}"


def check_number_types(
    path: Path, mz: Sequence[np.ndarray], intensity: Sequence[np.ndarray], *, ordered: bool
) -> None:
    """Refuses stated number types under which some spectra make no sense, but do under another.

    Args:
        path: The file, for messages.
        mz: m/z of some spectra, each [P], of one stored type.
        intensity: Their intensities, likewise.
        ordered: Whether m/z must ascend within each spectrum.

    Raises:
        InputError: gives both readings.
    """
    together = [np.concatenate(intensity)] if intensity else []
    for name, arrays, fits, what in (
        ("m/z array", mz, lambda one, stated: _is_mz(one, ordered), "no m/z"),
        ("intensity array", together, _are_counts, "no counts"),
    ):
        other = _other_reading([each for each in arrays if each.any()], fits)
        if other:
            given = (
                f"read as {number_type(arrays[0].dtype)}, as stated, gives {_span(arrays)}: {what}"
            )
            why = f"{given}; as {number_type(other[0].dtype)} it gives {_span(other)}"
            hint = "the stated number type is wrong: correct it in the imzML"
            raise InputError(path, name, why, hint)


def _other_reading(arrays: Sequence[np.ndarray], fits) -> list[np.ndarray]:
    """Returns arrays in the number type under which they make sense, [] if stated or none does."""
    if sum(map(len, arrays)) < _FEWEST_VALUES or all(fits(each, True) for each in arrays):
        return []
    readings = ([each.view(dtype) for each in arrays] for dtype in _other_types(arrays[0].dtype))
    return next((some for some in readings if all(fits(each, False) for each in some)), [])


def _other_types(stated: np.dtype) -> list[np.dtype]:
    """Lists the other number types of the same size, likely ones first."""
    kinds = [f"{order}{kind}{stated.itemsize}" for order in "<>" for kind in "fiu"]
    found = [np.dtype(kind) for kind in kinds if kind not in ("<f1", ">f1")]
    return [each for each in found if each != stated]


def _span(arrays: Sequence[np.ndarray]) -> str:
    low, high = (pick(pick(each) for each in arrays) for pick in (min, max))
    return f"{float(low):.4g} to {float(high):.4g}"


def _as_float64(values: np.ndarray) -> np.ndarray:
    """Converts without NumPy's warning: bytes read as another type may hold signalling NaN."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def _is_mz(mz: np.ndarray, ordered: bool) -> bool:
    values = _as_float64(mz)
    if not (np.isfinite(values).all() and values.min() >= 0):
        return False
    ascends = not ordered or bool((np.diff(values) >= 0).all())
    return bool(_LEAST_MZ <= values.max() <= LARGEST_MZ and ascends)


def _are_counts(intensity: np.ndarray, stated: bool) -> bool:
    """Tells whether values may be counts; another type than stated must make plain sense."""
    values = _as_float64(intensity)
    if not (np.isfinite(values).all() and values.min() >= 0):
        return False
    values = values[values > 0]
    low, high = (values.min(), values.max()) if len(values) else (1.0, 1.0)
    if intensity.dtype.kind != "f":
        return bool((low if stated else high) < _HUGE.get(intensity.dtype.itemsize, np.inf))
    if stated:
        return bool(high >= _TINY and high <= LARGEST)
    return bool(low >= _LEAST_COUNT and high <= _MOST_COUNT)


def check_values(
    values: np.ndarray, starts: np.ndarray, name: str, path: Path, where: Callable[[int], str]
) -> None:
    """Refuses what is negative, not finite or too large.

    Args:
        values: float64 [P], of n spectra end to end.
        starts: int64 [n + 1], where spectra start.
        name: "m/z" or "intensity".
        path: The file, for messages.
        where: Names the i-th of the spectra.
    """
    largest = LARGEST_MZ if name == "m/z" else LARGEST
    if values.size == 0 or (values.min() >= 0 and values.max() < largest):
        return
    point = int(np.flatnonzero(~((values >= 0) & (values < largest)))[0])
    which = int(np.searchsorted(starts, point, "right")) - 1
    why = f"the {name} of point {point - starts[which] + 1} is {values[point]:g}"
    hint = "a finite number, not negative, was expected; the file is damaged or mislabelled"
    if name == "m/z" and largest <= values[point] < np.inf:
        hint = f"less than {largest:g} was expected; the file is damaged or mislabelled"
    raise InputError(path, where(which), why, hint)


def check_sorted(
    mz: np.ndarray, starts: np.ndarray, path: Path, where: Callable[[int], str]
) -> None:
    """Refuses spectra whose m/z are all 0, or fall.

    Args:
        mz: float64 [P], of n spectra end to end.
        starts: int64 [n + 1], where spectra start.
        path: The file, for messages.
        where: Names the i-th of the spectra.
    """
    ends = starts[1:][np.diff(starts) > 0] - 1
    holes = ends[mz[ends] == 0]
    if len(holes):
        which = int(np.searchsorted(starts, holes[0], "right")) - 1
        why = "every m/z is 0, as in a hole of an .ibd that was not copied whole"
        raise InputError(path, where(which), why)
    falls = _falls(mz, starts)
    if len(falls):
        which = int(np.searchsorted(starts, falls[0], "right")) - 1
        at = falls[0] - starts[which]
        why = f"m/z falls from {mz[falls[0] - 1]:.6f} to {mz[falls[0]]:.6f} at point {at + 1}"
        raise InputError(path, where(which), why, "sort the spectra")


def is_sorted(mz: np.ndarray, starts: np.ndarray) -> bool:
    """Tells whether m/z ascend within each spectrum.

    Args:
        mz: float64 [P], of several spectra end to end.
        starts: int64 [n + 1], where spectra start.
    """
    return len(_falls(mz, starts)) == 0


def _falls(mz: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the points whose m/z is below the one before in the same spectrum, int64 [k]."""
    found = np.flatnonzero(mz[1:] < mz[:-1]) + 1
    return found[~np.isin(found, starts)]


def order_by_mz(mz: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the order in which m/z ascend within each spectrum, equal ones as they are.

    Args:
        mz: float64 [P], of several spectra end to end.
        starts: int64 [n + 1], where spectra start.

    Returns:
        int64 [P].
    """
    spectrum = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return np.lexsort((mz, spectrum))


def looks_like(arrays: Sequence[np.ndarray]) -> tuple[str | None, float]:
    """Tells profiles from centroids by how evenly their points lie.

    Points of a profile lie where the instrument samples: each spacing is about as wide as the one
    before (within a factor of 1.2), and finer than the distance of mass numbers. Peaks lie at
    random.

    Args:
        arrays: m/z, each float64 [P].

    Returns:
        "profile", "centroid", or None where they do not tell (fewer than 100 points, or neither);
        and the share of spacings that are alike, 0 to 1, NaN where there are too few points.
    """
    arrays = [each for each in arrays if len(each) >= _FEWEST_POINTS]
    if not arrays:
        return None, float("nan")
    gaps = [np.diff(each) for each in arrays]
    mz = np.concatenate([each[1:] for each in arrays])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.concatenate([np.log(each[1:] / each[:-1]) for each in gaps])
    alike = float((np.abs(ratios) < _ALIKE).mean())
    fine = np.median(np.concatenate(gaps) / np.maximum(_FINE_DA, _FINE_RELATIVE * mz)) < 1
    if alike > _EVEN and fine:
        return "profile", alike
    return ("centroid" if alike < _UNEVEN else None), alike


def spectrum_type(stated: str | None, arrays: Sequence[np.ndarray]) -> tuple[str | None, list[str]]:
    """Chooses how spectra are read: as their points lie where that is clear, else as stated.

    Args:
        stated: "profile", "centroid" or None.
        arrays: m/z of some spectra, each float64 [P].

    Returns:
        "profile", "centroid" or None; warnings, where what is stated is not what is found.
    """
    found, alike = looks_like(arrays)
    if found is None or found == stated:
        return stated, []
    lie = f"their points lie as those of {found} spectra ({100 * alike:.0f} % of spacings alike)"
    if stated is None:
        return found, [f"{lie}: read as {found}"]
    return found, [f"the spectra are stated to be {stated}, but {lie}: read as {found}"]
