"""Lists of points as CSV: any columns, of which `x_um` and `y_um` are moved."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration.landmarks import um_of_cell
from msi2he_jax.tables import read_table, write_table

X, Y = "x_um", "y_um"
PREFIXES = ("", "msi_", "histology_")


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
        InputError: no such columns, no points, or a cell that `landmarks.um_of_cell` refuses.
    """
    coordinates = [f"{each}{name}" for each in PREFIXES for name in (X, Y)]
    table = read_table(path, "points", coordinates)
    path, header = table.path, table.columns
    places = _places(path, header, side)
    other = [i for i, name in enumerate(header) if name not in coordinates]
    points = [[um_of_cell(path, n, header[i], row[i]) for i in places] for n, row in table.rows]
    if not points:
        raise InputError(path, "points", "holds none")
    kept = [[row[i] for i in other] for _, row in table.rows]
    return PointTable(np.array(points, np.float64), [table.names[i] for i in other], kept)


def _places(path, header: list[str], side: str) -> tuple[int, int]:
    for prefix in ("", f"{side}_"):
        if f"{prefix}{X}" in header and f"{prefix}{Y}" in header:
            return header.index(f"{prefix}{Y}"), header.index(f"{prefix}{X}")
    hint = f"found {', '.join(header) or 'nothing'}"
    raise InputError(path, "header", f"lacks {X} and {Y} (or {side}_{X} and {side}_{Y})", hint)


def write_points_table(path: str | os.PathLike, table: PointTable) -> None:
    """Writes points: the other columns, then `x_um`, `y_um`, to 0.1 nm.

    Args:
        path: The CSV file.
        table: What to write.
    """
    points = zip(table.rows, table.yx_um.tolist(), strict=True)
    rows = ([*cells, f"{x:.4f}", f"{y:.4f}"] for cells, (y, x) in points)
    write_table(path, [*table.columns, X, Y], rows)
