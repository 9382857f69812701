"""The pictures on which a person marks landmarks."""

from __future__ import annotations

from msi2he_jax.data.alignment import read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.histology import resample_area
from msi2he_jax.inference.moving import moving_image
from msi2he_jax.registration.landmark_page import picture
from msi2he_jax.registration.overlay import to_rgb

LONGEST_SIDE_PX = 3000


def landmark_pictures(
    sample: Sample, moving: str, *, ion_ppm: float | None = None
) -> tuple[dict, dict]:
    """Makes the two pictures of a landmark page: the MSI pixel by pixel, the slide as fine as fits.

    Args:
        sample: The section.
        moving: How the MSI is shown: a view or `ion:MZ`.
        ion_ppm: Half width of an ion's window, ppm, or None.

    Returns:
        What `landmark_page.picture` says of the MSI and of the slide.

    Raises:
        InputError: a file cannot be read, or the MSI is to be shown as something else.
    """
    shown = moving_image(_shown(moving), sample, ion_ppm=ion_ppm)
    pixels = to_rgb(shown.picture, shown.measured)
    msi = picture(pixels, shown.um_per_px, shown.origin_um, lossless=True)
    coarse = read_slide(sample, float(shown.native_um.min()))
    extent = max(coarse.pixels.shape[:2]) * coarse.um_per_px
    um = extent / LONGEST_SIDE_PX
    fine = read_slide(sample, um)
    um = max(um, fine.um_per_px)
    drawn = resample_area(fine.pixels, fine.um_per_px, um)
    return msi, picture(drawn, um, fine.origin_um, lossless=False)


def _shown(moving: str) -> str:
    if moving == "synthetic":
        raise InputError(
            "--moving", "", "is 'synthetic'", "a view or ion:MZ shows what is measured"
        )
    return moving
