"""Which sections to register, what is known of them, and the alignment of one to its slide."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.moving import MovingImage
from msi2he_jax.errors import InputError
from msi2he_jax.histology import tissue_mask
from msi2he_jax.inference.pairing import into_files, picture_pair
from msi2he_jax.io_safety import sha256
from msi2he_jax.registration import control_points, transforms
from msi2he_jax.registration.automatic import AffineResult, register_cohort
from msi2he_jax.registration.export import read_transform
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks
from msi2he_jax.registration.scores import (
    dice,
    identity_alignment,
    robustness,
    score_pair,
    target_registration_error,
)
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement


def choose_sections(
    samples: Sequence[Sample],
    provenance: dict[str, Any] | None,
    split: str | None,
    names: Sequence[str],
    manifest: str | os.PathLike,
) -> list[Sample]:
    """Picks the sections to register.

    Args:
        samples: Of the manifest.
        provenance: Of the run, which recorded its split; None without a run.
        split: `test`, `all`, or None: the run's test split where there is a run, else all.
        names: Only these sample_ids; empty means no such limit, and they override `split`.
        manifest: What to name in an error.

    Returns:
        At least one sample, in the manifest's order.

    Raises:
        InputError: a name that is not in the manifest, or nothing left.
    """
    known = {sample.sample_id for sample in samples}
    for name in names:
        if name not in known:
            raise InputError("--samples", "", f"{name!r} is not in {manifest}")
    if names:
        return [sample for sample in samples if sample.sample_id in names]
    if split == "all" or (split is None and provenance is None):
        return list(samples)
    splits = _recorded_splits(provenance)
    chosen = [s for s in samples if splits.get(s.sample_id, s.split) == "test"]
    if not chosen:
        hint = "--split=all takes every section, --samples=NAME takes one"
        raise InputError(manifest, "split", "no section is in the test split", hint)
    return chosen


def _recorded_splits(provenance: dict[str, Any] | None) -> dict[str, str]:
    records = (provenance or {}).get("samples", [])
    return {record["sample_id"]: record["split"] for record in records}


def refuse_training(
    samples: Sequence[Sample], provenance: dict[str, Any], run: str | os.PathLike
) -> None:
    """Refuses sections of patients whom the generator was trained on.

    Args:
        samples: To be synthesised.
        provenance: Of the run.
        run: What to name in the error.

    Raises:
        InputError: a sample's patient, name or imzML was in the training split.
    """
    seen = [r for r in provenance.get("samples", []) if r["split"] == "train"]
    names = {r["sample_id"] for r in seen}
    groups = {r["group_id"] for r in seen}
    hashes = {r.get("sha256", {}).get("imzml") for r in seen} - {None}
    for sample in samples:
        same = sample.sample_id in names or sample.group_id in groups
        if same or sha256(sample.imzml) in hashes:
            why = f"was trained on {sample.sample_id} or on its patient, {sample.group_id}"
            hint = "register other sections, train without this patient, or pass --force"
            raise InputError(run, "", why, hint)


def align(
    sample: Sample,
    moving: MovingImage,
    slide: Slide,
    *,
    metric: str = "mi",
    seed: int = 0,
    start: np.ndarray | None = None,
    scales: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, AffineResult]:
    """Aligns a section to its slide without landmarks.

    Args:
        sample: Named where it cannot be done.
        moving: The MSI's picture.
        slide: The slide at working resolution.
        metric: `mi`, `ncc` or `ngf`.
        seed: Of the starting angles.
        start: `[3, 3]` float, a guess to search around, imzML frame to slide frame, um; or None.
        scales: Factors to try on the pixel sizes' ratio; `automatic.UNKNOWN_SCALE` for a guess.

    Returns:
        `[3, 3]` float64, imzML frame to slide frame, acting on (y, x, 1), um; and the search.

    Raises:
        InputError: no tissue on the slide, or next to nothing measured.
    """
    pair = picture_pair(sample, moving, slide, start)
    result = register_cohort([pair], metric=metric, seed=seed, scales=scales)[0]
    return into_files(result.matrix, moving, slide), result


def centered(moving: MovingImage, slide: Slide) -> np.ndarray:
    """Returns the starting position: both images centred, nothing turned; `[3, 3]`, um."""
    middle = moving.origin_um + (np.argwhere(moving.measured).mean(axis=0) + 0.5) * moving.um_per_px
    tissue = np.argwhere(slide.tissue) if slide.tissue.any() else np.argwhere(~slide.tissue)
    return identity_alignment(
        middle, slide.origin_um + (tissue.mean(axis=0) + 0.5) * slide.um_per_px
    )


def landmarks_of(sample: Sample) -> Landmarks | None:
    """Reads a section's landmarks, if it has any."""
    return read_landmarks(sample.landmarks) if sample.landmarks else None


def control_point_matrix(sample: Sample, points: Landmarks | None) -> np.ndarray:
    """Fits the affine to a section's `fit` landmarks; `[3, 3]`, um.

    Raises:
        InputError: no landmarks, or too few of them.
    """
    if points is None:
        hint = "mark at least 3 points in both images, or use --method=automatic"
        raise InputError(f"sample {sample.sample_id}", "landmarks", "none are given", hint)
    fit = points.select("fit")
    return control_points.estimate_affine(
        fit.msi_yx_um, fit.histology_yx_um, source=str(sample.landmarks)
    )


def candidates(
    sample: Sample, found: np.ndarray, moving: MovingImage, slide: Slide, points: Landmarks | None
) -> dict[str, np.ndarray]:
    """Puts the baselines beside a transform.

    Args:
        sample: The section.
        found: `[3, 3]` float, the transform found, um.
        moving: The MSI's picture.
        slide: The slide.
        points: Landmarks, or None.

    Returns:
        `found`, `initial`, and `control_points` where the `fit` landmarks determine one; `[3, 3]`.
    """
    matrices = {"found": found, "initial": centered(moving, slide)}
    with contextlib.suppress(InputError):
        matrices["control_points"] = control_point_matrix(sample, points)
    return matrices


def score(
    matrices: dict[str, np.ndarray],
    points: dict,
    moving: MovingImage,
    slide: Slide,
    displacement: Displacement | None = None,
) -> dict[str, dict[str, dict]]:
    """Scores transforms on all points known.

    Args:
        matrices: From `candidates`, `[3, 3]` each.
        points: From `known_points`, `[N, 2]` each.
        moving: Gives the MSI pixel size.
        slide: Gives the diagonal.
        displacement: Field of the transform found, or None.

    Returns:
        Name of each transform to what `scores.score_pair` says; `found` has `robustness` too,
        against `initial`.
    """
    sizes = {
        "msi_um_per_px": float(moving.native_um.mean()),
        "fixed_diagonal_um": slide.diagonal_um,
    }
    bent = {"found": displacement}
    found = {
        name: score_pair(matrix, points, **sizes, displacement=bent.get(name))
        for name, matrix in matrices.items()
    }
    for use, pair in points.items():
        if not len(pair[0]):
            continue
        before, after = (
            target_registration_error(matrices[name], bent.get(name), *pair)
            for name in ("initial", "found")
        )
        found["found"][use]["robustness"] = robustness(before, after)
    return found


def tissue_dice(
    matrix: np.ndarray,
    moving: MovingImage,
    slide: Slide,
    displacement: Displacement | None = None,
) -> float | None:
    """Returns how well tissue covers tissue, on the MSI's grid; None unless H&E was synthesised.

    Args:
        matrix: `[3, 3]` float, imzML frame to slide frame, acting on (y, x, 1), um.
        moving: The MSI's picture.
        slide: The slide.
        displacement: Field added to the matrix's result, or None.
    """
    if not moving.synthetic:
        return None
    to_grid = transforms.from_parts(np.eye(2), moving.origin_um)
    into_crop = transforms.from_parts(np.eye(2), -slide.origin_um)
    seen = transforms.warp_image(
        slide.tissue,
        source_um_per_px=slide.um_per_px,
        matrix_out_to_source=transforms.compose(into_crop, matrix, to_grid),
        out_shape=moving.measured.shape,
        out_um_per_px=moving.um_per_px,
        displacement=displacement and displacement.shifted(-moving.origin_um),
    )
    painted = tissue_mask(moving.picture) & moving.measured
    return dice(painted, seen & moving.measured) if painted.any() else 0.0


def known_points(
    points: Landmarks | None, moving: MovingImage, slide: Slide, truth: Path
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gathers what a registration can be scored on.

    Args:
        points: Landmarks, or None.
        moving: The MSI's picture.
        slide: The slide.
        truth: A simulator's `transform.json`; may be absent.

    Returns:
        Of `eval`, `fit` and `truth` those that there are: MSI `[N, 2]` and histology `[N, 2]`
        (y, x), um. `truth` is every measured MSI pixel that lies on the slide's tissue.
    """
    found = {}
    for use in ("eval", "fit") if points is not None else ():
        chosen = points.select(use)
        if len(chosen):
            found[use] = chosen.msi_yx_um, chosen.histology_yx_um
    if truth.is_file():
        found["truth"] = _dense(read_transform(truth), moving, slide)
    return found


def _dense(truth, moving: MovingImage, slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    msi = (np.argwhere(moving.measured) + 0.5) * moving.um_per_px + moving.origin_um
    there = transforms.apply_transform(truth.matrix, truth.displacement, msi)
    index = np.floor((there - slide.origin_um) / slide.um_per_px).astype(int)
    on_image = np.all((index >= 0) & (index < slide.tissue.shape), axis=1)
    on_tissue = on_image.copy()
    on_tissue[on_image] = slide.tissue[tuple(index[on_image].T)]
    return msi[on_tissue], there[on_tissue]
