"""Transforms as elastix parameter files, for transformix.

transformix takes the map from the grid it draws on to the image it reads. `histology_to_msi.txt`
therefore draws MSI images on the slide's grid, and `msi_to_histology.txt` the slide on the MSI's.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from msi2he_jax.io_safety import atomic_file
from msi2he_jax.registration import transforms
from msi2he_jax.registration.fields import Frame


def write_elastix(
    path: str | os.PathLike, matrix: np.ndarray, frame: Frame, field_file: str | None = None
) -> None:
    """Writes TransformParameters: an affine, or a field that holds all of the transform.

    Args:
        path: The text file.
        matrix: `[3, 3]` float, acting on (y, x, 1), um; unused where there is a field.
        frame: The grid that transformix draws on, in the frame the map starts from.
        field_file: Name of the `.mha` beside `path` that holds the whole displacement, or None.
    """
    lines = _affine(matrix) if field_file is None else _field(field_file)
    lines += [*_geometry(frame), *_OUTPUT]
    text = "// A map of points in um; give images the spacing um_per_px and origin um_per_px / 2.\n"
    if field_file is not None:
        text += f"// Run transformix in the folder that holds {Path(field_file).name}.\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n".join(f"({line})" for line in lines) + "\n")


def _affine(matrix: np.ndarray) -> list[str]:
    xy = transforms.swap_xy(matrix)
    return [
        'Transform "AffineTransform"',
        "NumberOfParameters 6",
        f"TransformParameters {_words([*xy[:2, :2].ravel(), *xy[:2, 2]])}",
        "CenterOfRotationPoint 0 0",
    ]


def _field(field_file: str) -> list[str]:
    return [
        'Transform "DeformationFieldTransform"',
        "NumberOfParameters 0",
        f'DeformationFieldFileName "{field_file}"',
        "DeformationFieldInterpolationOrder 1",
    ]


def _geometry(frame: Frame) -> list[str]:
    size_y, size_x = frame.um_per_px
    return [
        "FixedImageDimension 2",
        "MovingImageDimension 2",
        'FixedInternalImagePixelType "float"',
        'MovingInternalImagePixelType "float"',
        f"Size {frame.shape[1]} {frame.shape[0]}",
        "Index 0 0",
        f"Spacing {_words([size_x, size_y])}",
        f"Origin {_words([size_x / 2, size_y / 2])}",
        "Direction 1 0 0 1",
        'UseDirectionCosines "true"',
    ]


def _words(values) -> str:
    return " ".join(repr(float(value)) for value in values)


# The name of the initial transform's entry changed with elastix 5.1: both are understood.
_OUTPUT = (
    'InitialTransformParametersFileName "NoInitialTransform"',
    'InitialTransformParameterFileName "NoInitialTransform"',
    'HowToCombineTransforms "Compose"',
    'ResampleInterpolator "FinalLinearInterpolator"',
    'Resampler "DefaultResampler"',
    "DefaultPixelValue 0",
    'ResultImageFormat "mha"',
    'ResultImagePixelType "float"',
    'CompressResultImage "false"',
)
