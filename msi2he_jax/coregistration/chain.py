"""Two steps in one transform: from the MSI to a scan that it is tied to, then from scan to slide.

Instruments measure on a slide that they photographed: marks tie the MSI to that scan closely, and
the scan shows the tissue as the stained slide does. What is found has the errors of both steps.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from msi2he_jax.coregistration.moving import MovingImage
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, read_histology, resample_area
from msi2he_jax.io_safety import existing_file
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.point_prior import PointPrior
from msi2he_jax.registration.slide import optical_density
from msi2he_jax.registration.transforms import Transform, pixel_centers
from msi2he_jax.registration.uncertainty import Uncertainty, summarized

SCAN = "scan"
MOST_PIXELS_A_SIDE = 256  # as many as the finest canvas has
MARGIN = 0.15  # of the MSI's extent, shown around it
LEAST_INSIDE = 0.5
# Errors are given as distances, half of which are less; a standard deviation is per axis.
MEDIAN_DISTANCE = math.sqrt(chi2.median(2))


@dataclasses.dataclass(frozen=True, eq=False)
class Via:
    """The first step, and the picture that it leads to.

    Attributes:
        first: From the MSI's frame to the scan's, um.
        sd_um: Standard deviation of its error per axis, um of the scan.
        scan: The image.
        scan_um_per_px: Pixel size of the full image, um; None takes the file's own.
        method: How `first` was found, in words.
    """

    first: Transform
    sd_um: float
    scan: Path
    scan_um_per_px: float | None = None
    method: str = "a transform given"


def make_via(
    record: TransformRecord,
    scan: str | os.PathLike,
    *,
    path: str | os.PathLike = "via",
    scan_um_per_px: float | None = None,
    sd_um: float | None = None,
) -> Via:
    """Takes a transform with what it says of its own error.

    Args:
        record: From the MSI to the scan, as `given.read_given` returns it.
        scan: The image.
        path: What to name in an error.
        scan_um_per_px: Pixel size of the full image, um; None takes the file's own.
        sd_um: Standard deviation of the transform's error per axis, um; None takes the error on its
            held-out landmarks, else that of leaving control points out, else what an automatic
            alignment says of itself.

    Raises:
        InputError: its error is not known, or there is no such image.
    """
    sd_um = _stated_sd_um(record.scores) if sd_um is None else sd_um
    if sd_um is None:
        why = "does not say how far it errs: three control points alone cannot"
        raise InputError(path, "via", why, "pass --via_sd_um, um per axis, or mark more points")
    method = record.method or "a transform given"
    scan = existing_file(scan, "--scan")
    return Via(record.transform, sd_um, scan, scan_um_per_px, method)


def _stated_sd_um(scores: dict[str, Any]) -> float | None:
    """Of what was measured first, of what was estimated last."""
    names = {"tre_median_um": MEDIAN_DISTANCE, "leave_one_out_median_um": MEDIAN_DISTANCE}
    if scores.get("method") == "automatic":
        names = {"tre_median_um": MEDIAN_DISTANCE, "uncertainty_median_um": 1.0}
    for name, factor in names.items():
        value = scores.get(name)
        if isinstance(value, float | int) and 0 < value < math.inf:
            return float(value) / factor
    return None


def scan_pair(pair: SectionPair, via: Via) -> SectionPair:
    """Puts the scan in the MSI's place: what lies around the MSI, at working resolution.

    Args:
        pair: The section and its slide.
        via: The scan, and where the MSI lies on it.

    Returns:
        A pair without landmarks, which are the MSI's.

    Raises:
        InputError: the scan cannot be read, or does not hold the MSI.
    """
    moving, native = pair.moving, float(pair.moving.native_um.min())
    there = via.first(_measured_um(moving))
    target = max(native / 8.0, float(np.ptp(there, axis=0).max()) / (2 * MOST_PIXELS_A_SIDE))
    scan = read_histology(via.scan, via.scan_um_per_px, None, target)
    rows, columns = _around(scan, there)
    corner = np.array([rows.start, columns.start]) * scan.um_per_px
    part = scan.pixels[rows, columns]
    um = max(scan.um_per_px, max(part.shape[:2]) * scan.um_per_px / MOST_PIXELS_A_SIDE)
    pixels = resample_area(np.ascontiguousarray(part), scan.um_per_px, um)
    size = np.full(2, um)
    shown = MovingImage(
        kind=SCAN,
        picture=pixels,
        features=optical_density(pixels)[..., None],
        measured=np.ones(pixels.shape[:2], bool),
        um_per_px=size,
        origin_um=np.asarray(scan.origin_um, np.float64) + corner,
        native_um=size,
        warnings=scan.warnings,
    )
    return SectionPair(dataclasses.replace(pair.sample, landmarks=None), shown, pair.slide)


def _measured_um(moving: MovingImage) -> np.ndarray:
    return moving.origin_um + (np.argwhere(moving.measured) + 0.5) * moving.um_per_px


def _around(scan: Histology, there: np.ndarray) -> tuple[slice, slice]:
    """The scan's pixels around points, um."""
    size = np.array(scan.pixels.shape[:2])
    index = there / scan.um_per_px
    inside = np.mean(np.all((index >= 0) & (index < size), axis=1))
    if inside < LEAST_INSIDE:
        why = f"{1 - inside:.0%} of the MSI lie outside of the scan by the transform of --via"
        raise InputError(scan.path, "--scan", why, "is it of this scan, and its pixel size right?")
    margin = MARGIN * np.ptp(index, axis=0).max()
    low = np.floor(np.clip(index.min(axis=0) - margin, 0, size)).astype(int)
    high = np.ceil(np.clip(index.max(axis=0) + margin, 0, size)).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def points_on_scan(points: PointPrior, via: Via) -> PointPrior:
    """Carries points of MSI and slide to the scan, where they have the first step's error as well.

    Args:
        points: MSI to histology.
        via: The first step.
    """
    moved = points.moved(via.first, Transform())
    return dataclasses.replace(moved, sd_um=math.hypot(points.sd_um, via.sd_um))


def combined_uncertainty(
    pair: SectionPair, via: Via, scan: SectionPair, second: Transform, known: Uncertainty
) -> Uncertainty:
    """Adds the errors of both steps, on the MSI's pixels.

    Args:
        pair: The section and its slide.
        via: The first step.
        scan: From `scan_pair`.
        second: Scan to slide.
        known: How surely the images determine it, on the scan's pixels.

    Returns:
        Root of the sum of both squared, um of the slide; NaN off the tissue.
    """
    moving, shown = pair.moving, scan.moving
    places = pixel_centers(moving.measured.shape, moving.um_per_px) + moving.origin_um
    index = np.floor((via.first(places) - shown.origin_um) / shown.um_per_px).astype(int)
    inside = np.all((index >= 0) & (index < shown.measured.shape), axis=-1) & moving.measured
    own = via.sd_um * math.sqrt(abs(np.linalg.det(second.matrix[:2, :2])))
    spread = np.full(moving.measured.shape, np.nan, np.float32)
    spread[inside] = np.hypot(known.spread_um[tuple(index[inside].T)], own)
    return summarized(spread, math.hypot(known.limit_um, own))


def as_row(via: Via, known: Uncertainty) -> dict[str, Any]:
    """Returns what a table of sections says of both steps.

    Args:
        via: The first step.
        known: How surely the images determine the second.
    """
    row = {"via_method": via.method, "via_sd_um": via.sd_um}
    return row | {"scan_uncertainty_median_um": known.median_um}
