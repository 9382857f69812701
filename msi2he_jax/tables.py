"""Tables as people save them: CSV with a header, and what spreadsheets leave around it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file, csv_errors, existing_file, read_text

_SEP_LINE = re.compile("sep=.?", re.IGNORECASE)
_UNNAMED = re.compile(r"unnamed: ?\d+", re.IGNORECASE)  # As pandas names an index.
# A spreadsheet runs a cell that begins so, unless it is a number; our mark before it makes it text.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table's cells, each without blanks around it.

    Attributes:
        path: The file.
        names: Each column's name as the file spells it.
        columns: The same in small letters, blanks and dashes as "_".
        rows: (line of the file, one cell for each column).
    """

    path: Path
    names: list[str]
    columns: list[str]
    rows: list[tuple[int, list[str]]]

    def records(self) -> list[tuple[int, dict[str, str]]]:
        """Returns (line, cells by column) of each row."""
        return [(line, dict(zip(self.columns, row, strict=True))) for line, row in self.rows]


def read_table(
    path: str | os.PathLike,
    field: str,
    known: Sequence[str],
    check: Callable[[Path, list[str]], Any] = lambda path, columns: None,
) -> Table:
    """Reads a CSV file with a header.

    Ignored are: a byte order mark, a line `sep=,` at the start, blank lines, comments (lines that
    begin with "#" above the header; below it, where all other cells are empty), columns without
    name and content, cells beyond the header that are empty, and an index (a first column without
    a name that counts the rows from 0 or 1). A cell that `write_table` marked as text is read
    without its mark.

    Args:
        path: The file; UTF-8, cells separated by commas.
        field: What the file is, to name in an error where it is not there.
        known: Columns that such a table may have, which tell its header from a comment.
        check: Is called with path and columns, to refuse a header before rows are looked at.

    Returns:
        The table; it may have no rows.

    Raises:
        InputError: too large or other text than UTF-8; cells separated otherwise; a column that has
            cells but no name, or is there twice; more cells than columns. Names the line.
    """
    path = existing_file(path, field)
    text = _text(path)
    with csv_errors(path):
        lines = _cells(text)
    lines = _below_comments(lines, known)
    header = lines[0][1] if lines else []
    _check_separator(path, header, known)
    rows = [row for row in lines[1:] if not _comment(row[1])]
    return _named(path, header, rows, check)


def header_of(path: str | os.PathLike, known: Sequence[str]) -> list[str]:
    """Returns the columns of a table that may be no good, as `Table.columns` spells them.

    Raises:
        InputError: no such file, too large, or not text.
    """
    with csv_errors(path):
        lines = _below_comments(_cells(_text(Path(path))), known)
    cells = lines[0][1] if lines else []
    return [_plain(part) for cell in cells for part in re.split("[,;\t]", cell)]


def _text(path: Path) -> str:
    with open(path, "rb") as handle:
        start = handle.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(path, "", "is UTF-16 text", "save it as CSV UTF-8")
    return read_text(path)


def _cells(text: str) -> list[tuple[int, list[str]]]:
    """Returns (line, cells) of all lines with content, but for a `sep=` line."""
    reader = csv.reader(io.StringIO(text, newline=None))
    found = [(reader.line_num, [unmarked(_stripped(c)) for c in cells]) for cells in reader]
    found = [(line, cells) for line, cells in found if any(cells)]
    if found and _SEP_LINE.fullmatch("".join(found[0][1])):
        del found[0]
    return found


def unmarked(cell: str) -> str:
    """Returns a cell without the mark that `write_table` puts before what looks like a formula."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _marked(cell: Any) -> Any:
    """What is written for a value: text that a spreadsheet would run begins with "'"."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return ""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    cell = "\n".join(re.split("\r\n?", cell))  # `csv` leaves a bare CR without quotes.
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _stripped(cell: str) -> str:
    """Takes blanks and marks that cannot be seen from both ends."""
    start, stop = 0, len(cell)
    while start < stop and _unseen(cell[start]):
        start += 1
    while stop > start and _unseen(cell[stop - 1]):
        stop -= 1
    return cell[start:stop]


def _unseen(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) == "Cf"


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", _stripped(name).lower())


def _below_comments(lines: list, known: Sequence[str]) -> list:
    """Drops comments above the header; "#" may also be the name of an index there."""
    start = 0
    while start < len(lines) and lines[start][1][0].startswith("#"):
        if {_plain(cell) for cell in lines[start][1]} & set(known):
            break
        start += 1
    return lines[start:]


def _comment(cells: list[str]) -> bool:
    return cells[0].startswith("#") and not any(cells[1:])


def _check_separator(path: Path, header: list[str], known: Sequence[str]) -> None:
    filled = [cell for cell in header if cell]
    if len(filled) != 1 or _plain(filled[0]) in known:
        return
    for mark, name in _SEPARATORS.items():
        if mark in filled[0]:
            hint = "save it with commas, and decimal points in numbers"
            raise InputError(path, "header", f"cells are separated by {name}", hint)
    if "," in filled[0]:
        hint = "save the table as CSV again, without quotes around lines"
        raise InputError(path, "header", "the whole line is in quotes, as one cell", hint)


def _named(path: Path, header: list[str], rows: list[tuple[int, list[str]]], check) -> Table:
    """Drops what has neither name nor content; refuses what has content alone."""
    index = _is_index(header, rows)
    header = ["" if _UNNAMED.fullmatch(name) else name for name in header]
    keep = [i for i, name in enumerate(header) if name and not (i == 0 and index)]
    columns = [_plain(header[i]) for i in keep]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise InputError(path, "header", f"column {repeated[0]} is there twice")
    check(path, columns)
    for line, cells in rows:
        _refuse_unnamed(path, line, cells, header, index)
    width = len(header)
    padded = [(line, [*cells, *[""] * (width - len(cells))]) for line, cells in rows]
    kept = [(line, [cells[i] for i in keep]) for line, cells in padded]
    kept = [(line, cells) for line, cells in kept if any(cells)]
    return Table(path, [header[i] for i in keep], columns, kept)


def _is_index(header: list[str], rows: list[tuple[int, list[str]]]) -> bool:
    """Whether the first column counts the rows, under no name or "#"."""
    if not header or not (header[0] in ("", "#") or _UNNAMED.fullmatch(header[0])):
        return False
    counted = [cells[0] for _, cells in rows]
    return any(counted == [str(i + first) for i in range(len(rows))] for first in (0, 1))


def _refuse_unnamed(path, line: int, cells: list[str], header: list[str], index: bool) -> None:
    surplus = any(cells[len(header) :])
    if surplus:
        why = f"has {len(cells)} cells, the header {len(header)}"
        hint = 'put a cell that holds commas, such as a region, in quotes: "0,0,96,96"'
        raise InputError(path, f"line {line}", why, hint)
    for i, (name, cell) in enumerate(zip(header, cells, strict=False)):
        if cell and not name and not (i == 0 and index):
            why = f"column {i + 1} has no name, and line {line} holds {cell!r} there"
            raise InputError(path, "header", why, "name the column, or remove it")


def write_table(
    path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Writes a CSV file with a header, atomically, that no spreadsheet takes for formulas.

    Text that begins with "=", "+", "-", "@", a tab or a line's end, and is no number, gets "'" in
    front; `read_table` takes it off again.

    Args:
        path: The file; UTF-8.
        columns: Its header.
        rows: One cell for each column; None and numbers that are not finite leave theirs empty.
    """
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for cells in (columns, *rows):
            writer.writerow([_marked(cell) for cell in cells])


def write_records(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes mappings as `write_table` does; a column for each name, in the order of appearance.

    Args:
        path: The file.
        rows: Cells by column; absent ones stay empty.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_table(path, columns, ([row.get(name) for name in columns] for row in rows))
