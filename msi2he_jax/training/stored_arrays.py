"""The arrays of a checkpoint, read from where Orbax puts them without believing what stands there.

Orbax keeps arrays as zarr in an OCDBT database. Whoever can write to the folder can renew its
hashes too, so nothing in it says how it is read: the driver, the codec and the way into the folder
are fixed here, and shapes are known, and can be compared, before memory is asked for.
"""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import HASHES, LIMITS, check_hashes
from msi2he_jax.json_schema import COUNT, check_json, choice
from msi2he_jax.plain_json import json_text, json_value

_DTYPES = {"<f4": np.float32, "<f8": np.float64, "<i4": np.int32, "<u4": np.uint32}
_HEADER = ".zarray"
_HEADER_BYTES = 2**12
# Nodes of the database: a magic number, a length, a version and a codec, then a zstd frame.
_NODE = re.compile(
    rb"\x0c\xdb(?:\x3a\x2a|\x20\xde|\x12\x34).{8}.{0,20}?\x28\xb5\x2f\xfd", re.DOTALL
)
_BLOCKS = 64  # Of at most 128 KiB each: 8 MiB, the largest node that tensorstore writes.
_RLE = 1


def check_files(step: str | os.PathLike) -> None:
    """Checks the files of a step: no links, none that `SHA256SUMS`, if it is there, does not list.

    Args:
        step: Its folder.

    Raises:
        InputError: one is no plain file, is not listed, or differs from its hash; or all together
            are larger than `LIMITS.folder_bytes`.
    """
    step, names, size = Path(step), set(), 0
    for path in sorted(step.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise InputError(path, "", "is a link or a special file, only files belong here")
        names.add(str(path.relative_to(step)))
        size += path.stat().st_size
    if size > LIMITS.folder_bytes:
        why = f"its files have {size} bytes, more than {LIMITS.folder_bytes}"
        raise InputError(step, "", why, f"--limits.folder_bytes={size} allows them")
    listed = check_hashes(step)
    if HASHES in names and (strange := sorted(names - listed - {HASHES})):
        raise InputError(step, strange[0][:80], f"is not listed in {HASHES}", "it was added later")


def describe(folder: str | os.PathLike) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape and dtype of each array of a checkpoint by name; reads no array.

    Args:
        folder: The `state` of a step, whose files are inside it and no links.

    Raises:
        InputError: something there is not what `checkpoint.save` writes, or the arrays together
            have more than `LIMITS.tensor_bytes`.
        ValueError: tensorstore cannot read it.
    """
    folder = Path(folder)
    _check_nodes(folder)
    store = _open(folder)
    keys = {key.decode("utf-8", "replace") for key in store.list().result()}
    found = {
        name: _description(folder, name, store.read(f"{name}/{_HEADER}").result().value)
        for name in sorted(key.removesuffix(f"/{_HEADER}") for key in keys if _HEADER in key)
    }
    ours = {f"{name}/{_HEADER}" for name in found} | {_chunk(*each) for each in found.items()}
    if strange := sorted(keys - ours):
        raise InputError(folder, strange[0][:80], "is no part of a checkpoint")
    total = sum(math.prod(each.shape) * each.dtype.itemsize for each in found.values())
    if total > LIMITS.tensor_bytes:
        why = f"its arrays have {total} bytes, more than {LIMITS.tensor_bytes}"
        raise InputError(folder, "", why, f"--limits.tensor_bytes={total} allows them")
    return found


def read(
    folder: str | os.PathLike, described: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    """Reads the arrays that `describe` found, each `[...]`.

    Raises:
        ValueError: tensorstore cannot read one.
    """
    spec = _spec(Path(folder))
    opened = {
        name: tensorstore.open(
            {"driver": "zarr", "kvstore": {**spec, "path": f"{name}/"}}, open=True, read=True
        )
        for name in described
    }
    arrays = {name: array.result().read() for name, array in opened.items()}
    return {name: np.asarray(array.result()) for name, array in arrays.items()}


def _spec(folder: Path) -> dict[str, Any]:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}


def _open(folder: Path) -> tensorstore.KvStore:
    return tensorstore.KvStore.open(_spec(folder)).result()


def _chunk(name: str, described: jax.ShapeDtypeStruct) -> str:
    """The key of the one chunk of an array."""
    return f"{name}/{'.'.join('0' * len(described.shape)) or '0'}"


def _description(folder: Path, name: str, header: bytes) -> jax.ShapeDtypeStruct:
    """Returns what a `.zarray` says, once it says nothing but shape and dtype that we do not."""
    place = f"{name[:80]}/{_HEADER}"
    if len(header) > _HEADER_BYTES:
        raise InputError(folder, place, f"has {len(header)} bytes")
    said = json_value(header.decode("utf-8"), LIMITS.json_depth)
    check_json(folder, said, {"shape": [COUNT], "dtype": choice(*_DTYPES)}, place)
    for key, value in _header(said["shape"], said["dtype"]).items():
        if key not in said or repr(said[key]) != repr(value):  # 2.0 is not 2, nor is NaN null.
            raise InputError(folder, f"{place}.{key}", f"is not {json_text(value)}")
    return jax.ShapeDtypeStruct(tuple(said["shape"]), _DTYPES[said["dtype"]])


def _header(shape: list[int], dtype: str) -> dict[str, Any]:
    """Returns the `.zarray` that Orbax writes."""
    return {
        "chunks": shape,
        "compressor": {"id": "zstd", "level": 1},
        "dimension_separator": ".",
        "dtype": dtype,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "shape": shape,
        "zarr_format": 2,
    }


def _check_nodes(folder: Path) -> None:
    """Refuses nodes of the database that tensorstore would unpack to more than it ever writes.

    It unpacks a node whole: 40 kB can become 1 GB. Chunks of arrays it unpacks as far as asked.
    """
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with open(path, "rb") as handle:
            if not path.stat().st_size:
                continue
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for node in _NODE.finditer(content):
                    if _blocks(content, node.end()) > _BLOCKS:
                        raise InputError(path, "", "unpacks to more than a checkpoint has")


def _blocks(content: mmap.mmap, place: int) -> int:
    """Counts the blocks of a zstd frame, as far as the limit.

    Args:
        content: The file.
        place: Where the frame's magic number ends.

    Source: RFC 8878, sections 3.1.1.1 and 3.1.1.2.
    """
    flags = content[place] if place < len(content) else 0
    alone = flags >> 5 & 1
    place += 1 + (1 - alone) + (0, 1, 2, 4)[flags & 3] + (alone, 2, 4, 8)[flags >> 6]
    count = last = 0
    while not last and count <= _BLOCKS and place + 3 <= len(content):
        block = int.from_bytes(content[place : place + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        place += 3 + (1 if kind == _RLE else size)
        count += 1
    return count
