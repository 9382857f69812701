"""Pyramidal OME-TIFF with physical size and channel names, readable by QuPath, napari and Fiji."""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from msi2he_jax.errors import InputError
from msi2he_jax.histology.pixel_size import ome_um_per_px
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file

SYNTHETIC = "SYNTHETIC"
TILE_PX = 256


@dataclasses.dataclass(frozen=True)
class OmeImage:
    """What an OME-TIFF holds.

    Attributes:
        levels: Pyramid, largest first; each `[H, W, C]` uint8 or float32.
        um_per_px: Pixel size (y, x) of level 0 in micrometres, or None where the file has none.
        channel_names: One per channel; for RGB one name or none.
        name: The image's name.
        description: Free text.
        synthetic: Whether the file says that a network made the image.
    """

    levels: tuple[np.ndarray, ...]
    um_per_px: tuple[float, float] | None
    channel_names: tuple[str, ...]
    name: str
    description: str
    synthetic: bool


def write_ome_tiff(
    path: str | os.PathLike,
    array: np.ndarray,
    *,
    um_per_px: float | tuple[float, float],
    channel_names: Sequence[str] | None = None,
    synthetic: bool = False,
    name: str = "",
    description: str = "",
) -> None:
    """Writes a tiled pyramid, zlib compressed, whole or not at all.

    Args:
        path: Where to; `.ome.tiff` (`.ome.tif` as well).
        array: `[H, W, C]` uint8 with C = 3 for RGB (sRGB), else uint8 or float32 channels, any
            unit.
        um_per_px: Pixel size in micrometres, one number or (y, x).
        channel_names: One per channel, such as `m/z 885.5499`; None for RGB.
        synthetic: Marks name, description and an annotation as made by a network.
        name: The image's name; the file's name where empty.
        description: Free text.

    Raises:
        InputError: shape, dtype, names or pixel size do not fit, or the file cannot be written.

    Example:
        >>> import numpy as np, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_ome_tiff(f"{folder}/a.ome.tiff", np.zeros((8, 8, 3), np.uint8), um_per_px=50.0)
        >>> read_ome_tiff(f"{folder}/a.ome.tiff").um_per_px
        (50.0, 50.0)

    Source: OME-TIFF specification 6.x, sub-resolutions in SubIFDs.
    """
    array = np.asarray(array)
    size_y_um, size_x_um = _pixel_size(path, um_per_px)
    _check(path, array, channel_names)
    rgb = _is_rgb(array, channel_names)
    levels = pyramid(array)
    metadata = _metadata(path, size_y_um, size_x_um, synthetic, name, description)
    metadata["axes"] = "YXS" if rgb else "CYX"
    if channel_names is not None:
        metadata["Channel"] = {"Name": list(channel_names)}
    with atomic_file(path) as temporary, tifffile.TiffWriter(temporary, ome=True) as writer:
        for index, level in enumerate(levels):
            first = {"subifds": len(levels) - 1, "metadata": metadata} if index == 0 else {}
            scale = 2**index
            writer.write(
                level if rgb else np.moveaxis(level, -1, 0),
                photometric="rgb" if rgb else "minisblack",
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                subfiletype=int(index > 0),
                resolution=(1e4 / (size_x_um * scale), 1e4 / (size_y_um * scale)),
                resolutionunit="CENTIMETER",
                **first,
            )


def pyramid(array: np.ndarray, *, smallest_px: int = TILE_PX) -> list[np.ndarray]:
    """Halves an image by area averaging until its longer side fits.

    Args:
        array: `[H, W, C]` uint8 or float32.
        smallest_px: Stop at this longer side, in pixels.

    Returns:
        Levels `[ceil(H / 2^n), ceil(W / 2^n), C]` of the same dtype, largest first.
    """
    levels = [array]
    while max(levels[-1].shape[:2]) > smallest_px:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(array: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 blocks; an odd last row or column is repeated, not darkened."""
    height, width, _ = array.shape
    even = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    # Four strided views summed keep the peak memory at one float32 quarter, not a whole copy.
    total = sum(even[i::2, j::2].astype(np.float32) for i in (0, 1) for j in (0, 1))
    mean = total / 4
    return np.rint(mean).astype(np.uint8) if array.dtype == np.uint8 else mean


def read_ome_tiff(path: str | os.PathLike, um_per_px: float | None = None) -> OmeImage:
    """Reads an OME-TIFF of one image, all levels.

    Args:
        path: The file.
        um_per_px: Pixel size that is given for it, um; None takes the file's own.

    Raises:
        InputError: absent, not an OME-TIFF, too large, or a pixel size in no known unit.
    """
    path, most = existing_file(path), LIMITS.image_pixels
    try:
        with tifffile.TiffFile(path) as tiff:
            _refuse_links(path, tiff.pages[0].description)
            if not tiff.is_ome or not tiff.series:
                raise InputError(path, "", "is not an OME-TIFF")
            series = tiff.series[0]
            if series.shape[series.axes.index("Y")] * series.shape[series.axes.index("X")] > most:
                raise InputError(path, "", f"has more than {most} pixels")
            levels = tuple(_channels_last(level) for level in series.levels)
            return OmeImage(levels, **_read_metadata(path, tiff.ome_metadata, um_per_px))
    except InputError:
        raise
    except (tifffile.TiffFileError, ElementTree.ParseError, ValueError, zlib.error) as error:
        raise InputError(path, "", f"is not a readable OME-TIFF: {error}") from error


def _refuse_links(path: Path, xml: str) -> None:
    """Refuses what would make a parser open other files, or never end."""
    if "<!DOCTYPE" in xml:
        raise InputError(path, "OME-XML", "has a DOCTYPE declaration, which OME does not use")
    for name in re.findall(r"""\bFileName\s*=\s*["']([^"']*)""", xml):
        if name != path.name:
            raise InputError(path, "OME-XML", f"names another file, {name!r}, which is not opened")


def _pixel_size(path, um_per_px: float | tuple[float, float]) -> tuple[float, float]:
    size = np.broadcast_to(np.asarray(um_per_px, float), (2,))
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise InputError(path, "um_per_px", f"is {um_per_px}, must be a positive number of um")
    return float(size[0]), float(size[1])


def _check(path, array: np.ndarray, names: Sequence[str] | None) -> None:
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(path, "array", f"has shape {array.shape}, must be [H, W, C], not empty")
    if array.dtype not in (np.uint8, np.float32):
        raise InputError(path, "array", f"is {array.dtype}, must be uint8 or float32")
    if names is not None and len(names) != array.shape[2]:
        why = f"{len(names)} names for {array.shape[2]} channels"
        raise InputError(path, "channel_names", why)


def _is_rgb(array: np.ndarray, names: Sequence[str] | None) -> bool:
    return array.dtype == np.uint8 and array.shape[2] == 3 and names is None


def _metadata(path, size_y_um, size_x_um, synthetic: bool, name: str, description: str) -> dict:
    name = name or os.path.basename(os.fspath(path)).split(".")[0]
    metadata = {
        "Name": name,
        "Description": description,
        "PhysicalSizeX": size_x_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": size_y_um,
        "PhysicalSizeYUnit": "µm",
    }
    if synthetic:
        metadata["Name"] = name if SYNTHETIC in name else f"{name} {SYNTHETIC}"
        metadata["Description"] = f"{SYNTHETIC}: made by a network from MSI. {description}".strip()
        metadata["MapAnnotation"] = {"synthetic": "true"}
    return metadata


def _channels_last(level) -> np.ndarray:
    array, axes = level.asarray(), level.axes
    if axes in ("YXS", "YXC"):
        return array
    if axes == "YX":
        return array[..., None]
    if axes in ("CYX", "SYX"):
        return np.moveaxis(array, 0, -1)
    raise InputError("", "axes", f"are {axes}, expected YXS, CYX or YX")


def _read_metadata(path: Path, xml: str, um_per_px: float | None) -> dict:
    """Picks pixel size, names and the synthetic mark from OME-XML of any namespace version."""
    root = ElementTree.fromstring(xml)
    image = root.find("{*}Image")
    pixels = image.find("{*}Pixels")
    names = tuple(c.get("Name", "") for c in pixels.findall("{*}Channel"))
    name, description = image.get("Name", ""), image.findtext("{*}Description", "")
    return {
        "um_per_px": (um_per_px, um_per_px) if um_per_px else _read_pixel_size(path, xml),
        "channel_names": names if any(names) else (),
        "name": name,
        "description": description,
        "synthetic": SYNTHETIC in name or SYNTHETIC in description,
    }


def _read_pixel_size(path: Path, xml: str) -> tuple[float, float] | None:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml)
    size = ome_um_per_px(path, pixels[0], "OME-XML") if pixels else None
    return size and (size[1], size[0])
