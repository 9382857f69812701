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

UUID = "IMS:1000080"
CHECKSUMS = {"md5": "IMS:1000090", "sha1": "IMS:1000091", "sha256": "IMS:1000092"}
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
_PLAUSIBLE_UM = (0.02, 2000.0)


def find_ibd(path: Path) -> Path:
    """Returns the binary file beside an imzML file, in whatever spelling of its extension.

    Raises:
        InputError: there is none.
    """
    exact = path.with_suffix(".ibd")
    if exact.is_file():
        return exact
    beside = [each for each in sorted(path.parent.iterdir()) if each.suffix.lower() == ".ibd"]
    for spelling in (str, str.lower):
        alike = [each for each in beside if spelling(each.stem) == spelling(path.stem)]
        found = [each for each in alike if each.is_file()]
        if found:
            return found[0]
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
        why = f"span a grid of {height} x {width} pixels for {len(x)} spectra"
        raise InputError(path, "positions", why, f"{_farthest(x, y)}: is that right?")
    coordinates = np.stack([y - origin[1], x - origin[0]], axis=1)
    doubts = _grid_doubts(xml, len(x) / (width * height), _farthest(x, y))
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


def _farthest(x: np.ndarray, y: np.ndarray) -> str:
    far = int(np.argmax(np.abs(x - np.median(x)) + np.abs(y - np.median(y))))
    return f"spectrum {far + 1} lies at x {x[far]}, y {y[far]}"


def _grid_doubts(xml: XmlIndex, filled: float, farthest: str) -> list[str]:
    doubts = []
    for name, code in (("x", COUNT_X), ("y", COUNT_Y)):
        stated = _number(_value([p for each in xml.scan_settings for p in each], code))
        values = xml.column(name)
        if math.isfinite(stated) and values.max() - values.min() + 1 > stated:
            span = values.max() - values.min() + 1
            doubts.append(f"the header allows {stated:g} pixels in {name}, the spectra span {span}")
    if filled < 0.05:
        why = f"only {100 * filled:.2g} % of the grid's pixels were measured"
        doubts.append(f"{why}; farthest out, {farthest}")
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
    try:
        sizes = {size for size in map(_one_pixel_size, xml.scan_settings) if size is not None}
    except ValueError as error:
        return None, [f"no usable pixel size is stated: {error}"]
    if not sizes:
        return None, ["no usable pixel size is stated"]
    if len(sizes) > 1:
        listed = ", ".join(f"{y:g} x {x:g}" for y, x, _ in sorted(sizes))
        return None, [f"scanSettings disagree about the pixel size: {listed} um"]
    y, x, bare = sizes.pop()
    doubts = []
    if not (_PLAUSIBLE_UM[0] <= min(y, x) and max(y, x) <= _PLAUSIBLE_UM[1]):
        unit = "no unit is stated, um is assumed" if bare else "as its unit says"
        size = "large" if max(y, x) > _PLAUSIBLE_UM[1] else "small"
        doubts.append(f"the pixel size of {y:g} x {x:g} um is implausibly {size} ({unit})")
    elif bare:
        doubts.append(f"the pixel size of {y:g} x {x:g} has no unit, um is assumed")
    return (y, x), doubts


def _one_pixel_size(settings: list[Param]) -> tuple[float, float, bool] | None:
    """Returns (y, x, whether without a unit) of one scanSettings, None where it says nothing."""
    x, y = (_length_um(settings, code) for code in (SIZE_X, SIZE_Y))
    if x is None:
        return None
    y = x if y is None else y
    return y[0], x[0], x[1] or y[1]


def _length_um(settings: list[Param], code: str) -> tuple[float, bool] | None:
    """Returns a length in um and whether it had no unit, None where absent.

    Raises:
        ValueError: it is not positive, its unit is no length, or two are stated.
    """
    stated = list(dict.fromkeys(param for param in settings if param.accession == code))
    if not stated:
        return None
    if len({param.value for param in stated}) > 1:
        raise ValueError(f"both {stated[0].value[:40]!r} and {stated[1].value[:40]!r} are")
    value, units = _number(stated[0].value), [stated[0].unit, _spelled(stated[0].unit_name)]
    if not 0 < value < math.inf:
        raise ValueError(f"{stated[0].value[:40]!r} is not a positive number")
    known = {_UM_PER_UNIT[unit] for unit in units if unit in _UM_PER_UNIT}
    named = " ".join(repr(unit[:40]) for unit in units if unit)
    if named and len(known) != 1:
        raise ValueError(f"its unit {named} is {'contradictory' if known else 'no length'}")
    return value * (known.pop() if known else 1.0), not named


def _spelled(unit: str) -> str:
    """Brings "micrometres", "Micrometer" and both letters mu to one spelling."""
    return unit.strip().lower().replace("metre", "meter").replace("μ", "µ").removesuffix("s")


def _value(params: list[Param], code: str) -> str:
    return next((param.value for param in params if param.accession == code), "")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def stated_checksums(xml: XmlIndex) -> dict[str, str]:
    """Returns the checksums the XML states for the binary file, by hashlib's name."""
    found = {name: _value(xml.file_content, code) for name, code in CHECKSUMS.items()}
    return {name: value.strip().lower() for name, value in found.items() if value.strip()}
