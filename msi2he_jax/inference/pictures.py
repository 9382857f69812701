"""Pictures of a registered section: what moved, and how it lies on the slide."""

from __future__ import annotations

import numpy as np

from msi2he_jax.data.moving import MovingImage
from msi2he_jax.registration import fields, overlay, transforms
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement


def overlays(
    moving: MovingImage,
    picture: np.ndarray,
    slide: Slide,
    matrix: np.ndarray,
    displacement: Displacement | None = None,
) -> dict[str, np.ndarray]:
    """Draws by what a person judges a registration, on the slide's grid.

    Args:
        moving: What was registered.
        picture: `[H, W, 3]` uint8, how it is shown.
        slide: What it was registered to.
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        displacement: Field added to the matrix's result, or None.

    Returns:
        `[h, w, 3]` uint8 each: `checkerboard`, where the slide alternates with the MSI; `contour`,
        the MSI with the slide's tissue outlined in orange and the measured region in green.
    """
    warped, measured = on_slide(moving, picture, slide, matrix, displacement)
    board = overlay.checkerboard(slide.pixels, np.where(measured[..., None], warped, slide.pixels))
    warped[~measured] = 255
    outlines = [(measured, overlay.MSI_COLOR), (slide.tissue, overlay.HISTOLOGY_COLOR)]
    return {"checkerboard": board, "contour": overlay.draw_contours(warped, outlines)}


def on_slide(
    moving: MovingImage,
    picture: np.ndarray,
    slide: Slide,
    matrix: np.ndarray,
    displacement: Displacement | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the MSI's picture and its measured region on the slide's grid.

    Args:
        moving: Gives the grid and the measured region.
        picture: `[H, W, 3]` uint8 on the moving grid.
        slide: Gives the grid drawn on.
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        displacement: Field added to the matrix's result, or None.

    Returns:
        `[h, w, 3]` uint8, white where the MSI does not reach, and `[h, w]` bool.
    """
    to_slide = transforms.from_parts(np.eye(2), slide.origin_um)
    to_grid = transforms.from_parts(np.eye(2), -moving.origin_um)
    far = slide.origin_um + np.asarray(slide.tissue.shape) * slide.um_per_px
    tolerance = 0.05 * float(moving.um_per_px.min())
    backward, bent = fields.inverse(
        matrix, displacement, box_um=(slide.origin_um, far), tolerance_um=tolerance
    )
    options = {
        "source_um_per_px": moving.um_per_px,
        "matrix_out_to_source": transforms.compose(to_grid, backward, to_slide),
        "displacement": bent and bent.shifted(-slide.origin_um),
        "out_shape": slide.tissue.shape,
        "out_um_per_px": slide.um_per_px,
    }
    measured = transforms.warp_image(moving.measured, order=0, **options)
    return transforms.warp_image(picture, fill=255, **options), measured
