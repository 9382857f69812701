"""Compares what two revisions wrote: by content, so that only what a reader sees counts."""

from __future__ import annotations

import csv
import fnmatch
import json
import pathlib
from collections.abc import Iterator

import numpy as np

HERE = pathlib.Path(__file__).parent
RENAMED = json.loads((HERE / "renamed.json").read_text())
IGNORED = json.loads((HERE / "ignored.json").read_text())
READ = (".json", ".jsonl", ".csv", ".npy", ".npz", ".png", ".tif", ".tiff", ".tfm", ".txt", ".mha")
SHARDS = "*.array_record*"


def compare_folders(old: pathlib.Path, new: pathlib.Path) -> list[str]:
    """Lists what differs between two folders, a line each."""
    names = [_files(folder) for folder in (old, new)]
    found = [f"{name}: only in one of them" for name in sorted(set(names[0]) ^ set(names[1]))]
    for name in sorted(set(names[0]) & set(names[1])):
        first, second = (dict(content(folder / name)) for folder in (old, new))
        first = {renamed(key): value for key, value in first.items()}
        found += [f"{name}: {line}" for line in differences(first, second, name)]
    for name in sorted({str(pathlib.Path(n).parent) for n in _checkpoints(old)}):
        first, second = (weights(folder / name) for folder in (old, new))
        found += [f"{name}: {line}" for line in differences(first, second, name)]
    return found


def _files(folder: pathlib.Path) -> list[str]:
    names = (str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in READ)
    kept = [name for name in names if not any(fnmatch.fnmatch(name, i) for i in IGNORED["files"])]
    shards = {p.parent for p in folder.rglob(SHARDS)}
    return [*kept, *(str(shard.relative_to(folder)) for shard in shards)]


def _checkpoints(folder: pathlib.Path) -> list[str]:
    found = folder.glob("*/checkpoints/latest/*/*/_METADATA")
    return [str(path.relative_to(folder)) for path in found]


def renamed(key: str) -> str:
    """Returns the key of the new revision for one of the old."""
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


def differences(first: dict, second: dict, name: str) -> Iterator[str]:
    """Yields a line for each key whose values are not equal bit for bit."""
    for key in sorted({*first, *second}):
        if any(fnmatch.fnmatch(key, pattern) for pattern in IGNORED["keys"]):
            continue
        if key not in first or key not in second:
            yield f"{key}: only in the {'old' if key in first else 'new'} one"
        elif not np.array_equal(first[key], second[key], equal_nan=_is_float(first[key])):
            yield f"{key}: {_short(first[key])} became {_short(second[key])}"


def _is_float(value) -> bool:
    return np.asarray(value).dtype.kind == "f"


def _short(value) -> str:
    array = np.asarray(value)
    return repr(value)[:60] if array.ndim == 0 else f"{array.dtype}{array.shape} {array.sum()!r}"


def content(path: pathlib.Path) -> Iterator[tuple[str, object]]:
    """Yields what a file holds, by key."""
    if path.is_dir():
        yield from _examples(path)
    elif path.suffix == ".json":
        yield from leaves(json.loads(path.read_text()))
    elif path.suffix == ".jsonl":
        yield from leaves([json.loads(line) for line in path.read_text().splitlines()])
    elif path.suffix == ".csv":
        with open(path, newline="") as file:
            yield from leaves(list(csv.DictReader(file)))
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            yield from arrays.items()
    elif path.suffix == ".npy":
        yield "", np.load(path)
    elif path.suffix in (".png", ".tif", ".tiff"):
        yield "", _pixels(path)
    elif path.suffix == ".mha":  # A header in text, then numbers.
        yield "", np.frombuffer(path.read_bytes(), np.uint8)
    else:
        yield "", path.read_text()


def leaves(value, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields the leaves of nested mappings and lists, with their paths."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, f"{prefix}/{key}")
    else:
        yield prefix, np.nan if value is None else str(value) if isinstance(value, str) else value


def _pixels(path: pathlib.Path) -> np.ndarray:
    import tifffile
    from PIL import Image

    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    return tifffile.imread(path)


def _examples(folder: pathlib.Path) -> Iterator[tuple[str, object]]:
    """The examples of a data set, read by TFDS alone."""
    import tensorflow_datasets as tfds

    sources = tfds.builder_from_directory(folder).as_data_source()
    for split, source in sources.items():
        for example in source:
            for key, value in example.items():
                yield f"{split}/{example['sample_id'].decode()}/{key}", value


def weights(folder: pathlib.Path) -> dict[str, object]:
    """The arrays of a checkpoint, read by Orbax alone."""
    import jax
    import orbax.checkpoint as ocp

    tree = ocp.PyTreeCheckpointer().restore(folder.resolve())
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {renamed(jax.tree_util.keystr(path)): np.asarray(leaf) for path, leaf in found}
