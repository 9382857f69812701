"""From one sample to one registered pair on the common grid, the frame of its MSI.

`msi_arrays` makes the MSI half and needs no slide: new data pass through it as training data do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Roi, Sample
from msi2he_jax.data.provenance import axis_of, peaks_of
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, read_histology, tissue_mask
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.images import add_to_grid, ion_values, normalize
from msi2he_jax.msi.imzml import Imzml, open_imzml
from msi2he_jax.msi.normalization import spectrum_sizes
from msi2he_jax.msi.projection import project
from msi2he_jax.msi.ranges import spectrum_ranges
from msi2he_jax.msi.spectra import is_discrete
from msi2he_jax.registration import control_points, transforms
from msi2he_jax.registration.landmarks import read_landmarks

_LEAST_TISSUE = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class MsiArrays:
    """The MSI of a section on the common grid.

    Attributes:
        msi: float32 [H, W, K], normalised intensities; 0 where not measured.
        mask: bool [H, W], measured.
        um_per_px: Pixel size of the grid, um.
        origin_um: (y, x) of the grid's outer corner in the imzML's frame, um.
        native_um: (y, x) pixel size of the measurement, um.
    """

    msi: np.ndarray
    mask: np.ndarray
    um_per_px: float
    origin_um: tuple[float, float]
    native_um: tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What was read of consecutive spectra.

    Attributes:
        values: float64 [n, K], the signal at each peak.
        sizes: float64 [n], what each spectrum is divided by, before the floor.
    """

    values: np.ndarray
    sizes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """A control-point affine.

    Attributes:
        matrix: float64 [3, 3], MSI to slide, acting on (y, x, 1), um.
        record: Its errors and what it does, in plain numbers.
    """

    matrix: np.ndarray
    record: dict[str, Any]


def msi_arrays(
    imzml: Imzml,
    provenance: dict[str, Any],
    *,
    um_per_px: float | None = None,
    um_per_px_y: float | None = None,
    roi: Roi | None = None,
    force: bool = False,
    parts: Iterable[Measured] | None = None,
) -> MsiArrays:
    """Brings an imzML to the common grid, with the peaks and treatment of a data set.

    Args:
        imzml: An open file.
        provenance: Of the data set: axis, peaks, rebinning, normalisation and grid.
        um_per_px: MSI pixel size along x, um; None takes the file's own.
        um_per_px_y: Along y, um; None is as along x (or the file's own, where both are None).
        roi: (x, y, w, h) in MSI pixels, or None for all.
        force: Accepts another spectrum type or polarity than the data set's.
        parts: What `measure` gave for each range of spectra, in order; None reads them here.

    Raises:
        InputError: the file does not fit the data set, has no pixel size, or shows no peak at all.
    """
    if not force:
        _check_fits(imzml, provenance)
    native_um = msi_pixel_size_um(imzml, um_per_px, um_per_px_y)
    if parts is None:
        parts = (measure(imzml, provenance, indices) for indices in spectrum_ranges(imzml))
    images, size_image = _laid_out(imzml, parts, len(provenance["peaks"]["mz"]))
    images = normalize(images, size_image, imzml.mask, provenance["normalization"])
    rows, columns = _slices(imzml, roi)
    mask = measured_region(imzml, roi)[rows, columns]
    if not images[rows, columns][mask].any():
        hint = "is it of the same kind as the training data?"
        raise InputError(imzml.path, "peaks", "no pixel has signal at any of them", hint)
    um = _grid_um(provenance["grid"], mask.shape, native_um)
    msi, grid_mask = _on_grid(images[rows, columns], mask, native_um, um, imzml)
    origin = (rows.start * native_um[0], columns.start * native_um[1])
    return MsiArrays(msi, grid_mask, um, origin, native_um)


def measure(imzml: Imzml, provenance: dict[str, Any], indices: np.ndarray) -> Measured:
    """Reads a range of spectra: what takes long, and what large files are split by.

    Args:
        imzml: An open file.
        provenance: As `msi_arrays` needs it.
        indices: int64 [n], numbers of spectra.

    Raises:
        InputError: a damaged spectrum.
    """
    rebin = provenance["rebin"]
    options = {name: rebin[name] for name in ("window", "method", "gap_tol_da")}
    peaks, axis = peaks_of(provenance), axis_of(provenance)
    values = ion_values(imzml, peaks, axis, **options, indices=indices)
    return Measured(values, spectrum_sizes(imzml, provenance["normalization"], indices=indices))


def _laid_out(imzml: Imzml, parts: Iterable[Measured], peaks: int) -> tuple[np.ndarray, ...]:
    """Lays consecutive ranges on the grid: float32 [H, W, K], and sizes float64 [H, W]."""
    images, sizes = np.zeros((*imzml.shape, peaks)), np.zeros(imzml.shape)
    start = 0
    for part in parts:
        indices = np.arange(start, start + len(part.sizes))
        add_to_grid(images, imzml, indices, part.values)
        add_to_grid(sizes, imzml, indices, part.sizes)
        start += len(indices)
    return images.astype(np.float32), sizes


def _check_fits(imzml: Imzml, provenance: dict[str, Any]) -> None:
    """Refuses a file whose intensities cannot mean what they meant in training."""
    expected = provenance["spectra"]
    found = {
        "spectrum_type": imzml.spectrum_type,
        "polarity": imzml.polarity,
        "discrete": is_discrete(imzml),
    }
    for name, value in found.items():
        if None not in (value, expected[name]) and value != expected[name]:
            why = f"is {value}, the data set has {expected[name]}"
            raise InputError(imzml.path, name, why, "--force goes on all the same")


def msi_pixel_size_um(
    imzml: Imzml, um_per_px: float | None, um_per_px_y: float | None
) -> tuple[float, float]:
    """Returns the (y, x) pixel size, um: the manifest's where given, else the file's own.

    Raises:
        InputError: neither says it.
    """
    if um_per_px is not None:
        return (um_per_px if um_per_px_y is None else um_per_px_y), um_per_px
    if imzml.pixel_size_um is None:
        hint = "give it in um, as in msi_um_per_px=50"
        raise InputError(imzml.path, "msi_um_per_px", "the file does not say its pixel size", hint)
    y, x = imzml.pixel_size_um
    return (y if um_per_px_y is None else um_per_px_y), x


def _slices(imzml: Imzml, roi: Roi | None) -> tuple[slice, slice]:
    height, width = imzml.shape
    x, y, w, h = roi or (0, 0, width, height)
    if x + w > width or y + h > height:
        why = f"x,y,w,h = {x},{y},{w},{h} is not inside the {width} x {height} px grid"
        raise InputError(imzml.path, "msi_roi", why)
    return slice(y, y + h), slice(x, x + w)


def measured_region(imzml: Imzml, roi: Roi | None) -> np.ndarray:
    """Returns which pixels of the whole grid are measured and inside `roi`, bool [H, W]."""
    region = np.zeros(imzml.shape, bool)
    region[_slices(imzml, roi)] = True
    region &= imzml.mask
    if not region.any():
        raise InputError(imzml.path, "msi_roi", f"{roi} holds no measured pixel")
    return region


def _grid_um(grid: dict[str, Any], shape: tuple[int, int], native_um) -> float:
    """The data set's one pixel size, or the one that makes the longest side `fit_px`."""
    if grid["fit_px"]:
        return max(n * um for n, um in zip(shape, native_um, strict=True)) / grid["fit_px"]
    return grid["target_um_per_px"]


def _on_grid(images, mask, native_um, um: float, imzml) -> tuple[np.ndarray, np.ndarray]:
    """Resamples bilinearly among measured pixels, so that missing ones do not darken others."""
    shape = tuple(
        max(1, round(n * size / um)) for n, size in zip(mask.shape, native_um, strict=True)
    )
    if shape[0] * shape[1] > LIMITS.grid_pixels:
        why = f"{um:g} um/px would make {shape[0]} x {shape[1]} px"
        raise InputError(imzml.path, "target_um_per_px", why, "choose a larger one")
    if shape == mask.shape and native_um == (um, um):
        return images * mask[..., None], mask
    options = {
        "source_um_per_px": native_um,
        "matrix_out_to_source": np.eye(3),
        "out_shape": shape,
        "out_um_per_px": um,
    }
    weight = transforms.warp_image(mask.astype(np.float32), **options)
    summed = transforms.warp_image(images * mask[..., None], **options)
    inside = weight >= 0.5
    resampled = summed / np.maximum(weight, 1e-6)[..., None]
    return np.where(inside[..., None], resampled, 0).astype(np.float32), inside


def view_of(arrays: MsiArrays, *, method: str, seed: int) -> np.ndarray:
    """Makes the three-channel view of a section, uint8 [H, W, 3]; 0 outside its mask."""
    return project(np.sqrt(arrays.msi), arrays.mask, method=method, seed=seed)


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
    arrays = msi_arrays(
        open_imzml(sample.imzml),
        provenance,
        um_per_px=sample.msi_um_per_px,
        um_per_px_y=sample.msi_um_per_px_y,
        roi=sample.msi_roi,
        force=provenance["recipe"]["force"],
        parts=parts,
    )
    slide = read_slide(sample, arrays.um_per_px)
    offset = transforms.from_parts(np.eye(2), np.asarray(arrays.origin_um))
    matrix = transforms.compose(alignment.matrix, offset)
    view = sample.view or provenance["view"]
    tissue = slide_tissue(slide, matrix, arrays.mask.shape, arrays.um_per_px)
    example = {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "msi": arrays.msi,
        "msi_mask": arrays.mask,
        "histology": _drawn(slide, matrix, arrays, provenance["pad_value"], sample),
        "tissue_mask": tissue,
        "view": view_of(arrays, method=view, seed=provenance["seed"]),
        "msi_to_histology": transforms.swap_xy(matrix),
        "um_per_px": arrays.um_per_px,
    }
    return example, _pair_record(arrays, alignment, slide, tissue, view)


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


def _pair_record(arrays, alignment, slide, tissue, view) -> dict[str, Any]:
    on_tissue = float((tissue & arrays.mask).sum() / arrays.mask.sum())
    record = {
        "shape": list(arrays.mask.shape),
        "um_per_px": arrays.um_per_px,
        "msi_um_per_px": list(arrays.native_um),
        "grid_origin_um": list(arrays.origin_um),
        "slide_um_per_px": slide.um_per_px,
        "tissue_fraction": on_tissue,
        "view": view,
        "control_points": alignment.record,
    }
    if on_tissue < _LEAST_TISSUE:
        record["doubt"] = f"only {on_tissue:.1%} of the measured pixels lie on tissue"
    return record
