"""The MSI of a section on the common grid: native pixels read, normalised, brought to one size.

No slide is needed: new data pass through `msi_arrays` as training data do.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Roi
from msi2he_jax.data.msi_warnings import msi_warnings, refuse_impossible_size
from msi2he_jax.data.provenance import axis_of, peaks_of
from msi2he_jax.data.reading import read_spectra
from msi2he_jax.data.recipe import recipe_of
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.images import add_to_grid, ion_values, normalize
from msi2he_jax.msi.normalization import spectrum_sizes
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.ranges import spectrum_ranges
from msi2he_jax.msi.recalibration import Shift
from msi2he_jax.msi.spectra import is_discrete
from msi2he_jax.registration import transforms


@dataclasses.dataclass(frozen=True, eq=False)
class MsiArrays:
    """The MSI of a section on the common grid.

    Attributes:
        msi: float32 [H, W, K], normalised intensities; 0 where not measured.
        mask: bool [H, W], measured.
        um_per_px: Pixel size of the grid, um.
        origin_um: (y, x) of the grid's outer corner in the imzML's frame, um.
        native_um: (y, x) pixel size of the measurement, um.
        warnings: What is odd about the file as it was read.
    """

    msi: np.ndarray
    mask: np.ndarray
    um_per_px: float
    origin_um: tuple[float, float]
    native_um: tuple[float, float]
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What was read of consecutive spectra.

    Attributes:
        values: float64 [n, K], the signal at each peak.
        sizes: float64 [n], what each spectrum is divided by, before the floor.
    """

    values: np.ndarray
    sizes: np.ndarray


def read_like(path: str | os.PathLike, provenance: dict[str, Any]) -> tuple[MsiFile, Shift | None]:
    """Opens an imzML and treats its spectra as those of a data set.

    Args:
        path: The .imzML file.
        provenance: Of the data set.

    Returns:
        The file, and its mass shift or None where the data set was not recalibrated.

    Raises:
        InputError: the file is damaged, or cannot be treated so.
    """
    gap_tol_da = provenance["rebin"]["gap_tol_da"]
    return read_spectra(path, recipe_of(provenance), axis_of(provenance), gap_tol_da)


def msi_arrays(
    msi: MsiFile,
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
        msi: An open file, as `read_like` gives it.
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
        _check_fits(msi, provenance)
    native_um = msi_pixel_size_um(msi, um_per_px, um_per_px_y)
    images = native_images(msi, provenance, parts)
    rows, columns = _slices(msi, roi)
    mask = measured_region(msi, roi)[rows, columns]
    if not images[rows, columns][mask].any():
        hint = "is it of the same kind as the training data?"
        raise InputError(msi.path, "peaks", "no pixel has signal at any of them", hint)
    um = _grid_um(provenance["grid"], mask.shape, native_um)
    channels, grid_mask = _on_grid(images[rows, columns], mask, native_um, um, msi)
    origin = (rows.start * native_um[0], columns.start * native_um[1])
    warnings = msi_warnings(msi, um_per_px, um_per_px_y, roi)
    return MsiArrays(channels, grid_mask, um, origin, native_um, tuple(warnings))


def native_images(
    msi: MsiFile, provenance: dict[str, Any], parts: Iterable[Measured] | None = None
) -> np.ndarray:
    """Reads the images of a data set's peaks on the file's own grid, normalised as there.

    Args:
        msi: An open file, as `read_like` gives it.
        provenance: As `msi_arrays` needs it.
        parts: As for `msi_arrays`.

    Returns:
        float32 [H, W, K].
    """
    if parts is None:
        parts = (measure(msi, provenance, indices) for indices in spectrum_ranges(msi))
    images, size_image = _laid_out(msi, parts, len(provenance["peaks"]["mz"]))
    return normalize(images, size_image, msi.mask, provenance["normalization"])


def measure(msi: MsiFile, provenance: dict[str, Any], indices: np.ndarray) -> Measured:
    """Reads a range of spectra: what takes long, and what large files are split by.

    Args:
        msi: An open file.
        provenance: As `msi_arrays` needs it.
        indices: int64 [n], numbers of spectra.

    Raises:
        InputError: a damaged spectrum.
    """
    rebin = provenance["rebin"]
    options = {name: rebin[name] for name in ("window", "method", "gap_tol_da")}
    peaks, axis = peaks_of(provenance), axis_of(provenance)
    values = ion_values(msi, peaks, axis, **options, indices=indices)
    recipe, kind = recipe_of(provenance), provenance["normalization"]
    reference = {"reference_mz": recipe.reference_mz, "reference_ppm": recipe.reference_ppm}
    return Measured(values, spectrum_sizes(msi, kind, **reference, indices=indices))


def _laid_out(msi: MsiFile, parts: Iterable[Measured], peaks: int) -> tuple[np.ndarray, ...]:
    """Lays consecutive ranges on the grid: float32 [H, W, K], and sizes float64 [H, W]."""
    images, sizes = np.zeros((*msi.shape, peaks)), np.zeros(msi.shape)
    start = 0
    for part in parts:
        indices = np.arange(start, start + len(part.sizes))
        add_to_grid(images, msi, indices, part.values)
        add_to_grid(sizes, msi, indices, part.sizes)
        start += len(indices)
    return images.astype(np.float32), sizes


def _check_fits(msi: MsiFile, provenance: dict[str, Any]) -> None:
    """Refuses a file whose intensities cannot mean what they meant in training."""
    expected = provenance["spectra"]
    found = {
        "spectrum_type": msi.spectrum_type,
        "polarity": msi.polarity,
        "discrete": is_discrete(msi),
    }
    for name, value in found.items():
        if None not in (value, expected[name]) and value != expected[name]:
            why = f"is {value}, the data set has {expected[name]}"
            raise InputError(msi.path, name, why, "--force goes on all the same")


def msi_pixel_size_um(
    msi: MsiFile, um_per_px: float | None, um_per_px_y: float | None
) -> tuple[float, float]:
    """Returns the (y, x) pixel size, um: the manifest's where given, else the file's own.

    Raises:
        InputError: neither says it, or the one given is 1000 times wrong.
    """
    refuse_impossible_size(msi, um_per_px, um_per_px_y)
    if um_per_px is not None:
        return (um_per_px if um_per_px_y is None else um_per_px_y), um_per_px
    if msi.pixel_size_um is None:
        hint = "fill the manifest's column msi_um_per_px, in um"
        raise InputError(msi.path, "msi_um_per_px", "the file does not say its pixel size", hint)
    y, x = msi.pixel_size_um
    return (y if um_per_px_y is None else um_per_px_y), x


def _slices(msi: MsiFile, roi: Roi | None) -> tuple[slice, slice]:
    height, width = msi.shape
    x, y, w, h = roi or (0, 0, width, height)
    if x + w > width or y + h > height:
        why = f"x,y,w,h = {x},{y},{w},{h} is not inside the {width} x {height} px grid"
        raise InputError(msi.path, "msi_roi", why)
    return slice(y, y + h), slice(x, x + w)


def measured_region(msi: MsiFile, roi: Roi | None) -> np.ndarray:
    """Returns which pixels of the whole grid are measured and inside `roi`, bool [H, W]."""
    region = np.zeros(msi.shape, bool)
    region[_slices(msi, roi)] = True
    region &= msi.mask
    if not region.any():
        raise InputError(msi.path, "msi_roi", f"{roi} holds no measured pixel")
    return region


def _grid_um(grid: dict[str, Any], shape: tuple[int, int], native_um) -> float:
    """The data set's one pixel size, or the one that makes the longest side `fit_px`."""
    if grid["fit_px"]:
        return max(n * um for n, um in zip(shape, native_um, strict=True)) / grid["fit_px"]
    return grid["target_um_per_px"]


def _on_grid(images, mask, native_um, um: float, msi) -> tuple[np.ndarray, np.ndarray]:
    """Resamples bilinearly among measured pixels, so that missing ones do not darken others."""
    options = _grid_options(mask.shape, native_um, um, msi.path)
    if options["out_shape"] == mask.shape and native_um == (um, um):
        return images * mask[..., None], mask
    weight = transforms.warp_image(mask.astype(np.float32), **options)
    summed = transforms.warp_image(images * mask[..., None], **options)
    inside = weight >= 0.5
    resampled = summed / np.maximum(weight, 1e-6)[..., None]
    return np.where(inside[..., None], resampled, 0).astype(np.float32), inside


def grid_mask(
    mask: np.ndarray, native_um: tuple[float, float], um: float, path: str | os.PathLike
) -> np.ndarray:
    """Draws the measured pixels on the common grid, as `msi_arrays` does, bool [h, w].

    Args:
        mask: bool [H, W], of the region.
        native_um: (y, x) pixel size of the measurement, um.
        um: Pixel size of the grid, um.
        path: The imzML, for the message.

    Raises:
        InputError: the grid would be too large.
    """
    options = _grid_options(mask.shape, native_um, um, path)
    if options["out_shape"] == mask.shape and native_um == (um, um):
        return mask
    return transforms.warp_image(mask.astype(np.float32), **options) >= 0.5


def _grid_options(shape: tuple[int, int], native_um, um: float, path) -> dict[str, Any]:
    """How a measured region is drawn on the common grid."""
    out = tuple(max(1, round(n * size / um)) for n, size in zip(shape, native_um, strict=True))
    if out[0] * out[1] > LIMITS.grid_pixels:
        why = f"{um:g} um/px would make {out[0]} x {out[1]} px"
        raise InputError(path, "target_um_per_px", why, "choose a larger --target_um_per_px")
    return {
        "source_um_per_px": native_um,
        "matrix_out_to_source": np.eye(3),
        "out_shape": out,
        "out_um_per_px": um,
    }
