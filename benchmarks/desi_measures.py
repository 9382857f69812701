"""Which levels of `simulate --hardness` does a real image have?  python -m benchmarks.desi_measures

Measures the real DESI-MSI of a lung (`desi_lung_mrm` of the sample data: six targeted ions, 50 um)
and simulated sections in the same way, one knob at a time, and prints a table: what was measured,
the real value, and the simulator's at some levels of the knob that bears on it. Both find their
tissue by the same rule, from the strongest ions.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom import cohort
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.hardness import Hardness
from msi2he_jax.phantom.section import Probe

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAMPLE_DATA = pathlib.Path(os.environ.get("MSI2HE_SAMPLE_DATA", ROOT.parent / "shared" / "data"))
LUNG = "desi_lung_mrm/lung_rows80-262_183x283x6.npz"
LEVELS = (0.0, 0.25, 0.5, 1.0)
FOREIGN = ("background", "salt", "coating")
_CORE_PX = 4


@dataclasses.dataclass(frozen=True)
class Seen:
    """An ion cube with its tissue.

    Attributes:
        cube: `[H, W, K]` float64, intensities, in units of each ion's median well inside.
        depth: `[H, W]` float64, distance from the tissue's border, pixels; negative outside.
        own: `[K]` bool, ions that are the tissue's.
    """

    cube: np.ndarray
    depth: np.ndarray
    own: np.ndarray

    @property
    def core(self) -> np.ndarray:
        """Well inside the tissue, `[H, W]` bool."""
        return self.depth > _CORE_PX

    @property
    def log(self) -> np.ndarray:
        """`[H, W, K]` log intensity of the tissue's ions; NaN but for the core."""
        log = np.log(self.cube[..., self.own] + 0.05)
        return np.where(self.core[..., None], log, np.nan)


def see(cube: np.ndarray, own: np.ndarray) -> Seen:
    """Finds the tissue: where the strongest ions, smoothed, are above Otsu's threshold in log.

    Args:
        cube: `[H, W, K]` intensities.
        own: `[K]` bool, ions that are the tissue's.
    """
    from skimage.filters import threshold_otsu

    strong = np.argsort(np.median(cube * own, axis=(0, 1)))[-max(1, own.sum() // 6) :]
    log = ndimage.gaussian_filter(np.log1p(cube[..., strong]).mean(axis=-1), 1.0)
    mask = ndimage.binary_closing(log > threshold_otsu(log), iterations=2)
    labels, _ = ndimage.label(ndimage.binary_opening(mask, iterations=2))
    mask = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    inside, outside = (ndimage.distance_transform_edt(m) for m in (mask, ~mask))
    depth = np.where(mask, inside - 0.5, 0.5 - outside)
    return Seen(cube / (np.median(cube[depth > _CORE_PX], axis=0) + 1.0), depth, own)


def simulated(levels: Hardness, sections: int) -> list[Seen]:
    """Simulates sections of 96 x 96 pixels of 50 um, all at the same levels."""
    raster = Raster((96, 96), (50.0, 50.0))
    plan = cohort.Plan(sections, 1, 7, 12.5, "profile", "png", Probe(raster), levels)
    members = (
        dataclasses.replace(member, levels=levels) for member in cohort.procedural_members(plan)
    )
    own = np.array([ion.family not in FOREIGN for ion in plan.ions])
    return [see(_cube(s), own) for _, s, _ in cohort.measured_sections(plan, members)]


def _cube(section) -> np.ndarray:
    """Positions that were not measured get what is measured off the tissue."""
    places = section.positions_xy[:, ::-1] - section.positions_xy[:, ::-1].min(axis=0)
    off = np.median(section.intensity[~section.tissue], axis=0)
    cube = np.tile(off.astype(np.float64), (*(places.max(axis=0) + 1), 1))
    cube[tuple(places.T)] = section.intensity
    return cube


def follow_total(seen: Seen) -> float:
    """Correlation of an ion's log with the log of the sum of the others, median over ions."""
    cube = seen.cube[seen.core][:, seen.own]
    total = cube.sum(axis=1, keepdims=True)
    pairs = np.stack([np.log(cube + 0.05), np.log(total - cube + 0.05)])
    return float(np.median([np.corrcoef(pairs[..., k])[0, 1] for k in range(cube.shape[1])]))


def off_tissue(seen: Seen) -> float:
    """Share of all ions whose mean is higher off the tissue than in it."""
    off = seen.cube[seen.depth < -5].mean(axis=0)
    return float(np.mean(off > seen.cube[seen.core].mean(axis=0)))


def on_rim(seen: Seen) -> float:
    """Share of all ions whose mean within 3 pixels of the border is 1.2 times that elsewhere."""
    rim = seen.cube[np.abs(seen.depth) < 3].mean(axis=0)
    rest = [seen.cube[zone].mean(axis=0) for zone in (seen.core, seen.depth < -5)]
    return float(np.mean(rim > 1.2 * np.maximum(*rest)))


def line_gain(seen: Seen) -> float:
    """Log standard deviation of lines' common gain, by steps from line to line, less columns'."""
    common = seen.log.mean(axis=-1)
    return float(np.sqrt(max(0.0, _steps(common) ** 2 - _steps(common.T) ** 2)))


def drift(seen: Seen) -> float:
    """Log standard deviation of lines' common signal, smoothed over 8 lines; tissue has a part."""
    log = seen.log.mean(axis=-1)
    rows = np.isfinite(log).sum(axis=1) > 25
    return float(ndimage.gaussian_filter1d(np.nanmedian(log[rows], axis=1), 8.0).std())


def ion_line_gain(seen: Seen) -> float:
    """As `line_gain`, of each ion beside the others; median over ions."""
    own = seen.log - seen.log.mean(axis=-1, keepdims=True)
    steps = [(_steps(a), _steps(a.T)) for a in np.moveaxis(own, -1, 0)]
    return float(np.sqrt(max(0.0, np.median([a**2 - b**2 for a, b in steps]))))


def _steps(image: np.ndarray) -> float:
    """Standard deviation of the median step from row to row, over the root of 2."""
    rows = np.isfinite(image[1:] + image[:-1]).sum(axis=1) > 25
    return float(np.nanmedian((image[1:] - image[:-1])[rows], axis=1).std() / np.sqrt(2.0))


def own_noise(seen: Seen) -> float:
    """Log standard deviation of an ion beside the others from pixel to pixel, median over ions."""
    own = seen.log - seen.log.mean(axis=-1, keepdims=True)
    return float(np.median(np.nanstd(np.diff(own, axis=1), axis=(0, 1)) / np.sqrt(2.0)))


def lost_peaks(seen: Seen) -> float:
    """Share of zeros in the core, median over ions."""
    return float(np.median((seen.cube[seen.core][:, seen.own] == 0).mean(axis=0)))


def silent(seen: Seen) -> float:
    """Share of pixels of the core where all ions together are below a third of those around."""
    common = np.log(seen.cube[..., seen.own] + 0.02).mean(axis=-1)
    low = common < ndimage.median_filter(common, 9) - np.log(3.0)
    return float(low[seen.core].mean())


def halo(seen: Seen) -> float:
    """Strongest ions 1 to 3 pixels outside of the border, as a share of 2 to 4 inside."""
    outside = (seen.depth < -1) & (seen.depth > -3)
    inside = (seen.depth > 2) & (seen.depth < 4)
    ratio = np.median(seen.cube[outside], axis=0) / np.median(seen.cube[inside], axis=0)
    return float(np.median(np.sort(ratio[seen.own])[: max(3, seen.own.sum() // 2)]))


def likeness(seen: Seen, lag: int, axis: int) -> float:
    """Correlation of an ion's log with itself `lag` pixels on, median over ions."""
    log = np.moveaxis(seen.log, axis, 0)
    a, b = log[:-lag], log[lag:]
    both = np.isfinite(a[..., 0] + b[..., 0])
    return float(np.median([np.corrcoef(x, y)[0, 1] for x, y in zip(a[both].T, b[both].T)]))


MEASURES = {
    "ion against the sum of the others, inside (log r)": ("noise", follow_total),
    "ions brighter off the tissue (share)": ("matrix_ions", off_tissue),
    "ions brighter on the rim (share)": ("rim_ions", on_rim),
    "gain of lines (log sd)": ("gain", line_gain),
    "drift over lines (log sd)": ("gain", drift),
    "gain of lines, each ion alone (log sd)": ("gain", ion_line_gain),
    "own noise of an ion (log sd)": ("noise", own_noise),
    "zeros inside (share)": ("noise", lost_peaks),
    "pixels without spray (share)": ("dropouts", silent),
    "signal 2 px outside over 3 px inside": ("point_spread", halo),
    "likeness along a line, 1 px (log r)": ("noise", lambda s: likeness(s, 1, 1)),
    "likeness across lines, 1 px (log r)": ("noise", lambda s: likeness(s, 1, 0)),
    "likeness across lines, 4 px (log r)": ("noise", lambda s: likeness(s, 4, 0)),
}


def table(real: Seen, sections: int) -> str:
    """Measures everything; returns the table in Markdown."""
    knobs = sorted({knob for knob, _ in MEASURES.values()})
    made = {(k, v): simulated(Hardness(**{k: v}), sections) for k in knobs for v in LEVELS}
    head = ["measured", "DESI lung", "knob", *(f"at {level:g}" for level in LEVELS)]
    rows = [head, ["---"] * len(head)]
    for words, (knob, measure) in MEASURES.items():
        values = [np.mean([measure(s) for s in made[knob, level]]) for level in LEVELS]
        rows.append([words, f"{measure(real):.2g}", f"`{knob}`", *(f"{v:.2g}" for v in values)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Reads the flags and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, default=3, help="Simulated sections a level.")
    arguments = parser.parse_args()
    with np.load(SAMPLE_DATA / LUNG) as file:
        cube = file["cube"].astype(np.float64)
    print(table(see(cube, np.ones(cube.shape[-1], bool)), arguments.sections), end="")


if __name__ == "__main__":
    main()
