"""A few points that a person marked, as a soft prior on an alignment: errors of a stated size.

Each point's residual is normal with the stated standard deviation, so that minus its logarithm is
a quadratic term beside the images' say. A similarity counts by the pixel; neighbouring pixels say
much the same, so that the images have one vote for each `PIXELS_A_VOTE` of them.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration.control_points import check_scale, estimate_affine, refuse_far_point
from msi2he_jax.registration.landmarks import Landmarks
from msi2he_jax.registration.transforms import Transform, from_parts

PIXELS_A_VOTE = 9.0
FEWEST = 2
# Of a point's distance from the others' middle: by how much a coarse search, in steps of 10
# degrees and at one scale, misses it even at its best pose (standard deviation).
COARSE_SHARE = 0.07
# Residuals beyond so many stated standard deviations contradict the statement.
CONTRADICTED_SD = 2.5


@dataclasses.dataclass(frozen=True, eq=False)
class PointPrior:
    """Points of both images that belong together, but for an error.

    Attributes:
        moving_yx_um: `[P, 2]` float64 (y, x), um of the moving frame; P is at least 2.
        fixed_yx_um: `[P, 2]` float64 (y, x), um of the fixed frame.
        sd_um: Standard deviation of a point's residual per axis, both sides' errors together, um.
    """

    moving_yx_um: np.ndarray
    fixed_yx_um: np.ndarray
    sd_um: float

    def __len__(self) -> int:
        """Returns how many points there are."""
        return len(self.moving_yx_um)

    def moved(self, moving: Transform, fixed: Transform) -> PointPrior:
        """Returns the points in other frames.

        Args:
            moving: Maps the moving side's points to their new frame.
            fixed: Maps the fixed side's.
        """
        points = moving(self.moving_yx_um), fixed(self.fixed_yx_um)
        return PointPrior(*points, self.sd_um)

    def rms_um(self, transform: Transform) -> float:
        """Returns the root mean square of the residuals, per axis, um.

        Args:
            transform: Moving to fixed.
        """
        apart = transform(self.moving_yx_um) - self.fixed_yx_um
        return float(np.sqrt(np.mean(apart**2)))

    def warnings(self, transform: Transform) -> list[str]:
        """Says where a transform is further from the points than their stated error allows.

        Args:
            transform: Moving to fixed.
        """
        rms = self.rms_um(transform)
        if rms <= CONTRADICTED_SD * self.sd_um:
            return []
        return [
            f"the {len(self)} points lie {rms:.0f} um (rms per axis) from where the alignment puts "
            f"them, {rms / self.sd_um:.1f} times the stated standard deviation: one of points, "
            "images and statement is wrong"
        ]

    def as_row(self, transform: Transform) -> dict[str, float]:
        """Returns what a table of sections says of the points.

        Args:
            transform: Moving to fixed.
        """
        known = {"points": len(self), "sd_um": self.sd_um, "rms_um": self.rms_um(transform)}
        return {f"prior_{name}": value for name, value in known.items()}


def point_prior(points: Landmarks, sd_um: float) -> PointPrior:
    """Takes the `fit` points of a landmark file as a prior.

    Args:
        points: Landmarks; those of use `eval` are never looked at.
        sd_um: Standard deviation of a point's residual per axis, um.

    Raises:
        InputError: fewer than 2 points, all in one place, not in um, or an `sd_um` that is not
            positive.
    """
    fit, path = points.select("fit"), points.path or "points"
    if not (np.isfinite(sd_um) and sd_um > 0):
        raise InputError("points_sd_um", "", f"is {sd_um}, must be positive")
    if len(fit) < FEWEST:
        hint = "one point leaves the rotation open: mark 2 to 4 in both images"
        raise InputError(path, "points", f"holds {len(fit)} of use fit, 2 are needed", hint)
    refuse_far_point(fit)
    spread = [
        np.linalg.norm(each - each.mean(axis=0)) for each in (fit.msi_yx_um, fit.histology_yx_um)
    ]
    if min(spread) <= 0:
        raise InputError(path, "points", "lie in one place", "mark them far apart")
    check_scale(from_parts(np.eye(2) * spread[1] / spread[0], (0, 0)), fit)
    return PointPrior(fit.msi_yx_um, fit.histology_yx_um, float(sd_um))


def on_canvas(prior: PointPrior, centers_um, radius_um: float, pixels: float, n: int) -> np.ndarray:
    """Lays the points on canvases.

    Args:
        prior: In the frames of the pair's images.
        centers_um: Two `[2]` (y, x), um: what falls on the canvases' middles, moving and fixed.
        radius_um: Half a canvas' width, um.
        pixels: How many moving pixels the similarity is the mean of.
        n: Canvas pixels per side.

    Returns:
        `[P, 6]` float32: (y, x) on the moving and on the fixed canvas, half widths; the weight of
        a squared residual against a mean over pixels, fine and in the coarse search.
    """
    moving = (prior.moving_yx_um - centers_um[0]) / radius_um
    fixed = (prior.fixed_yx_um - centers_um[1]) / radius_um
    votes = max(pixels / PIXELS_A_VOTE, 1.0)
    variance = np.full(len(prior), (prior.sd_um / radius_um) ** 2)
    reach = np.linalg.norm(moving - moving.mean(axis=0), axis=1)
    coarse = variance + (COARSE_SHARE * reach) ** 2 + (2.0 / n) ** 2 / 12.0
    weights = (0.5 / (each * votes) for each in (variance, coarse))
    return np.c_[moving, fixed, *weights].astype(np.float32)


def against(points, linear, shift) -> jnp.ndarray:
    """Returns what points say against a pose, to be taken off a similarity.

    Args:
        points: From `on_canvas`.
        linear: `[2, 2]`.
        shift: `[2]`, half widths.
    """
    apart = points[:, :2] @ linear.T + shift[None] - points[:, 2:4]
    return jnp.sum(points[:, 4, None] * apart**2)


def against_shifts(points, linear, axis) -> jnp.ndarray:
    """Returns what points say against every shift of an orientation, as a coarse search sees it.

    Args:
        points: From `on_canvas`.
        linear: `[2, 2]`.
        axis: `[n]`, shifts along either axis, half widths.

    Returns:
        `[n, n]`.
    """
    apart = points[:, 2:4] - points[:, :2] @ linear.T
    # of rows and of columns apart: `[P, 2, n]`
    squared = points[:, 5, None, None] * (axis[None, None] - apart[..., None]) ** 2
    rows, columns = jnp.sum(squared, axis=0)
    return rows[:, None] + columns[None]


def predicted(
    prior: PointPrior, places_yx: np.ndarray, *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Says where points alone would put other places, and how surely.

    Args:
        prior: The points.
        places_yx: `[..., 2]` (y, x), um of the moving frame.
        mirrored: Whether the alignment mirrors, which two points cannot tell.

    Returns:
        `[..., 2]` (y, x), um of the fixed frame; and `[...]` standard deviation per axis, um: of
        an affine where 3 points or more determine one, else of a similarity.

    Source: the leverage of least squares, Hastie, Tibshirani and Friedman 2009, section 3.2.
    """
    center = prior.moving_yx_um.mean(axis=0)
    inner, places = prior.moving_yx_um - center, np.asarray(places_yx, np.float64) - center
    try:
        matrix = estimate_affine(prior.moving_yx_um, prior.fixed_yx_um)
        inverse = np.linalg.inv(inner.T @ inner)
        lever = np.einsum("...i,ij,...j->...", places, inverse, places)
    except InputError:
        matrix = _similarity(prior, mirrored)
        lever = np.sum(places**2, axis=-1) / np.sum(inner**2)
    return Transform(matrix)(places_yx), prior.sd_um * np.sqrt(1.0 / len(prior) + lever)


def _similarity(prior: PointPrior, mirrored: bool) -> np.ndarray:
    """The similarity nearest to points, in complex numbers x + iy."""
    middles = prior.moving_yx_um.mean(axis=0), prior.fixed_yx_um.mean(axis=0)
    a, b = (
        (points - middle) @ (1j, 1.0)
        for points, middle in zip((prior.moving_yx_um, prior.fixed_yx_um), middles)
    )
    a = a.conj() if mirrored else a
    turn = np.vdot(a, b) / np.vdot(a, a).real
    flip = -1.0 if mirrored else 1.0
    linear = np.array([[flip * turn.real, turn.imag], [-flip * turn.imag, turn.real]])
    return from_parts(linear, middles[1] - linear @ middles[0])
