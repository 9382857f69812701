"""The files of one registered section."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps

from msi2he_jax.coregistration.moving import MovingImage
from msi2he_jax.coregistration.region_spectra import region_table
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.coregistration.section_pictures import ions_on_slide, overlays, slide_on_msi
from msi2he_jax.data.manifest import Sample
from msi2he_jax.interop.write_image import write_image
from msi2he_jax.io_safety import atomic_file
from msi2he_jax.registration.export import TransformRecord, write_transform
from msi2he_jax.registration.overlay import to_rgb
from msi2he_jax.registration.scores import target_registration_error
from msi2he_jax.registration.summary import write_errors
from msi2he_jax.registration.uncertainty import Uncertainty
from msi2he_jax.tables import write_records

SLIDE_ON_MSI = "histology_on_msi.ome.tiff"
IONS_ON_SLIDE = "ions_on_histology.ome.tiff"
UNCERTAINTY = "uncertainty_um.npy"
REGIONS, REGION_MASKS = "regions.csv", "regions_on_msi.ome.tiff"


def write_found(
    folder: Path,
    pair: SectionPair,
    found: TransformRecord,
    points: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Writes the transform in all forms, `tre.csv`, the moving image and two overlays.

    Args:
        folder: An existing folder.
        pair: The section and its slide.
        found: The transform; its scores name the sample.
        points: Name of a set to MSI `[N, 2]` and histology `[N, 2]` points, (y, x), um.
    """
    write_transform(folder, found)
    errors = {
        use: (msi, target_registration_error(found.transform, msi, histology))
        for use, (msi, histology) in points.items()
    }
    write_errors(folder / "tre.csv", errors)
    moving, slide = pair.moving, pair.slide
    marks = {"synthetic": moving.synthetic, "description": f"moving image: {moving.kind}"}
    name = "moving_SYNTHETIC.png" if moving.synthetic else "moving.png"
    picture = to_rgb(moving.picture, moving.measured)
    write_image(folder / name, picture, moving.um_per_px, **marks)
    for name, image in overlays(pair, picture, found.transform).items():
        write_image(folder / f"overlay_{name}.png", image, slide.um_per_px, **marks)


def write_uncertainty(folder: Path, moving: MovingImage, found: Uncertainty) -> None:
    """Writes where the images determine the alignment: a picture (dark is sure) and the numbers.

    Args:
        folder: An existing folder.
        moving: Gives the pixel size.
        found: The spread on the moving picture; NaN, off the tissue, is drawn white.
    """
    with atomic_file(folder / UNCERTAINTY) as temporary, open(temporary, "wb") as file:
        np.save(file, found.spread_um)
    shown = colormaps["magma"](np.nan_to_num(found.spread_um) / found.limit_um, bytes=True)[..., :3]
    pixels = np.where(np.isfinite(found.spread_um)[..., None], shown, 255).astype(np.uint8)
    words = f"uncertainty of the alignment, black 0 to yellow {found.limit_um:.0f} um per axis"
    path = folder / f"{Path(UNCERTAINTY).stem}.png"
    write_image(path, pixels, moving.um_per_px, description=words)


def write_slide_on_msi(folder: Path, sample: Sample, found: TransformRecord) -> None:
    """Writes the slide drawn on the MSI's frame, as RGB OME-TIFF.

    Args:
        folder: An existing folder.
        sample: The section.
        found: The transform, with grids.
    """
    um = found.grids["histology"].um_per_px[0]
    drawn = slide_on_msi(sample, found, um)
    write_image(folder / SLIDE_ON_MSI, drawn, um)


def write_ions(
    folder: Path, sample: Sample, found: TransformRecord, mz: Sequence[float], ion_ppm: float | None
) -> None:
    """Writes ion images drawn on the slide's grid, one float32 channel each.

    Args:
        folder: An existing folder.
        sample: The section.
        found: The transform, with grids.
        mz: K ions.
        ion_ppm: Half width of their window, ppm, or None.

    Raises:
        InputError: an ion outside the range or without signal, or too large a picture.
    """
    images = ions_on_slide(sample, found, mz, ion_ppm)
    um = found.grids["histology"].um_per_px
    names = [f"m/z {value:.4f}" for value in mz]
    write_image(folder / IONS_ON_SLIDE, images, um, channel_names=names)


def write_regions(
    folder: Path,
    sample: Sample,
    found: TransformRecord,
    annotations: str | os.PathLike,
    provenance: dict | None,
) -> None:
    """Writes `regions.csv`, and the pixels of each region as one channel of 0 and 255.

    Args:
        folder: An existing folder.
        sample: The section.
        found: The transform.
        annotations: GeoJSON of the slide.
        provenance: Of a data set whose peaks are taken, or None for the file's own.

    Raises:
        InputError: no area, or none on the MSI.
    """
    rows, masks, um = region_table(sample, found.transform, annotations, provenance)
    write_records(folder / REGIONS, rows)
    names = [row["region"] for row in rows]
    pixels = masks.astype(np.uint8) * 255
    write_image(folder / REGION_MASKS, pixels, um, channel_names=names)
