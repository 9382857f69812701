"""Transforms as ITK text (`.tfm`): point maps of (x, y) in um, an affine or one after a field.

ITK resamples with the map from fixed to moving, so drawing MSI on the slide's grid takes
`histology_to_msi.tfm`. ITK puts an image's origin at the centre of its first pixel and we at the
outer corner: give ITK images the spacing `um_per_px` and the origin `um_per_px / 2`.
A displacement stands before the affine (ITK applies the last of a composite first) as a field on
an even grid; beyond the grid ITK takes it as zero, where ours stays constant.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file
from msi2he_jax.registration import transforms
from msi2he_jax.registration.mha import even_axis
from msi2he_jax.registration.transforms import Displacement, Transform

AFFINE = "AffineTransform_double_2_2"
COMPOSITE = "CompositeTransform_double_2_2"
FIELD = "DisplacementFieldTransform_double_2_2"
_KINDS = ("Affine", "MatrixOffset", "Euler2D", "Rigid2D", "Similarity2D", "Translation")


def write_itk(path: str | os.PathLike, transform: Transform, note: str = "") -> None:
    """Writes a transform as ITK text, a map of (x, y) points in um.

    Args:
        path: The `.tfm` file.
        transform: An affine, or one with a field on an even grid.
        note: A comment line.

    Raises:
        InputError: the field's positions are not even.
    """
    xy = transforms.swap_xy(transform.matrix)
    affine = [AFFINE, _words([*xy[:2, :2].ravel(), *xy[:2, 2]]), "0 0"]
    if transform.displacement is None:
        blocks = [affine]
    else:
        blocks = [[COMPOSITE], affine, [FIELD, *_field_words(path, transform)]]
    lines = ["#Insight Transform File V1.0"]
    if note:
        lines.append(f"#{note}; um from the outer corner of the first pixel, x first")
    for number, block in enumerate(blocks):
        lines.append(f"#Transform {number}")
        names = ("Transform", "Parameters", "FixedParameters")
        lines += [f"{name}: {text}" for name, text in zip(names, block, strict=False)]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _words(values) -> str:
    return " ".join(repr(float(value)) for value in values)


def _field_words(path, transform: Transform) -> tuple[str, str]:
    """The field as ITK adds it, to the point before the matrix: parameters, fixed parameters."""
    field = transform.displacement
    (y, step_y), (x, step_x) = even_axis(path, field.y_um), even_axis(path, field.x_um)
    before = np.asarray(field.disp_um) @ np.linalg.inv(transform.matrix[:2, :2]).T
    numbers = " ".join(f"{value:.6g}" for value in before[..., ::-1].ravel())
    size = [len(field.x_um), len(field.y_um)]
    return numbers, _words([*size, x, y, step_x, step_y, 1, 0, 0, 1])


def read_itk(path: str | os.PathLike) -> Transform:
    """Reads a two-dimensional point map from ITK text, centres of rotation honoured.

    Args:
        path: The `.tfm` file: an affine, Euler, similarity or translation transform, a composite
            of such, or a composite whose last member (applied first) is a displacement field.

    Raises:
        InputError: another kind of transform, another order, or numbers missing.
    """
    path = existing_file(path, "transform")
    blocks = [block for block in _blocks(path) if not block["Transform"].startswith("Composite")]
    if not blocks:
        raise InputError(path, "Transform", "holds none")
    field = None
    if blocks[-1]["Transform"].startswith("DisplacementField"):
        field = _read_field(path, blocks.pop())
    matrix = transforms.compose(*(_read_linear(path, block) for block in blocks))
    if abs(np.linalg.det(matrix[:2, :2])) < 1e-12:
        raise InputError(path, "Parameters", "cannot be inverted")
    if field is None:
        return Transform(matrix)
    after = np.asarray(field.disp_um) @ matrix[:2, :2].T
    return Transform(matrix, Displacement(field.y_um, field.x_um, after))


def itk_note(path: str | os.PathLike) -> str:
    """Returns the comments of an ITK text file, in one line."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return " ".join(line[1:] for line in lines if line.startswith("#"))


def _blocks(path: Path) -> list[dict[str, str]]:
    if path.stat().st_size > LIMITS.text_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.text_bytes} bytes")
    blocks: list[dict[str, str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if line.startswith("#") or not value:
            continue
        if key.strip() == "Transform":
            blocks.append({})
        if blocks:
            blocks[-1][key.strip()] = value.strip()
    return blocks


def _numbers(path: Path, block: dict[str, str], name: str) -> np.ndarray:
    try:
        values = np.array(block.get(name, "").split(), np.float64)
    except ValueError:
        values = np.array([np.nan])
    if not np.all(np.isfinite(values)):
        raise InputError(path, name, "are not all finite numbers")
    return values


def _read_linear(path: Path, block: dict[str, str]) -> np.ndarray:
    """One linear transform: `x -> L (x - center) + center + offset`, whatever its parameters."""
    kind = block["Transform"]
    numbers, center = (_numbers(path, block, n) for n in ("Parameters", "FixedParameters"))
    if not kind.startswith(_KINDS) or not kind.endswith("_2_2"):
        why = f"is {kind}, 2-D linear ones are read, and one field at the end"
        raise InputError(path, "Transform", why)
    count = {"A": 6, "M": 6, "E": 3, "R": 3, "S": 4, "T": 2}[kind[0]]
    center = center[:2] if len(center) >= 2 else np.zeros(2)
    if len(numbers) != count:
        why = f"{count} numbers were expected for {kind}, {len(numbers)} found"
        raise InputError(path, "Parameters", why)
    linear, offset = np.eye(2), numbers[-2:]
    if count == 6:
        linear = numbers[:4].reshape(2, 2)
    elif count > 2:
        angle, scale = (numbers[0], 1.0) if count == 3 else (numbers[1], numbers[0])
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
    return transforms.swap_xy(transforms.from_parts(linear, offset + center - linear @ center))


def _read_field(path: Path, block: dict[str, str]) -> Displacement:
    values, fixed = (_numbers(path, block, n) for n in ("Parameters", "FixedParameters"))
    if len(fixed) != 10 or not np.array_equal(fixed[6:], [1, 0, 0, 1]) or np.any(fixed[4:6] <= 0):
        raise InputError(path, "FixedParameters", "size, origin, spacing and no turn were expected")
    width, height = int(fixed[0]), int(fixed[1])
    if values.size != 2 * width * height:
        raise InputError(path, "Parameters", f"{values.size} for a {width} x {height} field")
    y, x = (fixed[3] + fixed[5] * np.arange(height), fixed[2] + fixed[4] * np.arange(width))
    return Displacement(y, x, values.reshape(height, width, 2)[..., ::-1])
