"""Lists of m/z from elsewhere (METASPACE, spreadsheets, text) as peaks, and peaks as CSV."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, csv_errors, existing_file
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.peaks import Peaks
from msi2he_jax.tables import unmarked, write_table

COLUMNS = ("mz", "lower", "upper", "height", "name")
_MOST_MZ = 1e7
_SAME_ION_PPM = 0.1
# Empty cells, comments (in quotes, where a spreadsheet saved them), a spreadsheet's `sep=;`.
_SAYS_NOTHING = re.compile(r'[\s";,]*|[\s"]*#.*|"?sep=.?"?[\s;,]*')


@dataclasses.dataclass(frozen=True, eq=False)
class PeakList:
    """m/z that a user wants images of, increasing, each once.

    Attributes:
        mz: float64 [K].
        names: K names; empty where the list has none. Several of one m/z are joined by " / ".
        windows: float64 [K, 2], lower and upper m/z where the list has such columns, else None.
    """

    mz: np.ndarray
    names: tuple[str, ...]
    windows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.mz)


@dataclasses.dataclass(frozen=True)
class _Row:
    """One line: its m/z, window and name."""

    mz: float
    name: str = ""
    window: tuple[float, float] | None = None


def read_peak_list(path: str | os.PathLike, *, max_fdr: float | None = None) -> PeakList:
    """Reads a list of m/z.

    Understood are METASPACE's annotation CSV, any table with a column `mz` or `m/z` (and perhaps
    `name`, `lower`, `upper`; SCiLS feature lists, our own `write_peak_list`), and plain text with
    one m/z per line, which a name may follow. Columns are separated by commas, semicolons or tabs;
    a decimal comma is read where commas do not separate. Lines that begin with "#" are comments.
    m/z within 0.1 ppm are one ion.

    Args:
        path: The file; UTF-8 or UTF-16, with or without a byte order mark.
        max_fdr: Keeps annotations with `fdr` up to this (0 to 1); those without a value are left
            out. None keeps all.

    Raises:
        InputError: no such file, not such a list (the line is named), or nothing is left.

    Source:
        METASPACE's CSV export: columns `formula`, `adduct`, `ion`, `mz`, `fdr`, `moleculeNames`.
    """
    path = existing_file(path)
    if max_fdr is not None and not 0 < max_fdr <= 1:
        raise InputError("max_fdr", "", f"is {max_fdr}, must be above 0 and at most 1")
    lines = _lines(path)
    if not lines:
        raise InputError(path, "", "holds no m/z")
    if _is_header(lines[0][1]):
        with csv_errors(path):
            rows = list(_table_rows(path, lines, max_fdr))
    elif max_fdr is None:
        rows = [_plain_row(path, number, line) for number, line in lines]
    else:
        raise InputError(path, "fdr", "there is no such column", "leave out --max_fdr")
    if not rows:
        why = "holds no m/z" if max_fdr is None else f"no annotation has fdr up to {max_fdr}"
        raise InputError(path, "", why)
    return _merged(rows)


def write_peak_list(path: str | os.PathLike, peaks: Peaks, names: Sequence[str] = ()) -> None:
    """Writes peaks as CSV with the columns mz, lower, upper, height and, where known, name.

    Args:
        path: The file; replaced whole.
        peaks: K peaks.
        names: K names, or none.

    Raises:
        InputError: another number of names, or a place that cannot be written.
    """
    if len(names) not in (0, len(peaks)):
        raise InputError(path, "name", f"has {len(names)} values for {len(peaks)} peaks")
    columns = [peaks.mz, peaks.lower, peaks.upper, peaks.height]
    rows = [[repr(float(value)) for value in row] for row in zip(*columns, strict=True)]
    if names:
        rows = [[*row, name] for row, name in zip(rows, names, strict=True)]
    write_table(path, COLUMNS if names else COLUMNS[:-1], rows)


def peaks_at(
    axis: MassAxis,
    mz: np.ndarray | PeakList,
    ppm: float,
    *,
    spectrum: np.ndarray | None = None,
) -> Peaks:
    """Makes peaks of given m/z.

    Args:
        axis: M bins.
        mz: [K] m/z in any order, or a list, whose own windows are used where it has them.
        ppm: Half the width of the windows, ppm.
        spectrum: float64 [M], to read heights from (the tallest bin inside a window); None: 0.

    Returns:
        K peaks, by m/z.

    Raises:
        InputError: no m/z, a width that is not positive, or m/z outside the axis.
    """
    listed = mz if isinstance(mz, PeakList) else None
    mz = np.atleast_1d(np.asarray(listed.mz if listed else mz, np.float64))
    if not len(mz):
        raise InputError("peak list", "mz", "is empty")
    if not 0 < ppm < np.inf:
        raise InputError("peak list", "ppm", f"is {ppm}, must be positive")
    _check_inside(axis, mz)
    order = np.argsort(mz, kind="stable")
    lower, upper = mz * (1 - ppm * 1e-6), mz * (1 + ppm * 1e-6)
    if listed and listed.windows is not None:
        lower, upper = listed.windows.T
    mz, lower, upper = mz[order], lower[order], upper[order]
    return Peaks(mz, lower, upper, _heights(axis, spectrum, mz, lower, upper))


def _check_inside(axis: MassAxis, mz: np.ndarray) -> None:
    outside = mz[~((mz >= axis.edges[0]) & (mz < axis.edges[-1]))]
    if len(outside):
        some = ", ".join(f"{value:g}" for value in outside[:5])
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        why = f"{some}{more} outside the mass axis, {axis.mz[0]:g} to {axis.mz[-1]:g} m/z"
        raise InputError("peak list", "mz", why, "leave them out, or widen the axis")


def _heights(axis, spectrum, mz, lower, upper) -> np.ndarray:
    """Returns the tallest bin of each window, float64 [K]; of the nearest bin where none is."""
    if spectrum is None:
        return np.zeros(len(mz))
    first, last = np.searchsorted(axis.mz, lower), np.searchsorted(axis.mz, upper, "right")
    nearest = axis.nearest(mz)
    return np.array(
        [
            spectrum[a:b].max() if b > a else spectrum[c]
            for a, b, c in zip(first, last, nearest, strict=True)
        ],
        np.float64,
    )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Returns the lines that say something, with their numbers from 1."""
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # As older spreadsheets save it; m/z are ASCII either way.
    if "\0" in text:
        raise InputError(path, "", "is not a text file", "save the table as CSV")
    numbered = enumerate(text.splitlines(), start=1)
    return [(n, line) for n, line in numbered if not _SAYS_NOTHING.fullmatch(line)]


def _is_header(line: str) -> bool:
    """Whether a first line names columns: it does not begin with a number."""
    return _number(re.split(r"[;\t,\s]", line.strip(' "'))[0].strip('"'), ".") is None


def _plain_row(path: Path, number: int, line: str) -> _Row:
    """Reads a line of a file without a header: m/z, then perhaps a name."""
    line = line.strip()
    separator = next((each for each in ";\t," if each in line), None)
    if separator == "," and re.match(r"\d+,\d", line):
        hint = "write 885.55 for a decimal comma, or put a header line above two columns"
        raise InputError(path, f"line {number}", f"{line[:40]!r} can be read in two ways", hint)
    mz, *name = (part.strip(' "') for part in line.split(separator, maxsplit=1))
    return _Row(_mz(path, number, mz, "." if separator == "," else ","), "".join(name))


def _table_rows(path: Path, lines: list[tuple[int, str]], max_fdr: float | None) -> Iterator[_Row]:
    """Reads the lines below a header, those that pass the limit."""
    header = lines[0][1]
    separator = max(",;\t", key=header.count)
    decimal = "." if separator == "," else ","
    table = csv.reader((line + "\n" for _, line in lines), delimiter=separator)
    columns = [_plain_name(cell) for cell in next(table)]
    if "mz" not in columns:
        hint = "name the column mz, or give one m/z per line without a header"
        raise InputError(path, f"line {lines[0][0]}", f"{header[:60]!r} has no column mz", hint)
    if max_fdr is not None and "fdr" not in columns:
        raise InputError(path, "fdr", "there is no such column", "leave out --max_fdr")
    for cells in table:
        row = dict(zip(columns, (unmarked(cell.strip()) for cell in cells), strict=False))
        fdr = _number(row.get("fdr", ""), decimal)
        if max_fdr is None or (fdr is not None and fdr <= max_fdr):
            yield _table_row(path, lines[table.line_num - 1][0], row, decimal)


def _table_row(path: Path, number: int, row: dict[str, str], decimal: str) -> _Row:
    mz = _mz(path, number, row.get("mz", ""), decimal)
    name = row.get("name") or row.get("ion") or f"{row.get('formula', '')} {row.get('adduct', '')}"
    if not (row.get("lower") and row.get("upper")):
        return _Row(mz, name.strip())
    lower, upper = (_mz(path, number, row[side], decimal) for side in ("lower", "upper"))
    if not lower <= mz <= upper:
        why = f"{lower} to {upper} does not hold its m/z {mz}"
        raise InputError(path, f"line {number}, lower and upper", why)
    return _Row(mz, name.strip(), (lower, upper))


def _plain_name(cell: str) -> str:
    """Spells a column's name plainly: "m/z" and "M/Z " are "mz"."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def _number(text: str, decimal: str) -> float | None:
    """Returns the number a cell holds, or None; `decimal` is what may stand for the point."""
    try:
        value = float(text.strip().replace(decimal, "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _mz(path: Path, number: int, text: str, decimal: str) -> float:
    value = _number(text, decimal)
    if value is None:
        raise InputError(path, f"line {number}, mz", f"is {text[:40]!r}, a number was expected")
    if not 0 < value <= _MOST_MZ:
        raise InputError(path, f"line {number}, mz", f"is {value:g}, not an m/z")
    return value


def _merged(rows: list[_Row]) -> PeakList:
    """Sorts by m/z and makes one of those that are the same."""
    rows = sorted(rows, key=lambda row: row.mz)
    groups: list[list[_Row]] = []
    for row in rows:
        if groups and row.mz <= groups[-1][0].mz * (1 + _SAME_ION_PPM * 1e-6):
            groups[-1].append(row)
        else:
            groups.append([row])
    mz = np.array([group[0].mz for group in groups])
    names = tuple(" / ".join(dict.fromkeys(r.name for r in group if r.name)) for group in groups)
    windows = [group[0].window for group in groups]
    if None in windows:
        return PeakList(mz, names)
    return PeakList(mz, names, np.array(windows))
