"""A million spectra on one core:  python -m benchmarks.bench_imzml_million [--spectra=1000000]

Simulated centroid spectra of 300 peaks, written to a temporary folder (4.4 GB for a million) and
then opened, summed on a 10 ppm axis, searched for the 50 tallest peaks and read for 50 ion images,
in a process of its own on one core. Prints seconds, and the most memory above what the imports
take, with and without the file's own pages, which the system maps and takes back as it likes.

First an eighth of the spectra with 60 and with 480 peaks each: an .ibd of eight times the size
under the same pixels. Only the latter take memory: their index, values and images.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks import harness
from benchmarks.simulated_files import write_processed
from msi2he_jax.io_safety import write_json

POINTS, PEAKS = 300, 50
FEW_POINTS, MANY_POINTS = 60, 480
GOAL_S, GOAL_GB, GOAL_GROWTH = 240.0, 2.0, 1.25
_EVERY_S = 0.02


def memory_mb() -> tuple[float, float]:
    """Returns resident memory of this process, MB: all of it, and the part backed by no file."""
    words = dict(
        line.split(":") for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    )
    return tuple(int(words[name].split()[0]) / 1000 for name in ("VmRSS", "RssAnon"))


class Peak(threading.Thread):
    """Watches memory until told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.done = [0.0, 0.0], threading.Event()

    def run(self) -> None:
        """Keeps the greatest values seen."""
        while not self.done.wait(_EVERY_S):
            self.most = [max(pair) for pair in zip(self.most, memory_mb(), strict=True)]


def work(path: str) -> dict:
    """Does in this process what is measured; returns seconds and memory."""
    from msi2he_jax.msi.axes import mass_axis
    from msi2he_jax.msi.images import ion_images
    from msi2he_jax.msi.imzml import open_imzml
    from msi2he_jax.msi.peaks import pick_peaks
    from msi2he_jax.msi.spectra import summed_spectrum

    axis = mass_axis("ppm", mz_min=149.0, mz_max=1151.0, step=10.0)
    before, watch, seconds = memory_mb(), Peak(), {}
    watch.start()
    mark = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal mark
        seconds[name], mark = time.perf_counter() - mark, time.perf_counter()

    imzml = open_imzml(path)
    lap("open")
    peaks = pick_peaks(axis, summed_spectrum(imzml, axis), count=PEAKS)
    lap("sum and peaks")
    images = ion_images(imzml, peaks, axis)
    lap("50 ion images")
    watch.done.set()
    most = [peak - start for peak, start in zip(watch.most, before, strict=True)]
    return {
        "spectra": imzml.n,
        "seconds": seconds,
        "total_s": sum(seconds.values()),
        "memory_mb": most[0],
        "own_memory_mb": most[1],
        "images_mb": images.nbytes / 1e6,
    }


def measure(folder: pathlib.Path, spectra: int, points: int) -> dict:
    """Writes a file and works on it in another process, bound to one core."""
    path = folder / "simulated.imzML"
    write_processed(path, spectra, points)
    ibd = path.with_suffix(".ibd").stat().st_size
    sizes = {"file_gb": (path.stat().st_size + ibd) / 1e9, "ibd_gb": ibd / 1e9, "points": points}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    words = [sys.executable, "-m", "benchmarks.bench_imzml_million", f"--child={path}"]
    found = subprocess.run(words, env=os.environ | threads, check=True, stdout=subprocess.PIPE)
    path.unlink()
    path.with_suffix(".ibd").unlink()
    return json.loads(found.stdout) | sizes


def _line(row: dict) -> str:
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in row["seconds"].items())
    return (
        f"{row['spectra']:,} spectra of {row['points']} peaks, {row['file_gb']:.2f} GB "
        f"(.ibd {row['ibd_gb']:.2f} GB): {row['total_s']:.1f} s ({parts}); "
        f"memory {row['memory_mb']:,.0f} MB, of which its own {row['own_memory_mb']:,.0f} MB "
        f"(images {row['images_mb']:,.0f} MB)"
    )


def print_goals(few: dict, many: dict, last: dict) -> None:
    """Prints what was found beside its goals."""
    growth = many["own_memory_mb"] / few["own_memory_mb"]
    for name, found, goal in (
        ("times the memory at eight times the .ibd", growth, GOAL_GROWTH),
        ("seconds for the last", last["total_s"], GOAL_S),
        ("GB for the last", last["memory_mb"] / 1000, GOAL_GB),
    ):
        said = "reached" if found < goal else "NOT reached"
        print(f"goal under {goal:g} {name}: {found:.2f}, {said}")


def main() -> None:
    """Measures all sizes, prints them against the goals, and stores them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=1_000_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(work(options.child)))
        return
    cases = [(options.spectra // 8, FEW_POINTS), (options.spectra // 8, MANY_POINTS)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for spectra, points in [*cases, (options.spectra, POINTS)]:
            rows.append(measure(pathlib.Path(folder), spectra, points))
            print(_line(rows[-1]), flush=True)
    print_goals(*rows)
    path = harness.RESULTS / "imzml_million_cpu.json"
    record = {"benchmark": "imzml_million", "environment": harness.environment(), "tables": {}}
    write_json(path, record | {"sizes": rows})
    print(path)


if __name__ == "__main__":
    main()
