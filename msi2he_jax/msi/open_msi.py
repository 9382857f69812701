"""Opens a mass spectrometry image, whatever its format.

A reader for another format is a module of its own, whose class has the members of `MsiFile`, and
one entry of `READERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_file
from msi2he_jax.msi.block import BLOCK_POINTS, Block
from msi2he_jax.msi.imzml import imzml_files, open_imzml

_MARKS_BEFORE_XML = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"  # Byte order marks, white space.


class MsiFile(Protocol):
    """An open mass spectrometry image. Two are equal only if they are the same object.

    Attributes:
        path: The file that was named.
        files: All files it consists of, `path` first, the one that holds the spectra last.
        bytes: Size of the spectra on disk.
        n: Number of spectra that are used.
        coordinates: int64 [n, 2], (row, column), 0-based from the least position in the file.
        origin_px: (x, y), the least position in the file's own count.
        shape: (H, W).
        mask: bool [H, W], True where a spectrum was measured.
        pixel_size_um: (y, x), or None where the file does not say.
        spectrum_type: "profile", "centroid", or None where that is not known.
        polarity: "positive", "negative", or None where that is not known.
        shares_mz: Whether all spectra have one m/z array.
        points: int64 [n], number of points of each spectrum.
        uuid: Tells the measurement from others, "" where the file states none.
        warnings: What is odd but does not stop the file from being read.
        checksum_recorded: When an earlier run found the checksum to agree, if `verify_checksum`
            relied on that; else None.
    """

    path: Path
    files: tuple[Path, ...]
    bytes: int
    n: int
    coordinates: np.ndarray
    origin_px: tuple[int, int]
    shape: tuple[int, int]
    mask: np.ndarray
    pixel_size_um: tuple[float, float] | None
    spectrum_type: str | None
    polarity: str | None
    shares_mz: bool
    points: np.ndarray
    uuid: str
    warnings: list[str]
    checksum_recorded: str | None

    @property
    def mz_range(self) -> tuple[float, float]:
        """The least and greatest m/z of any spectrum."""
        ...

    def block(self, indices: np.ndarray) -> Block:
        """Reads the spectra `indices`, int64 [k], checked: m/z in order, nothing negative."""
        ...

    def packed(
        self, indices: np.ndarray | None = None, points: int = BLOCK_POINTS
    ) -> Iterator[Block]:
        """Yields spectra in blocks of about `points` points; see `block.packed_blocks`."""
        ...

    def spectrum(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads one spectrum: m/z float64 [P], intensity float32 [P]."""
        ...

    def shared_mz(self) -> np.ndarray:
        """Returns the one m/z array, float64 [P], of a file that `shares_mz`."""
        ...

    def tic(self) -> np.ndarray:
        """Returns each spectrum's total ion count over all its points, float64 [n]."""
        ...

    def verify_checksum(self, *, recheck: bool = False) -> str | None:
        """Compares the file with its checksum; returns the checksum's name, None without one."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what the file says of itself, as JSON, for `doctor`."""
        ...


class Reader(NamedTuple):
    """How files of one format are opened.

    Attributes:
        name: Of the format.
        open: Called with path, `duplicates`, `allow_uuid_mismatch` and `index_cache` as `open_msi`
            is; what does not concern the format is ignored.
        files: Names all files of a measurement, the named one first, without opening it.
    """

    name: str
    open: Callable[..., MsiFile]
    files: Callable[[str | os.PathLike], tuple[Path, ...]]


_IMZML = Reader("imzML", open_imzml, imzml_files)
# An .ibd is the other half of an imzML pair, and its reader says so.
READERS = {".imzml": _IMZML, ".ibd": _IMZML}


def reader_of(path: str | os.PathLike) -> Reader:
    """Returns the reader for a file, by its suffix, or else imzML's where it starts as XML does.

    Raises:
        InputError: it is not there, or in no known format.
    """
    suffix = Path(path).suffix.lower()
    if suffix in READERS:
        return READERS[suffix]
    with open(existing_file(path, "MSI"), "rb") as file:
        start = file.read(64).lstrip(_MARKS_BEFORE_XML)
    if start.startswith(b"<"):
        return _IMZML
    known = ", ".join(sorted({reader.name for reader in READERS.values()}))
    raise InputError(path, "", "is no mass spectrometry image in a known format", f"known: {known}")


def msi_files(path: str | os.PathLike) -> tuple[Path, ...]:
    """Returns all files of a measurement, the named one first, without opening it.

    Raises:
        InputError: a file is not there, or in no known format.
    """
    return reader_of(path).files(path)


def open_msi(
    path: str | os.PathLike,
    *,
    duplicates: str = "refuse",
    allow_uuid_mismatch: bool = False,
    index_cache: str = "auto",
) -> MsiFile:
    """Opens a mass spectrometry image; everything is checked that needs no reading of spectra.

    Args:
        path: The file; of an imzML pair the .imzML.
        duplicates: What to do with several spectra at one position: "refuse", keep the "first",
            or "sum" them (in images; they stay apart as spectra).
        allow_uuid_mismatch: Reads on where the UUIDs of an imzML pair differ.
        index_cache: "auto" or "off": whether what a large imzML says is kept beside it; see
            `open_imzml`.

    Raises:
        InputError: what is wrong, with the spectrum where it applies.
    """
    return reader_of(path).open(
        path,
        duplicates=duplicates,
        allow_uuid_mismatch=allow_uuid_mismatch,
        index_cache=index_cache,
    )
