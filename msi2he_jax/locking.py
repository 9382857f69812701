"""One process at a time where results are written: a lock file that says who is at work.

A file and not the kernel's flock, since results often lie on network file systems. There flock may
be refused (Lustre), or bind only the processes of one computer (NFS with `local_lock`), and it
never says who holds it. A hard link is made or refused as a whole, on NFS too. The price: a process
that is killed leaves its file. On the same computer that is noticed, and the next one takes over; a
file from another computer is never removed, but named in the error.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, disk_error, remove_staging
from msi2he_jax.plain_json import json_text, json_value

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_TRIES, _PAUSE_S = 100, 0.02  # while others take, leave or clear the same lock at this moment


@contextlib.contextmanager
def held(target: str | os.PathLike, verb: str, *, inside: bool = False) -> Iterator[None]:
    """Keeps other processes from writing to the same place.

    What a killed process left half written beside `target` is removed first.

    Args:
        target: The file or folder that is written. Its folder is made if need be, and removed
            again where nothing was written.
        verb: What is done there, for the error that another process gets.
        inside: The lock lies in the folder `target`, as `.VERB.lock`, and not beside it, as
            `.NAME.lock`: for a folder that is added to, not replaced.

    Raises:
        InputError: another process holds the lock, or it cannot be written.
    """
    target = Path(os.path.abspath(target))
    lock = target / f".{verb}.lock" if inside else target.with_name(f".{target.name}.lock")
    with _folder(lock.parent, target), _owned(lock, target, verb):
        if not inside:
            remove_staging(target)
        yield


@contextlib.contextmanager
def _folder(folder: Path, target: Path) -> Iterator[None]:
    """Makes a folder and its parents; removes those it made that are empty afterwards."""
    with _said(target):
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


@contextlib.contextmanager
def _owned(lock: Path, target: Path, verb: str) -> Iterator[None]:
    mine = json_text({"verb": verb, **_here(), **_process()}) + "\n"
    _take(lock, mine, target)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if lock.read_text(encoding="utf-8") == mine:  # A user may have deleted it.
                lock.unlink()


def _take(lock: Path, mine: str, target: Path) -> None:
    for _ in range(_TRIES):
        with _said(target):
            if _create(lock, mine):
                return
        holder = _holder(lock)
        if holder is not None and not _is_gone(holder):
            break
        _clear(lock, target)
        time.sleep(_PAUSE_S)
    raise _refusal(lock, holder or {}, target)


def _create(lock: Path, content: str) -> bool:
    """Makes the file with its content in one step; returns False where there is one already."""
    handle, name = tempfile.mkstemp(dir=lock.parent, prefix=f"{lock.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.link(name, lock)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_in_two_steps(lock, content)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return True


def _create_in_two_steps(lock: Path, content: str) -> bool:
    """The same for a file system without hard links; a kill in between leaves it empty."""
    try:
        with open(lock, "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _clear(lock: Path, target: Path) -> None:
    """Removes the file of a process that is gone.

    Under a lock of its own: of two that saw the same file, the second would remove the first's.
    """
    with (
        contextlib.suppress(InputError, OSError),
        _owned(lock.with_name(f"{lock.name}.clearing"), target, "clearing"),
    ):
        holder = _holder(lock)
        if holder is not None and _is_gone(holder):
            lock.unlink()


def _holder(lock: Path) -> dict[str, Any] | None:
    """What a lock says of its holder, None where there is no lock, {} where it is damaged."""
    try:
        found = json_value(lock.read_text(encoding="utf-8"), LIMITS.json_depth)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(lock: Path, holder: dict[str, Any], target: Path) -> InputError:
    hint = f"wait for it; if nothing is at work there any more, delete {lock}"
    if "verb" not in holder:
        return InputError(target, "", "is locked by another process", hint)
    who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
    why = f"another {holder['verb']} is at work there, {who}"
    if _is_here(holder):
        hint = "wait for it, or name another place"
    return InputError(target, "", why, hint)


@functools.cache
def _here() -> dict[str, Any]:
    """What tells this computer from others, and its processes from those of other containers."""
    return {
        "host": socket.gethostname(),
        "machine": _text("/etc/machine-id"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "container": _link("/proc/self/ns/pid"),
    }


def _process() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "start": _start_of(os.getpid()), "since": since}


def _is_here(holder: dict[str, Any]) -> bool:
    """Returns whether the holder's process, if it lives, can be seen from this one."""
    return all(holder.get(name) == value for name, value in _here().items())


def _is_gone(holder: dict[str, Any]) -> bool:
    """Returns whether the holder is known to have ended."""
    computer = {name: holder.get(name) for name in ("host", "machine")}
    if not computer.items() <= _here().items():
        return False
    if holder.get("boot") != _here()["boot"]:  # The computer was started again since.
        return True
    return _is_here(holder) and _start_of(holder.get("pid")) != holder.get("start")


def _start_of(pid: Any) -> str | None:
    """When a process began, in the kernel's ticks, None where it has ended.

    The number of a process is given to another one some day; both together are not.
    """
    try:
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, ValueError, TypeError):
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@contextlib.contextmanager
def _said(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"cannot be written: {error.strerror or error}"
        full = disk_error(target, error)
        raise full or InputError(target, "", why, "choose a writable place") from error
