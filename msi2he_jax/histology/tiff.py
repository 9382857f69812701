"""Slides in TIFF: the right page, decoded whole or reduced piece by piece, as 8-bit sRGB."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import tiles
from msi2he_jax.histology.channels import PREMULTIPLIED, STRAIGHT, Colours
from msi2he_jax.histology.kinds import is_ndpi
from msi2he_jax.histology.limits import check_size
from msi2he_jax.histology.pages import Level, Pyramid, find_pyramid
from msi2he_jax.histology.pictures import read_picture, silent_libtiff
from msi2he_jax.histology.pixel_size import tiff_um_per_px

_GREY = ("MINISBLACK", "MINISWHITE", "PALETTE")
_KNOWN = ("RGB", "YCBCR", *_GREY)
_ALPHA = {1: PREMULTIPLIED, 2: STRAIGHT}
_MAX_SAMPLE_VALUE = 281


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple]:
    """Opens a TIFF, and turns what tifffile raises on damaged files into an InputError."""
    import tifffile

    try:
        with tifffile.TiffFile(path, is_ome=False, is_ndpi=is_ndpi(path)) as tiff:
            yield tiff, find_pyramid(path, tiff)
    except InputError:
        raise
    except Exception as error:  # tifffile raises many types on damaged files
        raise InputError(path, "histology", f"cannot be read as TIFF: {error}") from error


def stated_um_per_px(path: Path) -> float:
    """Returns the pixel size that a TIFF states, um.

    Raises:
        InputError: unreadable, or no pixel size.
    """
    with _opened(path) as (tiff, pyramid):
        return tiff_um_per_px(path, tiff, pyramid.levels[0].planes[0])


def read_tiff(
    path: Path,
    um_per_px: float | None,
    target_um_per_px: float | None,
    chosen: Sequence[int] | None,
) -> tuple[np.ndarray, float, float, tuple[str, ...]]:
    """Reads the level of a TIFF that suits `target_um_per_px`; for arguments see `read_histology`.

    Returns:
        `[H, W, 3]` uint8; the full resolution's pixel size, um; how many of its pixels one read is
        wide; what is odd in the file.

    Raises:
        InputError: as `read_histology`.
    """
    with _opened(path) as (tiff, pyramid):
        colours = _colours(path, tiff, pyramid).choose(chosen)
        um = um_per_px or _stated(path, tiff, pyramid, colours)
        level = pyramid.level_for(um, target_um_per_px)
        page = level.planes[0]
        size = page.imagewidth, page.imagelength
        factor = tiles.reduction(*size, um * level.scale, target_um_per_px)
        if len(level.planes) > 1 or chosen or not tiles.comes_in_pieces(page):
            factor = 1
        pixels = _decoded(path, level, colours, factor)
        return pixels, um, level.scale * factor, pyramid.warnings


def _stated(path: Path, tiff, pyramid: Pyramid, colours: Colours) -> float:
    """Finds the pixel size; of a file that cannot be decoded either, that is the error."""
    try:
        return tiff_um_per_px(path, tiff, pyramid.levels[0].planes[0])
    except InputError:
        _decoded(path, pyramid.levels[-1], colours, 1)
        raise


def _decoded(path: Path, level: Level, colours: Colours, factor: int) -> np.ndarray:
    for plane in level.planes:
        _check_page(path, plane, factor)
    if factor > 1:
        return _reduced(level.planes[0], factor, colours)
    return _whole(path, level, colours)


def _check_page(path: Path, page, factor: int) -> None:
    """Refuses a page too large to be held, or whose parts lie beyond the end of the file."""
    whole = path.stat().st_size
    stored = min(whole, sum(page.databytecounts))
    channels = page.samplesperpixel * page.dtype.itemsize
    size = (page.imagewidth // factor, page.imagelength // factor)
    check_size(path, *size, channels * factor**2, stored)
    check_size(path, page.tilewidth, page.tilelength, channels, stored)
    parts = zip(page.dataoffsets, page.databytecounts, strict=True)
    fewer = len(page.dataoffsets) < math.prod(page.chunked) and not page.is_ndpi
    if fewer or any(size and offset + size > whole for offset, size in parts):
        raise InputError(path, "histology", "is cut off: parts of the image are missing")
    bits = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample
    if page.compression == 1 and stored < bits // 8:
        raise InputError(path, "histology", "holds fewer pixels than its header says")


def _colours(path: Path, tiff, pyramid: Pyramid) -> Colours:
    """Tells what the samples of a slide mean, from its header alone."""
    planes = pyramid.levels[0].planes
    page, kind = planes[0], planes[0].photometric.name
    if kind == "SEPARATED":
        return Colours(path, 3)
    if kind not in _KNOWN:
        raise InputError(path, "histology", f"colour space {kind} is not read", "export as RGB")
    if page.dtype is None or page.imagedepth > 1:
        raise InputError(path, "histology", "is no plane of 8- or 16-bit pixels", "export as RGB")
    count = len(planes) if len(planes) > 1 else page.samplesperpixel
    alpha = _ALPHA.get(page.extrasamples[0], "") if len(page.extrasamples) == 1 else ""
    names = _channel_names(tiff)
    plain = 1 if kind in _GREY else 3
    known = len(planes) == 1 and count == plain + bool(alpha)
    known |= len(planes) == 3 and names in (("red", "green", "blue"), ("r", "g", "b"))
    if kind == "PALETTE":
        count, bits = 3, None
    else:
        bits = _significant_bits(path, tiff, page)
    return Colours(path, count, alpha, bits, names, known, kind == "MINISWHITE")


def _channel_names(tiff) -> tuple[str, ...]:
    """Names of the channels in OME-XML, in lower case."""
    text = (tiff.pages[0].description or "").split("</Pixels>")[0]
    return tuple(name.lower() for name in re.findall(r'<Channel\b[^>]*?\bName="([^"]*)"', text))


def _significant_bits(path: Path, tiff, page) -> int | None:
    """Finds how many bits of a sample count: packed so, in OME-XML, or by the largest value."""
    stored = 8 * page.dtype.itemsize
    if page.dtype.kind != "u":
        return None
    if page.bitspersample < stored:
        return page.bitspersample
    text = tiff.pages[0].description or ""
    stated = {int(n) for n in re.findall(r'\bSignificantBits="(\d+)"', text.split("</Pixels>")[0])}
    most = page.tags.valueof(_MAX_SAMPLE_VALUE)
    most = int(np.max(most)) if most is not None else 0
    if most > 255 and most & (most + 1) == 0:  # Any other number is the largest that occurs.
        stated.add(most.bit_length())
    if len(stated) > 1 or not all(0 < bits <= stored for bits in stated):
        named = " and ".join(map(str, sorted(stated)))
        why = f"its statements conflict: {named} significant bits of {stored}"
        raise InputError(path, "histology", why, "export as 8-bit RGB")
    return stated.pop() if stated else None


def _reduced(page, factor: int, colours: Colours) -> np.ndarray:
    pieces = tiles.page_pieces(page, colours.to_rgb8)
    try:
        return tiles.average_pieces(pieces, page.imagelength, page.imagewidth, factor)
    except ValueError as error:
        raise _undecoded(colours.path, page, error) from error


def _undecoded(path: Path, page, error: Exception) -> InputError:
    name = getattr(page.compression, "name", page.compression)
    why = f"compression {name} cannot be decoded: {error}"
    return InputError(path, "histology", why, "pip install 'msi2he_jax[wsi]'")


def _whole(path: Path, level: Level, colours: Colours) -> np.ndarray:
    """Decodes a level; Pillow steps in for what tifffile alone cannot read."""
    page = level.planes[0]
    # Pillow knows pages of the main chain alone, and gives RGB.
    only_tifffile = colours.chosen is not None or len(level.planes) > 1 or page.is_subifd
    if tiles.needs_pillow(page):
        if only_tifffile:
            why = f"{page.photometric.name} is read from whole first pages only, as RGB"
            raise InputError(path, "histology", why, "export as 8-bit RGB")
        return _by_pillow(path, page)
    try:
        arrays = [_samples(plane) for plane in level.planes]
    except ValueError as error:
        if only_tifffile:
            raise _undecoded(path, page, error) from error
        try:
            return _by_pillow(path, page)
        except (InputError, IndexError):
            raise _undecoded(path, page, error) from error
    return _oriented(colours.to_rgb8(np.concatenate(arrays, axis=-1)), page)


def _by_pillow(path: Path, page) -> np.ndarray:
    with silent_libtiff():
        return read_picture(path, "TIFF", page=page.index)


def _samples(page) -> np.ndarray:
    """Decodes a page to `[H, W, C]`, whichever way its samples lie, with its palette applied."""
    planes, _, height, width, samples = page.shaped
    array = page.asarray().reshape(planes, height, width, samples)
    array = np.moveaxis(array[..., 0], 0, -1) if planes > 1 else array[0]
    if page.photometric.name == "PALETTE":
        return np.moveaxis(page.colormap, 0, -1)[array[..., 0]]
    return array


def _oriented(array: np.ndarray, page) -> np.ndarray:
    """Applies the TIFF orientation tag, as a viewer shows it."""
    tag = page.tags.get("Orientation")
    value = int(tag.value) if tag else 1
    if value in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(value, ())
    return np.ascontiguousarray(np.flip(array, flips))
