"""Reads slides and other images as 8-bit sRGB, never more than their headers and limits allow."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import openslide_slides, tiff
from msi2he_jax.histology.kinds import OPENSLIDE, TIFF, kind_of
from msi2he_jax.histology.pictures import read_picture
from msi2he_jax.histology.pixel_size import no_pixel_size
from msi2he_jax.io_safety import existing_file


@dataclasses.dataclass(frozen=True)
class Histology:
    """A histology image at a known scale.

    Attributes:
        pixels: [H, W, 3] uint8, sRGB.
        um_per_px: Pixel size, um.
        path: Where it was read from.
        origin_um: (y, x) of the outer corner of pixel (0, 0) in the uncropped image's frame, um.
        warnings: What is odd in the file, in words.
    """

    pixels: np.ndarray
    um_per_px: float
    path: Path
    origin_um: tuple[float, float] = (0.0, 0.0)
    warnings: tuple[str, ...] = ()


def read_histology(
    path: str | os.PathLike,
    um_per_px: float | None = None,
    roi: tuple[int, int, int, int] | None = None,
    target_um_per_px: float | None = None,
    channels: Sequence[int] | None = None,
) -> Histology:
    """Reads PNG, JPEG, TIFF, or what OpenSlide reads, as 8-bit sRGB; transparency lies on white.

    The content decides what a file is, not its suffix. Of a pyramid, the coarsest level that is
    still as fine as `target_um_per_px` is returned, and `um_per_px` of the result is that level's.
    Only a level of more than 64 million pixels that is finer than needed is averaged on reading,
    tile by tile, over whole blocks of pixels.

    Args:
        path: The image; file names inside its metadata are never followed.
        um_per_px: Pixel size of the full image, um; None takes the file's own (see `pixel_size`).
        roi: (x, y, w, h) in pixels of the full image, or None for all of it.
        target_um_per_px: Finest pixel size needed, um; None reads the full resolution.
        channels: Which are grey (one) or red, green and blue (three), counted from 1; None where
            the image is grey, RGB, or either with transparency.

    Returns:
        The image, its pixel size and its origin in the uncropped image's frame.

    Raises:
        InputError: unreadable, too large, no pixel size known, a region outside the image, or
            pages, channels or numbers of which the file does not say what they are.
    """
    path = existing_file(path, "histology")
    found: tuple[str, ...] = ()
    with _quietly():
        kind = kind_of(path)
        if kind == TIFF:
            read = tiff.read_tiff(path, um_per_px, target_um_per_px, channels)
            pixels, um, scale, found = read
        elif kind == OPENSLIDE:
            if channels is not None:
                why = "channels of a slide that OpenSlide reads cannot be chosen"
                raise InputError(path, "histology_channels", why, "export OME-TIFF")
            read = openslide_slides.read_openslide(path, um_per_px, target_um_per_px)
            pixels, um, scale = read
        else:
            pixels, um, scale = read_picture(path, kind, channels), um_per_px, 1.0
            if um is None:
                raise no_pixel_size(path, "")
    return dataclasses.replace(_cropped(pixels, um, scale, roi, path), warnings=found)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps what decoders say of damaged files off the terminal: one line is enough."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def slide_um_per_px(path: str | os.PathLike, um_per_px: float | None = None) -> float:
    """Returns the pixel size of a full image, um, without reading its pixels.

    Args:
        path: The image.
        um_per_px: What is given for it; None takes the file's own.

    Raises:
        InputError: neither says it, or the file is of a kind that is not read.
    """
    path = existing_file(path, "histology")
    if um_per_px is not None:
        return um_per_px
    with _quietly():
        kind = kind_of(path)
        if kind == TIFF:
            return tiff.stated_um_per_px(path)
        if kind == OPENSLIDE:
            return openslide_slides.stated_um_per_px(path)
    raise no_pixel_size(path, "")


def _cropped(pixels: np.ndarray, um: float, scale: float, roi, path: Path) -> Histology:
    """Cuts `roi` (full-resolution pixels) out of a level that is `scale` times coarser."""
    if roi is None:
        return Histology(pixels, um * scale, path)
    height, width = pixels.shape[0] * scale, pixels.shape[1] * scale
    x, y, w, h = roi
    slack = scale if scale > 1 else 0  # A level's last pixel may reach beyond the full image.
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width + slack or y + h > height + slack:
        why = f"x,y,w,h = {x},{y},{w},{h} is not inside the {width:.0f} x {height:.0f} px image"
        raise InputError(path, "histology_roi", why)
    top, left = int(y / scale), int(x / scale)
    bottom, right = int(np.ceil((y + h) / scale)), int(np.ceil((x + w) / scale))
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    return Histology(part, um * scale, path, (top * um * scale, left * um * scale))
