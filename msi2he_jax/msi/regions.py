"""Regions of a run: the pieces of tissue that were measured apart from each other."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

_COARSE_SIDE = 128  # Regions are told apart at this many pixels a side, so narrow gaps do not part.
_LEAST_SHARE = 0.1  # Of the largest region's pixels; less is a speck.


@dataclasses.dataclass(frozen=True)
class MeasuredRegion:
    """Measured pixels that touch each other, and the box around them.

    Attributes:
        label: 1 for the largest region, 2 for the next, and so on.
        x: First column, 0-based from the least position in the file, px.
        y: First row, likewise, px.
        w: Columns, px.
        h: Rows, px.
        pixels: How many pixels of the box belong to the region.
    """

    label: int
    x: int
    y: int
    w: int
    h: int
    pixels: int

    @property
    def roi(self) -> str:
        """The box as the manifest's `msi_roi` wants it."""
        return f"{self.x},{self.y},{self.w},{self.h}"

    def overlaps(self, other: MeasuredRegion) -> bool:
        """Tells whether the boxes share pixels, so that neither is the other's section alone."""
        apart_x = self.x + self.w <= other.x or other.x + other.w <= self.x
        apart_y = self.y + self.h <= other.y or other.y + other.h <= self.y
        return not (apart_x or apart_y)


def connected_regions(mask: np.ndarray) -> tuple[np.ndarray, list[MeasuredRegion]]:
    """Finds the connected components of a mask; pixels that touch at a corner are connected.

    Args:
        mask: bool [H, W], measured pixels.

    Returns:
        int32 [H, W], each pixel's label, 0 where not measured; the regions, largest first, those of
        equal size in reading order.
    """
    found, count = ndimage.label(np.asarray(mask, bool), structure=np.ones((3, 3)))
    sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[order + 1] = np.arange(1, count + 1)
    labels = rank[found]
    boxes = ndimage.find_objects(labels)
    regions = [_region(i + 1, box, int(sizes[order[i]])) for i, box in enumerate(boxes)]
    return labels, regions


def separate_regions(mask: np.ndarray) -> list[MeasuredRegion]:
    """Finds the regions of a run that lie apart, as several sections do; specks are left out.

    Pixels belong together where fewer than 3 pixels part them (of the mask brought to 128 pixels a
    side, where it is larger): a line that was not measured parts nothing. A speck holds less than
    4 pixels or a tenth of the largest region.

    Args:
        mask: bool [H, W], measured pixels.

    Returns:
        The regions, largest first.
    """
    step = max(1, -(-max(mask.shape) // _COARSE_SIDE))
    coarse = _any_of_blocks(mask, step)
    near, _ = connected_regions(ndimage.binary_dilation(coarse, np.ones((3, 3), bool)))
    fine = np.repeat(np.repeat(near, step, 0), step, 1)[: mask.shape[0], : mask.shape[1]]
    labels = np.where(mask, fine, 0)
    counts = np.bincount(labels.ravel())
    boxes = ndimage.find_objects(labels)
    found = [_region(i, box, int(counts[i])) for i, box in enumerate(boxes, 1) if box]
    least = max(4, _LEAST_SHARE * max((each.pixels for each in found), default=0))
    kept = [each for each in found if each.pixels >= least]
    return sorted(kept, key=lambda each: (-each.pixels, each.label))


def _any_of_blocks(mask: np.ndarray, step: int) -> np.ndarray:
    """Whether any pixel of each block of `step` by `step` is set."""
    height, width = (-(-side // step) for side in mask.shape)
    padded = np.zeros((height * step, width * step), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return padded.reshape(height, step, width, step).any(axis=(1, 3))


def _region(label: int, box: tuple[slice, slice], pixels: int) -> MeasuredRegion:
    rows, columns = box
    width, height = columns.stop - columns.start, rows.stop - rows.start
    return MeasuredRegion(label, columns.start, rows.start, width, height, pixels)
