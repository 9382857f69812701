"""Spectra of a pathologist's regions: which MSI pixels lie in each, and what they show."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um, native_images, read_like
from msi2he_jax.errors import InputError
from msi2he_jax.histology import slide_um_per_px
from msi2he_jax.msi.open_msi import open_msi
from msi2he_jax.msi.overview import own_peak_images
from msi2he_jax.registration import geojson
from msi2he_jax.registration.transforms import Transform, pixel_centers


def region_table(
    sample: Sample,
    transform: Transform,
    path: str | os.PathLike,
    provenance: dict | None = None,
) -> tuple[list[dict], np.ndarray, tuple[float, float]]:
    """Carries annotations of the slide onto the MSI's pixels.

    A pixel belongs to a region if its centre, moved to the slide, lies inside; regions may overlap.

    Args:
        sample: The section.
        transform: From its MSI to its slide.
        path: GeoJSON in pixels of the full slide, as QuPath exports it.
        provenance: Of a data set whose peaks are taken; None takes the file's own.

    Returns:
        One row per region (region, class, pixels, area_mm2, then the mean of each peak, empty
        where no pixel lies inside); masks `[H, W, R]` bool on the imzML's grid; its pixel size
        (y, x), um.

    Raises:
        InputError: no area in the file, or none that reaches a measured pixel.
    """
    msi = open_msi(sample.imzml)
    native = msi_pixel_size_um(msi, sample.msi_um_per_px, sample.msi_um_per_px_y)
    um = slide_um_per_px(sample.histology, sample.histology_um_per_px)
    regions = geojson.regions_of(path, geojson.read_features(path), um)
    centers = pixel_centers(msi.shape, native)
    there = transform(centers)
    measured = measured_region(msi, sample.msi_roi)
    masks = np.stack([region.contains(there) & measured for region in regions], axis=-1)
    if not masks.any():
        hint = "was it drawn on this slide, and is its pixel size right?"
        raise InputError(path, "annotations", f"none lies on the MSI of {sample.sample_id}", hint)
    images, mz = peak_images_like(sample.imzml, provenance) if provenance else own_peak_images(msi)
    area = native[0] * native[1] * 1e-6
    rows = [
        _row(region, images[mask], mz, area)
        for region, mask in zip(regions, np.moveaxis(masks, -1, 0), strict=True)
    ]
    return rows, masks, native


def peak_images_like(path, provenance: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the peaks of a data set on a file's own grid, treated and divided as there.

    Args:
        path: The .imzML file.
        provenance: Of the data set.

    Returns:
        `[H, W, K]` float32, and m/z `[K]`.
    """
    msi, _ = read_like(path, provenance)
    return native_images(msi, provenance), np.array(provenance["peaks"]["mz"], np.float64)


def _row(region: geojson.Region, values: np.ndarray, mz: np.ndarray, pixel_mm2: float) -> dict:
    row = {"region": region.name, "class": region.label, "pixels": len(values)}
    row["area_mm2"] = len(values) * pixel_mm2
    means = values.mean(axis=0, dtype=np.float64) if len(values) else [None] * len(mz)
    return row | {
        f"m/z {one:.4f}": None if mean is None else float(mean)
        for one, mean in zip(mz, means, strict=True)
    }
