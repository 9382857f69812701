"""The pixel size that a TIFF states: Aperio, OME, ImageJ or a resolution tag."""

from __future__ import annotations

import re
from pathlib import Path

from msi2he_jax.errors import InputError

# Coarser than this, a TIFF resolution tag is a print setting (72, 96 or 300 dpi), not a pixel size.
COARSEST_TAG_UM = 50.0
UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4}
UNIT_UM |= {"\\u00b5m": 1.0, "\\u00B5m": 1.0, "m": 1e6, "inch": 25400.0}


def no_pixel_size(path: Path, detail: str) -> InputError:
    """Returns the error for a file that does not say its pixel size."""
    why = "the file does not say its pixel size" + detail
    return InputError(
        path, "histology_um_per_px", why, "give it in um, as in histology_um_per_px=0.5"
    )


def tiff_um_per_px(path: Path, tiff) -> float:
    """Finds the pixel size of page 0 of a `tifffile.TiffFile`, um.

    Raises:
        InputError: there is none, or it is none of a scan with square pixels.
    """
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
        raise no_pixel_size(path, "")
    unit = {2: "inch", 3: "cm"}.get(
        int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    )
    imagej = re.search(r"^unit=(\S+)", text, re.MULTILINE) if tiff.is_imagej else None
    factor = UNIT_UM.get(imagej[1] if imagej else unit)
    (xn, xd), (yn, yd) = tags["XResolution"].value, tags["YResolution"].value
    if factor is None or not all((xn, xd, yn, yd)):
        raise no_pixel_size(path, "")
    size = _square(path, factor * xd / xn, factor * yd / yn)
    if imagej is None and size > COARSEST_TAG_UM:
        raise no_pixel_size(path, f": its resolution tag, {size:.4g} um/px, is a print setting")
    return size


def _square(path: Path, x_um: float, y_um: float) -> float:
    if not (0 < x_um < 1e5 and 0 < y_um < 1e5):
        raise no_pixel_size(path, f": {x_um:g} x {y_um:g} um is not one")
    if abs(x_um / y_um - 1) > 0.01:
        why = f"pixels of {x_um:g} x {y_um:g} um are not square"
        raise InputError(path, "histology_um_per_px", why, "resample the slide to square pixels")
    return (x_um + y_um) / 2
