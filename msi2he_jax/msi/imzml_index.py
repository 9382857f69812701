"""Holds what the XML says against the binary file and against itself."""

from __future__ import annotations

import dataclasses
import math
import uuid as uuid_module
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_template import ABSENT, FIELDS
from msi2he_jax.msi.imzml_xml import ArrayFormat, Param, XmlIndex, tag_of

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


@dataclasses.dataclass(frozen=True)
class ArrayTable:
    """Where the arrays of one kind lie.

    Attributes:
        offset: int64 [N], first byte.
        length: int64 [N], number of values.
        encoded: int64 [N], bytes in the file.
        format: int64 [N], index into `dtypes` and `zlib`.
        repaired: Whether offsets had overflowed 32 bits.
        dtypes: numpy type per format.
        zlib: Whether packed, per format.
    """

    offset: np.ndarray
    length: np.ndarray
    encoded: np.ndarray
    format: np.ndarray
    repaired: bool
    dtypes: tuple[np.dtype, ...]
    zlib: tuple[bool, ...]


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


def column(xml: XmlIndex, name: str) -> np.ndarray:
    """Returns one column of the table, int64 [N]."""
    return xml.table[:, FIELDS.index(name)]


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


def array_table(xml: XmlIndex, path: Path, kind: str, ibd_bytes: int) -> ArrayTable:
    """Checks the arrays of one kind ("mz" or "intensity") against the size of the binary file.

    Raises:
        InputError: a length is negative or huge, an array leaves the file, or its type is unclear.
    """
    length, encoded = column(xml, f"{kind}_length"), column(xml, f"{kind}_encoded").copy()
    name = "m/z array" if kind == "mz" else "intensity array"
    bad = (length < 0) | (length > LIMITS.spectrum_points)
    if bad.any():
        _refuse(path, bad, name, lambda i: f"has an impossible length of {length[i]} values")
    formats = [pair[0 if kind == "mz" else 1] for pair in xml.formats]
    number = column(xml, "format")
    dtypes = tuple(
        _dtype(path, name, each, length[number == k], encoded[number == k])
        for k, each in enumerate(formats)
    )
    _check_encoded(path, name, formats, dtypes, number, length, encoded)
    offset = _unwrap(column(xml, f"{kind}_offset"), ibd_bytes)
    beyond = (length > 0) & ((offset < 0) | (offset > ibd_bytes) | (offset + encoded > ibd_bytes))
    if beyond.any():
        _refuse(
            path,
            beyond,
            name,
            lambda i: f"ends at byte {offset[i] + encoded[i]}, the .ibd has {ibd_bytes}",
            "the .ibd is cut off or belongs to another imzML",
        )
    repaired = bool((offset != column(xml, f"{kind}_offset")).any())
    packed = tuple(each.zlib for each in formats)
    return ArrayTable(offset, length, encoded, number, repaired, dtypes, packed)


def _check_encoded(path, name, formats, dtypes, number, length, encoded) -> None:
    """Fills in absent encoded lengths; refuses those that contradict length times item size."""
    for k, (each, dtype) in enumerate(zip(formats, dtypes, strict=True)):
        chosen = number == k
        plain = length * dtype.itemsize
        absent = chosen & (encoded == ABSENT)
        if not each.zlib:
            absent |= chosen & (encoded == 0)  # some writers leave it at 0
        if each.zlib and absent.any():
            _refuse(path, absent, name, lambda i: "is compressed but states no encoded length")
        encoded[absent] = plain[absent]
        wrong = chosen & ((encoded < 0) if each.zlib else (encoded != plain))
        if wrong.any():
            _refuse(
                path,
                wrong,
                name,
                lambda i, d=dtype: (
                    f"states {encoded[i]} bytes, but {length[i]} values of type {d.name} "
                    f"take {length[i] * d.itemsize}"
                ),
            )


def _dtype(path, name, stated: ArrayFormat, length, encoded) -> np.dtype:
    """Chooses the number type; where code and name disagree, the stated bytes decide."""
    candidates = [text for text in (stated.by_code, stated.by_name) if text]
    if len(set(candidates)) == 1:
        return np.dtype(candidates[0])
    known = (encoded != ABSENT) & (length > 0)
    fitting = [
        np.dtype(text)
        for text in candidates
        if not stated.zlib
        and known.any()
        and (encoded[known] == length[known] * np.dtype(text).itemsize).all()
    ]
    if len(fitting) == 1:
        return fitting[0]
    numpy_names = " by code but ".join(np.dtype(text).name for text in candidates)
    raise InputError(path, name, f"is {numpy_names} by name, and its size does not tell which")


def _unwrap(offset: np.ndarray, ibd_bytes: int) -> np.ndarray:
    """Undoes 32-bit overflow of offsets: negative ones, and falls of 4 GiB in large files."""
    if not (offset < 0).any() and ibd_bytes <= 2**32:
        return offset
    unsigned = np.where((offset < 0) & (offset >= -(2**31)), offset + 2**32, offset)
    if ibd_bytes <= 2**32 or unsigned.max() >= 2**32:
        return unsigned
    falls = np.diff(unsigned, prepend=unsigned[:1]) < -(2**31)
    return unsigned + np.cumsum(falls) * 2**32


def _refuse(path, bad: np.ndarray, name: str, why, hint: str = "") -> None:
    """Names the first bad spectrum and how many there are."""
    first = int(np.flatnonzero(bad)[0])
    more = f"; {int(bad.sum())} spectra in all" if bad.sum() > 1 else ""
    field = f"spectrum {first + 1}, {name}" if name else f"spectrum {first + 1}"
    raise InputError(path, field, why(first) + more, hint)


def extent_doubts(mz: ArrayTable, intensity: ArrayTable, ibd_bytes: int) -> list[str]:
    """Says what is odd about where arrays lie: repaired, overlapping, or leaving much unused."""
    doubts = []
    if mz.repaired or intensity.repaired:
        doubts.append("offsets had overflowed 32 bits and were repaired")
    extents = [
        np.stack([each.offset, each.encoded], 1)[each.length > 0] for each in (mz, intensity)
    ]
    extents = np.unique(np.concatenate(extents), axis=0)
    ends = extents.sum(axis=1)
    overlaps = int((extents[1:, 0] < np.maximum.accumulate(ends)[:-1]).sum())
    if overlaps:
        doubts.append(f"{overlaps} arrays overlap others in the .ibd")
    unused = 1 - (int(extents[:, 1].sum()) + 16) / ibd_bytes
    if unused > 0.01:
        doubts.append(f"{100 * unused:.2g} % of the .ibd belongs to no spectrum")
    return doubts


def check_lengths(path: Path, mz: ArrayTable, intensity: ArrayTable) -> None:
    """Raises InputError where a spectrum has not as many m/z values as intensities."""
    unequal = mz.length != intensity.length
    if unequal.any():
        _refuse(
            path,
            unequal,
            "",
            lambda i: f"has {mz.length[i]} m/z values and {intensity.length[i]} intensities",
        )


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
    x, y, z = (column(xml, name) for name in "xyz")
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
        values = column(xml, name)
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
