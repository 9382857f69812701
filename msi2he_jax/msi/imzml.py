"""Opens imzML files: checked as a whole at open, each spectrum checked when it is read."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_file
from msi2he_jax.msi import (
    imzml_arrays,
    imzml_cache,
    imzml_checksum,
    imzml_grid,
    imzml_index,
    imzml_values,
)
from msi2he_jax.msi.block import BLOCK_POINTS, Block, packed_blocks
from msi2he_jax.msi.imzml_arrays import ArrayTable
from msi2he_jax.msi.mapped_file import MappedFile

_PROBED_SPECTRA, _PROBED_POINTS = 16, 1 << 20
_MOBILITY = re.compile("mobility|drift time")
DUPLICATES = ("refuse", "first", "sum")
INDEX_CACHES = imzml_cache.CHOICES


class Imzml:
    """An open imzML pair.

    Attributes:
        path: The .imzML file.
        ibd_path: The .ibd file.
        files: Both of them.
        bytes: Size of the .ibd.
        n: Number of spectra that are used.
        coordinates: int64 [n, 2], (row, column), 0-based from the least position in the file.
        origin_px: (x, y), the least position in the file's own count.
        shape: (H, W).
        mask: bool [H, W], True where a spectrum was measured.
        storage: "continuous" or "processed", as the arrays really lie.
        shares_mz: Whether all spectra have one m/z array.
        spectrum_type: "profile" or "centroid", as the points lie where that is clear, else as
            stated; None where neither tells.
        polarity: "positive", "negative", or None where the file does not say or mixes them.
        pixel_size_um: (y, x), or None where the file does not say.
        uuid: The XML's UUID, "" where absent.
        points: int64 [n], number of points of each spectrum.
        stored: How many spectra the file holds, those that are not used included.
        numbers: int64 [n], 0-based place in the file of each spectrum that is used.
        by_mobility: Whether points lie in order of ion mobility in the file.
        warnings: What is odd but does not stop the file from being read.
        checksum_recorded: When an earlier run found the .ibd to agree with its checksum, if
            `verify_checksum` relied on that; else None.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        allow_uuid_mismatch: bool,
        duplicates: str,
        index_cache: str,
    ):
        self.path = existing_file(path, "imzML")
        if self.path.suffix.lower() == ".ibd":
            hint = "name the .imzML file beside it"
            raise InputError(self.path, "", "is the binary half of an imzML pair", hint)
        self.ibd_path = existing_file(imzml_index.find_ibd(self.path), "ibd")
        xml = imzml_cache.cached_index(self.path, self.ibd_path, index_cache)
        chosen, odd_levels = imzml_index.one_level(xml, self.path)
        coordinates, origin, warnings = imzml_grid.grid(xml, chosen, self.path, duplicates)
        self._file = self._map()
        self.files, self.bytes = (self.path, self.ibd_path), len(self._file)
        head = self._file.data[:16]
        self.uuid, warning = imzml_index.check_uuid(xml, self.path, head, allow_uuid_mismatch)
        self._open_arrays(xml, first_byte=0 if warning else 16)
        self._describe(xml, chosen, [*odd_levels, *warnings, warning])
        self._checksums, self._cached = imzml_index.stated_checksums(xml), index_cache != "off"
        self.checksum_recorded: str | None = None
        self.origin_px = (int(origin[0]), int(origin[1]))
        self.shape = (int(coordinates[:, 0].max()) + 1, int(coordinates[:, 1].max()) + 1)
        self._use(chosen, coordinates, duplicates)
        self._probe(xml)

    def _map(self) -> MappedFile:
        if self.ibd_path.stat().st_size < 16:
            raise InputError(self.ibd_path, "", "has fewer than the 16 bytes of its UUID")
        return MappedFile(self.ibd_path)

    def _open_arrays(self, xml, first_byte: int) -> None:
        room = (first_byte, len(self._file))
        self._mz = imzml_arrays.array_table(xml, self.path, "mz", room)
        intensity = imzml_arrays.array_table(xml, self.path, "intensity", room)
        imzml_arrays.check_lengths(self.path, self._mz, intensity)
        same = {"length": self._mz.length, "format": self._mz.format}  # One copy of each is enough.
        self._intensity = dataclasses.replace(intensity, **same)

    def _describe(self, xml, chosen: np.ndarray, warnings: list[str]) -> None:
        self.storage, self.shares_mz, odd = imzml_index.storage(xml, self._mz, chosen)
        modes, signs = ("profile", "centroid"), ("positive", "negative")
        self.spectrum_type, no_type = imzml_index.one_tag(xml, chosen, modes, "the spectrum type")
        self.polarity, no_sign = imzml_index.one_tag(xml, chosen, signs, "the polarity")
        self.pixel_size_um, no_size = imzml_index.pixel_size_um(xml)
        arrays = (self._mz, self._intensity, xml.others, len(self._file))
        odd += imzml_arrays.extent_warnings(self.path, *arrays, rounded=xml.scientific)
        odd += [f"arrays that are not read: {', '.join(xml.other_names)}"] * bool(xml.other_names)
        if xml.declared_count not in (None, len(xml.table)):
            odd.append(f"declares {xml.declared_count} spectra and holds {len(xml.table)}")
        self.warnings = [each for each in [*warnings, *odd, *no_type, *no_sign, *no_size] if each]

    def _use(self, chosen: np.ndarray, coordinates: np.ndarray, duplicates: str) -> None:
        """Chooses the spectra that count, and lays their mask."""
        if duplicates == "first":
            flat = coordinates[:, 0] * self.shape[1] + coordinates[:, 1]
            first = np.sort(np.unique(flat, return_index=True)[1])
            chosen, coordinates = chosen[first], coordinates[first]
        self.numbers, self.coordinates = chosen, coordinates
        self.points, self.n = self._mz.length[chosen], len(chosen)
        self.stored = len(self._mz.length)
        self.mask = np.zeros(self.shape, bool)
        self.mask[tuple(self.coordinates.T)] = True
        self._shared_mz: np.ndarray | None = None
        self._mz_range: tuple[float, float] | None = None

    def _probe(self, xml) -> None:
        """Looks at a few spectra, and so at what the file cannot state rightly by itself."""
        names = [name for name in xml.other_names if _MOBILITY.search(name)]
        self.by_mobility = bool(names)
        spectra = self._probed()
        mz = [mz for mz, _ in spectra]
        counts = [intensity for _, intensity in spectra]
        imzml_values.check_number_types(self.path, mz, counts, ordered=not names)
        mz = [each.astype(np.float64) for each in mz]
        if names and not all((np.diff(each) >= 0).all() for each in mz):
            self._sort_by_mz(names[0])
        else:
            kind, odd = imzml_values.spectrum_type(self.spectrum_type, mz)
            self.spectrum_type = kind
            self.warnings += odd

    def _sort_by_mz(self, name: str) -> None:
        """Reads points that lie in order of ion mobility: by m/z, as peaks."""
        if self.spectrum_type == "profile":
            why = f"its profile spectra lie in order of ion mobility ({name})"
            raise InputError(self.path, "m/z array", why, "sum them over mobility, or pick peaks")
        self.shares_mz = False
        self.warnings.append(
            f"points lie in order of ion mobility ({name}); sorted by m/z, as read"
        )

    def _probed(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns m/z and intensity [P], as stored, of some spectra of one form, spread evenly."""
        filled = np.flatnonzero(self.points > 0)
        if not len(filled):
            return []
        count = int(np.clip(_PROBED_POINTS // self.points.max(), 1, _PROBED_SPECTRA))
        spectra = filled[np.linspace(0, len(filled) - 1, min(count, len(filled))).astype(int)]
        forms = self._mz.format[self.numbers[spectra]]
        found = []
        for index in spectra[forms == forms[0]]:
            i = int(self.numbers[index])
            with contextlib.suppress(InputError):  # Damage is named when the spectrum is read.
                arrays = (self._array(each, i, index) for each in (self._mz, self._intensity))
                found.append(tuple(arrays))
        return found

    @property
    def number_types(self) -> list[str]:
        """How arrays are stored, as "m/z float64, intensity float32"; one entry per form."""
        forms = []
        for number in np.unique(self._mz.format):
            parts = [("m/z", self._mz), ("intensity", self._intensity)]
            types = [(name, each.dtypes[number].name, each.zlib[number]) for name, each in parts]
            forms.append(
                ", ".join(f"{name} {kind}{' (zlib)' * zlib}" for name, kind, zlib in types)
            )
        return forms

    def describe(self) -> dict[str, Any]:
        """Returns what the file says of itself, as JSON; `doctor` prints it in this order."""
        return {
            "mode": self.storage,
            "spectrum_type": self.spectrum_type,
            "polarity": self.polarity,
            "pixel_size_um": self.pixel_size_um and list(self.pixel_size_um),
            "uuid": self.uuid or None,
            "ibd": self.ibd_path.name,
            "ibd_bytes": self.bytes,
            "number_types": self.number_types,
        }

    # Reading -------------------------------------------------------------------------------------

    def spectrum(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads one spectrum.

        Args:
            index: 0 <= index < n.

        Returns:
            m/z float64 [P], not decreasing; intensity float32 [P], not negative.

        Raises:
            InputError: the arrays are damaged; names spectrum and position.
        """
        block = self.block(np.array([index]))
        return block.mz, block.intensity.astype(np.float32)

    def block(self, indices: np.ndarray) -> Block:
        """Reads several spectra at once, checked.

        Args:
            indices: int64 [n], numbers of spectra.

        Raises:
            InputError: an array is damaged; names spectrum and position.
        """
        self._file.check_size()
        starts = np.concatenate([[0], np.cumsum(self.points[indices])])
        intensity = self._checked(self._intensity, indices, starts, "intensity")
        if self.shares_mz and len(indices):
            mz = self.shared_mz()
        else:
            mz = self._checked(self._mz, indices, starts, "m/z")
            if self.by_mobility and not imzml_values.is_sorted(mz, starts):
                order = imzml_values.order_by_mz(mz, starts)
                mz, intensity = mz[order], intensity[order]
            self._check_sorted(mz, indices, starts)
        self._file.touched(intensity.nbytes + mz.nbytes, len(indices))
        return Block(indices, mz, intensity, starts, self.shares_mz)

    def shared_mz(self) -> np.ndarray:
        """Returns the one m/z array of a file that `shares_mz`, float64 [P]."""
        if self._shared_mz is None:
            first, starts = np.array([0]), np.array([0, self.points[0]])
            mz = self._checked(self._mz, first, starts, "m/z")
            self._check_sorted(mz, first, starts)
            self._shared_mz = mz
        return self._shared_mz

    def packed(
        self, indices: np.ndarray | None = None, points: int = BLOCK_POINTS
    ) -> Iterator[Block]:
        """Yields the spectra `indices` (all by default) in blocks of about `points` points."""
        return packed_blocks(self, indices, points)

    def tic(self) -> np.ndarray:
        """Returns each spectrum's total ion count over all its points, float64 [n]."""
        sums = [block.per_spectrum(block.intensity) for block in self.packed()]
        return np.concatenate(sums)

    @property
    def mz_range(self) -> tuple[float, float]:
        """The least and greatest m/z of any spectrum; reads all m/z arrays once."""
        if self._mz_range is None:
            self._mz_range = self._find_mz_range()
        return self._mz_range

    def _find_mz_range(self) -> tuple[float, float]:
        low, high = np.inf, -np.inf
        if self.shares_mz:
            mz = self.shared_mz()
            low, high = (mz[0], mz[-1]) if len(mz) else (low, high)
        else:
            for block in self.packed():
                if len(block.mz):
                    low, high = min(low, block.mz.min()), max(high, block.mz.max())
        if not np.isfinite(low):
            raise InputError(self.path, "m/z", "every spectrum is empty")
        return float(low), float(high)

    def verify_checksum(self, *, recheck: bool = False) -> str | None:
        """Compares the .ibd with the checksum the XML states; reads the whole file.

        That a large file agreed is recorded beside it, and then it need not be read again.

        Args:
            recheck: Reads the file whatever is recorded.

        Returns:
            The name of the checksum that agreed, or None where none is stated.

        Raises:
            InputError: it differs.
        """
        options = {"cached": self._cached, "recheck": recheck}
        agreed = imzml_checksum.verify(self.path, self.ibd_path, self._checksums, **options)
        name, self.checksum_recorded = agreed
        return name

    def _checked(self, table: ArrayTable, indices, starts, name: str) -> np.ndarray:
        """Reads arrays end to end as float64 [P]."""
        pairs = zip(self.numbers[indices], indices, strict=True)
        views = [self._array(table, int(i), int(index)) for i, index in pairs]
        values = np.concatenate(views, dtype=np.float64) if views else np.zeros(0)
        where = lambda i: self.where(int(indices[i]))  # noqa: E731
        imzml_values.check_values(values, starts, name, self.path, where)
        return values

    def _check_sorted(self, mz: np.ndarray, indices, starts) -> None:
        where = lambda i: self.where(int(indices[i]))  # noqa: E731
        imzml_values.check_sorted(mz, starts, self.path, where)

    def _array(self, table: ArrayTable, i: int, index: int) -> np.ndarray:
        length, offset, number = int(table.length[i]), int(table.offset[i]), int(table.format[i])
        dtype = table.dtypes[number]
        if length == 0:
            return np.zeros(0, dtype)
        if not table.zlib[number]:
            return np.frombuffer(self._file.data, dtype, length, offset)
        packed = self._file.data[offset : offset + int(table.packed_size[i])]
        return np.frombuffer(self._unpack(packed, length * dtype.itemsize, index), dtype)

    def _unpack(self, packed: bytes, expected: int, index: int) -> bytes:
        """Decodes zlib, never to more than is declared, and to the end, where its checksum is."""
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(packed, expected + 1)
        except zlib.error as error:
            raise InputError(self.path, self.where(index), f"zlib: {error}") from error
        if len(plain) == expected and stream.eof:
            return plain
        held = f"more than {expected}" if len(plain) > expected else len(plain)
        why = f"the compressed array holds {held} bytes, {expected} were declared"
        if len(plain) <= expected and not stream.eof:
            why = "the compressed array is cut off"
        raise InputError(self.path, self.where(index), why)

    def where(self, index: int) -> str:
        """Names a spectrum by its number and its position, both as in the file."""
        row, column = self.coordinates[index]
        x, y = column + self.origin_px[0], row + self.origin_px[1]
        return f"spectrum {int(self.numbers[index]) + 1} (x {x}, y {y})"


def imzml_files(path: str | os.PathLike) -> tuple[Path, Path]:
    """Returns the .imzML file and the .ibd file beside it, without opening them.

    Raises:
        InputError: there is no .ibd.
    """
    return Path(path), imzml_index.find_ibd(Path(path))


def open_imzml(
    path: str | os.PathLike,
    *,
    allow_uuid_mismatch: bool = False,
    duplicates: str = "refuse",
    index_cache: str = "auto",
) -> Imzml:
    """Opens an imzML pair and checks everything that can be checked without reading the spectra.

    Args:
        path: The .imzML file; its .ibd is found beside it.
        allow_uuid_mismatch: Reads on where the two files' UUIDs differ, and records a warning.
        duplicates: What to do with several spectra at one position: "refuse", keep the "first",
            or "sum" them (in images; they stay apart as spectra).
        index_cache: "auto": what XML above 32 MiB says, and that an .ibd above 128 MiB agreed with
            its checksum, is kept in small hidden files beside it (see `imzml_cache`,
            `imzml_checksum`); "off": nothing is kept or taken.

    Raises:
        InputError: what is wrong, with the spectrum where it applies.
    """
    given = {"duplicates": (duplicates, DUPLICATES), "index_cache": (index_cache, INDEX_CACHES)}
    for name, (value, known) in given.items():
        if value not in known:
            raise InputError(name, "", f"is {value!r}", f"one of {', '.join(known)}")
    return Imzml(
        path,
        allow_uuid_mismatch=allow_uuid_mismatch,
        duplicates=duplicates,
        index_cache=index_cache,
    )
