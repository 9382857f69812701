"""Regions of a run: the pieces of tissue that were measured apart from each other."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage


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


def _region(label: int, box: tuple[slice, slice], pixels: int) -> MeasuredRegion:
    rows, columns = box
    width, height = columns.stop - columns.start, rows.stop - rows.start
    return MeasuredRegion(label, columns.start, rows.start, width, height, pixels)
