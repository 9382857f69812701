"""Landmark files: points marked in the MSI and in the histology, in micrometres."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, atomic_file, csv_errors, existing_file

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
    path = existing_file(path, "landmarks")
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    with csv_errors(path):
        rows = _rows(path)
    if not rows:
        raise InputError(path, "", "holds no landmarks", "add one line per point")
    _refuse_repeats(path, rows)
    numbers = np.array([[_number(path, line, row, c) for c in NUMBERS] for line, row in rows])
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
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, use, msi, histology in zip(
            landmarks.name,
            landmarks.use,
            landmarks.msi_yx_um,
            landmarks.histology_yx_um,
            strict=True,
        ):
            points = (histology[1], histology[0], msi[1], msi[0])
            writer.writerow([name, use, *(f"{value:.4f}" for value in points)])


def _rows(path: Path) -> list[tuple[int, dict]]:
    """Returns (line number, cells by column) of each line that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, "", "is not UTF-8 text", "save it as CSV UTF-8") from error
    reader = csv.DictReader(text.splitlines(), restval="", restkey="surplus")
    _check_header(path, [(name or "").strip() for name in reader.fieldnames or []])
    reader.fieldnames = [name.strip() for name in reader.fieldnames]
    rows = []
    for row in reader:
        if "surplus" in row:
            raise InputError(path, f"line {reader.line_num}", "has more cells than the header")
        if any(cell.strip() for cell in row.values()):
            rows.append((reader.line_num, row))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    missing = [column for column in COLUMNS if column not in header]
    if not missing:
        return
    if len(header) == 1 and ";" in header[0]:
        raise InputError(
            path, "header", "cells are separated by ';'", "save with commas and decimal points"
        )
    if len(header) == 1 and "\t" in header[0]:
        raise InputError(path, "header", "cells are separated by tabs", "save with commas")
    found = ", ".join(header) or "nothing"
    raise InputError(
        path, "header", f"lacks {', '.join(missing)} (found {found})", f"needs {','.join(COLUMNS)}"
    )


def _number(path: Path, line: int, row: dict, column: str) -> float:
    cell = row[column].strip()
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
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
