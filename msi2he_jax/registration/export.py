"""Writing a transform so that others can use it, and reading it back.

`transform.json` holds the matrix on (x, y, 1) in um. ITK `.tfm` files are plain point maps in the
same frame: `msi_to_histology.tfm` takes an MSI point to histology, `histology_to_msi.tfm` back.
ITK resamples with the map from fixed to moving, so drawing MSI on the slide's grid takes
`histology_to_msi.tfm`. ITK puts an image's origin at the centre of its first pixel and we at the
outer corner: give ITK images the spacing `um_per_px` and the origin `um_per_px / 2`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file, existing_file, inside, read_json, write_json
from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement

JSON_NAME = "transform.json"
DISPLACEMENT_NAME = "displacement.npz"
ITK_FORWARD, ITK_BACKWARD = "msi_to_histology.tfm", "histology_to_msi.tfm"
ITK_KIND = "AffineTransform_double_2_2"


@dataclasses.dataclass(frozen=True)
class Transform:
    """A transform as read from `transform.json`.

    Attributes:
        matrix: `[3, 3]` float64, MSI to histology, acting on (y, x, 1), um.
        displacement: Field added to it, or None.
        method: How it was found.
        scores: What its finder measured.
    """

    matrix: np.ndarray
    displacement: Displacement | None = None
    method: str = ""
    scores: dict = dataclasses.field(default_factory=dict)


def write_transform(folder: str | os.PathLike, transform: Transform) -> None:
    """Writes `transform.json`, its displacement (npz) if any, and both ITK files.

    Args:
        folder: An existing folder.
        transform: What to write.
    """
    folder, field = Path(folder), transform.displacement
    if field is not None:
        write_displacement(folder / DISPLACEMENT_NAME, field)
    write_json(folder / JSON_NAME, transform_json(transform))
    note = "" if field is None else f"; the affine part only, {DISPLACEMENT_NAME} is not in it"
    write_itk(folder / ITK_FORWARD, transform.matrix, f"maps MSI points to histology points{note}")
    backward = transforms.invert(transform.matrix)
    write_itk(folder / ITK_BACKWARD, backward, f"maps histology points to MSI points{note}")


def transform_json(transform: Transform) -> dict:
    """Returns the content of `transform.json`.

    Args:
        transform: What to describe.

    Returns:
        A mapping that JSON can hold; its matrix acts on (x, y, 1).
    """
    return {
        "from": "msi",
        "to": "histology",
        "unit": "micrometer",
        "axes": "xy",
        "matrix": transforms.swap_xy(transform.matrix).tolist(),
        "displacement": None if transform.displacement is None else DISPLACEMENT_NAME,
        "method": transform.method,
        "scores": _without_nan(transform.scores),
    }


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
        _checked_matrix(path, content.get("matrix")),
        field,
        str(content.get("method", "")),
        scores if isinstance(scores, dict) else {},
    )


def _checked_matrix(path, value) -> np.ndarray:
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


def write_itk(path: str | os.PathLike, matrix: np.ndarray, note: str = "") -> None:
    """Writes an affine as ITK text (`AffineTransform_double_2_2`), a map of (x, y) points in um.

    Args:
        path: The `.tfm` file.
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        note: A comment line.
    """
    xy = transforms.swap_xy(matrix)
    numbers = [*xy[:2, :2].ravel(), *xy[:2, 2]]
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        f"Transform: {ITK_KIND}",
        "Parameters: " + " ".join(repr(float(value)) for value in numbers),
        "FixedParameters: 0 0",
    ]
    if note:
        lines.insert(1, f"#{note}; um from the outer corner of the first pixel, x first")
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_itk(path: str | os.PathLike) -> np.ndarray:
    """Reads a two-dimensional affine from ITK text, its centre of rotation honoured.

    Args:
        path: The `.tfm` file.

    Returns:
        `[3, 3]` float64, acting on (y, x, 1).

    Raises:
        InputError: another kind of transform, several of them, or numbers missing.
    """
    path = existing_file(path, "transform")
    fields: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if not line.startswith("#") and value:
            fields.setdefault(key.strip(), []).append(value.strip())
    kinds = fields.get("Transform", [])
    if len(kinds) != 1 or not kinds[0].startswith(("AffineTransform", "MatrixOffset")):
        raise InputError(path, "Transform", f"holds {kinds}, one 2-D affine was expected")
    try:
        numbers = np.array(fields["Parameters"][0].split(), np.float64)
        center = np.array(fields["FixedParameters"][0].split(), np.float64)
        linear, offset = numbers.reshape(3, 2)[:2], numbers.reshape(3, 2)[2]
        return transforms.swap_xy(transforms.from_parts(linear, offset + center - linear @ center))
    except (KeyError, ValueError) as error:
        raise InputError(path, "Parameters", "6 numbers and a centre were expected") from error
