"""Transforms fitted to landmarks by least squares, and how far such a fit can be trusted."""

from __future__ import annotations

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration import transforms

KINDS = ("affine", "similarity")
# Spread across the points' narrow axis over that along their long axis, below which they count as
# a line: an affine's scale across it would be set by marking errors alone.
MIN_SPREAD_RATIO = 0.02


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
