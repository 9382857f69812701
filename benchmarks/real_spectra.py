"""Real spectra, both ways: refused on a foreign slide, registered to a slide made of themselves.

    python -m benchmarks.real_spectra [--save]

The DESI lung and MALDI brain of the sample data (`MSI2HE_SAMPLE_DATA`) are registered to five
slides of human kidney: every verdict should be `not registrable`. Then half of a file's ions colour
a slide (two principal components as haematoxylin and eosin), turned, mirrored and bent by one MSI
pixel, and the other half is registered to it: it should be `reliable`, and within 1 MSI pixel.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from benchmarks import harness, report
from msi2he_jax.coregistration.coregister import coregister
from msi2he_jax.coregistration.moving import COMPONENTS, IONS, MovingImage, msi_picture
from msi2he_jax.coregistration.section_pair import SectionPair, section_pair
from msi2he_jax.data.manifest import Sample
from msi2he_jax.io_safety import write_json
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.overview import own_peak_images
from msi2he_jax.msi.projection import component_images
from msi2he_jax.registration import transforms
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement, Transform

RESULT = harness.RESULTS / "real-spectra.json"
PAGE = report.ROOT / "docs" / "registration.md"
FILES = {
    "DESI lung, upper part": "desi_lung_mrm/lung_crop96_continuous.imzML",
    "DESI lung, left part": "desi_lung_mrm/lung_crop96_processed.imzML",
    "MALDI brain": "maldi_mouse_brain/brain_crop96_continuous.imzML",
}
# The slides state no pixel size; kidney pieces of some 15 mm.
FOREIGN_UM_PER_PX = 25.0
MSI_UM_PER_PX = 50.0  # the lung's; the brain's is not stated
POSES = ((40.0, False), (200.0, True))
FINER = 4  # pixels of a coloured slide per MSI pixel
# Optical density of both stains in red, green and blue (Ruifrok & Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def sample_of(folder: Path, name: str, slide: Path, slide_um: float) -> Sample:
    """Names the files of a pair."""
    sizes = {"histology_um_per_px": slide_um, "msi_um_per_px": MSI_UM_PER_PX}
    return Sample(name, name, folder / FILES[name], slide, **sizes)


def foreign(folder: Path) -> Iterator[dict]:
    """Registers every file to every slide of another organ."""
    for name in ("DESI lung, upper part", "MALDI brain"):
        for slide in sorted((folder / "he_rcc_pig_desi_study").glob("rcc-*.png")):
            sample = sample_of(folder, name, slide, FOREIGN_UM_PER_PX)
            found = coregister(section_pair(sample, msi_picture(IONS, sample)))
            yield {"msi": name, "slide": slide.stem, "error_px": None} | found.verdict.as_row()


def twins(folder: Path) -> Iterator[dict]:
    """Registers half of each file's ions to a slide that the other half coloured."""
    for seed, name in enumerate(FILES):
        sample = sample_of(folder, name, Path("coloured"), 1.0)
        moving = msi_picture(IONS, sample)
        imzml = open_imzml(sample.imzml)
        images = np.sqrt(own_peak_images(imzml)[0])
        order = np.random.default_rng(seed).permutation(images.shape[-1])
        colours, others = images[..., order[::2]], images[..., order[1::2]]
        for degrees, mirrored in POSES:
            back = slide_to_msi(moving, degrees, mirrored, np.random.default_rng([seed, 1]))
            slide = coloured(colours, moving, back)
            features = component_images(others, moving.measured, COMPONENTS)
            pair = SectionPair(sample, dataclasses.replace(moving, features=features), slide)
            found = coregister(pair)
            error_px = median_error_px(found.transform, moving, back)
            row = {
                "msi": name,
                "slide": f"half its ions, {degrees:g} degrees",
                "error_px": error_px,
            }
            yield row | found.verdict.as_row()


def slide_to_msi(moving: MovingImage, degrees: float, mirrored: bool, rng) -> Transform:
    """Draws where a slide's points lie in the MSI; bent by one MSI pixel (root mean square)."""
    middle = np.array(moving.measured.shape) * moving.um_per_px / 2
    center = np.full(2, np.linalg.norm(middle) * 1.1)
    matrix = transforms.rotation(degrees, mirrored=mirrored, center_from=center, center_to=middle)
    axis = np.linspace(0, 2 * center[0], 40)
    bend = ndimage.gaussian_filter(rng.normal(size=(40, 40, 2)), (6, 6, 0))
    bend *= moving.native_um.mean() / np.sqrt(np.mean(np.sum(bend**2, axis=-1)))
    return Transform(matrix, Displacement(axis, axis, bend))


def coloured(images: np.ndarray, moving: MovingImage, back: Transform) -> Slide:
    """Colours a slide by ions: white where nothing was measured, or next to no ions."""
    total = ndimage.gaussian_filter(images.sum(axis=-1) * moving.measured, 1.0)
    tissue = moving.measured & (total > 0.5 * np.median(total[moving.measured]))
    amounts = component_images(images, tissue, 2)
    for k in range(2):
        ranks = stats.rankdata(amounts[tissue, k]) / tissue.sum()
        amounts[tissue, k] = 0.1 + 0.6 * ranks
    um = float(moving.native_um.mean()) / FINER
    side = int(np.ceil(back.displacement.y_um[-1] / um))
    sizes = {"source_um_per_px": moving.um_per_px, "out_shape": (side, side), "out_um_per_px": um}
    layers = np.concatenate([amounts * tissue[..., None], tissue[..., None]], axis=-1)
    drawn = back.warp(layers.astype(np.float32), **sizes)
    density = drawn[..., :2] @ STAINS + 0.02
    pixels = np.round(255 * 10.0**-density).astype(np.uint8)
    return Slide(pixels, density.mean(axis=-1), drawn[..., 2] > 0.5, um, np.zeros(2))


def median_error_px(found: Transform, moving: MovingImage, back: Transform) -> float:
    """Returns the median error over all that was measured, MSI pixels."""
    points = (np.argwhere(moving.measured) + 0.5) * moving.um_per_px
    errors = np.linalg.norm(back(found(points + moving.origin_um)) - points, axis=1)
    return float(np.median(errors) / moving.native_um.mean())


def page_part(record: dict) -> str:
    """Returns what docs/registration.md says of a record."""
    lines = [f"{harness.machine_words(record['environment'])}.", ""]
    lines += [
        "| MSI | slide | verdict | probability | median error, MSI px |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        error = "foreign" if row["error_px"] is None else f"{row['error_px']:.2f}"
        cells = row["msi"], row["slide"], row["verdict"], f"{row['verdict_probability']:.2f}", error
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the flags, registers, prints, and saves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", action="store_true", help="to benchmarks/results and docs/")
    flags = parser.parse_args()
    folder = Path(os.environ.get("MSI2HE_SAMPLE_DATA", report.ROOT.parent / "shared" / "data"))
    rows = []
    for row in itertools.chain(foreign(folder), twins(folder)):
        rows.append(row)
        print(row, flush=True)
    record = {"environment": harness.environment(), "rows": rows}
    print(page_part(record))
    if flags.save:
        write_json(RESULT, record)
        PAGE.write_text(report.replace_between(PAGE.read_text(), "real-spectra", page_part(record)))


if __name__ == "__main__":
    main()
