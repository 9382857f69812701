"""Mutants of PyTorch checkpoints: each must be refused by InputError, or read, within a second.

The second is of the processor, so that other work does not count. Files are changed at three
levels: bytes of the file, instructions of the pickle, entries of the zip.
No tensor that is read may be larger than the file.
"""

from __future__ import annotations

import collections
import io
import pathlib
import pickletools
import random
import resource
import struct
import time
import zipfile
from collections.abc import Callable

from mutants import LIMIT_S, _keep, mutate

LIMIT_MB = 200  # Memory that all mutants together may need above what was needed before.
ROOT = "archive/"
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
WHOLE = (0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**63 - 1, 2**64, 10**30, 60_000)
WORDS = (b"cos\nsystem\n", b"cbuiltins\neval\n", b"ccollections\nOrderedDict\n")
WORDS += (b"ctorch\nBFloat16Storage\n", b"ctorch._utils\n_rebuild_parameter\n", b"q\x00h\x00")


def subjects(folder: pathlib.Path) -> list[bytes]:
    """Returns checkpoints: one of ours, and one with a view, a parameter and attributes."""
    import numpy as np

    from msi2he_jax.interop.torch_file import write_state_dict

    rng = np.random.default_rng(0)
    tensors = {
        "model.0.weight": rng.normal(size=(2, 3, 2, 2)).astype(np.float32),
        "model.1.running_var": rng.normal(size=5),
        "model.1.num_batches_tracked": np.array(7, np.int64),
    }
    write_state_dict(folder / "a.pth", tensors)
    ours = (folder / "a.pth").read_bytes()
    members = _members(ours)
    pickled = members[f"{ROOT}data.pkl"]
    parameter = b"X\x01\x00\x00\x00pctorch._utils\n_rebuild_parameter\n(" + _view() + b"\x89}tRs"
    members[f"{ROOT}data.pkl"] = pickled[:-1] + parameter + b"}X\x01\x00\x00\x00vK\x01sb."
    return [ours, _zipped(members)]


def _view() -> bytes:
    """A tensor of shape (2, 3) that steps through the first storage."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    storage += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x18tQ"
    place = b"K\x02K\x02K\x03\x86K\x01K\x06\x86\x89}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + b"tR"


def _members(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def of_instructions(raw: bytes, rng: random.Random) -> bytes:
    """Changes one or two instructions of the pickle."""
    members = _members(raw)
    parts = instructions(members[f"{ROOT}data.pkl"])
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((_drop, _double, _swap, _put, _number, _number, _many, _share))(parts, rng)
    return _zipped(members | {f"{ROOT}data.pkl": b"".join(parts)})


def instructions(pickled: bytes) -> list[bytes]:
    """Cuts a pickle into its instructions."""
    starts = [place for _, _, place in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]


def _place(parts: list, rng) -> int:
    return rng.randrange(len(parts)) if parts else 0


def _drop(parts, rng):
    start = _place(parts, rng)
    del parts[start : start + rng.choice((1, 1, 2, 5))]


def _double(parts, rng):
    start = _place(parts, rng)
    parts[start:start] = parts[start : start + rng.choice((1, 2, 8, 20))]


def _swap(parts, rng):
    if parts:
        a, b = _place(parts, rng), _place(parts, rng)
        parts[a], parts[b] = parts[b], parts[a]


def _put(parts, rng):
    what = rng.choice((rng.choice(OPCODES), rng.choice(WORDS), whole(rng.choice(WHOLE))))
    parts.insert(_place(parts, rng), what)


def whole(number: int) -> bytes:
    """The instruction that puts a whole number on the stack."""
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _number(parts, rng):
    numbers = [i for i, part in enumerate(parts) if part[:1] in (b"K", b"M", b"J", b"\x8a")]
    if numbers:
        parts[rng.choice(numbers)] = whole(rng.choice(WHOLE))


def _many(parts, rng):
    """Repeats one instruction, some that pack or mark among them."""
    known = (rng.choice(OPCODES), b"\x85", b"(", b"N", b"}", b")", b"\x86", b"t")
    parts.insert(_place(parts, rng), rng.choice(known) * rng.choice((3, 40, 3000)))


def _share(parts, rng):
    """Packs a tuple twice into the next, again and again: 2 to the power of that many parts."""
    parts.insert(_place(parts, rng), b")" + b"q\x00h\x00\x86" * rng.choice((4, 60)))


def of_entries(raw: bytes, rng: random.Random) -> bytes:
    """Changes the zip: its entries, how they are packed, or a field of a header."""
    members = _members(raw)
    name = rng.choice(list(members))
    kinds = (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    changes: tuple[Callable, ...] = (
        lambda: _zipped({k: v for k, v in members.items() if k != name}),
        lambda: _zipped(members | {rng.choice(("data.pkl", "x/data.pkl", "../a")): b"x"}),
        lambda: _zipped(members | {name: mutate(members[name], rng)}),
        lambda: _zipped(members | {name: members[rng.choice(list(members))]}),
        lambda: mutate(_zipped(members, rng.choice(kinds)), rng),
        lambda: _header(raw, rng),
        lambda: _header(raw, rng),
        lambda: _header(raw, rng),
    )
    return rng.choice(changes)()


def _header(raw: bytes, rng: random.Random) -> bytes:
    """Writes another number into a field of a local header, a directory entry or the end."""
    mark = rng.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x01\x02", b"PK\x05\x06"))
    starts = [i for i in range(len(raw)) if raw.startswith(mark, i)]
    changed = bytearray(raw)
    place = rng.choice(starts) + rng.randrange(4, {3: 30, 1: 46, 5: 22}[mark[2]])
    size = rng.choice(("<B", "<H", "<I"))
    number = rng.choice((0, 1, 8, 12, 14, 99, 255, 65_535, 2**31, 2**32 - 1))
    number %= 256 ** struct.calcsize(size)
    changed[place : place + struct.calcsize(size)] = struct.pack(size, number)
    return bytes(changed)


LEVELS = {"bytes": mutate, "instructions": of_instructions, "entries": of_entries}


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Reads `count` mutants; returns what became of them, and every fault found."""
    rng, result = random.Random(seed), collections.Counter()
    known = [(raw, _read(folder, raw)[1]) for raw in subjects(folder)]
    before, faults, slowest = _most_mb(), [], 0.0
    for number in range(count):
        raw, truth = rng.choice(known)
        level = rng.choice(list(LEVELS))
        changed = LEVELS[level](raw, rng)
        begin = time.process_time()
        what, found = _read(folder, changed)
        took = time.process_time() - begin
        what = "unchanged" if what == "read otherwise" and found == truth else what
        slowest = max(slowest, took)
        if what not in ("refused", "unchanged", "read otherwise") or took > LIMIT_S:
            faults.append((number, level, what if took <= LIMIT_S else "slow"))
            _keep(folder, number, {"a.pth": changed})
        result[what] += 1
    more = _most_mb() - before
    if more > LIMIT_MB:
        faults.append((count, "memory", f"{more:.0f} MB"))
    figures = {"slowest_s": round(slowest, 3), "more_memory_mb": round(more, 1)}
    return {"mutants": count, **result, **figures, "faults": faults}


def _read(folder: pathlib.Path, raw: bytes) -> tuple[str, object]:
    """Says what became of one file, and what was read."""
    from msi2he_jax.errors import InputError
    from msi2he_jax.interop.torch_file import read_state_dict

    (folder / "a.pth").write_bytes(raw)
    try:
        found = read_state_dict(folder / "a.pth")
    except InputError as error:
        good = "\n" not in str(error) and len(str(error)) < 5000
        return ("refused" if good else "a message of several lines"), None
    except Exception as error:
        return type(error).__name__, None
    if any(array.nbytes > len(raw) for array in found.values()):
        return "more than the file holds", None
    return "read otherwise", {name: (x.dtype, x.shape, x.tobytes()) for name, x in found.items()}


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
