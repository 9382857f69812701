"""The pictures on which a person marks landmarks."""

from __future__ import annotations

from msi2he_jax.coregistration.moving import MovingImage, overview_pictures
from msi2he_jax.coregistration.synthetic_moving import moving_image
from msi2he_jax.data.alignment import read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.histology import resample_area
from msi2he_jax.registration.landmark_page import picture
from msi2he_jax.registration.overlay import to_rgb

LONGEST_SIDE_PX = 3000


def landmark_pictures(
    sample: Sample, moving: str, *, ion_ppm: float | None = None
) -> tuple[tuple[dict[str, dict], dict], list[str]]:
    """Makes the pictures of a landmark page: the MSI pixel by pixel, the slide as fine as fits.

    Args:
        sample: The section.
        moving: How the MSI is shown at first: a view or `ion:MZ`.
        ion_ppm: Half width of an ion's window, ppm, or None.

    Returns:
        What `landmark_page.picture` says of each picture of the MSI, by its name for people, and of
        the slide; and what is odd about them.

    Raises:
        InputError: a file cannot be read, or the MSI is to be shown as something else.
    """
    known = {each.kind: each for each in overview_pictures(sample)}
    first = known.pop(moving, None) or moving_image(_shown(moving), sample, ion_ppm=ion_ppm)
    msi = {_title(each.kind): _msi_picture(each) for each in (first, *known.values())}
    slide, warnings = _slide_picture(sample, float(first.native_um.min()))
    return (msi, slide), [*first.warnings, *warnings]


def _title(kind: str) -> str:
    name, _, mz = kind.partition(":")
    return {"tic": "Total ion count", "ion": f"m/z {mz}"}.get(name, f"{name.upper()} view")


def _msi_picture(shown: MovingImage) -> dict:
    pixels = to_rgb(shown.picture, shown.measured)
    return picture(pixels, shown.um_per_px, shown.origin_um, lossless=True, visible=shown.measured)


def _slide_picture(sample: Sample, msi_um: float) -> tuple[dict, tuple[str, ...]]:
    coarse = read_slide(sample, msi_um)
    extent = max(coarse.pixels.shape[:2]) * coarse.um_per_px
    um = extent / LONGEST_SIDE_PX
    fine = read_slide(sample, um)
    um = max(um, fine.um_per_px)
    drawn = resample_area(fine.pixels, fine.um_per_px, um)
    return picture(drawn, um, fine.origin_um, lossless=False), fine.warnings


def _shown(moving: str) -> str:
    if moving == "synthetic":
        raise InputError(
            "--moving", "", "is 'synthetic'", "a view or ion:MZ shows what is measured"
        )
    return moving
