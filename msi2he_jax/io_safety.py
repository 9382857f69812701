"""Opening what users hand in, and writing so that a file is either whole or absent."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.errors import InputError


@dataclasses.dataclass
class Limits:
    """Bounds on what is read, so that a damaged header cannot exhaust memory.

    Attributes:
        image_pixels: Most pixels of a decoded image.
        image_ratio: Most bytes of an image per byte of its file, once it is large.
        spectrum_points: Most points of one spectrum.
        grid_pixels: Most pixels (rows times columns) of an MSI grid.
        xml_bytes: Largest imzML file.
        xml_depth: Deepest nesting of XML elements.
        text_bytes: Largest CSV, JSON or GeoJSON file.
        npz_bytes: Largest content of an .npz file.
        tensor_bytes: Largest tensor of a checkpoint from elsewhere.
    """

    image_pixels: int = 1_000_000_000
    image_ratio: int = 250
    spectrum_points: int = 50_000_000
    grid_pixels: int = 100_000_000
    xml_bytes: int = 64 * 2**30
    xml_depth: int = 100
    text_bytes: int = 32 * 2**20
    npz_bytes: int = 256 * 2**20
    tensor_bytes: int = 4 * 2**30


HASHES = "SHA256SUMS"
_VARIABLE = "MSI2HE_LIMITS"  # Tells worker processes of limits that were changed.
LIMITS = Limits(**json.loads(os.environ.get(_VARIABLE, "{}")))
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


@contextlib.contextmanager
def changed_limits(**changes: int) -> Iterator[None]:
    """Changes fields of LIMITS for a while, in this process and in those it starts."""
    before, variable = dataclasses.asdict(LIMITS), os.environ.get(_VARIABLE)
    vars(LIMITS).update(changes)
    if changes:
        os.environ[_VARIABLE] = json.dumps(dataclasses.asdict(LIMITS))
    try:
        yield
    finally:
        vars(LIMITS).update(before)
        if changes:
            os.environ.pop(_VARIABLE)
            os.environ.update({_VARIABLE: variable} if variable else {})


def existing_file(path: str | os.PathLike, field: str = "") -> Path:
    """Returns `path` if it names a readable regular file.

    Raises:
        InputError: absent, a folder or a special file, or not readable.
    """
    path = Path(path)
    if not _exists(path, field):
        raise InputError(path, field, "no such file", _nearest_sibling(path))
    if not path.is_file():
        raise InputError(path, field, "is not a regular file")
    if not os.access(path, os.R_OK):
        raise InputError(path, field, "cannot be read", "check its permissions")
    return path


def _exists(path: Path, field: str) -> bool:
    try:
        return path.exists()
    except OSError as error:  # as of a name that is too long
        raise InputError(str(path)[:200], field, f"no such file: {error.strerror}") from error


def existing_folder(path: str | os.PathLike, field: str = "") -> Path:
    """Returns `path` if it names a folder.

    Raises:
        InputError: absent, or not a folder.
    """
    path = Path(path)
    if not _exists(path, field):
        raise InputError(path, field, "no such folder", _nearest_sibling(path))
    if not path.is_dir():
        raise InputError(path, field, "is not a folder")
    return path


def inside(root: str | os.PathLike, path: str | os.PathLike) -> Path:
    """Resolves `path` against `root` and refuses one that leaves it.

    Raises:
        InputError: the resolved path is not under `root`.
    """
    resolved = (Path(root) / path).resolve()
    if not resolved.is_relative_to(Path(root).resolve()):
        raise InputError(path, "", f"leads out of {root}", "keep the file under that folder")
    return resolved


def _nearest_sibling(path: Path) -> str:
    """Names an existing entry of the same folder that is spelt almost alike."""
    import difflib

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"the folder {path.parent} does not exist either"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {close[0]}?" if close else ""


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it there on success, removes it on error.

    Raises:
        InputError: the folder of `path` cannot be made or written.
    """
    path = Path(path)
    handle, name = _or_input_error(path, lambda: _temporary_file(path))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise disk_error(path, error) or error from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it there on success, removes it on error.

    Raises:
        InputError: `path` holds something already and `overwrite` is false, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(path, "", "is a file, a folder was expected")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(path, "", "is not empty", "name another folder, or pass --overwrite")
    temporary = Path(_or_input_error(path, lambda: _temporary_folder(path)))
    try:
        yield temporary
        for entry in temporary.rglob("*"):
            _sync(entry)
        _swap_in(temporary, path)
    except OSError as error:
        raise disk_error(path, error) or error from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def disk_error(path: str | os.PathLike, error: OSError) -> InputError | None:
    """Returns what to raise where the disk of `path` is full or fails; None for other faults."""
    if error.errno not in FULL:
        return None
    why = f"cannot be written: {error.strerror}"
    return InputError(path, "", why, "what was there is kept; make room and run again")


def _temporary_file(path: Path) -> tuple[int, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)


def _temporary_folder(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")


def _or_input_error(path: Path, action):
    try:
        return action()
    except OSError as error:
        why = f"cannot be written: {error.strerror or error}"
        raise InputError(path, "", why, "choose a writable place") from error


def _swap_in(temporary: Path, path: Path) -> None:
    """Renames `temporary` to `path`; what stood there goes only once the new one is in place."""
    os.chmod(temporary, 0o755)
    old = temporary.with_name(temporary.name + ".old")
    if path.exists():
        os.replace(path, old)
    os.replace(temporary, path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flushes a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike) -> str:
    """Returns the hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_hashes(folder: str | os.PathLike) -> None:
    """Writes `SHA256SUMS`, one line per file below `folder`, as `sha256sum -c` reads it."""
    folder = Path(folder)
    lines = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in _listed(folder)]
    with atomic_file(folder / HASHES) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def check_hashes(folder: str | os.PathLike, chosen: Callable[[str], bool] = bool) -> None:
    """Compares the files below `folder` with its `SHA256SUMS`; a folder without one passes.

    Args:
        folder: Where the list is.
        chosen: Tells by its name whether a file is compared. Files that are not listed are not.

    Raises:
        InputError: a file is missing or differs, or the list is damaged.
    """
    folder = Path(folder)
    if not (folder / HASHES).exists():
        return
    for line in read_text(folder / HASHES).splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if not match:
            raise InputError(
                folder / HASHES, "", f"{line[:80]!r} is no line of it", "it is damaged"
            )
        path = inside(folder, match[2])
        if chosen(match[2]) and not path.is_file():
            raise InputError(path, "", "is missing", "copy the whole folder")
        if chosen(match[2]) and sha256(path) != match[1]:
            raise InputError(path, "", "differs from its SHA-256", "the file is damaged")


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; numpy scalars and arrays become lists."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=_plain) + "\n", encoding="utf-8")


def read_text(path: str | os.PathLike, field: str = "") -> str:
    """Reads a text file, UTF-8 with or without a byte order mark.

    Raises:
        InputError: absent, too large, or not UTF-8.
    """
    path = existing_file(path, field)
    if path.stat().st_size > LIMITS.text_bytes:
        hint = "--limits.text_bytes=N allows more"
        raise InputError(path, field, f"is larger than {LIMITS.text_bytes} bytes", hint)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, field, "is not UTF-8 text", "save it as UTF-8") from error


@contextlib.contextmanager
def csv_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns what `csv` raises, as of an endless cell, into an InputError about `path`."""
    try:
        yield
    except csv.Error as error:
        raise InputError(path, "", f"is not CSV: {error}") from error


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: absent, too large, or not JSON; names the line.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(path, "", f"is not valid JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Turns what `json` does not know into what it does."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return str(value)
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
