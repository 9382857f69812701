"""Which pages of a TIFF are the slide, which are its levels, and which are something else.

The slide is the first page (of a Leica SCN: the scan that does not cover the whole glass). A level
is (a) a SubIFD of it; (b) in an NDPI, a page taken through a lens in the same focal plane, in an
SCN, a listed resolution; (c) elsewhere, a tiled page that is flagged as reduced and nothing else,
or that stands unflagged in an Aperio file, and whose tiles show the colours of the slide's. A level
of (a) and (c) has the slide's samples and is coarser by one whole number on both sides, to a pixel.
So labels, macro pictures, thumbnails and masks are none.

A larger page, several pages of the slide's size, or an unlike page of at least a quarter of its
pixels leave open what the slide is: an error. A smaller unlike page is a warning.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.histology import tiles, vendors

_REDUCED = 1
_MASK, _MIXED_RASTER = 4, 8
_ALONE = "export the slide alone, as OME-TIFF"


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes:
        planes: The `tifffile.TiffPage` that holds it, or one page a channel.
        scale: How many pixels of the full resolution one of its pixels is wide.
    """

    planes: tuple
    scale: float


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """A slide in a TIFF.

    Attributes:
        levels: The full resolution first, then coarser ones.
        warnings: What is odd in the file.
    """

    levels: tuple[Level, ...]
    warnings: tuple[str, ...] = ()

    def level_for(self, um_per_px: float, target_um_per_px: float | None) -> Level:
        """Picks the coarsest level that is not coarser than `target_um_per_px`.

        Args:
            um_per_px: Pixel size of the full resolution, um.
            target_um_per_px: Finest pixel size needed, um; None takes the full resolution.
        """
        most = (target_um_per_px or 0) / um_per_px * 1.001
        fitting = [level for level in self.levels[1:] if level.scale <= most]
        return max(fitting, key=lambda level: level.scale, default=self.levels[0])


def find_pyramid(path: Path, tiff) -> Pyramid:
    """Finds the slide in a `tifffile.TiffFile` that was opened with `is_ome=False`.

    Raises:
        InputError: it cannot be told which page is the slide.
    """
    pages = [tiff.pages[0], *tiff.pages[1:]]  # A slice refuses pages that go round.
    if not pages[0].imagewidth * pages[0].imagelength:
        raise ValueError("it has no pixels")
    if tiff.is_scn:
        listed = vendors.scn_levels(path, pages[0].description, len(pages))
        return Pyramid(_scaled([tuple(pages[i] for i in indices) for indices in listed]))
    if tiff.is_ndpi:
        lens = [page for page in pages if vendors.same_focal_plane(page, pages[0])]
        return Pyramid(_scaled([(page,) for page in lens]))
    return _plain_pyramid(path, tiff, pages)


def _scaled(levels: list[tuple]) -> tuple[Level, ...]:
    width = levels[0][0].imagewidth
    return tuple(Level(planes, width / planes[0].imagewidth) for planes in levels)


def _plain_pyramid(path: Path, tiff, pages: list) -> Pyramid:
    base = pages[0]
    pictures = [page for page in pages[1:] if not page.subfiletype & (_MASK | _MIXED_RASTER)]
    _refuse_larger(path, base, pictures)
    planes = (base, *(page for page in pictures if _alike(page, base)))
    if len(planes) > 1 and base.samplesperpixel > 1:
        why = f"holds {len(planes)} images of {_size(base)}: focal planes, or several sections"
        raise InputError(path, "histology", why, _ALONE)
    rest = [page for page in pictures if page not in planes]
    chain = [page for page in rest if _may_be_level(page, tiff.is_svs)]
    found = [*_sub_levels(planes), *_chain_levels(planes, chain)]
    levels = [(Level(planes, 1.0)), *sorted(found, key=lambda level: level.scale)]
    unlike = [page for page in rest if not page.subfiletype & _REDUCED and not factor(base, page)]
    return Pyramid(tuple(levels), () if tiff.is_svs else _unlike(path, base, unlike))


def _size(page) -> str:
    return f"{page.imagewidth} x {page.imagelength} px"


def _area(page) -> int:
    return page.imagewidth * page.imagelength


def _alike(page, base) -> bool:
    """Whether a page is another plane of the slide, neither reduced nor a level."""
    return page.shape == base.shape and page.dtype == base.dtype and not page.subfiletype & _REDUCED


def _refuse_larger(path: Path, base, pages: list) -> None:
    larger = max(pages, key=_area, default=base)
    if _area(larger) > _area(base):
        why = f"the first page is {_size(base)}, page {larger.index + 1} {_size(larger)}"
        raise InputError(path, "histology", f"{why}: either may be the slide", _ALONE)


def _unlike(path: Path, base, pages: list) -> tuple[str, ...]:
    """Warns of pages that are no copies of the slide; refuses those that may be slides."""
    if not pages:
        return ()
    large = max(pages, key=_area)
    named = f"the first page is {_size(base)}, page {large.index + 1} another image, {_size(large)}"
    if _area(large) * 4 >= _area(base):
        raise InputError(path, "histology", f"{named}: either may be the slide", _ALONE)
    return (f"{named}: the first is taken as the slide",)


def _may_be_level(page, aperio: bool) -> bool:
    return page.is_tiled and (page.subfiletype == _REDUCED or (aperio and page.subfiletype == 0))


def factor(base, page) -> int | None:
    """Says how much coarser a page is.

    Args:
        base: The slide's page.
        page: Another.

    Returns:
        The whole number by which both sides are divided, to a pixel, and a power of two before
        others; None where there is none, or where samples differ.
    """
    if page.dtype != base.dtype or page.samplesperpixel != base.samplesperpixel:
        return None
    sides = ((base.imagewidth, page.imagewidth), (base.imagelength, page.imagelength))
    low = max(math.floor(full / (part + 1)) + 1 for full, part in sides)
    high = min(math.ceil(full / (part - 1)) - 1 if part > 1 else full for full, part in sides)
    if low > high or high < 2:
        return None
    power = 2 ** math.ceil(math.log2(max(low, 2)))
    likely = round(math.sqrt(np.prod([full / part for full, part in sides])))
    return power if power <= high else int(np.clip(likely, max(low, 2), high))


def _sub_levels(planes: tuple) -> list[Level]:
    """Levels in SubIFDs, each of all planes."""
    stacks = zip(*(tuple(page.pages or ()) for page in planes), strict=False)
    found = [(stack, factor(planes[0], stack[0])) for stack in stacks]
    return [Level(stack, float(scale)) for stack, scale in found if scale]


def _chain_levels(planes: tuple, pages: list) -> list[Level]:
    """Levels among the pages that follow, each of all planes."""
    by_shape: dict[tuple, list] = {}
    for page in pages:
        by_shape.setdefault(page.shape, []).append(page)
    found = [(stack, factor(planes[0], stack[0])) for stack in by_shape.values()]
    return [
        Level(tuple(stack), float(scale))
        for stack, scale in found
        if scale and len(stack) == len(planes) and _shows(planes[0], stack[0], scale)
    ]


def _shows(base, page, scale: int) -> bool:
    """Says whether a page shows the slide, as far as tiles of 8 or 16 bits can be compared."""
    comparable = base.is_tiled and base.planarconfig == 1 and base.dtype in (np.uint8, np.uint16)
    return not comparable or tiles.same_picture(base, page, scale)
