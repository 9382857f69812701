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
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.plain_json import json_text, json_value


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
        json_depth: Deepest nesting of lists and mappings in JSON.
        npz_bytes: Largest content of an .npz file.
        folder_bytes: Largest step of a run's own checkpoints, all its files together.
        tensor_bytes: Most bytes of all tensors of a checkpoint from elsewhere.
        pickle_bytes: Most bytes of what names them.
        pickle_steps: Most instructions of what names them.
        pickle_depth: Deepest nesting of tuples in what names them.
    """

    image_pixels: int = 1_000_000_000
    image_ratio: int = 250
    spectrum_points: int = 50_000_000
    grid_pixels: int = 100_000_000
    xml_bytes: int = 64 * 2**30
    xml_depth: int = 100
    text_bytes: int = 32 * 2**20
    json_depth: int = 100
    npz_bytes: int = 256 * 2**20
    folder_bytes: int = 16 * 2**30
    tensor_bytes: int = 4 * 2**30
    pickle_bytes: int = 32 * 2**20
    pickle_steps: int = 500_000
    pickle_depth: int = 8


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
        os.environ[_VARIABLE] = json_text(LIMITS)
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
        InputError: the resolved path is not under `root`, or no file can have it.
    """
    if "\0" in str(path):
        raise InputError(root, "", f"{str(path)!r} is no file's name")
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


def refuse_filled(path: str | os.PathLike, *, overwrite: bool) -> None:
    """Refuses an output folder that is a file, or holds something already.

    Raises:
        InputError: it is a file; or it is not empty and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(path, "", "is a file, a folder was expected")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(path, "", "is not empty", "name another folder, or pass --overwrite")


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it there on success, removes it on error.

    Raises:
        InputError: `path` holds something already and `overwrite` is false, or cannot be written.
    """
    path = Path(path)
    refuse_filled(path, overwrite=overwrite)
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


def replace_folder(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Puts a finished folder of the same disk where `path` is; what stood there goes.

    Raises:
        InputError: the disk fails; both are as they were.
    """
    for entry in Path(source).rglob("*"):
        _sync(entry)
    try:
        _swap_in(Path(source), Path(path))
    except OSError as error:
        raise disk_error(path, error) or error from error


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
    return tempfile.mkdtemp(dir=path.parent, prefix=_staging_prefix(path))


def _staging_prefix(path: Path) -> str:
    """With the random part, which has no dot, a name that no neighbour's staging can have."""
    return f".{path.name}.tmp-"


def remove_staging(path: str | os.PathLike) -> None:
    """Removes what a process that was killed left beside `path`, where its `atomic_folder` was.

    For who knows that no other process writes there, as by `locking.held`. Where the process was
    killed between the two renames, what stood at `path` before comes back.
    """
    path = Path(path)
    pattern = re.escape(_staging_prefix(path)) + r"\w+(\.old)?"
    for entry in sorted(path.parent.iterdir() if path.parent.is_dir() else ()):
        if not (re.fullmatch(pattern, entry.name) and entry.is_dir()):
            continue
        if entry.suffix == ".old" and not path.exists():
            os.replace(entry, path)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def _or_input_error(path: Path, action):
    try:
        return action()
    except OSError as error:
        why = f"cannot be written: {error.strerror or error}"
        raise InputError(path, "", why, "choose a writable place") from error


def _swap_in(temporary: Path, path: Path) -> None:
    """Renames `temporary` to `path`; what stood there goes only once the new one is in place."""
    os.chmod(temporary, 0o755)
    old = path.with_name(f"{_staging_prefix(path)}{secrets.token_hex(4)}.old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
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


def check_hashes(folder: str | os.PathLike, chosen: Callable[[str], bool] = bool) -> set[str]:
    """Compares the files below `folder` with its `SHA256SUMS`; a folder without one passes.

    Args:
        folder: Where the list is.
        chosen: Tells by its name whether a file is compared. Files that are not listed are not.

    Returns:
        The names that are listed.

    Raises:
        InputError: a file is missing or differs, or the list is damaged.
    """
    folder, names = Path(folder), set()
    if not (folder / HASHES).exists():
        return names
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
        names.add(match[2])
    return names


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; see `json_text`."""
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


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
        InputError: absent, too large, too deep, not JSON (names the line), a number that is too
            large, or a key that stands twice in one object: readers differ in which of the two
            they take. `NaN` and `Infinity`, which are no JSON, are read as floats.
    """
    text = read_text(path)
    try:
        return json_value(text, LIMITS.json_depth)
    except ValueError as error:
        raise InputError(path, "", f"is not valid JSON: {error}") from error
