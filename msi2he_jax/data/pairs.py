"""From one sample to one registered pair on the common grid, the frame of its MSI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from msi2he_jax.data.alignment import align, on_grid, read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import Measured, MsiArrays, msi_arrays, read_like
from msi2he_jax.data.views import make_view
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, tissue_mask
from msi2he_jax.msi.recalibration import Shift
from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement

_LEAST_TISSUE = 0.01


def slide_tissue(
    slide: Histology,
    matrix: np.ndarray,
    shape: tuple[int, int],
    um_per_px,
    displacement: Displacement | None = None,
) -> np.ndarray:
    """Draws a slide's tissue mask on another grid.

    Args:
        slide: The slide.
        matrix: [3, 3], grid to slide, acting on (y, x, 1), um.
        shape: (rows, columns) of the grid.
        um_per_px: Pixel size of the grid, um; one number or (y, x).
        displacement: Added to the matrix's result, or None.

    Returns:
        bool [H, W].
    """
    return transforms.warp_image(
        tissue_mask(slide.pixels),
        displacement=displacement,
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
    matrix, field = on_grid(alignment, arrays.origin_um)
    tissue = slide_tissue(slide, matrix, arrays.mask.shape, arrays.um_per_px, field)
    histology = _drawn(slide, matrix, field, arrays, provenance["pad_value"], sample)
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


def _drawn(slide, matrix, field, arrays: MsiArrays, pad_value: int, sample: Sample) -> np.ndarray:
    """Warps the slide onto the MSI grid; refuses one that does not reach it."""
    options = {
        "source_um_per_px": slide.um_per_px,
        "matrix_out_to_source": _into_crop(slide, matrix),
        "out_shape": arrays.mask.shape,
        "out_um_per_px": arrays.um_per_px,
        "displacement": field,
    }
    covered = transforms.warp_image(np.ones(slide.pixels.shape[:2], bool), order=0, **options)
    if not (covered & arrays.mask).any():
        hint = "are all coordinates in um, and is the region the right one?"
        why = f"place the MSI of {sample.sample_id} outside its slide"
        raise InputError(sample.landmarks or sample.histology, "landmarks", why, hint)
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
        "alignment": alignment.record,
    }
    doubts = []
    if shift is not None:
        record["mass_shift"] = vars(shift)
        doubts += [f"not recalibrated: {shift.why}"] if shift.why else []
    if on_tissue < _LEAST_TISSUE:
        doubts.append(f"only {on_tissue:.1%} of the measured pixels lie on tissue")
    return record | ({"doubt": "; ".join(doubts)} if doubts else {})
