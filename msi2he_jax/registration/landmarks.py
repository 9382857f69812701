"""Landmark files: points marked in the MSI and in the histology, in micrometres."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration.fields import LARGEST_UM
from msi2he_jax.tables import read_table, write_table

NUMBERS = ("histology_y_um", "histology_x_um", "msi_y_um", "msi_x_um")
COLUMNS = ("name", "use", "histology_x_um", "histology_y_um", "msi_x_um", "msi_y_um")
USES = ("fit", "eval")


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Corresponding points of one section.

    Attributes:
        name: `[N]` str, unique.
        use: `[N]` str, `fit` (may enter a fit) or `eval` (only ever scores).
        msi_yx_um: `[N, 2]` float64 (y, x), um.
        histology_yx_um: `[N, 2]` float64 (y, x), um.
        path: The file they came from, for messages.
    """

    name: np.ndarray
    use: np.ndarray
    msi_yx_um: np.ndarray
    histology_yx_um: np.ndarray
    path: str = ""

    def __len__(self) -> int:
        """Returns how many points there are."""
        return len(self.name)

    def select(self, use: str) -> Landmarks:
        """Returns the points of one use, `fit` or `eval`."""
        keep = self.use == use
        return Landmarks(
            self.name[keep],
            self.use[keep],
            self.msi_yx_um[keep],
            self.histology_yx_um[keep],
            self.path,
        )


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Reads a `landmarks.csv`: name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um.

    Args:
        path: The CSV file; columns in any order, extra ones ignored, `use` empty means `fit`.

    Returns:
        The landmarks in file order.

    Raises:
        InputError: names the column or the line: columns missing, a cell that is no finite
            number, an unknown use, a name given twice, no points at all.
    """
    table = read_table(path, "landmarks", COLUMNS, _check_header)
    path, rows = table.path, table.records()
    if not rows:
        raise InputError(path, "", "holds no landmarks", "add one line per point")
    _refuse_repeats(path, rows)
    numbers = np.array([[um_of_cell(path, line, c, row[c]) for c in NUMBERS] for line, row in rows])
    return Landmarks(
        name=np.array([row["name"].strip() for _, row in rows]),
        use=np.array([_use(path, line, row) for line, row in rows]),
        msi_yx_um=numbers[:, 2:],
        histology_yx_um=numbers[:, :2],
        path=str(path),
    )


def write_landmarks(path: str | os.PathLike, landmarks: Landmarks) -> None:
    """Writes a `landmarks.csv`, atomically; coordinates to 0.1 nm.

    Args:
        path: The CSV file to write.
        landmarks: What to write.
    """
    texts = (landmarks.name.tolist(), landmarks.use.tolist())
    points = np.hstack([landmarks.histology_yx_um[:, ::-1], landmarks.msi_yx_um[:, ::-1]])
    rows = zip(*texts, points.tolist(), strict=True)
    cells = ([name, use, *(f"{value:.4f}" for value in point)] for name, use, point in rows)
    write_table(path, COLUMNS, cells)


def _check_header(path: Path, header: list[str]) -> None:
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        why = f"lacks {', '.join(missing)} (found {', '.join(header) or 'nothing'})"
        raise InputError(path, "header", why, f"needs {','.join(COLUMNS)}")


def um_of_cell(path: Path, line: int, column: str, cell: str) -> float:
    """Reads a position, um.

    Args:
        path: What to name in an error, like `line` and `column`.
        line: Counted from 1.
        column: The table's.
        cell: What stands there.

    Raises:
        InputError: no finite number, or one beyond `LARGEST_UM`.
    """
    cell = cell.strip()
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if abs(value) <= LARGEST_UM:
        return value
    if math.isfinite(value):
        raise InputError(path, f"line {line}, {column}", f"{cell} is beyond {LARGEST_UM:g} um")
    hint = "write decimal points, not commas" if "," in cell else "a position in um"
    raise InputError(path, f"line {line}, {column}", f"{cell!r} is not a finite number", hint)


def _use(path: Path, line: int, row: dict) -> str:
    use = row["use"].strip().lower() or "fit"
    if use not in USES:
        raise InputError(path, f"line {line}, use", f"{use!r} is neither 'fit' nor 'eval'")
    return use


def _refuse_repeats(path: Path, rows: list[tuple[int, dict]]) -> None:
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row["name"].strip()
        if name and name in seen:
            raise InputError(path, f"line {line}, name", f"{name!r} is on line {seen[name]} too")
        seen[name] = line
