"""From one sample to one registered pair on the common grid, the frame of its MSI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from msi2he_jax.data.alignment import align, read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import Measured, MsiArrays, msi_arrays, read_like
from msi2he_jax.data.views import make_view
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, require_tissue, tissue_mask
from msi2he_jax.msi.recalibration import Shift
from msi2he_jax.registration.transforms import Transform, swap_xy

_LEAST_TISSUE = 0.2  # Less is rarely measured; scales that are wrong come to a tenth.


def slide_tissue(
    slide: Histology, transform: Transform, shape: tuple[int, int], um_per_px
) -> np.ndarray:
    """Draws a slide's tissue mask on another grid.

    Args:
        slide: The slide.
        transform: Grid to slide.
        shape: (rows, columns) of the grid.
        um_per_px: Pixel size of the grid, um; one number or (y, x).

    Returns:
        bool [H, W].

    Raises:
        InputError: the slide shows no tissue anywhere.
    """
    return transform.in_images(to_yx=slide.origin_um).warp(
        require_tissue(slide.path, tissue_mask(slide.pixels)),
        source_um_per_px=slide.um_per_px,
        out_shape=shape,
        out_um_per_px=um_per_px,
    )


def sample_arrays(
    sample: Sample, provenance: dict[str, Any], parts: Iterable[Measured] | None = None
) -> tuple[MsiArrays, Shift | None]:
    """Reads the MSI half of a sample; for arguments and errors see `make_pair`.

    Returns:
        The arrays, and the file's mass shift or None.
    """
    msi, shift = read_like(sample.imzml, provenance)
    arrays = msi_arrays(
        msi,
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
    on_grid = alignment.transform.in_images(arrays.origin_um)
    tissue = slide_tissue(slide, on_grid, arrays.mask.shape, arrays.um_per_px)
    histology = _drawn(slide, on_grid, arrays, provenance["pad_value"], sample)
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
        "msi_to_histology": swap_xy(on_grid.matrix),
        "um_per_px": arrays.um_per_px,
    }
    record = _pair_record(arrays, alignment, slide, tissue, shift)
    return example, record | viewed


def _drawn(slide, transform, arrays: MsiArrays, pad_value: int, sample: Sample) -> np.ndarray:
    """Warps the slide onto the MSI grid; refuses one that does not reach it."""
    options = {
        "source_um_per_px": slide.um_per_px,
        "out_shape": arrays.mask.shape,
        "out_um_per_px": arrays.um_per_px,
    }
    transform = transform.in_images(to_yx=slide.origin_um)
    _refuse_outside(sample, slide, transform, arrays.mask, options)
    return transform.warp(slide.pixels, fill=pad_value, **options)


def _refuse_outside(sample: Sample, slide: Histology, into_crop: Transform, mask, options) -> None:
    covered = into_crop.warp(np.ones(slide.pixels.shape[:2], bool), order=0, **options)
    if not (covered & mask).any():
        hint = "are all coordinates in um, and is the region the right one?"
        why = f"place the MSI of {sample.sample_id} outside its slide"
        raise InputError(sample.landmarks or sample.histology, "landmarks", why, hint)


def slide_warnings(
    sample: Sample, slide: Histology, transform: Transform, mask: np.ndarray, um_per_px: float
) -> list[str]:
    """Says before a pair is made what would be odd about its slide.

    Args:
        sample: One sample.
        slide: Its slide.
        transform: Grid to slide.
        mask: bool [H, W], the measured pixels on the grid of its pair.
        um_per_px: Pixel size of that grid, um.

    Raises:
        InputError: no tissue, or the slide lies elsewhere, as `make_pair` says it.
    """
    options = {
        "source_um_per_px": slide.um_per_px,
        "out_shape": mask.shape,
        "out_um_per_px": um_per_px,
    }
    tissue = slide_tissue(slide, transform, mask.shape, um_per_px)
    into_crop = transform.in_images(to_yx=slide.origin_um)
    _refuse_outside(sample, slide, into_crop, mask, options)
    return [*slide.warnings, *_tissue_warnings(float(tissue[mask].mean()))]


def _tissue_warnings(on_tissue: float) -> list[str]:
    why = f"only {on_tissue:.1%} of the measured pixels lie on tissue"
    said = f"{why}: are pixel sizes, landmarks and regions right?"
    return [said] if on_tissue < _LEAST_TISSUE else []


def _pair_record(arrays, alignment, slide, tissue, shift) -> dict[str, Any]:
    on_tissue = float((tissue & arrays.mask).sum() / arrays.mask.sum())
    record = {
        "shape": list(arrays.mask.shape),
        "um_per_px": arrays.um_per_px,
        "msi_um_per_px": list(arrays.native_um),
        "grid_origin_um": list(arrays.origin_um),
        "slide_um_per_px": slide.um_per_px,
        "tissue_fraction": on_tissue,
        "alignment": {"method": alignment.method, **alignment.scores},
    }
    warnings = [*arrays.warnings, *slide.warnings]
    if shift is not None:
        record["mass_shift"] = vars(shift)
        warnings += [f"not recalibrated: {shift.why}"] if shift.why else []
    warnings += alignment.scores.get("warnings", [])
    return record | {"warnings": warnings + _tissue_warnings(on_tissue)}
