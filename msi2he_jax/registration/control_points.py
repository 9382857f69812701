"""Transforms fitted to landmarks by least squares, and how far such a fit can be trusted."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms
from msi2he_jax.registration.landmarks import Landmarks

FITS = ("affine", "similarity", "robust")
KINDS = ("affine", "similarity")
# Spread across the points' narrow axis over that along their long axis, below which they count as
# a line: an affine's scale across it would be set by marking errors alone.
MIN_SPREAD_RATIO = 0.02
# Both images are in um, and tissue does not stretch twofold.
LARGEST_SCALE = 2.0
USUAL_SCALE = 1.25  # More is said, since few sections stretch so far.
FAR = 10.0  # A point this many times the others' extent away from them was not marked there.
# A point's x and y are called exchanged when it errs by this share of the points' extent, and
# exchanging them brings all errors below a tenth of that.
EXCHANGED_SHARE, EXCHANGED_GAIN, SUSPECTS = 0.1, 0.1, 5
RANSAC_TRIALS = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A transform fitted to `fit` landmarks, and how far it can be trusted.

    Attributes:
        matrix: `[3, 3]` float64, MSI to histology, acting on (y, x, 1), um.
        kind: `affine`, `similarity` or `robust`.
        used: `[N]` bool, the points it rests on; a robust fit leaves outliers out.
        residual_um: `[N]` float64, error of each point under the fit, um.
        leave_one_out_um: `[N]` float64, error of each under the fit to the other points used; NaN
            where they determine none.
        condition: Condition number of the design matrix of the normalised points: 1 is best, and
            marking errors grow with it.
    """

    matrix: np.ndarray
    kind: str
    used: np.ndarray
    residual_um: np.ndarray
    leave_one_out_um: np.ndarray
    condition: float

    @property
    def warnings(self) -> list[str]:
        """What is odd about the transform, in words."""
        return scale_warnings(self.matrix, "the landmarks") + (
            [
                "the landmarks mirror the section: right if it was turned over; else x and y are "
                "exchanged in one image"
            ]
            if np.linalg.det(self.matrix) < 0
            else []
        )

    def as_row(self) -> dict:
        """Returns plain numbers for a table; None where there is nothing to tell."""
        left_out = self.leave_one_out_um[self.used & np.isfinite(self.leave_one_out_um)]
        return {
            "control_points_fit": self.kind,
            "control_points_used": int(self.used.sum()),
            "control_points_outliers": int((~self.used).sum()),
            "control_points_condition": self.condition,
            "control_points_residual_rms_um": float(
                np.sqrt(np.mean(self.residual_um[self.used] ** 2))
            ),
            "leave_one_out_median_um": float(np.median(left_out)) if left_out.size else None,
            "leave_one_out_max_um": float(np.max(left_out)) if left_out.size else None,
        }


def fit_landmarks(
    points: Landmarks, *, kind: str = "affine", outlier_um: float | None = None, seed: int = 0
) -> Fit:
    """Fits a transform to the `fit` landmarks; `eval` landmarks are never looked at.

    Args:
        points: All landmarks of a section.
        kind: `affine`, `similarity`, or `robust`: an affine to the points that agree.
        outlier_um: Error beyond which a point does not agree, um; None takes a twentieth of the
            points' extent on the slide.
        seed: Of the robust fit's draws.

    Returns:
        The fit with its errors.

    Raises:
        InputError: fewer than 3 points, points on a line, columns exchanged, or a scale that
            shows that one image is not in um.

    Source: robust by RANSAC, Fischler and Bolles 1981, as scikit-image has it, then least squares.
    """
    fit, source = points.select("fit"), points.path or "landmarks"
    moving, fixed = fit.msi_yx_um, fit.histology_yx_um
    if kind not in FITS:
        raise InputError(source, "fit", f"{kind!r} is not one of {', '.join(FITS)}")
    refuse_far_point(fit)
    plain = "similarity" if kind == "similarity" else "affine"
    matrix = estimate_affine(moving, fixed, kind=plain, source=source)
    if kind != "robust":
        refuse_exchanged_point(fit)
    used = np.ones(len(fit), bool)
    if kind == "robust":
        used = _agreeing(moving, fixed, outlier_um or extent_um(fixed) / 20, seed, source)
        matrix = estimate_affine(moving[used], fixed[used], source=source)
    check_scale(matrix, fit)
    errors = np.full(len(fit), np.nan)
    errors[used] = leave_one_out_errors(moving[used], fixed[used], kind=plain, source=source)
    residual = np.linalg.norm(transforms.apply_affine(matrix, moving) - fixed, axis=1)
    return Fit(matrix, kind, used, residual, errors, condition_number(moving[used]))


def condition_number(points_yx: np.ndarray) -> float:
    """Returns the condition number of an affine fit to points, centred and scaled to unit spread.

    Args:
        points_yx: `[N, 2]` float, any unit, not on a line.

    Returns:
        Ratio of the design matrix's largest to its smallest singular value, at least 1.
    """
    normal = transforms.apply_affine(_normalizer(points_yx), points_yx)
    return float(np.linalg.cond(np.c_[normal, np.ones(len(normal))]))


def extent_um(points_yx: np.ndarray) -> float:
    """Returns the diagonal of the box around points.

    Args:
        points_yx: `[N, 2]` float (y, x), um.
    """
    return float(np.hypot(*np.ptp(np.asarray(points_yx, np.float64), axis=0)))


def check_scale(matrix: np.ndarray, fit: Landmarks) -> None:
    """Refuses a transform between um and um that stretches more than tissue can.

    A column of one image exchanged with one of the other is an affine too, which no residual can
    tell: its scales can.

    Args:
        matrix: `[3, 3]` float, MSI to histology, acting on (y, x, 1), um.
        fit: The landmarks it was fitted to.

    Raises:
        InputError: a scale above `LARGEST_SCALE` or below its inverse; names the columns to
            exchange where that brings the scales back.
    """
    low, high = _scales(matrix)
    if low >= 1 / LARGEST_SCALE and high <= LARGEST_SCALE:
        return
    why = f"the histology is {low:.3g} to {high:.3g} times as large as the MSI"
    hint = "both must be in um: is one in pixels or mm?"
    if high / low > LARGEST_SCALE:
        hint = _exchange_that_helps(fit) or "are columns exchanged, or points in another order?"
    raise InputError(fit.path, "scale", why, hint)


def scale_warnings(matrix: np.ndarray, what: str) -> list[str]:
    """Says where a transform between um and um stretches more than sections usually do.

    Args:
        matrix: `[3, 3]` float, MSI to histology, acting on (y, x, 1), um.
        what: Where it comes from, in words.
    """
    low, high = _scales(matrix)
    if low >= 1 / USUAL_SCALE and high <= USUAL_SCALE:
        return []
    return [
        f"by {what} the histology is {low:.3g} to {high:.3g} times as large as the MSI: are the "
        "pixel sizes right?"
    ]


def _scales(matrix: np.ndarray) -> tuple[float, float]:
    found = transforms.decompose(matrix)
    return found["scale_min"], found["scale_max"]


def _exchange_that_helps(fit: Landmarks) -> str:
    """Names two columns, one of each image, whose exchange leaves scales near one."""
    names = ("msi_y_um", "msi_x_um", "histology_y_um", "histology_x_um")
    columns = np.c_[fit.msi_yx_um, fit.histology_yx_um]
    found = {}
    for mine, other in ((0, 2), (0, 3)):  # the other two exchange the images besides
        order = np.arange(4)
        order[[mine, other]] = other, mine
        try:
            low, high = _scales(estimate_affine(*np.split(columns[:, order], 2, axis=1)))
        except (InputError, np.linalg.LinAlgError):
            continue
        found[high / low * max(high, 1 / low)] = f"is {names[mine]} exchanged with {names[other]}?"
    best = min(found, default=np.inf)
    return found[best] if best < LARGEST_SCALE else ""


def refuse_far_point(fit: Landmarks) -> None:
    """Refuses a point so far from all others that these seem to lie on one line, or in one place.

    Args:
        fit: The landmarks of a fit.

    Raises:
        InputError: names the point and its distance.
    """
    for which, points in (("MSI", fit.msi_yx_um), ("histology", fit.histology_yx_um)):
        if len(points) < 4 or not np.all(np.isfinite(points)):
            continue
        i = int(np.argmax(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
        others = np.delete(points, i, axis=0)
        away, span = np.linalg.norm(points[i] - np.median(others, axis=0)), extent_um(others)
        if span > 0 and away > FAR * span:
            why = f"lies {away / 1e3:.3g} mm from the others in the {which}, which span "
            why += f"{span / 1e3:.3g} mm"
            raise InputError(fit.path, f"point {fit.name[i]}", why, "are its numbers in um?")


def refuse_exchanged_point(fit: Landmarks) -> None:
    """Refuses a point where exchanging its x and y brings it in line with the others.

    Args:
        fit: The landmarks of a fit.

    Raises:
        InputError: names the point.
    """
    moving, fixed = fit.msi_yx_um, fit.histology_yx_um
    if len(fit) < 5:
        return
    errors = leave_one_out_errors(moving, fixed)
    if not np.all(np.isfinite(errors)) or errors.max() < EXCHANGED_SHARE * extent_um(fixed):
        return
    # one bad point bends the fit to the others, so it need not have the largest error itself
    for i, which in itertools.product(np.argsort(-errors)[:SUSPECTS], ("MSI", "histology")):
        pair = [moving.copy(), fixed.copy()]
        pair[which == "histology"][i] = pair[which == "histology"][i, ::-1]
        if leave_one_out_errors(*pair).max() < EXCHANGED_GAIN * errors.max():
            why = f"errs by {errors[i]:.0f} um; with its {which} x and y exchanged it agrees"
            raise InputError(fit.path, f"point {fit.name[i]}", why, "exchange them in the file")


def _agreeing(moving, fixed, outlier_um: float, seed: int, source: str) -> np.ndarray:
    """`[N]` bool: the largest set of points that one affine brings within `outlier_um`."""
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    to_moving, to_fixed = _normalizer(moving), _normalizer(fixed)
    pair = tuple(map(transforms.apply_affine, (to_moving, to_fixed), (moving, fixed)))
    with np.errstate(all="ignore"):
        _, used = ransac(
            pair,
            AffineTransform,
            min_samples=3,
            residual_threshold=outlier_um * to_fixed[0, 0],
            max_trials=RANSAC_TRIALS,
            rng=np.random.default_rng(seed),
        )
    agreeing = 0 if used is None else int(used.sum())
    if agreeing < max(3, (len(moving) + 1) // 2):  # any 3 points agree with some affine
        why = f"only {agreeing} of {len(moving)} agree within {outlier_um:.0f} um"
        raise InputError(source, "points", why, "look for points given in another order")
    return used


def estimate_affine(
    moving_yx: np.ndarray, fixed_yx: np.ndarray, *, kind: str = "affine", source: str = "landmarks"
) -> np.ndarray:
    """Fits the transform that takes moving points to fixed points with least squared error.

    Args:
        moving_yx: `[N, 2]` float, MSI (y, x), um.
        fixed_yx: `[N, 2]` float, histology (y, x), um.
        kind: `affine` (6 parameters) or `similarity` (rotation, one scale, shift, and a mirroring
            where that fits better).
        source: What to name in an error, such as the landmark file.

    Returns:
        `[3, 3]` float64, moving to fixed, acting on (y, x, 1), um.

    Raises:
        InputError: fewer than 3 points, points on a line (in either frame), or not finite.

    Source: affine by normalised linear least squares; similarity by Umeyama 1991 (IEEE TPAMI
        13:376), reflection allowed.

    Example:
        >>> moving = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> estimate_affine(moving, moving + [3.0, 5.0]).round(6)[:2, 2].tolist()
        [3.0, 5.0]
    """
    moving, fixed = np.asarray(moving_yx, np.float64), np.asarray(fixed_yx, np.float64)
    check_points(moving, source, "MSI points")
    check_points(fixed, source, "histology points")
    if kind not in KINDS:
        raise InputError(source, "kind", f"{kind!r} is not one of {', '.join(KINDS)}")
    fit = _fit_affine if kind == "affine" else _fit_similarity
    return fit(moving, fixed)


def check_points(points_yx: np.ndarray, source: str, what: str) -> None:
    """Refuses points from which no plane transform can be read.

    Args:
        points_yx: `[N, 2]` float64 (y, x), um.
        source: File or flag to name.
        what: Which points, in words.

    Raises:
        InputError: fewer than 3, not finite, or (nearly) on one line.
    """
    if len(points_yx) < 3:
        raise InputError(source, what, f"{len(points_yx)} given, at least 3 are needed")
    if not np.all(np.isfinite(points_yx)):
        raise InputError(source, what, "some are not finite")
    ratio = spread_ratio(points_yx)
    if ratio < MIN_SPREAD_RATIO:
        raise InputError(
            source, what, f"lie on one line (spread ratio {ratio:.3g})", "mark points off that line"
        )


def spread_ratio(points_yx: np.ndarray) -> float:
    """Returns how two-dimensional a set of points is.

    Args:
        points_yx: `[N, 2]` float, any unit.

    Returns:
        Smaller over larger singular value of the centred points, 0 (a line) to 1.
    """
    points = np.asarray(points_yx, np.float64)
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(singular[1] / singular[0]) if singular[0] > 0 else 0.0


def leave_one_out_errors(
    moving_yx: np.ndarray, fixed_yx: np.ndarray, *, kind: str = "affine", source: str = "landmarks"
) -> np.ndarray:
    """Returns each point's error under the fit to all the others: what a fit's residual hides.

    Args:
        moving_yx: `[N, 2]` float, MSI (y, x), um.
        fixed_yx: `[N, 2]` float, histology (y, x), um.
        kind: As in `estimate_affine`.
        source: What to name in an error.

    Returns:
        `[N]` float64, um; NaN where the others do not determine a transform.
    """
    moving, fixed = np.asarray(moving_yx, np.float64), np.asarray(fixed_yx, np.float64)
    errors = np.full(len(moving), np.nan)
    for i in range(len(moving)):
        rest = np.arange(len(moving)) != i
        try:
            matrix = estimate_affine(moving[rest], fixed[rest], kind=kind, source=source)
        except InputError:
            continue
        errors[i] = np.linalg.norm(transforms.apply_affine(matrix, moving[i]) - fixed[i])
    return errors


def _normalizer(points: np.ndarray) -> np.ndarray:
    """Matrix that centres points and scales them to unit spread (keeps the solve conditioned)."""
    center = points.mean(axis=0)
    scale = 1.0 / np.sqrt(np.mean((points - center) ** 2))
    return transforms.from_parts(scale * np.eye(2), -scale * center)


def _fit_affine(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    to_moving, to_fixed = _normalizer(moving), _normalizer(fixed)
    rows = np.c_[transforms.apply_affine(to_moving, moving), np.ones(len(moving))]
    solution = np.linalg.lstsq(rows, transforms.apply_affine(to_fixed, fixed), rcond=None)[0]
    inner = transforms.from_parts(solution[:2].T, solution[2])
    return transforms.compose(transforms.invert(to_fixed), inner, to_moving)


def _fit_similarity(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    center_moving, center_fixed = moving.mean(axis=0), fixed.mean(axis=0)
    cross = (fixed - center_fixed).T @ (moving - center_moving)
    left, singular, right = np.linalg.svd(cross)
    linear = left @ right * (singular.sum() / np.sum((moving - center_moving) ** 2))
    return transforms.from_parts(linear, center_fixed - linear @ center_moving)
