"""Where a training pair's MSI lies on its slide: as found before, or by its landmarks."""

from __future__ import annotations

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, read_histology
from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import fit_landmarks
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks
from msi2he_jax.registration.scores import target_registration_error
from msi2he_jax.registration.transforms import Transform

LANDMARKS, AUTOMATIC = "landmarks", "auto"


def align(sample: Sample) -> TransformRecord:
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
    transform, said = Transform(fit.matrix), fit.as_row()
    record = {"points": said["control_points_used"]}
    record["residual_rms_um"] = said["control_points_residual_rms_um"]
    record |= {name: said[name] for name in ("leave_one_out_median_um", "leave_one_out_max_um")}
    record["eval_points"] = len(held_out)
    record["eval_median_um"] = median_error_um(transform, held_out) if len(held_out) else None
    record["warnings"] = fit.warnings
    record |= transforms.decompose(transform.matrix)
    return TransformRecord(transform, "control points", record)


def median_error_um(transform: Transform, points: Landmarks) -> float:
    """Returns the median target registration error of landmarks, um.

    Args:
        transform: MSI to histology.
        points: At least one, of any use.
    """
    errors = target_registration_error(transform, points.msi_yx_um, points.histology_yx_um)
    return float(np.median(errors))


def read_slide(sample: Sample, target_um_per_px: float) -> Histology:
    """Reads a sample's slide at the level that suits the target pixel size, um."""
    return read_histology(
        sample.histology,
        sample.histology_um_per_px,
        sample.histology_roi,
        target_um_per_px,
        sample.histology_channels,
    )
