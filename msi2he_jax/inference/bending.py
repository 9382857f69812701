"""The deformable step of one section, in the frames of its files."""

from __future__ import annotations

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.moving import MovingImage
from msi2he_jax.inference import pairing
from msi2he_jax.registration.deformable import DeformableResult, register_deformable
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement


def bend(
    sample: Sample,
    moving: MovingImage,
    slide: Slide,
    matrix: np.ndarray,
    *,
    metric: str = "mi",
    stiffness: float = 1.0,
) -> tuple[Displacement | None, DeformableResult]:
    """Bends a section into place, from an affine.

    Args:
        sample: Named where it cannot be done.
        moving: The MSI's picture.
        slide: The slide at working resolution.
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        metric: As in `register_deformable`.
        stiffness: Factor on the smoothness penalty.

    Returns:
        The displacement on positions of the imzML's frame, or None where the affine was kept; and
        what was found, in the frames of the pictures.

    Raises:
        InputError: no tissue on the slide, or next to nothing measured.
    """
    pair = pairing.picture_pair(sample, moving, slide)
    inner = pairing.into_pictures(matrix, moving, slide)
    result = register_deformable(pair, inner, metric=metric, stiffness=stiffness)
    field = result.displacement
    return field and field.shifted(moving.origin_um), result
