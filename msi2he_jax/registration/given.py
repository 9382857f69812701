"""Transforms that a person hands in: transform.json, ITK text, 3 x 3 numbers, or landmarks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, existing_file, read_json
from msi2he_jax.plain_json import json_value
from msi2he_jax.registration import export, fields, itk, transforms
from msi2he_jax.registration.control_points import fit_landmarks
from msi2he_jax.registration.export import (
    BACKWARD,
    DISPLACEMENT_NAME,
    FORWARD,
    JSON_NAME,
    TransformRecord,
)
from msi2he_jax.registration.landmarks import read_landmarks
from msi2he_jax.registration.scores import fold_warnings
from msi2he_jax.registration.transforms import Transform

MAPS = (FORWARD, BACKWARD)
_OF_TRANSFORM = ("", ".json", ".tfm", ".txt", ".csv")
_ENDINGS = {
    "init": _OF_TRANSFORM,
    "via": _OF_TRANSFORM,
    "points": (".csv", "_landmarks.csv"),
    "scan": (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".png", ".jpg", ".jpeg", ".svs", ".ndpi"),
    "annotations": (".geojson", ".json"),
}
_ITK_MARK = "#Insight Transform File"


def read_given(path: str | os.PathLike, *, maps: str | None = None) -> TransformRecord:
    """Reads a transform in any form that we read; what it is is told from the content.

    Args:
        path: `transform.json`, a folder that holds one, ITK text (`.tfm`), a text or JSON file of
            3 x 3 (or 2 x 3) numbers acting on (x, y, 1) in um, or a `landmarks.csv`, whose `fit`
            points give an affine.
        maps: `msi_to_histology` or `histology_to_msi`; None takes what the file or its name says,
            for numbers the former.

    Returns:
        The transform from MSI to histology.

    Raises:
        InputError: none of these, or the direction of an ITK file is not known.
    """
    path = Path(path)
    path = existing_file(path / JSON_NAME if path.is_dir() else path, "transform")
    if path.suffix.lower() == ".csv":
        fit = fit_landmarks(read_landmarks(path))
        return TransformRecord(Transform(fit.matrix), "control points", fit.as_row())
    if _start(path).startswith(_ITK_MARK):
        return _turned(path, itk.read_itk(path), maps or _direction(path), "ITK file")
    if path.suffix.lower() == ".json" and isinstance(read_json(path), dict):
        return export.read_transform(path)
    return _turned(path, Transform(_numbers(path)), maps or FORWARD, "numbers given")


def files_read(path: Path) -> list[Path]:
    """Returns the files that `read_given` would read at a path, those that are there.

    Args:
        path: A transform in any form, or an annotation.
    """
    path = path / JSON_NAME if path.is_dir() else path
    field = path.with_name(DISPLACEMENT_NAME)
    if not path.is_file():
        return []
    return [path, field] if path.suffix == ".json" and field.is_file() else [path]


def _start(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(64).decode("utf-8", errors="replace").lstrip("\ufeff \n")


def _direction(path: Path) -> str:
    """By our own comment line, else by the file's name."""
    note = itk.itk_note(path)
    for text in (note.replace("maps MSI points", FORWARD), path.name):
        if FORWARD in text:
            return FORWARD
        if BACKWARD in text or "maps histology points" in text:
            return BACKWARD
    why = "does not say whether it maps MSI points to histology or back"
    raise InputError(path, "direction", why, f"pass --maps={FORWARD} or --maps={BACKWARD}")


def _turned(path: Path, transform: Transform, maps: str, method: str) -> TransformRecord:
    if maps not in MAPS:
        raise InputError("maps", "", f"{maps!r} is not one of {', '.join(MAPS)}")
    export.checked_matrix(path, transforms.swap_xy(transform.matrix))
    if transform.displacement is not None:
        fields.checked(path, transform.displacement)
    if maps == BACKWARD:
        if fold_warnings(transform):
            why = "folds: it cannot be turned into a transform from MSI to histology"
            raise InputError(path, "displacement", why)
        transform = transform.inverse()
    return TransformRecord(transform, method)


def _numbers(path: Path) -> np.ndarray:
    """9 or 6 numbers, in JSON or parted by spaces, commas or lines."""
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        listed = text.lstrip().startswith("[")
        words = json_value(text, LIMITS.json_depth) if listed else None
        values = np.array(text.replace(",", " ").split() if words is None else words, np.float64)
    except (ValueError, TypeError) as error:
        hint = "transform.json, ITK text, 3 x 3 numbers and landmarks.csv are read"
        raise InputError(path, "", "is no transform that we read", hint) from error
    if values.size == 6:
        values = np.append(values.ravel(), [0, 0, 1])
    return export.checked_matrix(path, values.reshape(3, 3) if values.size == 9 else values)


def file_of_sample(path: Path, name: str, flag: str) -> Path:
    """Returns the file itself, or that of a sample in a folder.

    Args:
        path: A file, or a folder with one file per sample.
        name: The sample's.
        flag: `init`, `via`, `points`, `scan` or `annotations`, which decides the endings looked
            for.

    Raises:
        InputError: the folder holds none for the sample.
    """
    if not path.is_dir() or (path / "transform.json").is_file():
        return path
    for ending in _ENDINGS[flag]:
        if (path / f"{name}{ending}").exists():
            return path / f"{name}{ending}"
    raise InputError(path, f"--{flag}", f"holds nothing for {name}")
