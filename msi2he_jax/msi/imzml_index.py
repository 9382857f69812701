"""Holds what the XML says against the binary file and against itself."""

from __future__ import annotations

import math
import uuid as uuid_module
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_arrays import ArrayTable
from msi2he_jax.msi.imzml_params import Param, XmlIndex, tag_of

UUID, SHA1, SHA256 = "IMS:1000080", "IMS:1000091", "IMS:1000092"
CONTINUOUS, PROCESSED = "IMS:1000030", "IMS:1000031"
COUNT_X, COUNT_Y, SIZE_X, SIZE_Y = "IMS:1000042", "IMS:1000043", "IMS:1000046", "IMS:1000047"
_UM_PER_UNIT = {
    "UO:0000008": 1e6,
    "UO:0000015": 1e4,
    "UO:0000016": 1e3,
    "UO:0000017": 1.0,
    "UO:0000018": 1e-3,
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
}
_IMPLAUSIBLE_UM = 2000.0


def find_ibd(path: Path) -> Path:
    """Returns the binary file beside an imzML file, in whatever spelling of its extension.

    Raises:
        InputError: there is none.
    """
    exact = path.with_suffix(".ibd")
    if exact.is_file():
        return exact
    for entry in sorted(path.parent.iterdir()):
        if entry.stem == path.stem and entry.suffix.lower() == ".ibd" and entry.is_file():
            return entry
    why = f"the binary file {exact.name} is not beside it"
    raise InputError(path, "ibd", why, "put both files in one folder under the same name")


def check_uuid(xml: XmlIndex, path: Path, head: bytes, allow_mismatch: bool) -> tuple[str, str]:
    """Compares the XML's UUID with the first 16 bytes of the binary file, in both byte orders.

    Returns:
        The UUID of the XML ("" where absent) and a doubt ("" where there is none).

    Raises:
        InputError: they differ and `allow_mismatch` is false.
    """
    text = _value(xml.file_content, UUID)
    if not text:
        return "", "the imzML states no UUID, so that the .ibd cannot be proven to belong to it"
    try:
        stated = uuid_module.UUID(text.strip())
    except ValueError as error:
        raise InputError(path, "UUID", f"{text[:60]!r} is not a UUID") from error
    if head in (stated.bytes, stated.bytes_le):
        return str(stated), ""
    why = f"the imzML states {stated}, the .ibd starts with {head.hex()}"
    if not allow_mismatch:
        hint = "the two files do not belong together; allow a UUID mismatch if you know they do"
        raise InputError(path, "UUID", why, hint)
    return str(stated), why


def grid(xml: XmlIndex, path: Path, duplicates: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lays the spectra on a grid that starts at their own minimum.

    Args:
        xml: The parsed file.
        path: The file, for messages.
        duplicates: "refuse", or "first" or "sum" where several spectra at one position are wanted.

    Returns:
        coordinates int64 [N, 2] (row, column), origin int64 [2] (min x, min y), doubts.

    Raises:
        InputError: no spectra, a grid beyond the limits, or duplicates under "refuse".
    """
    if len(xml.table) == 0:
        raise InputError(path, "spectrumList", "holds no spectra")
    x, y, z = (xml.column(name) for name in "xyz")
    origin = np.array([x.min(), y.min()])
    width, height = int(x.max()) - int(x.min()) + 1, int(y.max()) - int(y.min()) + 1
    if width * height > LIMITS.grid_pixels:
        far = int(np.argmax(np.abs(x - np.median(x)) + np.abs(y - np.median(y))))
        why = f"span a grid of {height} x {width} pixels for {len(x)} spectra"
        hint = f"spectrum {far + 1} lies at x {x[far]}, y {y[far]}: is that right?"
        raise InputError(path, "positions", why, hint)
    coordinates = np.stack([y - origin[1], x - origin[0]], axis=1)
    doubts = _grid_doubts(xml, len(x) / (width * height))
    flat = coordinates[:, 0] * width + coordinates[:, 1]
    order = np.argsort(flat, kind="stable")
    again = order[1:][np.diff(flat[order]) == 0]
    if len(again):
        doubts.append(_duplicates(path, x, y, z, int(again.min()), len(again), duplicates))
    return coordinates, origin, doubts


def _duplicates(path, x, y, z, index: int, count: int, policy: str) -> str:
    stack = f"; z runs from {z.min()} to {z.max()}" if z.min() != z.max() else ""
    more = f" ({count} such spectra in all{stack})"
    first = int(np.flatnonzero((x == x[index]) & (y == y[index]))[0])
    why = f"lies at x {x[index]}, y {y[index]} like spectrum {first + 1}{more}"
    if policy == "refuse":
        hint = "choose duplicates=sum or first, or split the file"
        raise InputError(path, f"spectrum {index + 1}", why, hint)
    return f"spectrum {index + 1} {why}; policy: {policy}"


def _grid_doubts(xml: XmlIndex, filled: float) -> list[str]:
    doubts = []
    for name, code in (("x", COUNT_X), ("y", COUNT_Y)):
        stated = _number(_value([p for each in xml.scan_settings for p in each], code))
        values = xml.column(name)
        if math.isfinite(stated) and values.max() - values.min() + 1 > stated:
            span = values.max() - values.min() + 1
            doubts.append(f"the header allows {stated:g} pixels in {name}, the spectra span {span}")
    if filled < 0.05:
        doubts.append(f"only {100 * filled:.2g} % of the grid's pixels were measured")
    return doubts


def storage(xml: XmlIndex, mz: ArrayTable) -> tuple[str, bool, list[str]]:
    """Returns "continuous" or "processed", whether all spectra share one m/z array, and doubts."""
    shared = all((part == part[0]).all() for part in (mz.offset, mz.length, mz.format))
    codes = {param.accession for param in xml.file_content} & {CONTINUOUS, PROCESSED}
    if len(codes) != 1:
        found = "continuous" if shared else "processed"
        return found, shared, [f"the file does not say how it is stored; it looks {found}"]
    if codes == {CONTINUOUS} and not shared:
        return "processed", False, ["says continuous, but its spectra do not share one m/z array"]
    return ("continuous" if codes == {CONTINUOUS} else "processed"), shared, []


def one_tag(xml: XmlIndex, options: tuple[str, str], what: str) -> tuple[str | None, list[str]]:
    """Returns which of two options the spectra (else the file) state; None if none or both."""
    found = xml.spectrum_tags & set(options)
    if not found:
        found = {tag for tag in map(tag_of, xml.file_content) if tag in options}
    if len(found) == 1:
        return found.pop(), []
    stated = f"states both {options[0]} and {options[1]}" if found else "is not stated"
    return None, [f"{what} {stated}"]


def pixel_size_um(xml: XmlIndex) -> tuple[tuple[float, float] | None, list[str]]:
    """Returns the pixel size (y, x) in um, or None and a doubt that says why."""
    sizes = {size for size in map(_one_pixel_size, xml.scan_settings) if size is not None}
    if not sizes:
        return None, ["no usable pixel size is stated"]
    if len(sizes) > 1:
        listed = ", ".join(f"{y:g} x {x:g}" for y, x, _ in sorted(sizes))
        return None, [f"scanSettings disagree about the pixel size: {listed} um"]
    y, x, bare = sizes.pop()
    doubts = []
    if max(y, x) > _IMPLAUSIBLE_UM:
        unit = "no unit is stated, um is assumed" if bare else "as its unit says"
        doubts.append(f"the pixel size of {y:g} x {x:g} um is implausibly large ({unit})")
    return (y, x), doubts


def _one_pixel_size(settings: list[Param]) -> tuple[float, float, bool] | None:
    size_x, bare_x = _length_um(settings, SIZE_X)
    size_y, bare_y = _length_um(settings, SIZE_Y)
    if math.isnan(size_y) and not any(param.accession == SIZE_Y for param in settings):
        size_y = size_x
    usable = 0 < size_x < math.inf and 0 < size_y < math.inf
    return (size_y, size_x, bare_x or bare_y) if usable else None


def _length_um(settings: list[Param], code: str) -> tuple[float, bool]:
    """Returns a length in um (NaN where absent or of unknown unit), and whether it had no unit."""
    param = next((each for each in settings if each.accession == code), None)
    if param is None:
        return math.nan, False
    if not (param.unit or param.unit_name):
        return _number(param.value), True
    by_code = _UM_PER_UNIT.get(param.unit)
    factor = by_code or _UM_PER_UNIT.get(param.unit_name.strip().lower(), math.nan)
    return _number(param.value) * factor, False


def _value(params: list[Param], code: str) -> str:
    return next((param.value for param in params if param.accession == code), "")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def stated_checksums(xml: XmlIndex) -> dict[str, str]:
    """Returns the checksums the XML states for the binary file, by hashlib's name."""
    found = {"sha1": _value(xml.file_content, SHA1), "sha256": _value(xml.file_content, SHA256)}
    return {name: value.strip().lower() for name, value in found.items() if value.strip()}
