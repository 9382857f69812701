"""Reads slides and other images as 8-bit sRGB, never more than their headers and limits allow."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from msi2he_jax.errors import InputError
from msi2he_jax.histology.pixel_size import no_pixel_size, tiff_um_per_px
from msi2he_jax.histology.tiles import read_reduced, reduction
from msi2he_jax.io_safety import LIMITS, existing_file

PILLOW_FORMATS = ("PNG", "JPEG")
TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".btf", ".tf8")
SMALL_BYTES = 64 * 2**20  # Decoded, an image up to this is let in however tightly it is packed.


@dataclasses.dataclass(frozen=True)
class Histology:
    """A histology image at a known scale.

    Attributes:
        pixels: [H, W, 3] uint8, sRGB.
        um_per_px: Pixel size, um.
        path: Where it was read from.
        origin_um: (y, x) of the outer corner of pixel (0, 0) in the uncropped image's frame, um.
    """

    pixels: np.ndarray
    um_per_px: float
    path: Path
    origin_um: tuple[float, float] = (0.0, 0.0)


def read_histology(
    path: str | os.PathLike,
    um_per_px: float | None = None,
    roi: tuple[int, int, int, int] | None = None,
    target_um_per_px: float | None = None,
) -> Histology:
    """Reads PNG, JPEG, TIFF, OME-TIFF or SVS as 8-bit sRGB; transparency is laid on white.

    Of a pyramid, the coarsest level that is still as fine as `target_um_per_px` is returned, and
    `um_per_px` of the result is that level's. Only a level of more than 64 million pixels that is
    finer than needed is averaged on reading, tile by tile, over whole blocks of pixels.

    Args:
        path: The image; file names inside its metadata are never followed.
        um_per_px: Pixel size of the full image, um; None takes the file's own (OME PhysicalSize,
            Aperio MPP, ImageJ unit, or a TIFF resolution tag that is no print setting).
        roi: (x, y, w, h) in pixels of the full image, or None for all of it.
        target_um_per_px: Finest pixel size needed, um; None reads the full resolution.

    Returns:
        The image, its pixel size and its origin in the uncropped image's frame.

    Raises:
        InputError: unreadable, too large, no pixel size known, or a region outside the image.
    """
    path = existing_file(path, "histology")
    with _quietly():
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _read_tiff(path, um_per_px, roi, target_um_per_px)
        if um_per_px is None:
            raise no_pixel_size(path, "")
        return _cropped(_read_with_pillow(path, PILLOW_FORMATS), um_per_px, 1.0, roi, path)


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
        InputError: neither says it.
    """
    import tifffile

    path = existing_file(path, "histology")
    if um_per_px is not None:
        return um_per_px
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise no_pixel_size(path, "")
    try:
        with tifffile.TiffFile(path, is_ome=False) as tiff:
            return tiff_um_per_px(path, tiff)
    except tifffile.TiffFileError as error:
        raise InputError(path, "histology", f"cannot be read as TIFF: {error}") from error


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


def _read_with_pillow(path: Path, formats: tuple[str, ...], page: int = 0) -> np.ndarray:
    try:
        with _own_limit(), Image.open(path, formats=formats) as image:
            _check_size(path, *image.size, len(image.getbands()), path.stat().st_size)
            image.seek(page)
            return _to_rgb8(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        why = f"is none of the images read here: {', '.join(formats)}"
        raise InputError(path, "histology", why, "or it is damaged at its start") from error
    except Exception as error:  # decoders raise nearly any type on damaged files
        hint = "PNG, JPEG, TIFF, OME-TIFF and SVS are read"
        raise InputError(path, "histology", f"cannot be decoded: {error}", hint) from error


@contextlib.contextmanager
def _own_limit() -> Iterator[None]:
    """Lifts Pillow's limit, too low for slides; `_check_size` holds ours against the header."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_size(path: Path, width: int, height: int, channels: int, stored: int) -> None:
    """Holds what the header promises against the limits and the bytes that are there."""
    if width * height > LIMITS.image_pixels:
        why = f"{width} x {height} px is more than {LIMITS.image_pixels} pixels"
        hint = "export a lower resolution, or allow more with --limits.image_pixels=N"
        raise InputError(path, "histology", why, hint)
    size = width * height * channels
    if size > max(SMALL_BYTES, LIMITS.image_ratio * stored):
        why = f"{width} x {height} px would come from no more than {stored} bytes"
        hint = "no scan is packed so tightly; --limits.image_ratio=N allows it"
        raise InputError(path, "histology", why, hint)


def _to_rgb8(image: Image.Image) -> np.ndarray:
    """Any Pillow mode to uint8 [H, W, 3]; transparent parts become white."""
    if image.mode.startswith("I"):
        return _as_rgb8(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _as_rgb8(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _as_rgb8(array: np.ndarray) -> np.ndarray:
    """Grey, grey + alpha, RGB or RGBA of 8 or 16 bits to uint8 [H, W, 3]."""
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[-1] in (2, 4):
        alpha = array[..., -1:].astype(np.uint16)
        blended = array[..., :-1] * alpha + 255 * (255 - alpha)
        array = ((blended + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array[..., :3], (*array.shape[:2], 3)))


def _read_tiff(path: Path, um_per_px, roi, target_um_per_px) -> Histology:
    import tifffile

    try:
        with tifffile.TiffFile(path, is_ome=False) as tiff:
            um_per_px = um_per_px or tiff_um_per_px(path, tiff)
            page, scale = _level(tiff, um_per_px, target_um_per_px)
            factor = reduction(page, um_per_px * scale, target_um_per_px)
            _check_page(path, page, factor)
            if factor > 1:
                pixels, scale = _reduced(path, page, factor), scale * factor
            else:
                pixels = _page_pixels(path, tiff, page)
    except InputError:
        raise
    except Exception as error:  # tifffile raises many types on damaged files
        raise InputError(path, "histology", f"cannot be read as TIFF: {error}") from error
    return _cropped(pixels, um_per_px, scale, roi, path)


def _check_page(path: Path, page, factor: int) -> None:
    """Refuses a page too large to be held, or whose parts lie beyond the end of the file."""
    whole = path.stat().st_size
    stored = min(whole, sum(page.databytecounts))
    channels = page.samplesperpixel * page.dtype.itemsize
    size = (page.imagewidth // factor, page.imagelength // factor)
    _check_size(path, *size, channels * factor**2, stored)
    _check_size(path, page.tilewidth, page.tilelength, channels, stored)
    parts = zip(page.dataoffsets, page.databytecounts, strict=True)
    if any(size and offset + size > whole for offset, size in parts):
        raise InputError(path, "histology", "is cut off: parts of the image are missing")
    if page.compression == 1 and stored < page.imagewidth * page.imagelength * channels:
        raise InputError(path, "histology", "holds fewer pixels than its header says")


def _level(tiff, um_per_px: float, target: float | None):
    """Picks the coarsest stored level not coarser than `target`; returns (page, scale >= 1)."""
    base = tiff.pages[0]
    if not base.imagewidth * base.imagelength:
        raise ValueError("it has no pixels")
    levels = [base, *(base.pages or ())]
    levels += [p for p in tiff.pages[1:] if p.is_reduced or (tiff.is_svs and p.is_tiled)]
    aspect = base.imagewidth / base.imagelength
    chosen, chosen_scale = base, 1.0
    for page in levels:
        scale = base.imagewidth / page.imagewidth
        same = abs(page.imagewidth / page.imagelength / aspect - 1) < 0.02
        if same and chosen_scale < scale <= (target or 0) / um_per_px * 1.001:
            chosen, chosen_scale = page, scale
    return chosen, chosen_scale


def _reduced(path: Path, page, factor: int) -> np.ndarray:
    try:
        return read_reduced(page, factor, _as_rgb8)
    except ValueError as error:
        name = getattr(page.compression, "name", page.compression)
        why = f"compression {name} cannot be decoded: {error}"
        raise InputError(path, "histology", why, "pip install 'msi2he_jax[wsi]'") from error


def _page_pixels(path: Path, tiff, page) -> np.ndarray:
    """Decodes one page; Pillow steps in for compressions that tifffile alone cannot read."""
    if page.photometric.name == "SEPARATED":
        with _silent_libtiff():
            return _read_with_pillow(path, ("TIFF",), page.index)
    planes = [page]
    if page.samplesperpixel == 1 and re.search(r'SizeC="3"', tiff.pages[0].description):
        planes = [p for p in tiff.pages if p.shape == page.shape][:3]
    try:
        arrays = [p.asarray() for p in planes]
    except ValueError as error:
        return _decoded_elsewhere(path, page, error)
    array = np.stack(arrays, axis=-1) if len(arrays) == 3 else arrays[0]
    return _oriented(_tiff_colours(path, page, array), page)


def _decoded_elsewhere(path: Path, page, error: Exception) -> np.ndarray:
    try:
        with _silent_libtiff():
            return _read_with_pillow(path, ("TIFF",), page.index)
    except (InputError, IndexError):
        why = f"compression {page.compression.name} cannot be decoded: {error}"
        raise InputError(path, "histology", why, "pip install 'msi2he_jax[wsi]'") from error


@contextlib.contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Sends away what the C library writes to stderr itself; Pillow cannot tell it not to."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _tiff_colours(path: Path, page, array: np.ndarray) -> np.ndarray:
    """Applies photometric interpretation and plane order; returns uint8 [H, W, 3]."""
    kind = page.photometric.name
    array = np.squeeze(array)
    if page.planarconfig == 2 and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if kind not in ("RGB", "YCBCR", "MINISBLACK", "MINISWHITE", "PALETTE"):
        raise InputError(path, "histology", f"colour space {kind} is not read", "export as RGB")
    if kind == "PALETTE":
        array = np.moveaxis(page.colormap, 0, -1)[array]
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3):
        why = f"{array.dtype} {array.shape} is not an 8- or 16-bit image"
        raise InputError(path, "histology", why, "export as 8-bit RGB")
    if kind == "MINISWHITE":
        array = np.iinfo(array.dtype).max - array
    return _as_rgb8(array)


def _oriented(array: np.ndarray, page) -> np.ndarray:
    """Applies the TIFF orientation tag, as a viewer shows it."""
    tag = page.tags.get("Orientation")
    value = int(tag.value) if tag else 1
    if value in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(value, ())
    return np.ascontiguousarray(np.flip(array, flips))


def png_bytes(array: np.ndarray) -> bytes:
    """Encodes an `array` of uint8 or bool [H, W], or uint8 [H, W, 3]; bool becomes 0 and 1."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decodes PNG bytes to uint8 [H, W] or [H, W, 3]."""
    with _own_limit(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image)
