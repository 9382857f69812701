"""Compares an .ibd with the checksum that its imzML states, and remembers that it agreed.

The record of NAME.imzML is `.NAME.imzML.checksum.json`, kept for large files only. It holds for the
very file that was read: a copy, even one with the same times, is compared again. What it cannot
notice is a disk that decays in place; `recheck` reads the file whatever the record says.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json, write_json
from msi2he_jax.msi.imzml_cache import is_quiet

_FORMAT = 1
_LEAST_BYTES = 1 << 27  # Less is read in a few tenths of a second.


def checksum_path(path: Path) -> Path:
    """Returns where it is recorded that the .ibd of an imzML file was found to agree."""
    return path.with_name(f".{path.name}.checksum.json")


def verify(
    path: Path, ibd: Path, stated: dict[str, str], *, cached: bool, recheck: bool
) -> tuple[str | None, str | None]:
    """Compares an .ibd with the strongest checksum that is stated.

    Args:
        path: The .imzML file.
        ibd: The .ibd file.
        stated: Hexadecimal digests by hashlib's name.
        cached: Uses and keeps a record.
        recheck: Reads the file even if the record says that it agreed.

    Returns:
        The name of the checksum that agreed, None where none is stated; and when it was recorded to
        agree (ISO 8601), None where the file was read just now.

    Raises:
        InputError: it differs.
    """
    name = next((each for each in ("sha256", "sha1", "md5") if each in stated), None)
    if name is None:
        return None, None
    cached = cached and ibd.stat().st_size >= _LEAST_BYTES
    key, quiet = _key(ibd, name, stated[name]), is_quiet(ibd)
    if cached and not recheck and (when := _recorded(path, key)):
        return name, when
    found = _digest(ibd, name)
    if found != stated[name]:
        why = f"is {found}, the imzML states {stated[name]}"
        raise InputError(ibd, name.upper(), why, "the file is damaged")
    if cached and quiet and _key(ibd, name, stated[name]) == key:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError, InputError):
            write_json(checksum_path(path), key | {"agreed": now})
    return name, None


def _digest(ibd: Path, name: str) -> str:
    with open(ibd, "rb") as handle:
        return hashlib.file_digest(handle, name).hexdigest()


def _key(ibd: Path, name: str, stated: str) -> dict[str, Any]:
    """Which file, and which checksum."""
    found = ibd.stat()
    with open(ibd, "rb") as handle:
        uuid = handle.read(16).hex()
    times = [found.st_mtime_ns, found.st_ctime_ns]
    place = {"size": found.st_size, "times_ns": times, "inode": found.st_ino, "uuid": uuid}
    return {"format": _FORMAT, "checksum": name, "value": stated, **place}


def _recorded(path: Path, key: dict[str, Any]) -> str | None:
    """Returns when the file of this key was found to agree, or None."""
    try:
        record = read_json(checksum_path(path))
        when = record.pop("agreed")
        datetime.datetime.fromisoformat(when)
    except (InputError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return when if record == key else None
