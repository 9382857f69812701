"""Lists of points as CSV: any columns, of which `x_um` and `y_um` are moved."""

from __future__ import annotations

import csv
import dataclasses
import os

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file

X, Y = "x_um", "y_um"


@dataclasses.dataclass(frozen=True, eq=False)
class PointTable:
    """Points, and what else the file says of them.

    Attributes:
        yx_um: `[N, 2]` float64 (y, x), um.
        columns: Names of the other columns.
        rows: Their cells, one list per point.
    """

    yx_um: np.ndarray
    columns: list[str]
    rows: list[list[str]]


def read_points_table(path: str | os.PathLike, side: str) -> PointTable:
    """Reads points of one image.

    Args:
        path: A CSV file with `x_um` and `y_um`, or a `landmarks.csv`.
        side: `msi` or `histology`: which columns of a `landmarks.csv` are taken.

    Raises:
        InputError: no such columns, no points, or a cell that is no finite number.
    """
    path = existing_file(path, "points")
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(path, "", "is not UTF-8 text", "save it as CSV UTF-8") from error
    rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    header = [cell.strip() for cell in rows[0]] if rows else []
    places = _places(path, header, side)
    other = [i for i, name in enumerate(header) if not name.endswith((X, Y))]
    points, kept = [], []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            why = f"has {len(row)} cells, the header {len(header)}"
            raise InputError(path, f"line {number}", why)
        points.append([_finite(path, number, header[i], row[i]) for i in places])
        kept.append([row[i] for i in other])
    if not points:
        raise InputError(path, "points", "holds none")
    return PointTable(np.array(points, np.float64), [header[i] for i in other], kept)


def _places(path, header: list[str], side: str) -> tuple[int, int]:
    for prefix in ("", f"{side}_"):
        if f"{prefix}{X}" in header and f"{prefix}{Y}" in header:
            return header.index(f"{prefix}{Y}"), header.index(f"{prefix}{X}")
    semicolon = len(header) == 1 and ";" in header[0]
    hint = "save with commas and decimal points" if semicolon else f"found {', '.join(header)}"
    raise InputError(path, "header", f"lacks {X} and {Y} (or {side}_{X} and {side}_{Y})", hint)


def _finite(path, line: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(path, f"line {line}, {column}", f"{cell!r} is not a finite number")
    return value


def write_points_table(path: str | os.PathLike, table: PointTable) -> None:
    """Writes points: the other columns, then `x_um`, `y_um`, to 0.1 nm.

    Args:
        path: The CSV file.
        table: What to write.
    """
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.columns, X, Y])
        for cells, (y, x) in zip(table.rows, table.yx_um, strict=True):
            writer.writerow([*cells, f"{x:.4f}", f"{y:.4f}"])
