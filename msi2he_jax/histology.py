"""Histology images: read at a known um/px as 8-bit sRGB, resample by area, find the tissue."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.sparse
from PIL import Image, ImageOps

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, existing_file

PILLOW_FORMATS = ("PNG", "JPEG")
TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".btf", ".tf8")
# Coarser than this, a TIFF resolution tag is a print setting (72, 96 or 300 dpi), not a pixel size.
COARSEST_TAG_UM = 50.0
UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4}
UNIT_UM |= {"\\u00b5m": 1.0, "\\u00B5m": 1.0, "m": 1e6, "inch": 25400.0}


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

    Nothing is resampled: of a pyramid, the coarsest level that is still as fine as
    `target_um_per_px` is returned, and `um_per_px` of the result is that level's.

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
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _read_tiff(path, um_per_px, roi, target_um_per_px)
    if um_per_px is None:
        raise _no_pixel_size(path, "")
    return _cropped(_read_with_pillow(path, PILLOW_FORMATS), um_per_px, 1.0, roi, path)


def _no_pixel_size(path: Path, detail: str) -> InputError:
    why = "the file does not say its pixel size" + detail
    return InputError(
        path, "histology_um_per_px", why, "give it in um, as in histology_um_per_px=0.5"
    )


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
            _check_size(path, *image.size)
            image.seek(page)
            return _to_rgb8(ImageOps.exif_transpose(image))
    except InputError:
        raise
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


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > LIMITS.image_pixels:
        why = f"{width} x {height} px is more than {LIMITS.image_pixels} pixels"
        raise InputError(path, "histology", why, "export a lower resolution")


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
            um_per_px = um_per_px or _tiff_um_per_px(path, tiff)
            page, scale = _level(path, tiff, um_per_px, target_um_per_px)
            pixels = _page_pixels(path, tiff, page)
    except InputError:
        raise
    except Exception as error:  # tifffile raises many types on damaged files
        raise InputError(path, "histology", f"cannot be read as TIFF: {error}") from error
    return _cropped(pixels, um_per_px, scale, roi, path)


def _level(path: Path, tiff, um_per_px: float, target: float | None):
    """Picks the coarsest stored level not coarser than `target`; returns (page, scale >= 1)."""
    base = tiff.pages[0]
    levels = [base, *(base.pages or ())]
    levels += [p for p in tiff.pages[1:] if p.is_reduced or (tiff.is_svs and p.is_tiled)]
    aspect = base.imagewidth / base.imagelength
    chosen, chosen_scale = base, 1.0
    for page in levels:
        scale = base.imagewidth / page.imagewidth
        same = abs(page.imagewidth / page.imagelength / aspect - 1) < 0.02
        if same and chosen_scale < scale <= (target or 0) / um_per_px * 1.001:
            chosen, chosen_scale = page, scale
    _check_size(path, chosen.imagewidth, chosen.imagelength)
    return chosen, chosen_scale


def _page_pixels(path: Path, tiff, page) -> np.ndarray:
    """Decodes one page; Pillow steps in for compressions that tifffile alone cannot read."""
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
        return _read_with_pillow(path, ("TIFF",), page.index)
    except (InputError, IndexError):
        why = f"compression {page.compression.name} cannot be decoded: {error}"
        raise InputError(path, "histology", why, "pip install 'msi2he_jax[wsi]'") from error


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


def _tiff_um_per_px(path: Path, tiff) -> float:
    """Finds the pixel size of page 0: Aperio MPP, OME, ImageJ unit or resolution tag."""
    text = tiff.pages[0].description or ""
    if match := re.search(r"\bMPP\s*=\s*([\d.eE+-]+)", text):
        return _square(path, float(match[1]), float(match[1]))
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
    if pixels and (sizes := _ome_sizes(pixels[0])):
        return _square(path, *sizes)
    return _resolution_tag(path, tiff, text)


def _ome_sizes(element: str) -> tuple[float, float] | None:
    found = []
    for axis in "XY":
        size = re.search(rf'PhysicalSize{axis}="([^"]+)"', element)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', element)
        factor = UNIT_UM.get(unit[1] if unit else "um")
        if size is None or factor is None:
            return None
        found.append(float(size[1]) * factor)
    return found[0], found[1]


def _resolution_tag(path: Path, tiff, text: str) -> float:
    tags = tiff.pages[0].tags
    if "XResolution" not in tags or "YResolution" not in tags:
        raise _no_pixel_size(path, "")
    unit = {2: "inch", 3: "cm"}.get(
        int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    )
    imagej = re.search(r"^unit=(\S+)", text, re.MULTILINE) if tiff.is_imagej else None
    factor = UNIT_UM.get(imagej[1] if imagej else unit)
    (xn, xd), (yn, yd) = tags["XResolution"].value, tags["YResolution"].value
    if factor is None or not all((xn, xd, yn, yd)):
        raise _no_pixel_size(path, "")
    size = _square(path, factor * xd / xn, factor * yd / yn)
    if imagej is None and size > COARSEST_TAG_UM:
        raise _no_pixel_size(path, f": its resolution tag, {size:.4g} um/px, is a print setting")
    return size


def _square(path: Path, x_um: float, y_um: float) -> float:
    if not (0 < x_um < 1e5 and 0 < y_um < 1e5):
        raise _no_pixel_size(path, f": {x_um:g} x {y_um:g} um is not one")
    if abs(x_um / y_um - 1) > 0.01:
        why = f"pixels of {x_um:g} x {y_um:g} um are not square"
        raise InputError(path, "histology_um_per_px", why, "resample the slide to square pixels")
    return (x_um + y_um) / 2


def resample_area(pixels: np.ndarray, from_um: float, to_um: float) -> np.ndarray:
    """Resamples by the area that each new pixel covers; the outer corner stays.

    Args:
        pixels: [H, W] or [H, W, C], any real dtype or bool.
        from_um: Pixel size of `pixels`, um.
        to_um: Pixel size wanted, um; meant for minification, otherwise pixels become blocks.

    Returns:
        [h, w(, C)], h = round(H * from_um / to_um); uint8 stays uint8, all else becomes float32.
    """
    if from_um == to_um:
        return pixels
    flat = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    for axis in (0, 1):
        weights = _area_weights(flat.shape[axis], from_um / to_um)
        moved = np.moveaxis(flat, axis, 0)
        summed = weights @ moved.reshape(moved.shape[0], -1)
        flat = np.moveaxis(summed.reshape(-1, *moved.shape[1:]), 0, axis)
    result = flat.reshape(*flat.shape[:2], *pixels.shape[2:])
    if pixels.dtype == np.uint8:
        return np.clip(np.rint(result), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(result)


def _area_weights(size: int, scale: float) -> scipy.sparse.csr_array:
    """[round(size * scale), size]: row i averages the input that output pixel i covers."""
    count = max(1, round(size * scale))
    edges = np.minimum(np.arange(count + 1) / scale, size)
    first = np.floor(edges[:-1]).astype(int)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    rows = np.repeat(np.arange(count), last - first)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, last)]).clip(max=size - 1)
    overlap = np.minimum(columns + 1, edges[rows + 1]) - np.maximum(columns, edges[rows])
    matrix = scipy.sparse.csr_array((overlap.clip(0), (rows, columns)), shape=(count, size))
    total = np.maximum(matrix.sum(axis=1), 1e-9)
    return (matrix.multiply(1 / total[:, None])).astype(np.float32).tocsr()


def png_bytes(array: np.ndarray) -> bytes:
    """Encodes an `array` of uint8 or bool [H, W], or uint8 [H, W, 3]; bool becomes 0 and 1."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decodes PNG bytes to uint8 [H, W] or [H, W, 3]."""
    with _own_limit(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image)


def tissue_mask(pixels: np.ndarray) -> np.ndarray:
    """Finds stained tissue: not glass, black padding, pen marks, printed labels or specks.

    Stained tissue absorbs green more than red and blue, whatever the stain's strength; ink, glass,
    print and padding do not, or do so with hues that no tissue has.

    Args:
        pixels: [H, W, 3] uint8, sRGB.

    Returns:
        [H, W] bool.
    """
    step = max(1, round(max(pixels.shape[:2]) / 1024))
    small = resample_area(pixels, 1, step).astype(np.float32)
    sigma = max(small.shape[:2]) / 512
    excluded = _not_tissue(small, sigma)
    density = -np.log10(np.maximum(small, 1) / 255)
    signal = density[..., 1] - density[..., [0, 2]].min(axis=-1)
    signal = scipy.ndimage.gaussian_filter(np.where(excluded, 0, signal), sigma)
    mask = (signal > _threshold(signal[~excluded])) & ~excluded
    mask = _tidied(mask, sigma) & ~excluded
    rows = np.minimum(np.arange(pixels.shape[0]) // step, mask.shape[0] - 1)
    columns = np.minimum(np.arange(pixels.shape[1]) // step, mask.shape[1] - 1)
    return mask[np.ix_(rows, columns)]


def _threshold(signal: np.ndarray) -> float:
    """Otsu's, held between what noise reaches and what pale eosin does."""
    from skimage.filters import threshold_otsu

    if signal.size == 0 or np.ptp(signal) < 1e-6:
        return 0.03
    return float(np.clip(threshold_otsu(signal), 0.02, 0.045))


def _not_tissue(rgb: np.ndarray, sigma: float) -> np.ndarray:
    """Marks ink, print and padding of [H, W, 3] float32 0..255, and their rim."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    chroma = rgb.max(axis=-1) - rgb.min(axis=-1)
    dark_grey = (rgb.max(axis=-1) < 110) & (chroma < 18)
    green_ink = (green > red + 12) & (green > blue - 30) & (chroma > 25)
    blue_ink = (blue > red + 45) & (green > red - 5)
    red_ink = (red > 150) & (green < 0.4 * red) & (blue < 0.45 * red)
    marks = dark_grey | green_ink | blue_ink | red_ink
    marks = scipy.ndimage.binary_opening(marks) | (rgb.max(axis=-1) < 20)
    return scipy.ndimage.binary_dilation(marks, iterations=1 + round(2 * sigma))


def _tidied(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Closes gaps of a few px, fills small holes, drops small objects."""
    from skimage.morphology import remove_small_holes, remove_small_objects

    radius = max(1, round(2 * sigma))
    padded = np.pad(mask, radius, mode="edge")
    closed = scipy.ndimage.binary_closing(padded, iterations=radius)
    closed = closed[radius:-radius, radius:-radius]
    area = max(4, round(mask.size * 5e-4))
    return remove_small_objects(remove_small_holes(closed, max_size=4 * area), max_size=area)
