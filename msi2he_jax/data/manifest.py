"""Reads `manifest.csv`: one row per section, every mistake named by line and column."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from msi2he_jax.data.patients import name_key, one_spelling
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.tables import read_table

COLUMNS = (
    "sample_id",
    "group_id",
    "imzml",
    "msi_roi",
    "histology",
    "histology_roi",
    "histology_um_per_px",
    "histology_channels",
    "msi_um_per_px",
    "msi_um_per_px_y",
    "section",
    "landmarks",
    "split",
    "view",
)
REQUIRED = ("sample_id", "imzml", "histology")
CHOICES = {
    "section": ("same", "serial"),
    "split": ("train", "validation", "test"),
    "view": ("pca", "tsne", "umap"),
}
FILES = ("imzml", "histology", "landmarks")
Roi = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One section: a region of an MSI run and the region of a slide that shows it.

    Attributes:
        sample_id: Unique name, fit for a file name.
        group_id: The patient; the sample's own name where the manifest gives none at all.
        imzml: The .imzML file.
        histology: The slide.
        msi_roi: (x, y, w, h) in MSI pixels, or None for all.
        histology_roi: (x, y, w, h) in full-resolution slide pixels, or None for all.
        histology_um_per_px: um, or None to take the slide's own.
        histology_channels: One (grey) or three (red, green, blue), counted from 1, or None.
        msi_um_per_px: um along x, or None to take the imzML's own.
        msi_um_per_px_y: um along y, or None to be as along x.
        section: "same", "serial", or "" where not said.
        landmarks: The landmark file, or None.
        split: "train", "validation", "test", or None to be drawn.
        view: "pca", "tsne", "umap", or None for the default.
        line: Line of the manifest.
        alignment: From its MSI to its slide, found otherwise than by the landmarks, or None.
    """

    sample_id: str
    group_id: str
    imzml: Path
    histology: Path
    msi_roi: Roi | None = None
    histology_roi: Roi | None = None
    histology_um_per_px: float | None = None
    histology_channels: tuple[int, ...] | None = None
    msi_um_per_px: float | None = None
    msi_um_per_px_y: float | None = None
    section: str = ""
    landmarks: Path | None = None
    split: str | None = None
    view: str | None = None
    line: int = 0
    alignment: TransformRecord | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a manifest, whatever may be wrong with it.

    Attributes:
        name: Its sample_id, or else its line in words.
        line: Line of the manifest.
        sample: What it says, or None where a cell cannot be read.
        faults: What is wrong with its cells, and which of its files are missing.
    """

    name: str
    line: int
    sample: Sample | None
    faults: tuple[InputError, ...] = ()


def read_manifest(path: str | os.PathLike) -> list[Sample]:
    """Reads a manifest; file names in it are relative to its folder.

    A region given as GeoJSON stands for the bounding box of all its coordinates, in pixels.

    Args:
        path: The CSV file: commas, UTF-8, columns in any order, absent ones taken as empty.

    Returns:
        The samples in file order, at least one.

    Raises:
        InputError: what is wrong and on which line; all files that are missing in one message.
    """
    path, rows = _rows(path)
    _refuse_missing_files(path, rows)
    return [_sample(path, line, row) for line, row in rows]


def read_rows(path: str | os.PathLike, files: Sequence[str] = FILES) -> list[Row]:
    """Reads a manifest row by row, so that what is wrong with one does not hide the others.

    Args:
        path: As for `read_manifest`.
        files: The columns whose files must be there.

    Returns:
        The rows in file order, at least one; the words of faults are those of `read_manifest`.

    Raises:
        InputError: the table as a whole cannot be used.
    """
    path, rows = _rows(path)
    return [_row(path, line, row, files) for line, row in rows]


def _row(path: Path, line: int, row: dict[str, str], files: Sequence[str]) -> Row:
    sample, faults = None, []
    try:
        _refuse_missing_files(path, [(line, row)], files)
    except InputError as error:
        faults.append(error)
    try:
        sample = _sample(path, line, row)
    except InputError as error:
        # A region's file that is missing has been named.
        faults += [] if faults and not Path(error.path).is_file() else [error]
    return Row(row["sample_id"] or f"line {line}", line, sample, tuple(faults))


def _rows(path: str | os.PathLike) -> tuple[Path, list[tuple[int, dict[str, str]]]]:
    """Reads the cells of each line, and refuses what concerns the table as a whole."""
    table = read_table(path, "manifest", COLUMNS, _check_header)
    path, blank = table.path, dict.fromkeys(COLUMNS, "")
    rows = [(line, blank | row) for line, row in table.records()]
    if not rows:
        raise InputError(path, "", "holds no samples", "add one line per section")
    _refuse_repeats(path, rows)
    _refuse_gaps(path, rows)
    return path, rows


def with_one_spelling(samples: Sequence[Sample]) -> list[Sample]:
    """Spells each patient as the first that is the same, so that equal names are one patient."""
    spelt = one_spelling([sample.group_id for sample in samples])
    return [
        dataclasses.replace(sample, group_id=name)
        for sample, name in zip(samples, spelt, strict=True)
    ]


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise InputError(path, "header", "is empty", f"columns: {','.join(COLUMNS)}")
    for name in header:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns: {','.join(COLUMNS)}"
            raise InputError(path, "header", f"unknown column {name!r}", hint)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        hint = f"needs {', '.join(REQUIRED)}"
        raise InputError(path, "header", f"lacks {', '.join(missing)}", hint)


def _refuse_repeats(path: Path, rows: list[tuple[int, dict]]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for line, row in rows:
        name = row["sample_id"]
        if name_key(name) in seen:
            other, before = seen[name_key(name)]
            same = other.lower() == name.lower()
            why = f"{name!r} is on line {before} too{'' if same else f', as {other!r}'}"
            raise InputError(path, f"line {line}, sample_id", why, "give every section its own")
        seen[name_key(name)] = name, line


def _refuse_gaps(path: Path, rows: list[tuple[int, dict]]) -> None:
    """Refuses patients that are given for some sections only, as a merged cell is saved."""
    empty = [line for line, row in rows if not row["group_id"]]
    if empty and len(empty) < len(rows):
        why = f"is empty, and filled on {len(rows) - len(empty)} of {len(rows)} lines"
        hint = "write the patient on every line; cells that were merged hold it on the first alone"
        raise InputError(path, f"line {empty[0]}, group_id", why, hint)


def _refuse_missing_files(
    path: Path, rows: list[tuple[int, dict]], files: Sequence[str] = FILES
) -> None:
    """Names every file that is not there, so that one look repairs a manifest."""
    missing, hints = [], [f"names are relative to {path.parent or '.'}"]
    for line, row in rows:
        regions = [row[name] for name in ("msi_roi", "histology_roi") if _is_file_name(row[name])]
        for name in [*(row[column] for column in files if row[column]), *regions]:
            if not _place(path, name).is_file():
                other = _spelt_otherwise(path.parent, name)
                missing.append(f"{name} (line {line}{f': did you mean {other}?' if other else ''})")
                hints += ["write / where names have a backslash"] if "\\" in name else []
    if missing:
        why = f"{len(missing)} not found: {', '.join(missing)}"
        raise InputError(path, "files", why, "; ".join(dict.fromkeys(hints)))


def _place(path: Path, name: str) -> Path:
    """Where a file of the manifest lies; a backslash may stand for a slash, as on Windows."""
    place, turned = path.parent / name, path.parent / name.replace("\\", "/")
    return turned if not place.is_file() and turned.is_file() else place


def _spelt_otherwise(folder: Path, name: str) -> str:
    """Finds a file whose name differs in letter case or Unicode form alone; "" for none."""
    place = folder
    for part in Path(name.replace("\\", "/")).parts:
        names = [part] if part == ".." or not place.is_dir() else sorted(os.listdir(place))
        alike = [each for each in names if _folded(each) == _folded(part)]
        place /= part if part in names or not alike else alike[0]
    return os.path.relpath(place, folder) if place.is_file() else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_file_name(region: str) -> bool:
    return region.lower().endswith((".json", ".geojson"))


def _sample(path: Path, line: int, row: dict[str, str]) -> Sample:
    for name in REQUIRED:
        if not row[name]:
            raise InputError(path, f"line {line}, {name}", "is empty")
    name = row["sample_id"]
    if name[0] == "#":
        hint = "remove a row that is not to count, or name the section without #"
        raise InputError(path, f"line {line}, sample_id", f"{name!r} begins with #", hint)
    if len(name) > 128 or name[0] == "." or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        why = f"{name!r} cannot be a file name"
        hint = "letters, digits, '-', '_' and '.'"
        raise InputError(path, f"line {line}, sample_id", why, hint)
    chosen = {column: _choice(path, line, row, column) for column in CHOICES}
    return Sample(
        sample_id=name,
        group_id=row["group_id"] or name,
        imzml=_place(path, row["imzml"]),
        histology=_place(path, row["histology"]),
        msi_roi=_roi(path, line, row, "msi_roi"),
        histology_roi=_roi(path, line, row, "histology_roi"),
        histology_um_per_px=_um(path, line, row, "histology_um_per_px"),
        histology_channels=_channels(path, line, row),
        msi_um_per_px=_um(path, line, row, "msi_um_per_px"),
        msi_um_per_px_y=_um(path, line, row, "msi_um_per_px_y"),
        section=chosen["section"] or "",
        landmarks=_place(path, row["landmarks"]) if row["landmarks"] else None,
        split=chosen["split"],
        view=chosen["view"],
        line=line,
    )


def _choice(path: Path, line: int, row: dict, column: str) -> str | None:
    value = row[column].lower()
    if value and value not in CHOICES[column]:
        why = f"{row[column]!r} is not one of {', '.join(CHOICES[column])}"
        close = difflib.get_close_matches(value, CHOICES[column], n=1)
        hint = f"did you mean {close[0]}?" if close else "or leave it empty"
        raise InputError(path, f"line {line}, {column}", why, hint)
    return value or None


def _um(path: Path, line: int, row: dict, column: str) -> float | None:
    cell = row[column]
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if 0 < value < 1e6:
        return value
    hint = "write decimal points, not commas" if "," in cell else "a pixel size in um"
    raise InputError(path, f"line {line}, {column}", f"{cell!r} is not a positive number", hint)


def _channels(path: Path, line: int, row: dict) -> tuple[int, ...] | None:
    cell = row["histology_channels"]
    if not cell:
        return None
    numbers = [part.strip() for part in cell.split(",")]
    if len(numbers) in (1, 3) and all(each.isdecimal() and int(each) for each in numbers):
        return tuple(map(int, numbers))
    why = f"{cell!r} are not one or three channels, counted from 1"
    hint = 'red, green and blue as in "1,2,3", or one that is grey'
    raise InputError(path, f"line {line}, histology_channels", why, hint)


def _roi(path: Path, line: int, row: dict, column: str) -> Roi | None:
    cell = row[column]
    if not cell:
        return None
    where = f"line {line}, {column}"
    if _is_file_name(cell):
        return _bounding_box(_place(path, cell))
    try:
        x, y, w, h = (int(part) for part in cell.split(","))
    except ValueError:
        why = f"{cell!r} is neither x,y,w,h in whole pixels nor a GeoJSON file"
        raise InputError(path, where, why) from None
    if x < 0 or y < 0 or w < 1 or h < 1:
        why = f"{cell!r} must have x, y at least 0 and w, h at least 1"
        raise InputError(path, where, why)
    return x, y, w, h


def _bounding_box(path: Path) -> Roi:
    """Returns the box around all coordinates of a GeoJSON file; shapes in it are not cut out."""
    points = list(_points(read_json(path)))
    if len(points) < 3:
        raise InputError(path, "", "holds no polygon", "draw one region, export it as GeoJSON")
    (left, right), (top, bottom) = ((min(v), max(v)) for v in zip(*points, strict=True))
    if left < 0 or top < 0:
        raise InputError(path, "", f"starts at ({left:g}, {top:g}), outside the image")
    if max(right, bottom) > 2**31:
        raise InputError(path, "", f"reaches to ({right:g}, {bottom:g}), which are no pixels")
    x, y = math.floor(left), math.floor(top)
    return x, y, max(1, math.ceil(right) - x), max(1, math.ceil(bottom) - y)


def _points(value) -> Iterator[tuple[float, float]]:
    """Yields (x, y) of every coordinate of every geometry, however deeply nested."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack += [each[key] for key in _GEOMETRY if key in each]
        elif isinstance(each, list) and _is_point(each):
            yield float(each[0]), float(each[1])
        elif isinstance(each, list):
            stack += each


_GEOMETRY = ("features", "geometry", "geometries", "coordinates")


def _is_point(value: list) -> bool:
    numbers = all(type(part) in (int, float) and math.isfinite(part) for part in value)
    return len(value) in (2, 3) and numbers
