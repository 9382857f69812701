"""How good a registration is: target registration error, its relatives, and overlap."""

from __future__ import annotations

import numpy as np

from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement

SUCCESS_MSI_PX = 2.0


def target_registration_error(
    matrix: np.ndarray,
    displacement: Displacement | None,
    moving_yx: np.ndarray,
    fixed_yx: np.ndarray,
) -> np.ndarray:
    """Returns how far each mapped point lands from where it belongs.

    Args:
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        displacement: Field on moving positions, or None.
        moving_yx: `[N, 2]` float, MSI (y, x), um; points no fit has seen.
        fixed_yx: `[N, 2]` float, histology (y, x), um.

    Returns:
        `[N]` float64, um.
    """
    mapped = transforms.apply_transform(matrix, displacement, moving_yx)
    return np.linalg.norm(mapped - np.asarray(fixed_yx, np.float64), axis=-1)


def summarize_tre(errors_um: np.ndarray, *, msi_um_per_px: float, fixed_diagonal_um: float) -> dict:
    """Condenses the errors of one pair.

    Args:
        errors_um: `[N]` float, um; may be empty.
        msi_um_per_px: MSI pixel size, um (mean of both axes where they differ).
        fixed_diagonal_um: Diagonal of the histology image, um.

    Returns:
        `points`, `tre_median_um`, `tre_mean_um`, `tre_p90_um`, `tre_max_um`, `tre_median_msi_px`,
        `rtre_median` (error over image diagonal) and `success` (median under 2 MSI px); None where
        there is no point.

    Source: rTRE by ANHIR (Borovec et al. 2020, IEEE TMI 39:3042): diagonal of the target image.
        90th percentile per pair as in ACROBAT (Weitz et al. 2024, Med. Image Anal. 97:103257).
    """
    errors = np.asarray(errors_um, np.float64)
    if not len(errors):
        names = ("median_um", "mean_um", "p90_um", "max_um", "median_msi_px")
        empty = {f"tre_{name}": None for name in names}
        return {"points": 0, **empty, "rtre_median": None, "success": None}
    median = float(np.median(errors))
    return {
        "points": len(errors),
        "tre_median_um": median,
        "tre_mean_um": float(errors.mean()),
        "tre_p90_um": float(np.percentile(errors, 90)),
        "tre_max_um": float(errors.max()),
        "tre_median_msi_px": median / msi_um_per_px,
        "rtre_median": median / fixed_diagonal_um,
        "success": bool(median / msi_um_per_px < SUCCESS_MSI_PX),
    }


def robustness(before_um: np.ndarray, after_um: np.ndarray) -> float:
    """Returns the share of points whose error fell, strictly.

    Args:
        before_um: `[N]` float, errors of the starting position, um.
        after_um: `[N]` float, errors after registration, um.

    Returns:
        0 to 1; NaN without points.

    Source: robustness R of ANHIR (Borovec et al. 2020).
    """
    fell = np.asarray(after_um) < np.asarray(before_um)
    return float(fell.mean()) if fell.size else float("nan")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the overlap of two masks, `2 |a and b| / (|a| + |b|)`.

    Args:
        a: `[...]` bool.
        b: `[...]` bool, same shape.

    Returns:
        0 to 1; NaN where both are empty.
    """
    total = int(a.sum()) + int(b.sum())
    return float(2 * np.logical_and(a, b).sum() / total) if total else float("nan")


def identity_alignment(moving_center_um, fixed_center_um) -> np.ndarray:
    """Returns the transform of no registration: both tissues centred, nothing turned.

    Args:
        moving_center_um: `[2]` float (y, x), um.
        fixed_center_um: `[2]` float (y, x), um.

    Returns:
        `[3, 3]` float64, acting on (y, x, 1), um.
    """
    shift = np.asarray(fixed_center_um, np.float64) - np.asarray(moving_center_um, np.float64)
    return transforms.from_parts(np.eye(2), shift)


def score_pair(
    matrix: np.ndarray,
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    msi_um_per_px: float,
    fixed_diagonal_um: float,
    displacement: Displacement | None = None,
) -> dict:
    """Scores one transform on several sets of points.

    Args:
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        pairs: Name of a set to its points: MSI `[N, 2]` and histology `[N, 2]`, (y, x), um.
        msi_um_per_px: MSI pixel size, um.
        fixed_diagonal_um: Diagonal of the histology image, um.
        displacement: Field added to the matrix's result, or None.

    Returns:
        Name of each set to what `summarize_tre` says.
    """
    sizes = {"msi_um_per_px": msi_um_per_px, "fixed_diagonal_um": fixed_diagonal_um}
    return {
        name: summarize_tre(target_registration_error(matrix, displacement, *points), **sizes)
        for name, points in pairs.items()
    }
