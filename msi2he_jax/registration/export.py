"""Writing a transform so that others can use it, and reading it back.

`transform.json` holds the matrix on (x, y, 1) in um, and names the file of its displacement. The
same transform is written for ITK both ways (`msi_to_histology.tfm`, `histology_to_msi.tfm`, see
`itk.py`) and, where the pictures' grids are known, for elastix (`elastix.py`), as whole
displacement fields (`mha.py`) and for OME-NGFF and SpatialData (`ngff.py`).
"""

from __future__ import annotations

import dataclasses
import math
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
from msi2he_jax.registration import fields, transforms
from msi2he_jax.registration.elastix import write_elastix
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.itk import write_itk
from msi2he_jax.registration.mha import write_mha
from msi2he_jax.registration.ngff import write_ngff
from msi2he_jax.registration.transforms import Displacement

JSON_NAME = "transform.json"
DISPLACEMENT_NAME = "displacement.npz"
FORWARD, BACKWARD = "msi_to_histology", "histology_to_msi"
NGFF_NAME = "ngff.json"
# Exported fields meet the transform between their nodes to this share of an MSI pixel.
EXPORT_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class Transform:
    """A transform as read from `transform.json`.

    Attributes:
        matrix: `[3, 3]` float64, MSI to histology, acting on (y, x, 1), um.
        displacement: Field added to it, or None.
        method: How it was found.
        scores: What its finder measured.
        grids: `msi` and `histology`, the grids of both pictures, as far as they are known.
    """

    matrix: np.ndarray
    displacement: Displacement | None = None
    method: str = ""
    scores: dict = dataclasses.field(default_factory=dict)
    grids: dict[str, Frame] = dataclasses.field(default_factory=dict)


def write_transform(folder: str | os.PathLike, transform: Transform) -> None:
    """Writes `transform.json`, its displacement (npz) if any, and the forms others read.

    Args:
        folder: An existing folder.
        transform: What to write; without its grids, of the other forms only ITK's.
    """
    folder, field = Path(folder), transform.displacement
    if field is not None:
        write_displacement(folder / DISPLACEMENT_NAME, field)
    write_json(folder / JSON_NAME, transform_json(transform))
    both = both_ways(transform)
    notes = {FORWARD: "maps MSI points to histology points"}
    notes[BACKWARD] = "maps histology points to MSI points"
    for name, (matrix, even) in both.items():
        write_itk(folder / f"{name}.tfm", matrix, notes[name], displacement=even)
    if not transform.grids:
        return
    for name, frame in zip(both, (transform.grids["msi"], transform.grids["histology"])):
        matrix, even = both[name]
        if even is not None:
            write_mha(folder / f"{name}.mha", fields.total_field(matrix, even))
        named = None if even is None else f"{name}.mha"
        write_elastix(folder / f"elastix_{name}.txt", matrix, frame, named)
    write_ngff(folder / NGFF_NAME, transform.matrix, transform.grids, whole=field is None)


def both_ways(transform: Transform) -> dict:
    """Returns matrix `[3, 3]` and evenly spaced displacement (or None) of both directions.

    Args:
        transform: MSI to histology; the inverse holds over the histology's grid where it is known.
    """
    matrix, field = transform.matrix, transform.displacement
    if field is None:
        return {FORWARD: (matrix, None), BACKWARD: (transforms.invert(matrix), None)}
    px_um, box = min(np.ptp(field.y_um), np.ptp(field.x_um)) / 100, None
    if transform.grids:
        px_um = min(transform.grids["msi"].um_per_px)
        box = np.zeros(2), transform.grids["histology"].extent_um
    tolerance = EXPORT_TOLERANCE_PX * px_um
    even = fields.evenly(field, tolerance_um=tolerance)
    back = fields.inverse(matrix, field, box_um=box, tolerance_um=tolerance)
    return {FORWARD: (matrix, even), BACKWARD: back}


def transform_json(transform: Transform) -> dict:
    """Returns the content of `transform.json`.

    Args:
        transform: What to describe.

    Returns:
        A mapping that JSON can hold; its matrix acts on (x, y, 1).
    """
    grids = {name: dataclasses.asdict(frame) for name, frame in transform.grids.items()}
    return {
        "from": "msi",
        "to": "histology",
        "unit": "micrometer",
        "axes": "xy",
        "matrix": transforms.swap_xy(transform.matrix).tolist(),
        "displacement": None if transform.displacement is None else DISPLACEMENT_NAME,
        "method": transform.method,
        "scores": _without_nan(transform.scores),
    } | ({"grids": grids} if grids else {})


def _without_nan(value):
    """NaN is no JSON: it becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_transform(path: str | os.PathLike) -> Transform:
    """Reads `transform.json` and the displacement it names.

    Args:
        path: The JSON file.

    Returns:
        The transform, matrix turned to (y, x, 1).

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
    return Transform(
        checked_matrix(path, content.get("matrix")),
        field,
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
            len(grid.shape) == len(grid.um_per_px) == 2 and min(*grid.shape, *grid.um_per_px) > 0
            for grid in grids.values()
        )
    except (KeyError, TypeError, ValueError):
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
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 3) or not np.all(np.isfinite(matrix)):
        raise InputError(path, "matrix", "is not 3 x 3 finite numbers")
    if not np.allclose(matrix[2], [0, 0, 1]):
        raise InputError(path, "matrix", "its last row is not 0 0 1")
    singular = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if singular[1] <= 1e-9 * max(singular[0], 1e-300):
        raise InputError(path, "matrix", "cannot be inverted")
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
        InputError: absent, not such a file, shapes that do not fit, positions not increasing.
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
    if y.ndim != 1 or x.ndim != 1 or disp.shape != (len(y), len(x), 2):
        why = f"disp_um is {disp.shape} for {y.shape} y and {x.shape} x positions"
        raise InputError(path, "displacement", why)
    finite = all(np.all(np.isfinite(part)) for part in (y, x, disp))
    if not (finite and len(y) and len(x) and np.all(np.diff(y) > 0) and np.all(np.diff(x) > 0)):
        raise InputError(path, "displacement", "positions must increase and all be finite")
    return Displacement(y, x, disp[..., ::-1])
