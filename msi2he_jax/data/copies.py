"""Finds files of equal content, without reading those that are the only ones of their kind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from msi2he_jax.io_safety import sha256

_PIECES, _PIECE_BYTES = 5, 1 << 16


def content_keys(paths: Iterable[Path]) -> dict[Path, str]:
    """Gives each file a key; the keys of two files are equal where their contents are.

    Files are told apart by their size, then by pieces of them. Only those that are equal so far
    are read as a whole, with SHA-256.

    Args:
        paths: Files that exist; of several names of one file, all are kept.

    Returns:
        The key of each path.
    """
    classes = [list(dict.fromkeys(paths))]
    for tell in (os.path.getsize, _pieces, sha256):
        classes = [part for each in classes for part in _parted(each, tell)]
    return {path: str(number) for number, each in enumerate(classes) for path in each}


def _parted(paths: list[Path], tell: Callable) -> list[list[Path]]:
    """Divides files by what `tell` says of them; names of one file need no look at it."""
    by_file: dict[Path, list[Path]] = {}
    for path in paths:
        by_file.setdefault(path.resolve(), []).append(path)
    if len(by_file) == 1:
        return [paths]
    parts: dict = {}
    for place, names in by_file.items():
        parts.setdefault(tell(place), []).extend(names)
    return list(parts.values())


def _pieces(path: Path) -> str:
    """Hashes some pieces, from start to end of a file."""
    digest, last = hashlib.sha256(), max(0, path.stat().st_size - _PIECE_BYTES)
    with open(path, "rb") as handle:
        for number in range(_PIECES):
            handle.seek(last * number // (_PIECES - 1))
            digest.update(handle.read(_PIECE_BYTES))
    return digest.hexdigest()
