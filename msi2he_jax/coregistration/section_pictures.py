"""Pictures of one section in each other's frame: overlays, slide on MSI, ions on slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.coregistration.moving import MovingImage
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.data.alignment import read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um
from msi2he_jax.errors import InputError
from msi2he_jax.msi.open_msi import open_msi
from msi2he_jax.msi.overview import named_ion_images
from msi2he_jax.registration import overlay
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.fields import Frame
from msi2he_jax.registration.transforms import Transform
from msi2he_jax.registration.warping import out_grid, warp_by_bands

OUT_PER_MSI_PIXEL = 4.0
MOST_BYTES = 8 * 2**30


def grids_of(pair: SectionPair, out_um_per_px: float | None = None) -> dict[str, Frame]:
    """Returns the grids to draw on: the MSI's own pixels, and the slide at the output's.

    Args:
        pair: The section and its slide.
        out_um_per_px: Pixel size on the slide, um; None takes a quarter of the MSI's.
    """
    moving, slide = pair.moving, pair.slide
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


def slide_on_msi(sample: Sample, record: TransformRecord, um_per_px: float) -> np.ndarray:
    """Draws the slide on the MSI's frame.

    Args:
        sample: The section.
        record: From its MSI to its slide, with grids.
        um_per_px: Pixel size of the result, um.

    Returns:
        `[h, w, 3]` uint8, white where the slide does not reach.
    """
    slide = read_slide(sample, um_per_px)
    return warp_by_bands(
        slide.pixels,
        source_um_per_px=slide.um_per_px,
        out_to_source=record.transform.in_images(to_yx=slide.origin_um),
        out_shape=out_grid(record.grids["msi"].extent_um, um_per_px),
        out_um_per_px=um_per_px,
        fill=255,
    )


def ions_on_slide(
    sample: Sample, record: TransformRecord, mz: Sequence[float], ion_ppm: float | None = None
) -> np.ndarray:
    """Draws ion images on the slide's grid, in one interpolation.

    Args:
        sample: The section.
        record: From its MSI to its slide, with grids.
        mz: K ions.
        ion_ppm: Half width of their window, ppm, or None.

    Returns:
        `[h, w, K]` float32; 0 where the MSI does not reach.

    Raises:
        InputError: an ion outside the range or without signal, or too large a picture.
    """
    grid = record.grids["histology"]
    if 4 * len(mz) * grid.shape[0] * grid.shape[1] > MOST_BYTES:
        why = f"{len(mz)} ions at {grid.um_per_px[0]:g} um/px would make {grid.shape} px each"
        raise InputError("--out_um_per_px", "", why, "choose a larger one, or fewer ions")
    msi = open_msi(sample.imzml)
    native = msi_pixel_size_um(msi, sample.msi_um_per_px, sample.msi_um_per_px_y)
    images = named_ion_images(msi, mz, ion_ppm)
    images *= measured_region(msi, sample.msi_roi)[..., None]
    box = np.zeros(2), grid.extent_um
    backward = record.transform.inverse(box_um=box, tolerance_um=0.01 * min(native))
    return warp_by_bands(
        images,
        source_um_per_px=native,
        out_to_source=backward,
        out_shape=grid.shape,
        out_um_per_px=grid.um_per_px,
    )


def overlays(pair: SectionPair, picture: np.ndarray, transform: Transform) -> dict[str, np.ndarray]:
    """Draws by what a person judges a registration, on the slide's grid.

    Args:
        pair: The section and its slide.
        picture: `[H, W, 3]` uint8, how the MSI is shown.
        transform: MSI to histology.

    Returns:
        `[h, w, 3]` uint8 each: `checkerboard`, where the slide alternates with the MSI; `contour`,
        the MSI with the slide's tissue outlined in orange and the measured region in green.
    """
    slide = pair.slide
    warped, measured = on_slide(pair, picture, transform)
    board = overlay.checkerboard(slide.pixels, np.where(measured[..., None], warped, slide.pixels))
    warped[~measured] = 255
    outlines = [(measured, overlay.MSI_COLOR), (slide.tissue, overlay.HISTOLOGY_COLOR)]
    return {"checkerboard": board, "contour": overlay.draw_contours(warped, outlines)}


def on_slide(
    pair: SectionPair, picture: np.ndarray, transform: Transform
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the MSI's picture and its measured region on the slide's grid.

    Args:
        pair: Gives both grids and the measured region.
        picture: `[H, W, 3]` uint8 on the moving grid.
        transform: MSI to histology.

    Returns:
        `[h, w, 3]` uint8, white where the MSI does not reach, and `[h, w]` bool.
    """
    moving, slide = pair.moving, pair.slide
    far = slide.origin_um + np.asarray(slide.tissue.shape) * slide.um_per_px
    tolerance = 0.05 * float(moving.um_per_px.min())
    backward = transform.inverse(box_um=(slide.origin_um, far), tolerance_um=tolerance)
    backward = backward.in_images(slide.origin_um, moving.origin_um)
    options = {
        "source_um_per_px": moving.um_per_px,
        "out_shape": slide.tissue.shape,
        "out_um_per_px": slide.um_per_px,
    }
    measured = backward.warp(moving.measured, order=0, **options)
    return backward.warp(picture, fill=255, **options), measured
