"""Displacement fields as MetaImage (`.mha`), which ITK, elastix, ANTs and 3D Slicer read."""

from __future__ import annotations

import os

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file
from msi2he_jax.registration.transforms import Displacement

_TYPES = {"MET_DOUBLE": "<f8", "MET_FLOAT": "<f4"}
_LONGEST_HEADER = 4096


def write_mha(path: str | os.PathLike, field: Displacement) -> None:
    """Writes a field whose positions are evenly spaced, vectors (dx, dy), um, float64.

    Args:
        path: The `.mha` file.
        field: Positions are the pixel centres of the image written.

    Raises:
        InputError: positions are not even.
    """
    y, x = even_axis(path, field.y_um), even_axis(path, field.x_um)
    header = [
        "ObjectType = Image",
        "NDims = 2",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        "TransformMatrix = 1 0 0 1",
        f"Offset = {x[0]!r} {y[0]!r}",
        "CenterOfRotation = 0 0",
        f"ElementSpacing = {x[1]!r} {y[1]!r}",
        f"DimSize = {len(field.x_um)} {len(field.y_um)}",
        "ElementNumberOfChannels = 2",
        "ElementType = MET_DOUBLE",
        "ElementDataFile = LOCAL",
    ]
    values = np.ascontiguousarray(np.asarray(field.disp_um)[..., ::-1], "<f8")
    with atomic_file(path) as temporary:
        temporary.write_bytes(("\n".join(header) + "\n").encode() + values.tobytes())


def read_mha(path: str | os.PathLike) -> Displacement:
    """Reads a two-dimensional field of vectors (dx, dy) in um, uncompressed, unturned.

    Args:
        path: The `.mha` file.

    Raises:
        InputError: another kind of image, or a damaged file.
    """
    path = existing_file(path, "displacement field")
    data = path.read_bytes()
    head, mark, rest = data[:_LONGEST_HEADER].partition(b"ElementDataFile")
    lines = head.decode("latin-1").splitlines()
    keys = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines)}
    start = len(head) + len(mark) + rest.find(b"\n") + 1
    try:
        spacing, offset = (
            np.array(keys[name].split(), np.float64) for name in ("ElementSpacing", "Offset")
        )
        width, height = (int(word) for word in keys["DimSize"].split())
        kind = _TYPES[keys["ElementType"]]
        plain = keys.get("CompressedData", "False") == "False" and rest.split()[1] == b"LOCAL"
        turned = keys.get("TransformMatrix", "1 0 0 1").split() != ["1", "0", "0", "1"]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(path, "header", f"is not that of a 2-D field: {error}") from error
    values = np.frombuffer(data[start:], np.uint8)
    needed = width * height * 2 * np.dtype(kind).itemsize
    two = keys.get("ElementNumberOfChannels") == "2"
    if not (plain and two and not turned and 0 < width * height <= LIMITS.grid_pixels):
        raise InputError(path, "header", "an uncompressed 2-D field of 2 channels was expected")
    if values.size != needed:
        raise InputError(path, "data", f"holds {values.size} bytes, {needed} were expected")
    vectors = values.view(kind).reshape(height, width, 2).astype(np.float64)
    y = offset[1] + spacing[1] * np.arange(height)
    return Displacement(y, offset[0] + spacing[0] * np.arange(width), vectors[..., ::-1])


def even_axis(path: str | os.PathLike, positions: np.ndarray) -> tuple[float, float]:
    """Returns (first, step) of evenly spaced positions.

    Args:
        path: What to name in an error.
        positions: `[n]` float, increasing, um.

    Raises:
        InputError: fewer than 2, or not even.
    """
    steps = np.diff(positions)
    if len(steps) == 0 or np.ptp(steps) > 1e-6 * abs(steps.mean()):
        raise InputError(path, "positions", "are not evenly spaced")
    return float(positions[0]), float((positions[-1] - positions[0]) / len(steps))
