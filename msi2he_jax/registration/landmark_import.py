"""Points marked in other software, brought to micrometres from the outer corner of the first pixel.

QuPath's GeoJSON counts pixels from that corner. napari, ITK, elastix and BigWarp put the centre of
the first pixel at 0, so half a pixel is added. BigWarp's columns are name, active(, id), moving x,
y(, z), fixed x, y(, z), without a header; a point without a partner is written as Infinity.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, csv_errors, existing_file, read_json
from msi2he_jax.registration.landmarks import Landmarks

UNITS_UM = {"um": 1.0, "µm": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3}
UNITS = ("um", "nm", "mm", "px")
ORIGINS = ("center", "corner")
KNOWN = "QuPath GeoJSON, napari points CSV, BigWarp CSV and ITK or elastix point files are read"


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Points of one image, as a file holds them.

    Attributes:
        yx: `[N, 2]` float64 (y, x), in the file's unit.
        name: `[N]` str, empty where the file names none.
        use: `[N]` str, `fit` or `eval`.
        kind: `qupath`, `napari`, `itk-point` or `itk-index`.
        path: The file.
    """

    yx: np.ndarray
    name: np.ndarray
    use: np.ndarray
    kind: str
    path: str


@dataclasses.dataclass(frozen=True)
class Scale:
    """How an image's points become micrometres.

    Attributes:
        um_per_px: Pixel size (y, x), um, or None where it is not known.
        unit: What physical coordinates are in: `um`, `nm`, `mm`, or `px` for an image that carried
            no calibration. Formats that hold pixels take no notice of it.
        origin: Where physical coordinates start: `center` or `corner` of the first pixel.
        flag: What to name in an error.
    """

    um_per_px: tuple[float, float] | None
    unit: str = "um"
    origin: str = "center"
    flag: str = "um_per_px"


def read_points(path: str | os.PathLike) -> Points:
    """Reads the points of one image; the format is told from the content.

    Args:
        path: QuPath GeoJSON, napari points CSV, or an ITK or elastix point file.

    Raises:
        InputError: none of these, damaged, or without a point.
    """
    path = existing_file(path, "points")
    if path.suffix.lower() in (".geojson", ".json"):
        points = _read_qupath(path)
    else:
        lines = _lines(path)
        first = lines[0].split()[0].lower() if lines and lines[0].split() else ""
        points = _read_itk(path, lines) if first in ("point", "index") else _read_napari(path)
    if not len(points.yx):
        raise InputError(path, "points", "holds none", "mark points, not areas, and export them")
    return points


def pair_points(msi: Points, histology: Points, msi_scale: Scale, slide_scale: Scale) -> Landmarks:
    """Pairs the points of two files: by name where both name every point, else by their order.

    Args:
        msi: Points of the MSI image.
        histology: Points of the slide.
        msi_scale: How the former become um.
        slide_scale: How the latter become um.

    Returns:
        The landmarks; `eval` where either file says so.

    Raises:
        InputError: numbers of points differ, names without partner, or no pixel size.
    """
    order = _partners(msi, histology)
    name = np.where(msi.name == "", histology.name[order], msi.name)
    return Landmarks(
        name=_all_named(name),
        use=np.where((msi.use == "eval") | (histology.use[order] == "eval"), "eval", "fit"),
        msi_yx_um=to_um(msi.yx, msi.kind, msi_scale),
        histology_yx_um=to_um(histology.yx, histology.kind, slide_scale)[order],
        path=msi.path,
    )


def read_bigwarp(
    path: str | os.PathLike, msi_scale: Scale, slide_scale: Scale, *, moving: str = "msi"
) -> Landmarks:
    """Reads a BigWarp landmark file; points switched off or without partner are left out.

    Args:
        path: The CSV file, 6 columns (2-D) or 8 (3-D, z unused); one more where points have an id.
        msi_scale: How points of the MSI become um.
        slide_scale: How points of the slide become um.
        moving: Which image was the moving one, `msi` or `histology`.

    Raises:
        InputError: other columns, a cell that is no number, or no active pair.

    Source: BigWarp, LandmarkTableModel (columns, pending points).
    """
    path = existing_file(path, "BigWarp landmarks")
    names, moved, fixed = [], [], []
    for number, row in enumerate(_cells(path), start=1):
        if not 6 <= len(row) <= 9:
            why = f"has {len(row)} cells, BigWarp writes 6 or 7 (2-D), 8 or 9 (3-D)"
            raise InputError(path, f"line {number}", why, _separator_hint(row))
        values = [_number(path, number, cell) for cell in row[2 + len(row) % 2 :]]
        half = len(values) // 2
        if row[1].strip().lower() == "true" and np.all(np.isfinite(values)):
            names.append(row[0].strip())
            moved.append(values[1::-1])
            fixed.append(values[half : half + 2][::-1])
    if not names:
        raise InputError(path, "", "holds no pair that is switched on")
    msi, slide = (moved, fixed) if moving == "msi" else (fixed, moved)
    return Landmarks(
        name=_all_named(np.array(names)),
        use=np.full(len(names), "fit"),
        msi_yx_um=to_um(np.array(msi), "bigwarp", msi_scale),
        histology_yx_um=to_um(np.array(slide), "bigwarp", slide_scale),
        path=str(path),
    )


def to_um(yx: np.ndarray, kind: str, scale: Scale) -> np.ndarray:
    """Brings coordinates of a format to micrometres from the outer corner of the first pixel.

    Args:
        yx: `[N, 2]` float (y, x), as the format holds them.
        kind: `qupath`, `napari`, `bigwarp`, `itk-point` or `itk-index`.
        scale: Pixel size, unit and origin.

    Returns:
        `[N, 2]` float64 (y, x), um.

    Raises:
        InputError: an unknown unit or origin, or the pixel size is needed and not known.
    """
    if scale.unit not in UNITS:
        raise InputError("unit", "", f"{scale.unit!r} is not one of {', '.join(UNITS)}")
    if scale.origin not in ORIGINS:
        raise InputError("origin", "", f"{scale.origin!r} is not one of {', '.join(ORIGINS)}")
    physical = kind in ("bigwarp", "itk-point") and scale.unit != "px"
    centered = kind != "qupath" and not (kind in ("bigwarp", "itk-point") and _corner(scale))
    if scale.um_per_px is None and (centered or not physical):
        why = f"is required: {kind} points count " + ("from the centre of" if physical else "in")
        raise InputError(scale.flag, "", why + " pixels", "give the pixel size in um")
    size = np.zeros(2) if scale.um_per_px is None else np.asarray(scale.um_per_px, np.float64)
    factor = UNITS_UM[scale.unit] if physical else size
    return np.asarray(yx, np.float64) * factor + (size / 2 if centered else 0.0)


def _corner(scale: Scale) -> bool:
    return scale.origin == "corner"


def _read_qupath(path: Path) -> Points:
    """Point and MultiPoint features; a class or a name `eval` holds a point out of the fit."""
    content = read_json(path)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    yx, names, uses = [], [], []
    for feature in features if isinstance(features, list) else []:
        geometry, name, label = _feature(path, feature)
        kind, coordinates = geometry.get("type"), geometry.get("coordinates")
        if kind not in ("Point", "MultiPoint"):
            continue
        several = [coordinates] if kind == "Point" else coordinates
        points = _coordinates(path, several)
        yx += list(points[:, ::-1])
        names += [name if kind == "Point" else ""] * len(points)
        uses += ["eval" if "eval" in (label.lower(), name.lower()) else "fit"] * len(points)
    return _points(path, yx, names, uses, "qupath")


def _feature(path: Path, feature) -> tuple[dict, str, str]:
    properties = (feature.get("properties") or {}) if isinstance(feature, dict) else {}
    geometry = (feature.get("geometry") or {}) if isinstance(feature, dict) else {}
    if not isinstance(properties, dict) or not isinstance(geometry, dict):
        raise InputError(path, "features", "is not GeoJSON as QuPath exports it")
    label = properties.get("classification") or {}
    label = label.get("name", "") if isinstance(label, dict) else label
    return geometry, str(properties.get("name") or "").strip(), str(label or "")


def _coordinates(path: Path, values) -> np.ndarray:
    try:
        points = np.array([point[:2] for point in values], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise InputError(path, "coordinates", "are not pairs of numbers") from error
    if not np.all(np.isfinite(points)):
        raise InputError(path, "coordinates", "are not all finite")
    return points


def _read_napari(path: Path) -> Points:
    """Columns index, axis-0 (y), axis-1 (x); of more axes the last two count."""
    rows = _cells(path)
    header = [cell.strip() for cell in rows[0]] if rows else []
    axes = sorted(name for name in header if name.startswith("axis-"))
    if len(axes) < 2:
        hint = _separator_hint(header) or KNOWN
        raise InputError(path, "header", "is none of a known points file", hint)
    columns = [header.index(name) for name in axes[-2:]]
    named = header.index("name") if "name" in header else None
    yx, names, uses = [], [], []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            why = f"has {len(row)} cells, the header {len(header)}"
            raise InputError(path, f"line {number}", why, _separator_hint(row))
        yx.append([_finite(path, number, row[column]) for column in columns])
        names.append(row[named].strip() if named is not None else "")
        use = row[header.index("use")].strip().lower() if "use" in header else "fit"
        uses.append("eval" if use == "eval" else "fit")
    return _points(path, yx, names, uses, "napari")


def _read_itk(path: Path, lines: list[str]) -> Points:
    """`point` or `index`, their number, then one x y per line, as elastix takes them."""
    words = " ".join(lines).split()
    kind = f"itk-{words[0].lower()}"
    try:
        count = int(words[1])
    except (IndexError, ValueError):
        raise InputError(path, "line 2", "the number of points was expected") from None
    rows = [line.split() for line in lines[1 if len(lines[0].split()) > 1 else 2 :]]
    numbers = np.array([[_finite(path, i, c) for c in row[:2]] for i, row in enumerate(rows, 3)])
    if len(rows) != count or any(len(row) not in (2, 3) for row in rows):
        why = f"says {count} points, and holds {len(rows)} lines of x and y"
        raise InputError(path, "points", why)
    return _points(path, numbers[:, ::-1], [""] * count, ["fit"] * count, kind)


def _points(path: Path, yx, names, uses, kind: str) -> Points:
    array = np.asarray(yx, np.float64).reshape(-1, 2)
    return Points(array, np.array(names, dtype=object), np.array(uses), kind, str(path))


def _partners(msi: Points, histology: Points) -> np.ndarray:
    """For each point of the MSI the index of its partner on the slide."""
    if len(msi.yx) != len(histology.yx):
        why = f"holds {len(histology.yx)} points, {msi.path} holds {len(msi.yx)}"
        raise InputError(histology.path, "points", why, "mark every point in both images")
    named = [
        all(points.name) and len(set(points.name)) == len(points.name)
        for points in (msi, histology)
    ]
    if not all(named):
        return np.arange(len(msi.yx))
    places = {name: index for index, name in enumerate(histology.name)}
    for name in msi.name:
        if name not in places:
            why = f"no point is called {name!r}, one of {msi.path} is"
            raise InputError(histology.path, "points", why, "give both the same name")
    return np.array([places[name] for name in msi.name])


def _all_named(names: np.ndarray) -> np.ndarray:
    """Numbers points that have no name, or whose name another has."""
    repeated = len(set(names)) < len(names) or not all(names)
    return np.array([f"{i + 1}" if repeated else str(name) for i, name in enumerate(names)])


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, "", "is not UTF-8 text", KNOWN) from error
    return [line for line in text.splitlines() if line.strip()]


def _cells(path: Path) -> list[list[str]]:
    with csv_errors(path):
        return list(csv.reader(_lines(path)))


def _number(path: Path, line: int, cell: str) -> float:
    try:
        return float(cell.strip())
    except ValueError:
        hint = "write decimal points, not commas" if "," in cell else ""
        raise InputError(path, f"line {line}", f"{cell!r} is not a number", hint) from None


def _finite(path: Path, line: int, cell: str) -> float:
    value = _number(path, line, cell)
    if not np.isfinite(value):
        raise InputError(path, f"line {line}", f"{cell!r} is not a finite number")
    return value


def _separator_hint(cells: list[str]) -> str:
    text = cells[0] if len(cells) == 1 else ""
    if ";" in text:
        return "cells are separated by ';': save with commas and decimal points"
    return "cells are separated by tabs: save with commas" if "\t" in text else ""
