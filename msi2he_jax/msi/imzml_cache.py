"""Keeps what large XML says in a small file beside it, so that it is parsed once.

The index of NAME.imzML is `.NAME.imzML.index.npz`. It is taken only while size, time of change and
UUID of both files are those it was made from and its own SHA-256 agrees, and it holds nothing but
what the parser read: all checks against the .ibd are made anew. Whatever else is found there, or a
folder that cannot be written, only means that the XML is parsed again. It may be deleted any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
import zipfile
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file
from msi2he_jax.msi.imzml_params import ArrayFormat, Param, XmlIndex
from msi2he_jax.msi.imzml_template import DTYPE_NAMES, FIELDS
from msi2he_jax.msi.imzml_xml import read_xml
from msi2he_jax.plain_json import json_text

CHOICES = ("auto", "off")
_FORMAT = 2
_LEAST_BYTES = 1 << 25  # Less is parsed in a tenth of a second.
_END_BYTES = 1 << 16  # The XML's head holds its UUID.
_QUIET_S = 2.0  # A file may change again within the clock's tick, and keep its time.
_MEMBERS = ("table", "others", "text", "sha256")


def cached_index(path: Path, ibd: Path, cache: str = "auto") -> XmlIndex:
    """Returns what the XML says: from its index where there is a good one, else by parsing.

    Args:
        path: The .imzML file.
        ibd: The .ibd file.
        cache: "auto": an index is used, and made for XML above 32 MiB; "off": neither.

    Raises:
        InputError: as `read_xml`.
    """
    if cache == "off" or path.stat().st_size < _LEAST_BYTES:
        return read_xml(path)
    key, quiet = _key(path, ibd), is_quiet(path, ibd)
    found = _load(index_path(path), key)
    if found is None:
        found = read_xml(path)
        if quiet and _key(path, ibd) == key:
            _store(index_path(path), key, found)
    return found


def index_path(path: Path) -> Path:
    """Returns where the index of an imzML file is kept."""
    return path.with_name(f".{path.name}.index.npz")


def is_quiet(*paths: Path) -> bool:
    """Tells whether files were last changed so long ago that another change would show."""
    now = time.time()
    return all(now - path.stat().st_mtime > _QUIET_S for path in paths)


def _key(path: Path, ibd: Path) -> dict:
    """What an index is valid for."""
    with open(path, "rb") as handle:
        size = path.stat().st_size
        ends = handle.read(_END_BYTES)
        handle.seek(max(0, size - _END_BYTES))
        ends += handle.read(_END_BYTES)
    with open(ibd, "rb") as handle:
        uuid = handle.read(16).hex()
    stats = [[each.stat().st_size, each.stat().st_mtime_ns] for each in (path, ibd)]
    ends = hashlib.sha256(ends).hexdigest()
    return {"format": _FORMAT, "fields": list(FIELDS), "stats": stats, "ends": ends, "uuid": uuid}


def _store(place: Path, key: dict, xml: XmlIndex) -> None:
    said = dataclasses.asdict(dataclasses.replace(xml, table=None, others=None))
    text = np.frombuffer(json_text(said | {"key": key}).encode(), np.uint8)
    content = {"table": xml.table, "others": xml.others, "text": text}
    content["sha256"] = _digest(*content.values())
    with contextlib.suppress(OSError, InputError), atomic_file(place) as temporary:
        np.savez(temporary, **content)


def _digest(*arrays: np.ndarray) -> np.ndarray:
    digest = hashlib.sha256()
    for each in arrays:
        digest.update(np.ascontiguousarray(each))
    return np.frombuffer(digest.digest(), np.uint8)


def _load(place: Path, key: dict) -> XmlIndex | None:
    """Returns the index kept at `place`, or None where it is not wholly good."""
    try:
        return _read(place, key) if place.is_file() else None
    except Exception:  # Whatever is wrong with it, the XML itself is there to be read.
        return None


def _read(place: Path, key: dict) -> XmlIndex | None:
    most = key["stats"][0][0]  # Never larger than the XML it stands for.
    with zipfile.ZipFile(place) as archive:
        members = archive.infolist()
    if place.stat().st_size > most or sum(each.file_size for each in members) > most:
        return None
    with np.load(place, allow_pickle=False) as archive:
        table, others, text, digest = (archive[name] for name in _MEMBERS)
    if not np.array_equal(digest, _digest(table, others, text)):
        return None
    said = json.loads(text.tobytes())
    return _index(table, others, said) if said.pop("key") == key else None


def _index(table: np.ndarray, others: np.ndarray, said: dict) -> XmlIndex | None:
    formats = [tuple(ArrayFormat(**each) for each in pair) for pair in said["formats"]]
    types = {None, *DTYPE_NAMES.values()}
    known = all({each.by_code, each.by_name} <= types for pair in formats for each in pair)
    number = table[:, FIELDS.index("format")]
    fits = table.dtype == np.int64 and table.shape[1] == len(FIELDS)
    fits = fits and (not len(table) or 0 <= number.min() <= number.max() < len(formats))
    fits = fits and others.dtype == np.int64 and others.shape[1:] == (2,)
    if not (fits and known and all(isinstance(each, str) for each in said["other_names"])):
        return None
    return XmlIndex(
        table=table,
        formats=formats,
        file_content=_params(said["file_content"]),
        scan_settings=[_params(group) for group in said["scan_settings"]],
        others=others,
        other_names=said["other_names"],
        declared_count=said["declared_count"],
        scientific=said["scientific"],
    )


def _params(said: list[dict[str, str]]) -> list[Param]:
    if not all(isinstance(value, str) for each in said for value in each.values()):
        raise TypeError("parameters are text")
    return [Param(**each) for each in said]
