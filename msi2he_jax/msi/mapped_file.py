"""Maps files into memory and gives back the pages that were read.

The system keeps such pages as long as memory is free, and counts them as this process's: without
giving them back, a process that reads a file of 100 GB once seems to need 100 GB.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from msi2he_jax.errors import InputError

_KEPT_BYTES = 1 << 25
_PAGES = 2 * mmap.PAGESIZE  # What the two arrays of one spectrum touch at least.


class MappedFile:
    """A file open for reading as if it were memory.

    Attributes:
        path: The file.
        data: Its bytes.
    """

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as handle:
            self.data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._touched = 0

    def __len__(self) -> int:
        return len(self.data)

    def check_size(self) -> None:
        """Raises InputError if the file was cut since it was opened: reading on would crash."""
        size = self.data.size()
        if size < len(self.data):
            why = f"was cut from {len(self.data)} to {size} bytes while it was read"
            raise InputError(self.path, "", why, "another program writes it; copy it and try again")

    def touched(self, size: int, places: int = 1) -> None:
        """Says that `size` bytes were copied from `places` places; now and then gives pages back.

        No view of `data` is harmed: its pages are read again when they are needed.
        """
        self._touched += size + _PAGES * places
        if self._touched > _KEPT_BYTES:
            self._touched = 0
            if hasattr(self.data, "madvise"):  # Windows has none.
                self.data.madvise(mmap.MADV_DONTNEED)
