"""Slides that only OpenSlide reads (MRXS, VMS, BIF, SVSLIDE and others), from the `wsi` extra."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import tiles
from msi2he_jax.histology.channels import STRAIGHT, Colours
from msi2he_jax.histology.kinds import not_read
from msi2he_jax.histology.limits import check_size
from msi2he_jax.histology.pixel_size import no_pixel_size, square

PIECE_PX = 2048
_PIXEL_SIZE = ("openslide.mpp-x", "openslide.mpp-y")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """Opens a slide, and turns what OpenSlide raises into an InputError."""
    try:
        import openslide
    except (ImportError, OSError) as error:
        why = "only OpenSlide reads this kind of slide, and it is not installed"
        raise InputError(path, "histology", why, "pip install 'msi2he_jax[wsi]'") from error
    try:
        slide = openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise not_read(path) from error
    except openslide.OpenSlideError as error:
        raise InputError(path, "histology", f"cannot be read by OpenSlide: {error}") from error
    try:
        yield slide
    except openslide.OpenSlideError as error:
        raise InputError(path, "histology", f"cannot be read by OpenSlide: {error}") from error
    finally:
        slide.close()


def stated_um_per_px(path: Path) -> float:
    """Returns the pixel size that a slide states, um.

    Raises:
        InputError: unreadable, no pixel size, or OpenSlide is not installed.
    """
    with _opened(path) as slide:
        return _um_per_px(path, slide)


def _um_per_px(path: Path, slide) -> float:
    stated = [slide.properties.get(name) for name in _PIXEL_SIZE]
    if None in stated:
        raise no_pixel_size(path, "")
    return square(path, *map(float, stated))


def read_openslide(
    path: Path, um_per_px: float | None, target_um_per_px: float | None
) -> tuple[np.ndarray, float, float]:
    """Reads the level of a slide that suits `target_um_per_px`, in OpenSlide's frame.

    Args:
        path: The slide.
        um_per_px: Pixel size of its full resolution, um; None takes its own.
        target_um_per_px: Finest pixel size needed, um; None reads the full resolution.

    Returns:
        `[H, W, 3]` uint8, white where nothing was scanned; the full resolution's pixel size, um;
        how many of its pixels one read is wide.

    Raises:
        InputError: unreadable, too large, no pixel size, or OpenSlide is not installed.
    """
    with _opened(path) as slide:
        um = um_per_px or _um_per_px(path, slide)
        most = (target_um_per_px or 0) / um * 1.001
        fitting = [k for k, scale in enumerate(slide.level_downsamples) if scale <= max(most, 1)]
        level = max(fitting, key=slide.level_downsamples.__getitem__)
        width, height = slide.level_dimensions[level]
        scale = slide.level_downsamples[level]
        factor = tiles.reduction(width, height, um * scale, target_um_per_px)
        size = width // factor, height // factor
        check_size(path, *size, 3, max(path.stat().st_size, 3 * size[0] * size[1]))
        pieces = _pieces(path, slide, level)
        return tiles.average_pieces(pieces, height, width, factor), um, scale * factor


def _pieces(path: Path, slide, level: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Reads a level in squares; positions that OpenSlide takes are of the full resolution."""
    width, height = slide.level_dimensions[level]
    scale, colours = slide.level_downsamples[level], Colours(path, 4, alpha=STRAIGHT)
    for top in range(0, height, PIECE_PX):
        for left in range(0, width, PIECE_PX):
            size = min(PIECE_PX, width - left), min(PIECE_PX, height - top)
            at = round(left * scale), round(top * scale)
            yield top, left, colours.to_rgb8(np.asarray(slide.read_region(at, level, size)))
