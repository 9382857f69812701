"""An affine as OME-NGFF coordinate transformation, in the form of SpatialData too.

Both sides are in um from the outer corner of the first pixel, which is SpatialData's convention:
scale an image's pixels by um_per_px there. OME-NGFF counts pixels from their centres: scale by
um_per_px, then add half of it. The displacement of a deformable registration is not in it.
"""

from __future__ import annotations

import os

import numpy as np

from msi2he_jax.io_safety import write_json
from msi2he_jax.registration import transforms
from msi2he_jax.registration.fields import Frame

AXES = ("y", "x")


def write_ngff(
    path: str | os.PathLike, matrix: np.ndarray, frames: dict[str, Frame], *, whole: bool
) -> None:
    """Writes coordinate systems and transformations.

    Args:
        path: The JSON file.
        matrix: `[3, 3]` float, MSI to histology, acting on (y, x, 1), um.
        frames: `msi` and `histology`: the grids whose pixels are placed too.
        whole: Whether the matrix is all of the transform.
    """
    backward = transforms.invert(matrix)
    maps = [("msi", "histology", matrix), ("histology", "msi", backward)]
    note = "um from the outer corner of the first pixel"
    note += "" if whole else "; the affine part only, its displacement is in the other files"
    systems = [_system(name) for name in ("msi", "histology")]
    systems += [_system(f"{name}_pixels", "pixel") for name in frames]
    write_json(
        path,
        {
            "note": note,
            "coordinateSystems": systems,
            "coordinateTransformations": [
                *(_pixels(name, frame) for name, frame in frames.items()),
                *(_affine(*each) for each in maps),
            ],
            "spatialdata": {
                "coordinateTransformations": [
                    _affine(one, other, each) | {"input": _system(one), "output": _system(other)}
                    for one, other, each in maps
                ]
            },
        },
    )


def _affine(source: str, target: str, matrix: np.ndarray) -> dict:
    return {
        "type": "affine",
        "name": f"{source}_to_{target}",
        "input": source,
        "output": target,
        "affine": np.asarray(matrix)[:2].tolist(),
    }


def _pixels(name: str, frame: Frame) -> dict:
    """Pixel indices (centres at whole numbers) to um."""
    size = [float(value) for value in frame.um_per_px]
    return {
        "type": "sequence",
        "name": f"{name}_pixels_to_{name}",
        "input": f"{name}_pixels",
        "output": name,
        "transformations": [
            {"type": "scale", "scale": size},
            {"type": "translation", "translation": [value / 2 for value in size]},
        ],
    }


def _system(name: str, unit: str = "micrometer") -> dict:
    return {"name": name, "axes": [{"name": a, "type": "space", "unit": unit} for a in AXES]}
