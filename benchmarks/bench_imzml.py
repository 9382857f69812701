"""Reading imzML against pyimzML:  python -m benchmarks.bench_imzml

The files are made by the benchmark: 10,000 pixels, continuous (2,000 points) and processed (300
points a spectrum). The page cache is warm for all variants. Sums and peaks are checked to be equal
before they are timed, ion images to hold the same total: ours cuts windows at the bins of a 1 ppm
axis, pyimzML at the exact m/z, and no peak lies near an edge.
"""

from __future__ import annotations

import pathlib
import tempfile
import warnings

import numpy as np
from pyimzml.ImzMLParser import ImzMLParser, getionimage
from pyimzml.ImzMLWriter import ImzMLWriter

from benchmarks import harness
from benchmarks.harness import Variant
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.images import ion_images
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import summed_spectrum

SIDE = 100
WINDOW_PPM = 30.0


def write(path: pathlib.Path, mode: str, points: int) -> None:
    """Writes a file of SIDE x SIDE random profile spectra."""
    random = np.random.default_rng(0)
    shared = np.sort(random.uniform(100, 1000, points))
    with ImzMLWriter(str(path), mode=mode, spec_type="profile") as writer:
        for index in range(SIDE * SIDE):
            jitter = 0 if mode == "continuous" else random.normal(0, 2e-6, points)
            mz = shared * (1 + jitter)
            intensity = random.exponential(100, points).astype(np.float32)
            writer.addSpectrum(np.sort(mz), intensity, (index % SIDE + 1, index // SIDE + 1, 1))


def open_table(path: pathlib.Path) -> dict:
    """Times opening: ours validates structure and UUID, pyimzML does not."""
    variants = [
        Variant("msi2he_jax", lambda: open_imzml(path)),
        Variant("pyimzML", lambda: ImzMLParser(str(path)), peer=True),
    ]
    return {"unit": "files", "rows": harness.measure(variants)}


def peaks_table(path: pathlib.Path) -> dict:
    """Times rebinning, sum over all pixels, and the 50 highest peaks."""
    axis = mass_axis("ppm", mz_min=100.0, mz_max=1000.0, step=10.0)
    ours, theirs = open_imzml(path), ImzMLParser(str(path))

    def interpolated() -> np.ndarray:
        total = np.zeros(len(axis.mz))
        for index in range(SIDE * SIDE):
            total += np.interp(axis.mz, *theirs.getspectrum(index), left=0, right=0)
        return pick_peaks(axis, total, count=50).mz

    def summed() -> np.ndarray:
        return pick_peaks(axis, summed_spectrum(ours, axis, method="linear"), count=50).mz

    np.testing.assert_array_equal(summed(), interpolated())
    variants = [Variant("msi2he_jax", summed, SIDE**2)]
    variants += [Variant("pyimzML + np.interp", interpolated, SIDE**2, peer=True)]
    return {"unit": "spectra", "rows": harness.measure(variants, rounds=3)}


def images_table(path: pathlib.Path) -> dict:
    """Times 50 ion images of one file."""
    ours, theirs = open_imzml(path), ImzMLParser(str(path))
    found = theirs.getspectrum(0)[0]
    mz = found[:: len(found) // 50][:50]
    half = mz * WINDOW_PPM / 2e6
    peaks = Peaks(mz=mz, lower=mz - half, upper=mz + half, height=np.ones(50))
    axis = mass_axis("ppm", mz_min=100.0, mz_max=1000.0, step=1.0)

    def one_pass() -> float:
        return float(ion_images(ours, peaks, axis, method="sum").sum())

    def one_by_one() -> float:
        windows = zip(mz, half, strict=True)
        return float(sum(getionimage(theirs, centre, width).sum() for centre, width in windows))

    np.testing.assert_allclose(one_pass(), one_by_one(), rtol=1e-4)
    variants = [Variant("msi2he_jax", one_pass, 50)]
    variants += [Variant("pyimzML getionimage", one_by_one, 50, peer=True)]
    return {"unit": "images", "rows": harness.measure(variants, rounds=3)}


def main() -> None:
    """Runs all tables and prints where they are stored."""
    warnings.simplefilter("ignore")
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode, points in (("continuous", 2000), ("processed", 300)):
            path = pathlib.Path(folder) / f"{mode}.imzML"
            write(path, mode, points)
            tables[f"open, {mode}, 10,000 pixels"] = open_table(path)
            tables[f"rebin + sum + 50 peaks, {mode}"] = peaks_table(path)
            tables[f"50 ion images, {mode}"] = images_table(path)
    print(harness.save("imzml", tables))


if __name__ == "__main__":
    main()
