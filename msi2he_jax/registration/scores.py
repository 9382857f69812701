"""How good a registration is: target registration error, its relatives, and overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.registration import velocity
from msi2he_jax.registration.transforms import Transform, translation

SUCCESS_MSI_PX = 2.0
_TRE_NAMES = (
    "tre_median_um",
    "tre_mean_um",
    "tre_p90_um",
    "tre_max_um",
    "tre_median_msi_px",
    "tre_p90_msi_px",
    "rtre_median",
    "rtre_mean",
    "rtre_max",
)


def target_registration_error(
    transform: Transform, moving_yx: np.ndarray, fixed_yx: np.ndarray
) -> np.ndarray:
    """Returns how far each mapped point lands from where it belongs.

    Args:
        transform: Moving to fixed.
        moving_yx: `[N, 2]` float, MSI (y, x), um; points no fit has seen.
        fixed_yx: `[N, 2]` float, histology (y, x), um.

    Returns:
        `[N]` float64, um.

    Example:
        >>> target_registration_error(Transform(), [[0.0, 0.0]], [[3.0, 4.0]]).tolist()
        [5.0]
    """
    return np.linalg.norm(transform(moving_yx) - np.asarray(fixed_yx, np.float64), axis=-1)


def summarize_tre(errors_um: np.ndarray, *, msi_um_per_px: float, fixed_diagonal_um: float) -> dict:
    """Condenses the errors of one pair.

    Args:
        errors_um: `[N]` float, um; may be empty.
        msi_um_per_px: MSI pixel size, um (mean of both axes where they differ).
        fixed_diagonal_um: Diagonal of the histology image, um.

    Returns:
        `points`, `tre_median_um`, `tre_mean_um`, `tre_p90_um`, `tre_max_um`, `tre_median_msi_px`,
        `tre_p90_msi_px`, `rtre_median`, `rtre_mean`, `rtre_max` (error over image diagonal) and
        `success` (median under 2 MSI px); None where there is no point.

    Source: rTRE by ANHIR (Borovec et al. 2020, IEEE TMI 39:3042): diagonal of the target image.
        90th percentile per pair as in ACROBAT (Weitz et al. 2024, Med. Image Anal. 97:103257).
    """
    errors = np.asarray(errors_um, np.float64)
    if not len(errors):
        return {"points": 0, **dict.fromkeys(_TRE_NAMES), "success": None}
    median, p90 = (float(np.percentile(errors, q)) for q in (50, 90))
    mean, largest = float(errors.mean()), float(errors.max())
    in_px = median / msi_um_per_px, p90 / msi_um_per_px
    relative = [value / fixed_diagonal_um for value in (median, mean, largest)]
    found = dict(zip(_TRE_NAMES, (median, mean, p90, largest, *in_px, *relative), strict=True))
    return {"points": len(errors), **found, "success": bool(in_px[0] < SUCCESS_MSI_PX)}


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


def failed(before: dict, after: dict) -> bool | None:
    """Says whether a registration made things worse: its median error rose.

    Args:
        before: What `summarize_tre` says of the starting position.
        after: What it says of the registration.

    Returns:
        None without points.
    """
    if after.get("tre_median_um") is None or before.get("tre_median_um") is None:
        return None
    return bool(after["tre_median_um"] > before["tre_median_um"])


def smoothness(transform: Transform) -> dict[str, float]:
    """Says how much a displacement stretches, and whether it folds anywhere.

    Args:
        transform: Any.

    Returns:
        `det_min`, `det_max` (Jacobian determinants relative to the matrix's, over all corners of
        all cells), `log_det_std` (over those that are positive) and `folding_fraction` (share of
        cells with a determinant that is not positive).
    """
    field = transform.displacement
    if field is None:
        return {"det_min": 1.0, "det_max": 1.0, "log_det_std": 0.0, "folding_fraction": 0.0}
    relative = field.disp_um @ np.linalg.inv(transform.matrix[:2, :2]).T
    steps = []
    for axis in (field.y_um, field.x_um):
        step = np.diff(axis)
        # the ring beyond the border, where the field is constant, may have any width
        steps.append(np.concatenate([step[:1], step, step[-1:]]) if len(step) else np.ones(2))
    spacing = steps[0][:, None, None], steps[1][None, :, None]
    found = velocity.determinants(relative, spacing)
    positive = found[found > 0]
    return {
        "det_min": float(found.min()),
        "det_max": float(found.max()),
        "log_det_std": float(np.std(np.log(positive))) if positive.size else float("nan"),
        "folding_fraction": float(np.mean(found.min(axis=0) <= 0)),
    }


def fold_warnings(transform: Transform) -> list[str]:
    """Says on what share of its cells a transform folds, where it does.

    Args:
        transform: MSI to histology.
    """
    share = smoothness(transform)["folding_fraction"]
    if not share:
        return []
    return [
        f"the displacement folds on {share:.2%} of its field: points of the histology there have "
        "no one place on the MSI, and what is drawn there is taken from nearby"
    ]


def cohort_scores(rows: Sequence[dict]) -> dict[str, float | None]:
    """Condenses the pairs of a cohort as the two challenges do.

    Args:
        rows: What `summarize_tre` says of each pair, with `robustness` where it is known.

    Returns:
        `amrtre` and `mmrtre` (mean and median over pairs of the median rTRE), `aartre` (of the
        mean), `amxrtre` (of the largest), `robustness` (mean over pairs), `amrtre_robust` (over
        pairs of robustness 1), `p90_median_um` and `p90_mean_um` (over pairs); None without pairs.

    Source: ANHIR (Borovec et al. 2020, IEEE TMI 39:3042); ACROBAT (Weitz et al. 2024, Med. Image
        Anal. 97:103257): 90th percentile per pair, then the median (2022) or mean (2023) of pairs.
    """
    known = [row for row in rows if row.get("rtre_median") is not None]
    sure = [row for row in known if row.get("robustness") == 1.0]

    def over(pairs, name, reduce=np.mean):
        values = [row[name] for row in pairs if row.get(name) is not None]
        return float(reduce(values)) if values else None

    return {
        "pairs": len(known),
        "amrtre": over(known, "rtre_median"),
        "mmrtre": over(known, "rtre_median", np.median),
        "aartre": over(known, "rtre_mean"),
        "amxrtre": over(known, "rtre_max"),
        "robustness": over(known, "robustness"),
        "amrtre_robust": over(sure, "rtre_median"),
        "p90_median_um": over(known, "tre_p90_um", np.median),
        "p90_mean_um": over(known, "tre_p90_um"),
    }


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


def identity_alignment(moving_center_um, fixed_center_um) -> Transform:
    """Returns the transform of no registration: both tissues centred, nothing turned.

    Args:
        moving_center_um: `[2]` float (y, x), um.
        fixed_center_um: `[2]` float (y, x), um.
    """
    shift = np.asarray(fixed_center_um, np.float64) - np.asarray(moving_center_um, np.float64)
    return Transform(translation(shift))


def score_pair(
    transform: Transform,
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    msi_um_per_px: float,
    fixed_diagonal_um: float,
) -> dict:
    """Scores one transform on several sets of points.

    Args:
        transform: Moving to fixed.
        pairs: Name of a set to its points: MSI `[N, 2]` and histology `[N, 2]`, (y, x), um.
        msi_um_per_px: MSI pixel size, um.
        fixed_diagonal_um: Diagonal of the histology image, um.

    Returns:
        Name of each set to what `summarize_tre` says.
    """
    sizes = {"msi_um_per_px": msi_um_per_px, "fixed_diagonal_um": fixed_diagonal_um}
    return {
        name: summarize_tre(target_registration_error(transform, *points), **sizes)
        for name, points in pairs.items()
    }
