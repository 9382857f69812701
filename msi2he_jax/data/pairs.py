"""From one sample to one registered pair on the common grid, the frame of its MSI."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import Measured, MsiArrays, msi_arrays, read_like
from msi2he_jax.data.views import make_view
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, read_histology, tissue_mask
from msi2he_jax.msi.recalibration import Shift
from msi2he_jax.registration import control_points, transforms
from msi2he_jax.registration.landmarks import read_landmarks

_LEAST_TISSUE = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """A control-point affine.

    Attributes:
        matrix: float64 [3, 3], MSI to slide, acting on (y, x, 1), um.
        record: Its errors and what it does, in plain numbers.
    """

    matrix: np.ndarray
    record: dict[str, Any]


def align(sample: Sample) -> Alignment:
    """Fits the affine to a sample's `fit` landmarks.

    Raises:
        InputError: no landmark file, or points that determine no affine.
    """
    if sample.landmarks is None:
        hint = "mark at least 3 points in both images, see docs/data_format.md"
        raise InputError(f"sample {sample.sample_id}", "landmarks", "none are given", hint)
    points = read_landmarks(sample.landmarks)
    fit, held_out = points.select("fit"), points.select("eval")
    moving, fixed = fit.msi_yx_um, fit.histology_yx_um
    matrix = control_points.estimate_affine(moving, fixed, source=str(sample.landmarks))
    left_out = control_points.leave_one_out_errors(moving, fixed)
    record = {"points": len(fit), "residual_rms_um": float(_errors(matrix, fit, "rms"))}
    record |= {"leave_one_out_median_um": _finite(np.median, left_out)}
    record |= {"leave_one_out_max_um": _finite(np.max, left_out), "eval_points": len(held_out)}
    record["eval_median_um"] = float(_errors(matrix, held_out, "median")) if len(held_out) else None
    return Alignment(matrix, record | transforms.decompose(matrix))


def _errors(matrix: np.ndarray, points, kind: str) -> float:
    moved = transforms.apply_affine(matrix, points.msi_yx_um)
    distance = np.linalg.norm(moved - points.histology_yx_um, axis=1)
    return np.sqrt(np.mean(distance**2)) if kind == "rms" else np.median(distance)


def _finite(reduce, errors: np.ndarray) -> float | None:
    """Three points leave two: no affine, and no error to tell."""
    finite = errors[np.isfinite(errors)]
    return float(reduce(finite)) if finite.size else None


def read_slide(sample: Sample, target_um_per_px: float) -> Histology:
    """Reads a sample's slide at the level that suits the target pixel size, um."""
    return read_histology(
        sample.histology, sample.histology_um_per_px, sample.histology_roi, target_um_per_px
    )


def slide_tissue(
    slide: Histology, matrix: np.ndarray, shape: tuple[int, int], um_per_px
) -> np.ndarray:
    """Draws a slide's tissue mask on another grid.

    Args:
        slide: The slide.
        matrix: [3, 3], grid to slide, acting on (y, x, 1), um.
        shape: (rows, columns) of the grid.
        um_per_px: Pixel size of the grid, um; one number or (y, x).

    Returns:
        bool [H, W].
    """
    return transforms.warp_image(
        tissue_mask(slide.pixels),
        source_um_per_px=slide.um_per_px,
        matrix_out_to_source=_into_crop(slide, matrix),
        out_shape=shape,
        out_um_per_px=um_per_px,
    )


def _into_crop(slide: Histology, matrix: np.ndarray) -> np.ndarray:
    """Continues a matrix from the slide's frame into that of the part that was read."""
    shift = transforms.from_parts(np.eye(2), -np.asarray(slide.origin_um))
    return transforms.compose(shift, matrix)


def sample_arrays(
    sample: Sample, provenance: dict[str, Any], parts: Iterable[Measured] | None = None
) -> tuple[MsiArrays, Shift | None]:
    """Reads the MSI half of a sample; for arguments and errors see `make_pair`.

    Returns:
        The arrays, and the file's mass shift or None.
    """
    imzml, shift = read_like(sample.imzml, provenance)
    arrays = msi_arrays(
        imzml,
        provenance,
        um_per_px=sample.msi_um_per_px,
        um_per_px_y=sample.msi_um_per_px_y,
        roi=sample.msi_roi,
        force=provenance["recipe"]["force"],
        parts=parts,
    )
    return arrays, shift


def make_pair(
    sample: Sample, provenance: dict[str, Any], parts: Iterable[Measured] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Makes the example of one sample.

    Args:
        sample: One sample.
        provenance: As `msi_arrays` needs it, with `pad_value`, `view` and `seed`.
        parts: As for `msi_arrays`.

    Returns:
        The example (see `builder.write_dataset`), and what to record of it.

    Raises:
        InputError: a file is damaged, landmarks are missing, or the slide lies elsewhere.
    """
    alignment = align(sample)
    arrays, shift = sample_arrays(sample, provenance, parts)
    slide = read_slide(sample, arrays.um_per_px)
    offset = transforms.from_parts(np.eye(2), np.asarray(arrays.origin_um))
    matrix = transforms.compose(alignment.matrix, offset)
    tissue = slide_tissue(slide, matrix, arrays.mask.shape, arrays.um_per_px)
    histology = _drawn(slide, matrix, arrays, provenance["pad_value"], sample)
    view, viewed = make_view(
        arrays,
        histology,
        tissue,
        method=sample.view or provenance["view"],
        seed=provenance["seed"],
        models=provenance.get("view_models", {}),
    )
    example = {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "msi": arrays.msi,
        "msi_mask": arrays.mask,
        "histology": histology,
        "tissue_mask": tissue,
        "view": view,
        "msi_to_histology": transforms.swap_xy(matrix),
        "um_per_px": arrays.um_per_px,
    }
    record = _pair_record(arrays, alignment, slide, tissue, shift)
    return example, record | viewed


def _drawn(slide, matrix, arrays: MsiArrays, pad_value: int, sample: Sample) -> np.ndarray:
    """Warps the slide onto the MSI grid; refuses one that does not reach it."""
    options = {
        "source_um_per_px": slide.um_per_px,
        "matrix_out_to_source": _into_crop(slide, matrix),
        "out_shape": arrays.mask.shape,
        "out_um_per_px": arrays.um_per_px,
    }
    covered = transforms.warp_image(np.ones(slide.pixels.shape[:2], bool), order=0, **options)
    if not (covered & arrays.mask).any():
        hint = "are all coordinates in um, and is the region the right one?"
        why = f"place the MSI of {sample.sample_id} outside its slide"
        raise InputError(sample.landmarks, "landmarks", why, hint)
    return transforms.warp_image(slide.pixels, fill=pad_value, **options)


def _pair_record(arrays, alignment, slide, tissue, shift) -> dict[str, Any]:
    on_tissue = float((tissue & arrays.mask).sum() / arrays.mask.sum())
    record = {
        "shape": list(arrays.mask.shape),
        "um_per_px": arrays.um_per_px,
        "msi_um_per_px": list(arrays.native_um),
        "grid_origin_um": list(arrays.origin_um),
        "slide_um_per_px": slide.um_per_px,
        "tissue_fraction": on_tissue,
        "control_points": alignment.record,
    }
    doubts = []
    if shift is not None:
        record["mass_shift"] = vars(shift)
        doubts += [f"not recalibrated: {shift.why}"] if shift.why else []
    if on_tissue < _LEAST_TISSUE:
        doubts.append(f"only {on_tissue:.1%} of the measured pixels lie on tissue")
    return record | ({"doubt": "; ".join(doubts)} if doubts else {})
