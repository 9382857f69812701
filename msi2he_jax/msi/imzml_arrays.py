"""Where an imzML file's arrays lie in its binary half, checked against that half's size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_params import ArrayFormat, XmlIndex
from msi2he_jax.msi.imzml_template import ABSENT


@dataclasses.dataclass(frozen=True)
class ArrayTable:
    """Where the arrays of one kind lie.

    Attributes:
        offset: int64 [N], first byte.
        length: int64 [N], number of values.
        packed_size: int64 [N], bytes in the file; None where no array is packed.
        format: int16 [N], index into `dtypes` and `zlib`.
        repaired: Whether offsets had overflowed 32 bits.
        dtypes: numpy type per format.
        zlib: Whether packed, per format.
    """

    offset: np.ndarray
    length: np.ndarray
    packed_size: np.ndarray | None
    format: np.ndarray
    repaired: bool
    dtypes: tuple[np.dtype, ...]
    zlib: tuple[bool, ...]

    def sizes(self) -> np.ndarray:
        """Returns the bytes that each array takes in the file, int64 [N]."""
        if self.packed_size is not None:
            return self.packed_size
        return self.length * np.array([dtype.itemsize for dtype in self.dtypes])[self.format]


def array_table(xml: XmlIndex, path: Path, kind: str, room: tuple[int, int]) -> ArrayTable:
    """Checks the arrays of one kind ("mz" or "intensity") against the size of the binary file.

    Args:
        xml: The parsed file.
        path: The file, for messages.
        kind: "mz" or "intensity".
        room: First byte that may hold an array, and size of the binary file.

    Raises:
        InputError: a length is negative or huge, an array leaves the file, or its type is unclear.
    """
    name = "m/z array" if kind == "mz" else "intensity array"
    length = xml.column(f"{kind}_length").copy()
    bad = (length < 0) | (length > LIMITS.spectrum_points)
    if bad.any():
        _refuse(path, bad, name, lambda i: f"has an impossible length of {length[i]} values")
    formats = [pair[0 if kind == "mz" else 1] for pair in xml.formats]
    number, stated = xml.column("format").astype(np.int16), xml.column(f"{kind}_encoded")
    dtypes = tuple(
        _dtype(path, name, each, length[number == k], stated[number == k])
        for k, each in enumerate(formats)
    )
    size = _checked_sizes(path, name, formats, dtypes, number, length, stated)
    stated_offset = xml.column(f"{kind}_offset")
    offset = _unwrap(stated_offset, room[1])
    _check_places(path, name, offset, size, length > 0, room)
    repaired = not np.array_equal(offset, stated_offset)
    packed = tuple(each.zlib for each in formats)
    kept = size if any(packed) else None
    return ArrayTable(offset.copy(), length, kept, number, repaired, dtypes, packed)


def _check_places(path, name, offset, size, filled, room: tuple[int, int]) -> None:
    """Refuses arrays that start before `room` or end behind it."""
    first, ibd_bytes = room
    beyond = filled & ((offset < 0) | (offset > ibd_bytes) | (offset + size > ibd_bytes))
    if beyond.any():
        _refuse(
            path,
            beyond,
            name,
            lambda i: f"ends at byte {offset[i] + size[i]}, the .ibd has {ibd_bytes}",
            "the .ibd is cut off or belongs to another imzML",
        )
    early = filled & (offset < first)
    if early.any():
        _refuse(path, early, name, lambda i: f"starts at byte {offset[i]}, inside the UUID")


def _checked_sizes(path, name, formats, dtypes, number, length, stated) -> np.ndarray:
    """Fills in absent encoded lengths; refuses those that contradict length times item size."""
    size = stated.copy()
    for k, (each, dtype) in enumerate(zip(formats, dtypes, strict=True)):
        chosen = number == k
        absent = chosen & (size == ABSENT)
        if not each.zlib:
            absent |= chosen & (size == 0)  # some writers leave it at 0
        if each.zlib and absent.any():
            _refuse(path, absent, name, lambda i: "is compressed but states no encoded length")
        size[absent] = length[absent] * dtype.itemsize
        wrong = chosen & ((size < 0) if each.zlib else (size != length * dtype.itemsize))
        if wrong.any():
            _refuse(
                path,
                wrong,
                name,
                lambda i, d=dtype: (
                    f"states {size[i]} bytes, but {length[i]} values of type {d.name} "
                    f"take {length[i] * d.itemsize}"
                ),
            )
    return size


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


def extent_warnings(
    path: Path,
    mz: ArrayTable,
    intensity: ArrayTable,
    others: np.ndarray,
    ibd_bytes: int,
    *,
    rounded: bool,
) -> list[str]:
    """Says what is odd about where arrays lie: repaired, overlapping, or leaving much unused.

    Args:
        path: The file, for messages.
        mz: The m/z arrays.
        intensity: The intensity arrays.
        others: int64 [K, 2], first byte and size of arrays that are not read.
        ibd_bytes: Size of the binary file.
        rounded: Whether numbers were in scientific notation, and may have lost digits.

    Raises:
        InputError: they have lost digits.
    """
    warnings = []
    if mz.repaired or intensity.repaired:
        warnings.append("offsets had overflowed 32 bits and were repaired")
    start, size = _extents(mz, intensity)
    overlaps = int((start[1:] < np.maximum.accumulate(start + size)[:-1]).sum())
    repeats = int((intensity.length > 0).sum()) - len(_extents(intensity)[0])
    if rounded and (overlaps or repeats):
        why = f"have lost digits in scientific notation: {overlaps + repeats} arrays overlap others"
        raise InputError(path, "external offsets", why, "write them as whole numbers")
    if overlaps:
        warnings.append(f"{overlaps} arrays overlap others in the .ibd")
    if repeats:
        warnings.append(f"{repeats} spectra have the very intensities of another")
    if rounded:
        warnings.append("some integers are in scientific notation, which may have lost digits")
    unread = int(np.unique(others, axis=0)[:, 1].sum())
    unused = 1 - (int(size.sum()) + unread + 16) / ibd_bytes
    if unused > 0.01:
        warnings.append(f"{100 * unused:.2g} % of the .ibd belongs to no spectrum")
    return warnings


def _extents(*tables: ArrayTable) -> tuple[np.ndarray, np.ndarray]:
    """Returns first byte and size of each different place that arrays take, in file order."""
    parts = [(each.offset, each.sizes(), each.length > 0) for each in tables]
    start = np.concatenate([offset[filled] for offset, _, filled in parts])
    size = np.concatenate([bytes_[filled] for _, bytes_, filled in parts])
    order = np.lexsort((size, start))
    start, size = start[order], size[order]
    new = np.ones(len(start), bool)
    new[1:] = (np.diff(start) != 0) | (np.diff(size) != 0)
    return start[new], size[new]
