"""Reading imzML against pyimzML:  python -m benchmarks.bench_imzml

The files are made by the benchmark: 10,000 pixels, continuous (2,000 points) and processed (300
points a spectrum). The page cache is warm for all variants. Sums and peaks are checked to be equal
before they are timed, ion images to hold the same total: ours cuts windows at the bins of a 1 ppm
axis, pyimzML at the exact m/z, and no peak lies near an edge.

What large files gain by what is kept beside them (their index, and that their SHA-1 agreed) is
timed on 100,000 pixels. `bench_imzml_million` measures seconds and memory of a million.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import warnings

import numpy as np
from pyimzml.ImzMLParser import ImzMLParser, getionimage
from pyimzml.ImzMLWriter import ImzMLWriter

from benchmarks import harness
from benchmarks.harness import Variant
from benchmarks.simulated_files import write_processed
from msi2he_jax.msi import imzml_cache
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.msi.images import ion_images
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import summed_spectrum

SIDE = 100
WINDOW_PPM = 30.0
GOALS = {"open": 5.0, "sum continuous": 7.0, "sum processed": 5.0, "images": 15.0}


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


def table(unit: str, rows: list[dict], goal: float | None = None) -> dict:
    """Makes a table; with a goal, says whether the slowest other variant is beaten so far.

    Args:
        unit: What an item is.
        rows: Records of `harness.measure`, ours first.
        goal: How many times faster than the others ours shall be.
    """
    if goal is None:
        return {"unit": unit, "rows": rows}
    reached = min(row["ratio"] for row in rows[1:]) >= goal
    return {"unit": unit, "rows": rows, "goal": goal, "reached": reached}


def open_table(path: pathlib.Path) -> dict:
    """Times opening: ours validates structure and UUID, pyimzML does not."""
    variants = [
        Variant("msi2he_jax", lambda: open_imzml(path, index_cache="off")),
        Variant("pyimzML", lambda: ImzMLParser(str(path)), peer=True),
    ]
    return table("files", harness.measure(variants), GOALS["open"])


def kept_tables(path: pathlib.Path) -> dict[str, dict]:
    """Times what is kept beside large files: their index, and that their SHA-1 agreed."""
    parsed = Variant("msi2he_jax, parsed", lambda: open_imzml(path, index_cache="off"))
    kept = Variant("msi2he_jax, index kept", lambda: open_imzml(path))
    file = open_imzml(path)
    file.verify_checksum()
    assert imzml_cache.index_path(path).is_file()
    compared = [
        Variant("msi2he_jax, recorded", file.verify_checksum),
        Variant("msi2he_jax, computed", lambda: file.verify_checksum(recheck=True)),
    ]
    return {
        "open, processed, 100,000 pixels": table("files", harness.measure([kept, parsed])),
        "SHA-1 of 240 MB": table("files", harness.measure(compared)),
    }


def peaks_table(path: pathlib.Path, mode: str) -> dict:
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
    return table("spectra", harness.measure(variants, rounds=3, warm_up=0), GOALS[f"sum {mode}"])


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
    return table("images", harness.measure(variants, rounds=3, warm_up=0), GOALS["images"])


def print_ratios(tables: dict[str, dict]) -> None:
    """Prints each ratio, and beside it the goal."""
    for title, found in tables.items():
        for row in found["rows"][1:]:
            line = f"{title}: {row['ratio']:.1f} times as fast as {row['name']}"
            if "goal" in found:
                verdict = "reached" if found["reached"] else "NOT reached"
                line += f" (goal {found['goal']:g}: {verdict})"
            print(line)


def compare(folder: pathlib.Path) -> dict[str, dict]:
    """Makes all tables."""
    tables = {}
    for mode, points in (("continuous", 2000), ("processed", 300)):
        path = folder / f"{mode}.imzML"
        write(path, mode, points)
        tables[f"open, {mode}, 10,000 pixels"] = open_table(path)
        tables[f"rebin + sum + 50 peaks, {mode}"] = peaks_table(path, mode)
        tables[f"50 ion images, {mode}"] = images_table(path)
    path = folder / "large.imzML"
    write_processed(path, 100_000, 300)
    for each in (path, path.with_suffix(".ibd")):
        os.utime(each, (1, 1))  # Of files just written nothing is kept.
    return tables | kept_tables(path)


def main() -> None:
    """Runs all tables, prints ratios beside their goals, and where they are stored."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        tables = compare(pathlib.Path(folder))
    print_ratios(tables)
    print(harness.save("imzml", tables))


if __name__ == "__main__":
    main()
