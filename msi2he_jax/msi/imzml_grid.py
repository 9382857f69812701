"""Lays the spectra of an imzML file on a grid, and says what is odd about their positions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_index import number_of, value_of
from msi2he_jax.msi.imzml_params import XmlIndex

COUNT_X, COUNT_Y = "IMS:1000042", "IMS:1000043"
_SPARSE, _HALF = 0.05, 0.6  # Of a grid with a step, hardly more than half is measured.
_FEW = 0.05  # Neighbours that may lie closer than the step: seams of regions.
_MOST = 0.5
_LISTED_GROUPS = 3


def grid(
    xml: XmlIndex, chosen: np.ndarray, path: Path, duplicates: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lays spectra on a grid that starts at their own minimum.

    Args:
        xml: The parsed file.
        chosen: int64 [n], rows of its table: the spectra that are used.
        path: The file, for messages.
        duplicates: "refuse", or "first" or "sum" where several spectra at one position are wanted.

    Returns:
        coordinates int64 [n, 2] (row, column), origin int64 [2] (min x, min y), warnings.

    Raises:
        InputError: no spectra, a grid beyond the limits, or duplicates under "refuse".
    """
    if len(chosen) == 0:
        raise InputError(path, "spectrumList", "holds no spectra")
    x, y, z = (xml.column(name)[chosen] for name in "xyz")
    origin = np.array([x.min(), y.min()])
    width, height = int(x.max()) - int(x.min()) + 1, int(y.max()) - int(y.min()) + 1
    filled = len(x) / (width * height)
    stepped = _step_warnings(x, y) if filled < _HALF else []
    if width * height > LIMITS.grid_pixels:
        why = f"span a grid of {height} x {width} pixels for {len(x)} spectra"
        raise InputError(path, "positions", why, _way_on(chosen, x, y, stepped))
    coordinates = np.stack([y - origin[1], x - origin[0]], axis=1)
    warnings = [*stepped, *_span_warnings(xml, x, y)]
    if filled < _SPARSE and not stepped:
        why = f"only {100 * filled:.2g} % of the grid's pixels were measured"
        warnings.append(f"{why}; farthest out, {_farthest(chosen, x, y)}")
    flat = coordinates[:, 0] * width + coordinates[:, 1]
    order = np.argsort(flat, kind="stable")
    again = order[1:][np.diff(flat[order]) == 0]
    if len(again):
        warnings.append(
            _duplicates(path, chosen, (x, y, z), int(again.min()), len(again), duplicates)
        )
    return coordinates, origin, warnings


def _duplicates(path, chosen, xyz, index: int, count: int, policy: str) -> str:
    x, y, z = xyz
    stack = f"; z runs from {z.min()} to {z.max()}" if z.min() != z.max() else ""
    more = f" ({count} such spectra in all{stack})"
    first = chosen[np.flatnonzero((x == x[index]) & (y == y[index]))[0]]
    why = f"lies at x {x[index]}, y {y[index]} like spectrum {first + 1}{more}"
    if policy == "refuse":
        hint = "pass --duplicates=sum or first to preprocess or doctor, or split the file"
        raise InputError(path, f"spectrum {chosen[index] + 1}", why, hint)
    return f"spectrum {chosen[index] + 1} {why}; policy: {policy}"


def _farthest(chosen: np.ndarray, x: np.ndarray, y: np.ndarray) -> str:
    far = int(np.argmax(np.abs(x - np.median(x)) + np.abs(y - np.median(y))))
    return f"spectrum {chosen[far] + 1} lies at x {x[far]}, y {y[far]}"


def _way_on(chosen, x: np.ndarray, y: np.ndarray, stepped: list[str]) -> str:
    """Says what a grid beyond the limit may come from, and how to go on."""
    allow = "split the file, or allow more with --limits.grid_pixels=N"
    if stepped:
        return f"{stepped[0]}; divide the positions by the step"
    groups = {name: _groups(values) for name, values in (("x", x), ("y", y))}
    told = [
        f"{name} {' and '.join(f'{low} to {high}' for low, high in parts)}"
        for name, parts in groups.items()
        if 1 < len(parts) <= _LISTED_GROUPS
    ]
    if len(told) == 2:
        return f"they fall into regions far apart, at {', '.join(told)}: {allow}"
    return f"{_farthest(chosen, x, y)}: is that right? If so, {allow}"


def _groups(values: np.ndarray) -> list[tuple[int, int]]:
    """Returns least and greatest of each group of values; between them lies more than they span."""
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    measured = len(distinct)
    cuts = np.flatnonzero(gaps > max(10 * measured, 100)) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(distinct, cuts)]


def _step_warnings(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Says by which step neighbouring positions lie apart, where that is not one pixel."""
    steps = {"x": _step(y, x), "y": _step(x, y)}
    wide = {name: step for name, step in steps.items() if step > 1}
    if not wide:
        return []
    each = " and ".join(f"{step} in {name}" for name, step in wide.items())
    share = math.prod(wide.values())
    return [f"positions have a step of {each}: about 1 of {share} pixels is measured"]


def _step(line: np.ndarray, along: np.ndarray) -> int:
    """Returns the usual distance of neighbours on a line, if hardly any lie closer; else 1."""
    order = np.lexsort((along, line))
    gaps = np.diff(along[order])[np.diff(line[order]) == 0]
    gaps = gaps[gaps > 0]
    if len(gaps) < 2:  # No two lie on one line, as in a diagonal scan.
        gaps = np.diff(np.unique(along))
    if len(gaps) < 2:
        return 1
    steps, counts = np.unique(gaps, return_counts=True)
    usual = int(np.argmax(counts))
    closer = counts[:usual].sum() / len(gaps)
    return int(steps[usual]) if counts[usual] > _MOST * len(gaps) and closer <= _FEW else 1


def _span_warnings(xml: XmlIndex, x: np.ndarray, y: np.ndarray) -> list[str]:
    """Says where positions contradict the header, or imzML's count from 1."""
    warnings = []
    for name, code, values in (("x", COUNT_X, x), ("y", COUNT_Y, y)):
        stated = number_of(value_of([p for each in xml.scan_settings for p in each], code))
        span = values.max() - values.min() + 1
        if math.isfinite(stated) and span > stated:
            warnings.append(
                f"the header allows {stated:g} pixels in {name}, the spectra span {span}"
            )
    if min(x.min(), y.min()) < 1:
        least = f"x {x.min()}, y {y.min()}"
        warnings.append(f"positions start at {least}, though imzML counts them from 1")
    return warnings
