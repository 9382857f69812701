"""A section and its slide as a pair of pictures, and back into the frames of their files."""

from __future__ import annotations

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.moving import MovingImage
from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.automatic import Pair, make_pair
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement
from msi2he_jax.registration.uncertainty import Uncertainty, estimate_uncertainty


def picture_pair(
    sample: Sample, moving: MovingImage, slide: Slide, start: np.ndarray | None = None
) -> Pair:
    """Makes the pair that registration works on, whose frames begin at the pictures' corners.

    Args:
        sample: Named where it cannot be done.
        moving: The MSI's picture.
        slide: The slide at working resolution.
        start: `[3, 3]` float, a guess, imzML frame to slide frame, um; or None.

    Raises:
        InputError: no tissue on the slide, or next to nothing measured.
    """
    tissue, known = moving.masks()
    images = moving.features, slide.density, tissue, slide.tissue
    sizes = {"moving_um_per_px": moving.um_per_px, "fixed_um_per_px": slide.um_per_px}
    sizes |= {"moving_valid": known, "moving_confidence": moving.confidence}
    inner = None if start is None else into_pictures(start, moving, slide)
    try:
        return make_pair(*images, **sizes, start=inner)
    except InputError as error:
        names = {"moving": sample.imzml, "fixed": sample.histology}
        path = names.get(error.path, error.path)
        raise InputError(path, error.field, error.why, error.hint) from error


def into_pictures(matrix: np.ndarray, moving: MovingImage, slide: Slide) -> np.ndarray:
    """Takes a matrix from the files' frames to the pictures'.

    Args:
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        moving: The MSI's picture.
        slide: The slide's picture.

    Returns:
        `[3, 3]` float64, um.
    """
    into_crop = transforms.from_parts(np.eye(2), -np.asarray(slide.origin_um))
    from_grid = transforms.from_parts(np.eye(2), moving.origin_um)
    return transforms.compose(into_crop, matrix, from_grid)


def into_files(matrix: np.ndarray, moving: MovingImage, slide: Slide) -> np.ndarray:
    """Takes a matrix from the pictures' frames to the files'; the inverse of `into_pictures`.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        moving: The MSI's picture.
        slide: The slide's picture.

    Returns:
        `[3, 3]` float64, imzML frame to slide frame, um.
    """
    from_crop = transforms.from_parts(np.eye(2), slide.origin_um)
    into_grid = transforms.from_parts(np.eye(2), -np.asarray(moving.origin_um))
    return transforms.compose(from_crop, matrix, into_grid)


def uncertainty_of(
    sample: Sample,
    moving: MovingImage,
    slide: Slide,
    matrix: np.ndarray,
    displacement: Displacement | None = None,
) -> Uncertainty:
    """Estimates how well a section and its slide determine their alignment.

    Args:
        sample: Named where it cannot be done.
        moving: The MSI's picture.
        slide: The slide at working resolution.
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        displacement: Field on positions of the imzML's frame, or None.

    Returns:
        The spread of acceptable shifts, `[H, W]` on the moving picture.
    """
    inner = displacement and displacement.shifted(-np.asarray(moving.origin_um))
    pair = picture_pair(sample, moving, slide)
    return estimate_uncertainty(pair, into_pictures(matrix, moving, slide), inner)
