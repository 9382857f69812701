"""Reads `manifest.csv`: one row per section, every mistake named by line and column."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import csv_errors, existing_file, read_json, read_text
from msi2he_jax.registration.transforms import Displacement

COLUMNS = (
    "sample_id",
    "group_id",
    "imzml",
    "msi_roi",
    "histology",
    "histology_roi",
    "histology_um_per_px",
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


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """Where a sample's MSI lies on its slide.

    Attributes:
        matrix: float64 [3, 3], MSI to slide, acting on (y, x, 1), um.
        record: How it was found, its errors and what it does, in plain numbers.
        displacement: What is added to the matrix's result, or None.
    """

    matrix: np.ndarray
    record: dict[str, Any]
    displacement: Displacement | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One section: a region of an MSI run and the region of a slide that shows it.

    Attributes:
        sample_id: Unique name, fit for a file name.
        group_id: The patient; the sample's own name where the manifest gives none.
        imzml: The .imzML file.
        histology: The slide.
        msi_roi: (x, y, w, h) in MSI pixels, or None for all.
        histology_roi: (x, y, w, h) in full-resolution slide pixels, or None for all.
        histology_um_per_px: um, or None to take the slide's own.
        msi_um_per_px: um along x, or None to take the imzML's own.
        msi_um_per_px_y: um along y, or None to be as along x.
        section: "same", "serial", or "" where not said.
        landmarks: The landmark file, or None.
        split: "train", "validation", "test", or None to be drawn.
        view: "pca", "tsne", "umap", or None for the default.
        line: Line of the manifest.
        alignment: Found otherwise than by the landmarks, or None.
    """

    sample_id: str
    group_id: str
    imzml: Path
    histology: Path
    msi_roi: Roi | None = None
    histology_roi: Roi | None = None
    histology_um_per_px: float | None = None
    msi_um_per_px: float | None = None
    msi_um_per_px_y: float | None = None
    section: str = ""
    landmarks: Path | None = None
    split: str | None = None
    view: str | None = None
    line: int = 0
    alignment: Alignment | None = None


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
    path = existing_file(path, "manifest")
    with csv_errors(path):
        rows = list(_rows(path))
    if not rows:
        raise InputError(path, "", "holds no samples", "add one line per section")
    _refuse_repeats(path, rows)
    _refuse_missing_files(path, rows)
    return [_sample(path, line, row) for line, row in rows]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, cells by column) of every line that is not blank."""
    reader = csv.reader(read_text(path).splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    _check_header(path, header)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header):
            why = f"has {len(cells)} cells, the header {len(header)}"
            hint = 'put a cell that holds commas, such as a region, in quotes: "0,0,96,96"'
            raise InputError(path, f"line {reader.line_num}", why, hint)
        padded = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        yield reader.line_num, dict.fromkeys(COLUMNS, "") | dict(zip(header, padded, strict=True))


def _check_header(path: Path, header: list[str]) -> None:
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            hint = "save it with commas, and decimal points in numbers"
            raise InputError(path, "header", f"cells are separated by {name}", hint)
    if not any(header):
        raise InputError(path, "header", "is empty", f"columns: {','.join(COLUMNS)}")
    for name in header:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns: {','.join(COLUMNS)}"
            raise InputError(path, "header", f"unknown column {name!r}", hint)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(path, "header", f"column {repeated[0]} is there twice")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        hint = f"needs {', '.join(REQUIRED)}"
        raise InputError(path, "header", f"lacks {', '.join(missing)}", hint)


def _refuse_repeats(path: Path, rows: list[tuple[int, dict]]) -> None:
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row["sample_id"]
        if name.lower() in seen:
            why = f"{name!r} is on line {seen[name.lower()]} too"
            raise InputError(path, f"line {line}, sample_id", why, "give every section its own")
        seen[name.lower()] = line


def _refuse_missing_files(path: Path, rows: list[tuple[int, dict]]) -> None:
    """Names every file that is not there, so that one look repairs a manifest."""
    missing = []
    for line, row in rows:
        regions = [row[name] for name in ("msi_roi", "histology_roi") if _is_file_name(row[name])]
        for name in [*(row[column] for column in FILES if row[column]), *regions]:
            if not (path.parent / name).is_file():
                missing.append(f"{name} (line {line})")
    if missing:
        why = f"{len(missing)} not found: {', '.join(missing)}"
        raise InputError(path, "files", why, f"names are relative to {path.parent or '.'}")


def _is_file_name(region: str) -> bool:
    return region.lower().endswith((".json", ".geojson"))


def _sample(path: Path, line: int, row: dict[str, str]) -> Sample:
    for name in REQUIRED:
        if not row[name]:
            raise InputError(path, f"line {line}, {name}", "is empty")
    name = row["sample_id"]
    if len(name) > 128 or name[0] == "." or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        why = f"{name!r} cannot be a file name"
        hint = "letters, digits, '-', '_' and '.'"
        raise InputError(path, f"line {line}, sample_id", why, hint)
    chosen = {column: _choice(path, line, row, column) for column in CHOICES}
    return Sample(
        sample_id=name,
        group_id=row["group_id"] or name,
        imzml=path.parent / row["imzml"],
        histology=path.parent / row["histology"],
        msi_roi=_roi(path, line, row, "msi_roi"),
        histology_roi=_roi(path, line, row, "histology_roi"),
        histology_um_per_px=_um(path, line, row, "histology_um_per_px"),
        msi_um_per_px=_um(path, line, row, "msi_um_per_px"),
        msi_um_per_px_y=_um(path, line, row, "msi_um_per_px_y"),
        section=chosen["section"] or "",
        landmarks=path.parent / row["landmarks"] if row["landmarks"] else None,
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


def _roi(path: Path, line: int, row: dict, column: str) -> Roi | None:
    cell = row[column]
    if not cell:
        return None
    where = f"line {line}, {column}"
    if _is_file_name(cell):
        return _bounding_box(path.parent / cell)
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
    numbers = [isinstance(v, int | float) and math.isfinite(v) for v in value]
    return len(value) in (2, 3) and all(numbers)
