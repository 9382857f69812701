"""Writing a transform so that others can use it, and reading it back.

`transform.json` holds the matrix on (x, y, 1) in um, and names the file of its displacement. The
same transform is written for ITK both ways (`msi_to_histology.tfm`, `histology_to_msi.tfm`, see
`itk.py`) and, where the pictures' grids are known, for elastix (`elastix.py`), as whole
displacement fields (`mha.py`) and for OME-NGFF and SpatialData (`ngff.py`).
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import (
    LIMITS,
    atomic_file,
    existing_file,
    inside,
    read_json,
    write_json,
)
from msi2he_jax.plain_json import json_ready
from msi2he_jax.registration import fields, transforms
from msi2he_jax.registration.elastix import write_elastix
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.itk import write_itk
from msi2he_jax.registration.mha import write_mha
from msi2he_jax.registration.ngff import write_ngff
from msi2he_jax.registration.transforms import Displacement, Transform

JSON_NAME = "transform.json"
DISPLACEMENT_NAME = "displacement.npz"
FORWARD, BACKWARD = "msi_to_histology", "histology_to_msi"
NGFF_NAME = "ngff.json"
# Exported fields meet the transform between their nodes to this share of an MSI pixel.
EXPORT_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class TransformRecord:
    """A transform and what `transform.json` says of it.

    Attributes:
        transform: MSI to histology, um.
        method: How it was found.
        scores: What its finder measured.
        grids: `msi` and `histology`, the grids of both pictures, as far as they are known.
    """

    transform: Transform
    method: str = ""
    scores: dict = dataclasses.field(default_factory=dict)
    grids: dict[str, Frame] = dataclasses.field(default_factory=dict)


def write_transform(folder: str | os.PathLike, record: TransformRecord) -> None:
    """Writes `transform.json`, its displacement (npz) if any, and the forms others read.

    Args:
        folder: An existing folder.
        record: What to write; without its grids, of the other forms only ITK's.
    """
    folder, field = Path(folder), record.transform.displacement
    if field is not None:
        write_displacement(folder / DISPLACEMENT_NAME, field)
    write_json(folder / JSON_NAME, transform_json(record))
    both = both_ways(record)
    notes = {FORWARD: "maps MSI points to histology points"}
    notes[BACKWARD] = "maps histology points to MSI points"
    for name, transform in both.items():
        write_itk(folder / f"{name}.tfm", transform, notes[name])
    if not record.grids:
        return
    for name, frame in zip(both, (record.grids["msi"], record.grids["histology"])):
        bent = both[name].displacement is not None
        if bent:
            write_mha(folder / f"{name}.mha", total_field(both[name]))
        named = f"{name}.mha" if bent else None
        write_elastix(folder / f"elastix_{name}.txt", both[name].matrix, frame, named)
    write_ngff(folder / NGFF_NAME, record.transform.matrix, record.grids, whole=field is None)


def total_field(transform: Transform) -> Displacement:
    """Returns by how far a transform moves each position of its field, matrix included.

    Args:
        transform: One with a displacement.

    Returns:
        A field on the same positions, to be added to the points themselves.
    """
    field = transform.displacement
    grid = field.positions
    moved = transforms.apply_affine(transform.matrix, grid) + field.disp_um - grid
    return Displacement(field.y_um, field.x_um, moved)


def both_ways(record: TransformRecord) -> dict[str, Transform]:
    """Returns both directions, with evenly spaced displacements.

    Args:
        record: MSI to histology; the inverse holds over the histology's grid where it is known.
    """
    transform, field = record.transform, record.transform.displacement
    if field is None:
        return {FORWARD: transform, BACKWARD: transform.inverse()}
    px_um, box = min(np.ptp(field.y_um), np.ptp(field.x_um)) / 100, None
    if record.grids:
        px_um = min(record.grids["msi"].um_per_px)
        box = np.zeros(2), record.grids["histology"].extent_um
    tolerance = EXPORT_TOLERANCE_PX * px_um
    even = fields.evenly(field, tolerance_um=tolerance)
    back = transform.inverse(box_um=box, tolerance_um=tolerance)
    return {FORWARD: Transform(transform.matrix, even), BACKWARD: back}


def transform_json(record: TransformRecord) -> dict:
    """Returns the content of `transform.json`.

    Args:
        record: What to describe.

    Returns:
        A mapping that JSON can hold; its matrix acts on (x, y, 1).
    """
    grids = {name: dataclasses.asdict(frame) for name, frame in record.grids.items()}
    return {
        "from": "msi",
        "to": "histology",
        "unit": "micrometer",
        "axes": "xy",
        "matrix": transforms.swap_xy(record.transform.matrix).tolist(),
        "displacement": None if record.transform.displacement is None else DISPLACEMENT_NAME,
        "method": record.method,
        "verdict": record.scores.get("verdict"),
        "reason": record.scores.get("reason"),
        "scores": json_ready(record.scores),
    } | ({"grids": grids} if grids else {})


def read_transform(path: str | os.PathLike) -> TransformRecord:
    """Reads `transform.json` and the displacement it names.

    Args:
        path: The JSON file.

    Returns:
        The transform, whose matrix acts on (y, x, 1), and what is said of it.

    Raises:
        InputError: not such a file, other units or direction, a matrix that cannot be inverted.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(path, "", "is not a transform: a JSON object was expected")
    expected = {"from": "msi", "to": "histology", "unit": "micrometer", "axes": "xy"}
    for key, value in expected.items():
        if content.get(key) != value:
            raise InputError(path, key, f"is {content.get(key)!r}, must be {value!r}")
    name, scores = content.get("displacement"), content.get("scores")
    field = None if name is None else read_displacement(inside(Path(path).parent, str(name)))
    return TransformRecord(
        Transform(checked_matrix(path, content.get("matrix")), field),
        str(content.get("method", "")),
        scores if isinstance(scores, dict) else {},
        _grids(path, content.get("grids") or {}),
    )


def _grids(path, content) -> dict[str, Frame]:
    try:
        grids = {
            name: Frame(
                tuple(int(count) for count in content[name]["shape"]),
                tuple(float(um) for um in content[name]["um_per_px"]),
            )
            for name in ("msi", "histology")
            if content
        }
        good = all(
            len(grid.shape) == len(grid.um_per_px) == 2
            and min(grid.shape) > 0
            and all(1e-4 <= um <= 1e5 for um in grid.um_per_px)
            for grid in grids.values()
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(path, "grids", "is not a shape and um_per_px for msi and histology")
    return grids


def checked_matrix(path: str | os.PathLike, value) -> np.ndarray:
    """Returns `[3, 3]` float64 acting on (y, x, 1), of 3 x 3 numbers acting on (x, y, 1).

    Args:
        path: What to name in an error.
        value: Anything.

    Raises:
        InputError: not 3 x 3 finite numbers, or no affine that can be inverted.
    """
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape != (3, 3) or not np.all(np.isfinite(matrix)):
        raise InputError(path, "matrix", "is not 3 x 3 finite numbers")
    if not np.allclose(matrix[2], [0, 0, 1]):
        raise InputError(path, "matrix", "its last row is not 0 0 1")
    singular = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if singular[1] <= 1e-9 * max(singular[0], 1e-300):
        raise InputError(path, "matrix", "cannot be inverted")
    if singular[1] < 1e-6 or singular[0] > 1e6 or np.abs(matrix[:2, 2]).max() > fields.LARGEST_UM:
        why = f"scales by {singular[1]:.3g} to {singular[0]:.3g} or shifts beyond "
        why += f"{fields.LARGEST_UM:g} um"
        raise InputError(path, "matrix", why, "both sides are in um: scales are near 1")
    return transforms.swap_xy(matrix)


def write_displacement(path: str | os.PathLike, field: Displacement) -> None:
    """Writes a field as npz: `x_um` [n], `y_um` [m], `disp_um` [m, n, 2] (dx, dy), float64.

    Args:
        path: The npz file.
        field: What to write.
    """
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, x_um=field.x_um, y_um=field.y_um, disp_um=np.asarray(field.disp_um)[..., ::-1]
        )


def read_displacement(path: str | os.PathLike) -> Displacement:
    """Reads a field written by `write_displacement`.

    Args:
        path: The npz file; arrays only, nothing is unpickled.

    Returns:
        The field, turned to (dy, dx).

    Raises:
        InputError: absent, not such a file, shapes that do not fit, positions not increasing,
            numbers beyond `fields.LARGEST_UM`.
    """
    path = existing_file(path, "displacement")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LIMITS.npz_bytes:
            raise ValueError(f"its content is larger than {LIMITS.npz_bytes} bytes")
        with np.load(path, allow_pickle=False) as data:
            y, x, disp = (np.asarray(data[k], np.float64) for k in ("y_um", "x_um", "disp_um"))
    except Exception as error:  # zip, header and key errors have many types
        raise InputError(path, "displacement", f"cannot be read: {error}") from error
    return fields.checked(path, Displacement(y, x, disp[..., ::-1]))
