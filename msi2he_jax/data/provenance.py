"""What a data set was made of and how, so that new data can be treated in exactly the same way."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax import __version__
from msi2he_jax.data.provenance_schema import PROVENANCE
from msi2he_jax.data.recipe import PAD_VALUES
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import read_json
from msi2he_jax.json_schema import check_json
from msi2he_jax.msi.axes import MassAxis, mass_axis
from msi2he_jax.msi.peaks import Peaks

FORMAT = "msi2he_jax pairs 1"
LIBRARIES = ("numpy", "scipy", "pillow", "tifffile", "scikit-image", "tensorflow-datasets")


def read_provenance(data_dir: str | os.PathLike) -> dict[str, Any]:
    """Reads and checks the `provenance.json` of a data set or a run.

    Raises:
        InputError: absent, not ours, or a value is missing or of another kind than it must be.
    """
    path = Path(data_dir) / "provenance.json"
    if not path.is_file():
        hint = "make it with: python -m msi2he_jax.preprocess --manifest=FILE --out=DIR"
        raise InputError(data_dir, "", "is not a data set: it has no provenance.json", hint)
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(path, "format", f"is not {FORMAT!r}", "run preprocess again")
    check_json(path, record, PROVENANCE)
    channels = len(record["peaks"]["mz"])
    for place, values in _per_channel(record):
        if len(values) != channels or not channels:
            why = f"has {len(values)} values for {channels} peaks"
            raise InputError(path, place, why, "run preprocess again")
    return record


def warnings_of(provenance: dict[str, Any]) -> list[str]:
    """Lists what is odd about a data set, each once; a sample's begin with its name.

    Args:
        provenance: Of a data set or a run; those of earlier versions say `doubts` and `doubt`.
    """
    found = [*listed(provenance, "warnings"), *listed(provenance, "doubts")]
    for sample in listed(provenance, "samples"):
        said = [each for key in ("warnings", "doubts", "doubt") for each in listed(sample, key)]
        found += [f"{sample.get('sample_id')}: {each}" for each in said]
    return list(dict.fromkeys(str(each) for each in found))


def listed(record: Any, key: str) -> list[Any]:
    """Returns what a record that may be damaged lists under a key; a text is a list of one."""
    value = record.get(key) if isinstance(record, dict) else None
    return [value] if isinstance(value, str) and value else value if isinstance(value, list) else []


def _per_channel(record: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Returns the lists that hold a value for each peak, and where they stand."""
    peaks = [(f"peaks.{name}", record["peaks"][name]) for name in PROVENANCE["peaks"]]
    return [*peaks, ("scaling.scale", record["scaling"]["scale"])]


def padding_of(provenance: dict[str, Any]) -> str:
    """Returns what preprocess drew beyond the slides of a data set, "white" or "black".

    Raises:
        InputError: neither.
    """
    found = provenance["pad_value"]
    for name, number in PAD_VALUES.items():
        if found == number:
            return name
    why = f"is {found!r}, expected one of {', '.join(map(str, PAD_VALUES.values()))}"
    raise InputError("provenance.json", "pad_value", why, "run preprocess again")


def check_padding(asked: str, provenance: dict[str, Any], data_dir: str | os.PathLike) -> None:
    """Refuses data that are padded otherwise than a run has it.

    Args:
        asked: "white", "black", or "provenance" for whatever the data have.
        provenance: Of the data set.
        data_dir: Its folder, for the message.

    Raises:
        InputError: they are.
    """
    if asked != "provenance" and asked != (found := padding_of(provenance)):
        why = f"is {asked}, but preprocess padded these data {found}: {os.fspath(data_dir)}"
        hint = f"preprocess --padding={asked} makes such data"
        raise InputError("config", "data.padding", why, hint)


def axis_record(axis: MassAxis) -> dict[str, Any]:
    """Describes a mass axis so that `axis_of` makes the same one."""
    ends = {"mz_min": float(axis.mz[0]), "mz_max": float(axis.mz[-1])}
    return {"kind": axis.kind, "step": axis.step, "bins": len(axis.mz), **ends}


def axis_of(provenance: dict[str, Any]) -> MassAxis:
    """Makes the mass axis of a data set.

    Raises:
        InputError: the record makes another number of bins.
    """
    record = provenance["axis"]
    kind, low, high = record["kind"], record["mz_min"], record["mz_max"]
    axis = mass_axis(kind, mz_min=low, mz_max=high, step=record["step"])
    if len(axis.mz) != record["bins"]:
        why = f"makes {len(axis.mz)} bins, not {record['bins']}"
        raise InputError("provenance.json", "axis", why, "run preprocess again")
    return axis


def peaks_record(peaks: Peaks) -> dict[str, list[float]]:
    """Describes peaks so that `peaks_of` makes the same ones."""
    return {name: getattr(peaks, name).tolist() for name in ("mz", "lower", "upper", "height")}


def peaks_of(provenance: dict[str, Any]) -> Peaks:
    """Returns the peaks of a data set, m/z."""
    columns = {name: np.array(values, np.float64) for name, values in provenance["peaks"].items()}
    return Peaks(**columns)


def versions() -> dict[str, str]:
    """Returns the versions of all that touched the data."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"msi2he_jax": __version__, "python": platform.python_version(), **found}


def content_digest(example: dict[str, Any]) -> str:
    """Returns the SHA-256 of an example's decoded content.

    The shards themselves cannot be compared: TFDS orders a record's fields at random.
    """
    digest = hashlib.sha256()
    for name in sorted(example):
        value = example[name]
        if isinstance(value, str):
            digest.update(f"{name}={value}".encode())
            continue
        dtype = np.float32 if name == "um_per_px" else None
        array = np.ascontiguousarray(value, dtype=dtype)
        digest.update(f"{name}:{array.dtype}:{np.shape(value)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
