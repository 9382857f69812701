"""One section's pictures in each other's frame, at whatever resolution is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.data.alignment import read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.moving import MovingImage
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um
from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.overview import named_ion_images
from msi2he_jax.registration import fields, transforms
from msi2he_jax.registration.export import Transform
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.warping import out_grid, warp_by_bands

OUT_PER_MSI_PIXEL = 4.0
MOST_BYTES = 8 * 2**30


def grids_of(
    moving: MovingImage, slide: Slide, out_um_per_px: float | None = None
) -> dict[str, Frame]:
    """Returns the grids to draw on: the MSI's own pixels, and the slide at the output's.

    Args:
        moving: The MSI's picture.
        slide: The slide.
        out_um_per_px: Pixel size on the slide, um; None takes a quarter of the MSI's.
    """
    msi_far = moving.origin_um + np.asarray(moving.measured.shape) * moving.um_per_px
    slide_far = slide.origin_um + np.asarray(slide.tissue.shape) * slide.um_per_px
    um = out_um_per_px or default_um_per_px(moving)
    native = tuple(float(value) for value in moving.native_um)
    return {
        "msi": Frame(out_grid(msi_far, native), native),
        "histology": Frame(out_grid(slide_far, um), (um, um)),
    }


def default_um_per_px(moving: MovingImage) -> float:
    """Returns a quarter of the MSI's pixel size, um.

    Args:
        moving: Gives the measurement's own pixel size.
    """
    return float(moving.native_um.min()) / OUT_PER_MSI_PIXEL


def slide_on_msi(sample: Sample, transform: Transform, um_per_px: float) -> np.ndarray:
    """Draws the slide on the MSI's frame.

    Args:
        sample: The section.
        transform: From its MSI to its slide, with grids.
        um_per_px: Pixel size of the result, um.

    Returns:
        `[h, w, 3]` uint8, white where the slide does not reach.
    """
    slide = read_slide(sample, um_per_px)
    into = transforms.from_parts(np.eye(2), -np.asarray(slide.origin_um))
    return warp_by_bands(
        slide.pixels,
        source_um_per_px=slide.um_per_px,
        matrix_out_to_source=transforms.compose(into, transform.matrix),
        displacement=transform.displacement,
        out_shape=out_grid(transform.grids["msi"].extent_um, um_per_px),
        out_um_per_px=um_per_px,
        fill=255,
    )


def ions_on_slide(
    sample: Sample, transform: Transform, mz: Sequence[float], ion_ppm: float | None = None
) -> np.ndarray:
    """Draws ion images on the slide's grid, in one interpolation.

    Args:
        sample: The section.
        transform: From its MSI to its slide, with grids.
        mz: K ions.
        ion_ppm: Half width of their window, ppm, or None.

    Returns:
        `[h, w, K]` float32; 0 where the MSI does not reach.

    Raises:
        InputError: an ion outside the range or without signal, or too large a picture.
    """
    grid = transform.grids["histology"]
    if 4 * len(mz) * grid.shape[0] * grid.shape[1] > MOST_BYTES:
        why = f"{len(mz)} ions at {grid.um_per_px[0]:g} um/px would make {grid.shape} px each"
        raise InputError("--out_um_per_px", "", why, "choose a larger one, or fewer ions")
    imzml = open_imzml(sample.imzml)
    native = msi_pixel_size_um(imzml, sample.msi_um_per_px, sample.msi_um_per_px_y)
    images = named_ion_images(imzml, mz, ion_ppm)
    images *= measured_region(imzml, sample.msi_roi)[..., None]
    backward, field = fields.inverse(
        transform.matrix,
        transform.displacement,
        box_um=(np.zeros(2), grid.extent_um),
        tolerance_um=0.01 * min(native),
    )
    return warp_by_bands(
        images,
        source_um_per_px=native,
        matrix_out_to_source=backward,
        displacement=field,
        out_shape=grid.shape,
        out_um_per_px=grid.um_per_px,
    )
