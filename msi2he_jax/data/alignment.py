"""Where a training pair's MSI lies on its slide: by landmarks, automatically, or as given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Alignment, Sample
from msi2he_jax.data.moving import MovingImage, msi_picture
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, read_histology
from msi2he_jax.io_safety import existing_folder
from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import fit_landmarks
from msi2he_jax.registration.export import JSON_NAME, read_transform
from msi2he_jax.registration.landmarks import read_landmarks
from msi2he_jax.registration.slide import Slide, working_slide
from msi2he_jax.registration.transforms import Displacement

MOST_DISAGREEMENT_PX = 2.0
SLIDE_PIXELS_PER_MSI_PIXEL = 8.0
LANDMARKS, AUTOMATIC = "landmarks", "auto"


def align(sample: Sample) -> Alignment:
    """Returns a sample's alignment: one found before, or the affine of its `fit` landmarks.

    Raises:
        InputError: no landmark file, or points that determine no affine or an impossible one.
    """
    if sample.alignment is not None:
        return sample.alignment
    if sample.landmarks is None:
        hint = "mark at least 3 points in both images (docs/data_format.md), or pass --align=auto"
        raise InputError(f"sample {sample.sample_id}", "landmarks", "none are given", hint)
    points = read_landmarks(sample.landmarks)
    fit, held_out = fit_landmarks(points), points.select("eval")
    matrix, said = fit.matrix, fit.as_row()
    record = {"method": "control points", "points": said["control_points_used"]}
    record["residual_rms_um"] = said["control_points_residual_rms_um"]
    record |= {name: said[name] for name in ("leave_one_out_median_um", "leave_one_out_max_um")}
    record["eval_points"] = len(held_out)
    record["eval_median_um"] = _median_error(matrix, held_out) if len(held_out) else None
    return Alignment(matrix, record | transforms.decompose(matrix))


def _median_error(matrix: np.ndarray, points) -> float:
    moved = transforms.apply_affine(matrix, points.msi_yx_um)
    return float(np.median(np.linalg.norm(moved - points.histology_yx_um, axis=1)))


def read_slide(sample: Sample, target_um_per_px: float) -> Histology:
    """Reads a sample's slide at the level that suits the target pixel size, um."""
    return read_histology(
        sample.histology, sample.histology_um_per_px, sample.histology_roi, target_um_per_px
    )


def read_working_slide(sample: Sample, moving: MovingImage) -> Slide:
    """Reads a section's slide, `SLIDE_PIXELS_PER_MSI_PIXEL` times as fine as its MSI."""
    um = float(moving.native_um.min()) / SLIDE_PIXELS_PER_MSI_PIXEL
    return working_slide(read_slide(sample, um), um_per_px=um)


def align_automatically(sample: Sample, *, seed: int = 0) -> Alignment:
    """Aligns a sample without its landmarks: a PCA view of its MSI against the slide.

    Two searches from different starting angles must agree to 2 MSI pixels wherever was measured,
    and no other pose may come close; what fails is an error, never a pair.

    Args:
        sample: One sample. Landmarks, where it has any, only score the result.
        seed: Of the starting angles.

    Raises:
        InputError: the alignment cannot be trusted, or a file is no good.
    """
    # Here, since every process of a pool would otherwise load jax for the landmarks of others.
    from msi2he_jax.registration.automatic import register_affine

    moving = msi_picture("pca", sample, seed=seed)
    slide = read_working_slide(sample, moving)
    tissue, known = moving.masks()
    found = [
        register_affine(
            moving.features,
            slide.density,
            tissue,
            slide.tissue,
            moving_um_per_px=moving.um_per_px,
            fixed_um_per_px=slide.um_per_px,
            moving_valid=known,
            seed=each,
        )
        for each in (seed, seed + 1)
    ]
    inner = moving.um_per_px * (np.argwhere(moving.measured) + 0.5)
    first, second = (transforms.apply_affine(result.matrix, inner) for result in found)
    apart_px = float(np.linalg.norm(first - second, axis=1).max() / moving.native_um.max())
    _gate(sample, found[0].ambiguous or found[1].ambiguous, apart_px)
    matrix = transforms.compose(
        transforms.from_parts(np.eye(2), slide.origin_um),
        found[0].matrix,
        transforms.from_parts(np.eye(2), -moving.origin_um),
    )
    record = {"method": "automatic", "score": found[0].score, "disagreement_px": apart_px}
    return Alignment(matrix, record | _landmark_error(sample, matrix) | _shape(matrix))


def _gate(sample: Sample, ambiguous: bool, apart_px: float) -> None:
    name, hint = f"sample {sample.sample_id}", "mark landmarks, or leave it out: --on_error=skip"
    if apart_px > MOST_DISAGREEMENT_PX:
        why = f"two automatic alignments differ by {apart_px:.1f} MSI pixels"
        raise InputError(name, "--align", why, hint)
    if ambiguous:
        why = "another pose fits about as well as the one found automatically"
        raise InputError(name, "--align", why, hint)


def _landmark_error(sample: Sample, matrix: np.ndarray) -> dict[str, float]:
    if sample.landmarks is None:
        return {}
    return {"landmark_median_um": _median_error(matrix, read_landmarks(sample.landmarks))}


def _shape(matrix: np.ndarray) -> dict[str, Any]:
    return {"leave_one_out_median_um": None} | transforms.decompose(matrix)


def read_alignment(sample: Sample, folder: Path) -> Alignment:
    """Takes a sample's alignment from a folder that `register` wrote.

    Args:
        sample: One sample.
        folder: Holds SAMPLE/transform.json.

    Raises:
        InputError: no such file, or not a transform.
    """
    path = existing_folder(folder, "--align") / sample.sample_id / JSON_NAME
    found = read_transform(path)
    record = {"method": f"given ({found.method})", **_landmark_error(sample, found.matrix)}
    return Alignment(found.matrix, record | _shape(found.matrix), found.displacement)


def on_grid(alignment: Alignment, origin_um) -> tuple[np.ndarray, Displacement | None]:
    """Continues an alignment from the imzML's frame to a grid that begins elsewhere.

    Args:
        alignment: Of the sample.
        origin_um: (y, x) of the grid's outer corner, um.

    Returns:
        `[3, 3]` float64 on grid positions, acting on (y, x, 1), um, and the displacement there.
    """
    y, x = origin_um
    matrix = transforms.compose(
        alignment.matrix, transforms.from_parts(np.eye(2), np.asarray(origin_um))
    )
    field = alignment.displacement
    return matrix, field and Displacement(field.y_um - y, field.x_um - x, field.disp_um)
