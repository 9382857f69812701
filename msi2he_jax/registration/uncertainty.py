"""How well the images determine an alignment, place by place.

Around every place of the MSI, the slide is shifted by all small amounts against the MSI, and each
shift is weighed by its likelihood under the joint histogram of the alignment found: pointwise
mutual information, summed over the neighbourhood, one vote per MSI pixel. Where one shift
stands out the place is certain; where all do equally well, nothing holds the alignment there but
its smoothness. Points that a person marked are heard everywhere, as an affine of theirs with their
stated error; where the section bends, that error grows by the bending. The spread says how sharply
images and points speak, not that they speak the truth: an alignment to a wrong pose can be sharp.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.registration import canvas, measures, point_prior, transforms
from msi2he_jax.registration.automatic import Pair
from msi2he_jax.registration.transforms import Transform

BINS = 6
PX_PER_MSI_PX = 2.0
REACH_MSI_PX = 3.0
WINDOW_MSI_PX = 3.0
UNDETERMINED_SHARE = 0.5
MOST_PX = 256
# So many votes' worth of "the images have nothing to do with each other" goes into a histogram.
DOUBT_VOTES = 50.0


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertainty:
    """What is known of an alignment's precision.

    Attributes:
        spread_um: `[H, W]` float32 on the moving image's pixels: root mean square of the shifts the
            images (and the pair's points) would as soon accept, per axis, um of the fixed frame;
            NaN off the tissue.
        limit_um: What `spread_um` is where the images say nothing at all, um.
        median_um: Over the tissue, um.
        undetermined: Share of the tissue where the spread exceeds half the limit.
    """

    spread_um: np.ndarray
    limit_um: float
    median_um: float
    undetermined: float

    def as_row(self) -> dict[str, float]:
        """Returns what a table of sections says of it."""
        return {
            "uncertainty_median_um": self.median_um,
            "uncertainty_limit_um": self.limit_um,
            "undetermined_share": self.undetermined,
        }


def estimate_uncertainty(pair: Pair, transform: Transform) -> Uncertainty:
    """Estimates how well two images determine their alignment, pixel by pixel.

    Args:
        pair: From `automatic.make_pair`.
        transform: Moving to fixed.

    Returns:
        The spread of acceptable shifts on the moving image's pixels.

    Source: the posterior of a local shift under the likelihood whose maximum is maximal mutual
        information (Roche et al. 2000, INRIA RR-4016, section on likelihood), in local windows.
    """
    radius = 1.1 * pair.moving.radius_um()
    msi_um = float(pair.moving.um_per_px.mean())
    n = int(min(MOST_PX, np.ceil(2 * radius / msi_um * PX_PER_MSI_PX)))
    um = 2 * radius / n
    x, y, weight = _draw(pair, transform, radius, n)
    evidence = _evidence(x, y, weight, msi_um / um)
    scale = um * np.sqrt(abs(np.linalg.det(transform.matrix[:2, :2])))
    places = transforms.pixel_centers((n, n), um) + pair.moving.center_um - radius
    told = _told_by_points(pair.points, transform, places, um, scale) if pair.points else None
    spread_px, limit_px = _spread(evidence, y, msi_um / um, told)
    spread = _on_moving(pair, (scale * spread_px, 1 - y[0, 0]), radius, um)
    return summarized(spread, float(limit_px * scale))


def summarized(spread_um: np.ndarray, limit_um: float) -> Uncertainty:
    """Puts the figures of a table beside a map.

    Args:
        spread_um: `[H, W]` float32, um; NaN off the tissue.
        limit_um: What it is where nothing is known, um.
    """
    known = spread_um[np.isfinite(spread_um)]
    if not known.size:
        return Uncertainty(spread_um, limit_um, limit_um, 1.0)
    undetermined = float(np.mean(known > UNDETERMINED_SHARE * limit_um))
    return Uncertainty(spread_um, limit_um, float(np.median(known)), undetermined)


def _draw(pair: Pair, transform: Transform, radius: float, n: int):
    """Memberships `[C, bins + 1, n, n]` of both sides in the moving frame, and what is known."""
    values, mask, known = canvas.draw(pair.moving, radius, n)
    frame = transform.in_images(pair.moving.center_um - radius)
    blur_um = 0.4 * float(pair.moving.um_per_px.mean())
    seen, tissue, inside = canvas.draw(pair.fixed, radius, n, blur_um, frame)
    x, y = (
        np.asarray(measures.memberships(v.reshape(len(v), -1), m.ravel(), BINS))
        for v, m in ((values, mask), (seen, tissue))
    )
    return x.reshape(-1, BINS + 1, n, n), y.reshape(-1, BINS + 1, n, n), known * inside


def _evidence(x, y, weight, px_per_msi_px: float) -> np.ndarray:
    """What each grey bin of the slide would say for itself at each place, `[D, bins + 1, n, n]`.

    The histogram that judges one half of a chequerboard is counted on the other half: on the same
    half, even noise would seem to prefer the shift it was counted at.
    """
    block = (np.indices(weight.shape) // round(2 * WINDOW_MSI_PX * px_per_msi_px)).sum(axis=0) % 2
    total = np.zeros_like(y)
    for judged in (0, 1):
        share = weight * (block != judged) / px_per_msi_px**2
        joint = np.einsum("caij,dbij->cdab", x * share, y)
        apart = joint.sum(3, keepdims=True) * joint.sum(2, keepdims=True)
        votes = np.maximum(joint.sum((2, 3), keepdims=True), 1e-9)
        apart = apart / votes**2 + 1e-12
        ratio = (joint / apart + DOUBT_VOTES) / (votes + DOUBT_VOTES)
        told = np.einsum("caij,cdab->dbij", x * (weight * (block == judged)), np.log(ratio))
        total += told / (len(x) * len(y))
    return total


def _told_by_points(points, transform: Transform, places, um: float, scale: float):
    """The shift that points ask for at each place, `[n, n, 2]`, and its variance, in pixels."""
    linear = transform.matrix[:2, :2]
    there, sd_um = point_prior.predicted(points, places, mirrored=np.linalg.det(linear) < 0)
    asked = (there - transform(places)) @ np.linalg.inv(linear).T / um
    field = transform.displacement
    bent = 0.0 if field is None else np.mean(field.disp_um**2)
    return asked, (sd_um**2 + bent) / scale**2


def _spread(evidence, y, px_per_msi_px: float, told=None) -> tuple[np.ndarray, float]:
    """RMS per axis of the shifts weighed by their likelihood, `[n, n]` pixels, and its limit."""
    reach = round(REACH_MSI_PX * px_per_msi_px)
    window = WINDOW_MSI_PX * px_per_msi_px
    votes = 4 * np.pi * WINDOW_MSI_PX**2  # a Gaussian mean times its area is a sum
    steps = range(-reach, reach + 1)
    shifts = np.array([(a, b) for a in steps for b in steps if a * a + b * b <= reach**2])
    around = np.pad(y, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    n = y.shape[-1]
    logs = np.empty((len(shifts), n, n))
    for log, (dy, dx) in zip(logs, shifts):
        moved = around[:, :, reach + dy : reach + dy + n, reach + dx : reach + dx + n]
        spoken = np.einsum("dbij,dbij->ij", evidence, moved)
        log[:] = votes * ndimage.gaussian_filter(spoken, window, truncate=3)
        if told is not None:
            log -= np.sum((told[0] - (dy, dx)) ** 2, axis=-1) / (2 * told[1])
    likelihood = np.exp(logs - logs.max(axis=0))
    likelihood /= likelihood.sum(axis=0)
    squared = (shifts**2).sum(axis=1) / 2.0
    # shifts between whole pixels were not tried
    found = np.sqrt(np.einsum("s,sij->ij", squared, likelihood) + 1 / 12)
    return found, float(np.sqrt(squared.mean() + 1 / 12))


def _on_moving(pair: Pair, planes, radius: float, um: float) -> np.ndarray:
    """Carries the spread onto the moving pixels; NaN off either side's tissue."""
    side = pair.moving
    points = transforms.pixel_centers(side.mask.shape, side.um_per_px)
    where = np.moveaxis((points - side.center_um + radius) / um - 0.5, -1, 0)
    spread, tissue = (
        ndimage.map_coordinates(plane, where, order=1, mode="nearest") for plane in planes
    )
    return np.where(side.mask & side.valid & (tissue > 0.5), spread, np.nan).astype(np.float32)
