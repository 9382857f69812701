"""Checks a data set's folder before anything in it is used: it may come from anywhere.

TFDS imports any class that `features.json` names, opens the files that `dataset_info.json` names,
wherever they lie, and trains on a truncated shard without a word. So it reads both files only once
every value in them is one that `builder` writes, and the shards agree with their hashes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.data.split import SPLITS
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import HASHES, check_hashes, existing_folder, inside, read_json, sha256
from msi2he_jax.json_schema import Kind, check_json, choice, shown

NAME, VERSION = "msi2he_pairs", "1.0.0"
IMAGES = {"histology": 3, "msi_mask": 1, "tissue_mask": 1, "view": 3}
_FEATURES = "tensorflow_datasets.core.features."
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_DIGITS = Kind(
    "digits", lambda value: isinstance(value, str) and re.fullmatch("[0-9]{1,15}", value)
)
_SPLITS = {"splits": [{"name": choice(*SPLITS), "shardLengths": [_DIGITS], "numBytes": _DIGITS}]}
_HINT = "run preprocess again"


def check_dataset(data_dir: str | os.PathLike, split: str | None = None) -> dict[str, Any]:
    """Checks a data set; opens nothing that lies outside its folder.

    Args:
        data_dir: A folder written by `builder.write_dataset`.
        split: Whose shards to compare with their hashes; None for all.

    Returns:
        Its provenance.

    Raises:
        InputError: not a data set, a value that `write_dataset` does not write, a file that lies
            elsewhere, or a shard that is absent or changed.
    """
    data_dir = existing_folder(data_dir, "data")
    for name in (HASHES, "provenance.json", "features.json", "dataset_info.json"):
        inside(data_dir, name)
    provenance = read_provenance(data_dir)
    check_hashes(data_dir, lambda name: ".array_record" not in name)  # These follow.
    features = features_record(len(provenance["peaks"]["mz"]))
    _check_same(data_dir / "features.json", read_json(data_dir / "features.json"), features)
    for name, shards in _shards(data_dir, provenance).items():
        for shard in shards if split in (None, name) else ():
            _check_shard(data_dir, shard, provenance["shards"][shard])
    return provenance


def features_record(channels: int) -> dict[str, Any]:
    """Returns what TFDS writes to `features.json` for MSI of that many channels."""
    tensors = {"msi": ("float32", [-1, -1, channels]), "msi_to_histology": ("float64", [3, 3])}
    fields = {name: _feature("text_feature.Text", text={}) for name in ("sample_id", "group_id")}
    for name, (dtype, shape) in tensors.items():
        tensor = {"dtype": dtype, "encoding": "bytes", "shape": _dimensions(shape)}
        fields[name] = _feature("tensor_feature.Tensor", tensor=tensor)
    for name, depth in IMAGES.items():
        image = {"dtype": "uint8", "encodingFormat": "png", "shape": _dimensions([-1, -1, depth])}
        fields[name] = _feature("image_feature.Image", image=image)
    scalar = {"dtype": "float32", "encoding": "none", "shape": {}}
    fields["um_per_px"] = _feature("scalar.Scalar", tensor=scalar)
    return _feature("features_dict.FeaturesDict", featuresDict={"features": fields})


def _feature(class_name: str, **content: Any) -> dict[str, Any]:
    return {"pythonClassName": _FEATURES + class_name, **content}


def _dimensions(shape: list[int]) -> dict[str, Any]:
    return {"dimensions": [str(side) for side in shape]}


def _shards(data_dir: Path, provenance: dict[str, Any]) -> dict[str, list[str]]:
    """Returns the names of each split's shards, once both records of them agree.

    Raises:
        InputError: `dataset_info.json` says what `write_dataset` does not write, or other than
            `provenance.json` does.
    """
    path = data_dir / "dataset_info.json"
    info = read_json(path)
    check_json(path, info, _SPLITS)
    _check_same(path, info, _info_record(info["splits"]))
    lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
    for name, said in provenance["counts"].items():
        found = sum(map(int, lengths.get(name, ())))
        if found != said:
            why = f"holds {found} examples of {name}, provenance.json says {said}"
            raise InputError(data_dir, name, why, _HINT)
    shards = {name: _shard_names(name, len(each)) for name, each in lengths.items()}
    if {name for names in shards.values() for name in names} != set(provenance["shards"]):
        why = "are not those of dataset_info.json"
        raise InputError(data_dir / "provenance.json", "shards", why, _HINT)
    return shards


def _info_record(splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what TFDS writes to `dataset_info.json` for splits of these names and sizes."""
    free = ("name", "numBytes", "shardLengths")
    once = {split["name"]: {name: split[name] for name in free} for split in splits}
    return {
        "disableShuffling": True,
        "fileFormat": "array_record",
        "moduleName": "msi2he_jax.data.builder",
        "name": NAME,
        "splits": [{"filepathTemplate": _TEMPLATE, **split} for split in once.values()],
        "version": VERSION,
    }


def _shard_names(split: str, count: int) -> list[str]:
    return [f"{NAME}-{split}.array_record-{n:05d}-of-{count:05d}" for n in range(count)]


def _check_same(path: Path, found: Any, expected: Any, field: str = "") -> None:
    """Refuses a value, key or type that differs from what is expected, and names the first."""
    if type(found) is not type(expected):
        raise InputError(path, field, f"is {shown(found)}, expected {shown(expected)}", _HINT)
    if isinstance(expected, dict):
        for name in sorted({*found, *expected}):
            place = f"{field}.{name}" if field else name
            if name not in found or name not in expected:
                raise InputError(path, place, f"is {_fault(name, found)}", _HINT)
            _check_same(path, found[name], expected[name], place)
    elif isinstance(expected, list):
        if len(found) != len(expected):
            raise InputError(path, field, f"has {len(found)} values, not {len(expected)}", _HINT)
        for index, pair in enumerate(zip(found, expected, strict=True)):
            _check_same(path, *pair, f"{field}[{index}]")
    elif found != expected:
        raise InputError(path, field, f"{shown(found)} is not allowed, only {shown(expected)}")


def _fault(name: str, found: dict[str, Any]) -> str:
    return "not allowed" if name in found else "missing"


def _check_shard(data_dir: Path, name: str, expected: str) -> None:
    shard = data_dir / name
    inside(data_dir, name)
    if not shard.is_file():
        raise InputError(shard, "", "is missing", f"{_HINT}, or copy all files")
    if sha256(shard) != expected:
        raise InputError(shard, "", "differs from its SHA-256", "the file is damaged")
