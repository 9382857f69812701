"""What Hamamatsu (NDPI) and Leica (SCN) write beside their pixels."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from msi2he_jax.errors import InputError

_LENS, _FOCUS = 65421, 65424  # NDPI: -1 is the macro picture, -2 the map of the tissue.


def same_focal_plane(page, base) -> bool:
    """Says whether an NDPI page shows the slide through a lens, in the plane of the first page.

    Args:
        page: A `tifffile.TiffPage`.
        base: The first page.
    """
    return page is base or (
        float(page.tags.valueof(_LENS) or 0) > 0
        and page.tags.valueof(_FOCUS) == base.tags.valueof(_FOCUS)
    )


def scn_levels(path: Path, xml: str, pages: int) -> list[tuple[int, ...]]:
    """Lists the pages of an SCN file's only scan, the finest resolution first.

    Args:
        path: The file, for messages.
        xml: Its description.
        pages: How many pages it has.

    Returns:
        For each resolution its pages, one a channel.

    Raises:
        InputError: several scans or focal planes, or pages that are not there.
    """
    levels: dict[int, dict[int, int]] = {}
    for each in _scan(path, xml).iterfind("{*}dimension"):
        if int(each.get("z", 0)) > 0:
            why = "holds several focal planes"
            raise InputError(path, "histology", why, "export one, as OME-TIFF")
        levels.setdefault(int(each.get("r", 0)), {})[int(each.get("c", 0))] = int(each.get("ifd"))
    found = [tuple(ifds[c] for c in sorted(ifds)) for _, ifds in sorted(levels.items())]
    if not found or not all(0 <= i < pages for indices in found for i in indices):
        raise InputError(path, "histology", "its description names pages that are not there")
    return found


def scn_um_per_px(path: Path, xml: str) -> tuple[float, float]:
    """Returns the pixel size (x, y) of an SCN file's scan, um.

    Args:
        path: The file, for messages.
        xml: Its description.

    Raises:
        InputError: several scans.
    """
    pixels, view = _scan(path, xml), _scan(path, xml, "view")
    sides = (float(view.get(f"size{a}")) / float(pixels.get(f"size{a}")) for a in "XY")
    x, y = (nanometres / 1000 for nanometres in sides)
    return x, y


def _scan(path: Path, xml: str, part: str = "pixels"):
    """Returns an element of the scan: the one image that does not cover the whole glass."""
    if "<!DOCTYPE" in xml:
        raise InputError(path, "SCN-XML", "has a DOCTYPE declaration, which SCN does not use")
    collection = ElementTree.fromstring(xml).find("{*}collection")
    glass = collection.get("sizeX"), collection.get("sizeY")
    scans = [
        image
        for image in collection.iterfind("{*}image")
        if (view := image.find("{*}view")) is not None
        and (view.get("sizeX"), view.get("sizeY")) != glass
    ]
    if len(scans) != 1:
        why = f"holds {len(scans)} scans beside the picture of the whole glass, not one"
        raise InputError(path, "histology", why, "export the right one, as OME-TIFF")
    return scans[0].find(f"{{*}}{part}")
