"""How well a section was aligned: what is known of it, and the baselines beside."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.histology import tissue_mask
from msi2he_jax.registration import control_points
from msi2he_jax.registration.export import read_transform
from msi2he_jax.registration.scores import (
    dice,
    fold_warnings,
    identity_alignment,
    robustness,
    score_pair,
    target_registration_error,
)
from msi2he_jax.registration.transforms import Transform

Points = dict[str, tuple[np.ndarray, np.ndarray]]


def fit_where_possible(
    pair: SectionPair, *, needed: bool, outlier_um: float | None = None, **options: Any
) -> tuple[control_points.Fit | None, list[str]]:
    """Fits a section's landmarks where they determine something, or says why they do not.

    Args:
        pair: The section and its slide.
        needed: Whether a fault is raised instead.
        outlier_um: As for `fit_landmarks`, um; None: 3 MSI pixels.
        **options: Others of `fit_landmarks`.

    Raises:
        InputError: there are none or they do not, and a fit is needed.
    """
    if pair.landmarks is None:
        if not needed:
            return None, []
        hint = "mark at least 3 points in both images, or use --method=automatic"
        raise InputError(f"sample {pair.sample.sample_id}", "landmarks", "none are given", hint)
    outlier_um = outlier_um or 3 * float(pair.moving.native_um.mean())
    try:
        fit = control_points.fit_landmarks(pair.landmarks, outlier_um=outlier_um, **options)
        return fit, list(fit.warnings)
    except InputError as error:
        if needed:
            raise
        return None, [f"control points left out: {error}"]


def candidates(pair: SectionPair, found: Transform) -> dict[str, Transform]:
    """Puts the baselines beside a transform.

    Args:
        pair: The section and its slide.
        found: The transform found.

    Returns:
        `found`, `initial` (both images centred, nothing turned), and `control_points` where the
        `fit` landmarks determine one.
    """
    known = {"found": found, "initial": centered(pair)}
    fit = pair.landmarks and pair.landmarks.select("fit")
    with contextlib.suppress(InputError):
        if fit is not None:
            matrix = control_points.estimate_affine(fit.msi_yx_um, fit.histology_yx_um)
            known["control_points"] = Transform(matrix)
    return known


def centered(pair: SectionPair) -> Transform:
    """Returns the starting position: both images centred, nothing turned.

    Args:
        pair: The section and its slide.
    """
    moving, slide = pair.moving, pair.slide
    middle = moving.origin_um + (np.argwhere(moving.measured).mean(axis=0) + 0.5) * moving.um_per_px
    tissue = np.argwhere(slide.tissue) if slide.tissue.any() else np.argwhere(~slide.tissue)
    return identity_alignment(
        middle, slide.origin_um + (tissue.mean(axis=0) + 0.5) * slide.um_per_px
    )


def score(pair: SectionPair, known: dict[str, Transform], points: Points) -> dict[str, dict]:
    """Scores transforms on all points known.

    Args:
        pair: Gives the MSI pixel size and the slide's diagonal.
        known: From `candidates`.
        points: From `known_points`, `[N, 2]` each.

    Returns:
        Name of each transform to what `scores.score_pair` says; `found` has `robustness` too,
        against `initial`.
    """
    sizes = {
        "msi_um_per_px": float(pair.moving.native_um.mean()),
        "fixed_diagonal_um": pair.slide.diagonal_um,
    }
    found = {name: score_pair(each, points, **sizes) for name, each in known.items()}
    for use, there in points.items():
        if not len(there[0]):
            continue
        before, after = (
            target_registration_error(known[name], *there) for name in ("initial", "found")
        )
        found["found"][use]["robustness"] = robustness(before, after)
    return found


def tissue_dice(pair: SectionPair, transform: Transform) -> float | None:
    """Returns how well tissue covers tissue, on the MSI's grid, as the Dice coefficient.

    The MSI's is where its ions show some, or the synthetic H&E does; None where neither is known.

    Args:
        pair: The section and its slide.
        transform: MSI to histology.
    """
    moving, slide = pair.moving, pair.slide
    shown = tissue_mask(moving.picture) if moving.synthetic else moving.tissue
    if shown is None:
        return None
    seen = pair.in_images(transform).warp(
        slide.tissue,
        source_um_per_px=slide.um_per_px,
        out_shape=moving.measured.shape,
        out_um_per_px=moving.um_per_px,
    )
    shown = shown & moving.measured
    return dice(shown, seen & moving.measured) if shown.any() else 0.0


def transform_warnings(transform: Transform) -> list[str]:
    """Says what is odd about a transform found: its scales, and where it folds.

    Args:
        transform: MSI to histology.
    """
    scaled = control_points.scale_warnings(transform.matrix, "the transform found")
    return scaled + fold_warnings(transform)


def truth_path(manifest: str | os.PathLike, sample: Sample) -> Path:
    """Returns where the simulator writes a section's true transform, beside the manifest."""
    return Path(manifest).parent / "truth" / sample.sample_id / "transform.json"


def known_points(pair: SectionPair, truth: Path | None = None) -> Points:
    """Gathers what a registration can be scored on.

    Args:
        pair: The section and its slide.
        truth: A simulator's `transform.json`; may be absent.

    Returns:
        Of `eval`, `fit` and `truth` those that there are: MSI `[N, 2]` and histology `[N, 2]`
        (y, x), um. `truth` is every measured MSI pixel that lies on the slide's tissue.
    """
    found = {}
    for use in ("eval", "fit") if pair.landmarks is not None else ():
        chosen = pair.landmarks.select(use)
        if len(chosen):
            found[use] = chosen.msi_yx_um, chosen.histology_yx_um
    if truth is not None and truth.is_file():
        found["truth"] = _dense(read_transform(truth).transform, pair)
    return found


def _dense(truth: Transform, pair: SectionPair) -> tuple[np.ndarray, np.ndarray]:
    moving, slide = pair.moving, pair.slide
    msi = (np.argwhere(moving.measured) + 0.5) * moving.um_per_px + moving.origin_um
    there = truth(msi)
    index = np.floor((there - slide.origin_um) / slide.um_per_px).astype(int)
    on_image = np.all((index >= 0) & (index < slide.tissue.shape), axis=1)
    on_tissue = on_image.copy()
    on_tissue[on_image] = slide.tissue[tuple(index[on_image].T)]
    return msi[on_tissue], there[on_tissue]
