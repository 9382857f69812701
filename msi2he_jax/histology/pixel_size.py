"""The pixel size that a TIFF states: OME, SCN, Aperio, ImageJ or a resolution tag.

OME-XML's PhysicalSize is the file's own statement and comes first, then the XML of an SCN; the
words `MPP = ` count in Aperio's description alone; the resolution tag is last. Two statements that
contradict each other, and a unit that is not known, are errors: a scale is never guessed.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from msi2he_jax.errors import InputError
from msi2he_jax.histology import vendors

# Coarser than this, or one of these, a resolution tag is a print setting, not a pixel size.
COARSEST_TAG_UM = 50.0
PRINT_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 220, 240, 250, 300, 350, 360, 400)
PRINT_DPI += (600, 720, 1200)
# Lengths of the OME schema (and ImageJ's spellings), in um; `pixel` and `reference frame` are none.
UNIT_UM = {
    "\u00c5": 1e-4,
    "\u212b": 1e-4,
    "thou": 25.4,
    "li": 25400 / 12,
    "in": 25400.0,
    "inch": 25400.0,
}
UNIT_UM |= {"ft": 304800.0, "yd": 914400.0, "mi": 1609344e3, "pt": 25400 / 72, "um": 1.0}
UNIT_UM |= {"ua": 1.495978707e17, "ly": 9.4607304725808e21, "pc": 3.0856775814913673e22}
UNIT_UM |= {"micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "m": 1e6}
_PREFIXES = (
    "Y24 Z21 E18 P15 T12 G9 M6 k3 h2 da1 d-1 c-2 m-3 \u00b5-6 \u03bc-6 n-9 p-12 f-15 a-18 z-21 y-24"
)
UNIT_UM |= {
    found[1] + "m": 10.0 ** (int(found[2]) + 6)
    for found in re.finditer(r"([^\d\s-]+)(-?\d+)", _PREFIXES)
}
AGREEMENT = 0.02


class NoPixelSize(InputError):
    """A file that says nothing of its pixel size; another source may give it."""


def no_pixel_size(path: Path, detail: str) -> NoPixelSize:
    """Returns the error for a file that does not say its pixel size."""
    why = "the file does not say its pixel size" + detail
    hint = "fill the manifest's column histology_um_per_px, in um"
    return NoPixelSize(path, "histology_um_per_px", why, hint)


def length_um(path: Path, field: str, value: str, unit: str) -> float:
    """Converts a length as metadata state it.

    Args:
        path: The file, for messages.
        field: What is wrong where something is: a column or flag.
        value: The number as text.
        unit: A length unit of the OME schema; XML entities and ImageJ's escapes are understood.

    Returns:
        um; whatever number was stated, also one that is no size.

    Raises:
        InputError: no number, or a unit that is not known.
    """
    unit = re.sub(r"\\u00[bB]5", "\u00b5", html.unescape(unit)).strip()
    hint = "fill the manifest's column histology_um_per_px, in um"
    if unit not in UNIT_UM:
        raise InputError(path, field, f"states {value} in the unit {unit!r}, not known", hint)
    try:
        return float(html.unescape(value)) * UNIT_UM[unit]
    except ValueError:
        raise InputError(path, field, f"states {value!r}, no number", hint) from None


def tiff_um_per_px(path: Path, tiff, page) -> float:
    """Finds the pixel size of a slide in a `tifffile.TiffFile`, um.

    Args:
        path: The file, for messages.
        tiff: The file, opened with `is_ome=False`.
        page: The slide's page at full resolution.

    Raises:
        InputError: there is none, it is none of a scan with square pixels, or two contradict.
    """
    text = tiff.pages[0].description or ""
    if tiff.is_scn:
        return square(path, *vendors.scn_um_per_px(path, text))
    words = _aperio_words(path, text)
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
    if pixels and (sizes := ome_um_per_px(path, pixels[0])):
        stated, by = square(path, *sizes), "OME-XML"
    elif words is None:
        return _resolution_tag(path, tiff, page, text)
    else:
        stated, by = _tag_or_none(path, tiff, page, text), "the resolution tag"
    if words is not None and stated is not None and abs(stated / words - 1) > AGREEMENT:
        why = f"its statements conflict: {stated:g} um by {by}, {words:g} um by the words MPP ="
        hint = "fill the manifest's column histology_um_per_px with the right one"
        raise InputError(path, "histology_um_per_px", why, hint)
    return stated if by == "OME-XML" else words


def _aperio_words(path: Path, text: str) -> float | None:
    """Reads `MPP = ` where Aperio's description stands: of the page, or kept in OME-XML's."""
    kept = re.search(r"<(?:\w+:)?Description>\s*(Aperio [^<]*)<", text)
    words = kept[1] if kept else text if text.startswith("Aperio ") else ""
    found = re.search(r"\bMPP\s*=\s*([^|\s]+)", words)
    return found and square(path, *[length_um(path, "histology_um_per_px", found[1], "um")] * 2)


def ome_um_per_px(path: Path, element: str, field: str = "histology_um_per_px"):
    """Reads the physical size from the start tag of OME-XML's Pixels.

    Args:
        path: The file, for messages.
        element: `<Pixels ...>`.
        field: What is wrong where something is.

    Returns:
        (x, y) um, whatever numbers were stated; None where neither is.

    Raises:
        InputError: one of the two alone, no number, or a unit that is not known.
    """
    attributes = dict(
        re.findall(r"""(PhysicalSize[XY](?:Unit)?)\s*=\s*["']([^"']*)["']""", element)
    )
    sizes = [attributes.get(f"PhysicalSize{axis}") for axis in "XY"]
    if sizes == [None, None]:
        return None
    if None in sizes:
        why = "OME-XML states the pixel size along one axis only"
        raise InputError(path, field, why, "fill the manifest's column histology_um_per_px, in um")
    units = [attributes.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "XY"]
    x, y = (length_um(path, field, size, unit) for size, unit in zip(sizes, units, strict=True))
    return x, y


def _tag_or_none(path: Path, tiff, page, text: str) -> float | None:
    try:
        return _resolution_tag(path, tiff, page, text)
    except InputError:
        return None


def _resolution_tag(path: Path, tiff, page, text: str) -> float:
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        raise no_pixel_size(path, "")
    imagej = re.search(r"^unit=(.+?)\s*$", text, re.MULTILINE) if tiff.is_imagej else None
    code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    unit = imagej[1] if imagej else {2: "inch", 3: "cm"}.get(code)
    (xn, xd), (yn, yd) = tags["XResolution"].value, tags["YResolution"].value
    if unit is None or unit in ("pixel", "pixels") or not all((xn, xd, yn, yd)):
        raise no_pixel_size(path, "")
    factor = length_um(path, "histology_um_per_px", "1", unit)
    size = square(path, factor * xd / xn, factor * yd / yn)
    dpi = 25400 / size
    printed = any(abs(dpi / each - 1) < 0.002 for each in PRINT_DPI)
    if imagej is None and (printed or size > COARSEST_TAG_UM):
        said = f": its resolution tag, {size:.4g} um/px ({dpi:.0f} dpi), is a print setting"
        raise no_pixel_size(path, said)
    return size


def square(path: Path, x_um: float, y_um: float) -> float:
    """Returns the size of square pixels.

    Args:
        path: The file, for messages.
        x_um: Width of a pixel, um.
        y_um: Height of a pixel, um.

    Raises:
        InputError: no size, or they differ by more than 1 %.
    """
    if not (0 < x_um < 1e5 and 0 < y_um < 1e5):
        raise no_pixel_size(path, f": {x_um:g} x {y_um:g} um is not one")
    if abs(x_um / y_um - 1) > 0.01:
        why = f"pixels of {x_um:g} x {y_um:g} um are not square"
        raise InputError(path, "histology_um_per_px", why, "resample the slide to square pixels")
    return (x_um + y_um) / 2
