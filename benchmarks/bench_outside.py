"""Registration without landmarks on sections that this project did not simulate.

    python -m benchmarks.bench_outside --cohort=DIR [--cohort=DIR ...] [--save]

A cohort is a manifest with a folder truth/ beside it: truth/SAMPLE.npz of an outside generator
(`matrix`, `best_affine`, `fwd_*`, `tissue_msi`, `measured`, `msi_um`; frames in um, x right, y
down), or truth/SAMPLE/transform.json as `simulate` writes it. Errors are over all measured tissue
pixels, carried back to the MSI by the truth's linear part, in MSI pixels; success is a median below
2, gross above 6. `best affine` is fitted to the truth itself: what no affine can beat. Seconds are
of processor a section, one section at a time, reading of files and compilation left out. `from the
best affine` starts there, and says how far the search walks off; `outline` says whether a rectangle
was measured or a region that follows the tissue. With --sitk SimpleITK registers the PCA view, too,
from 12 angles and 2 mirrorings.

Such cohorts are for measuring. docs/registration.md says how often they were looked at.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import types

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from benchmarks import harness, report
from benchmarks.registration_methods import sitk_starts
from msi2he_jax.coregistration.coregister import Coregistered, CoregisterOptions, coregister
from msi2he_jax.coregistration.moving import FOLLOWS_TISSUE_BELOW, msi_picture
from msi2he_jax.coregistration.scoring import candidates, known_points
from msi2he_jax.coregistration.section_pair import SectionPair, section_pair
from msi2he_jax.data.manifest import Sample, read_manifest
from msi2he_jax.io_safety import read_json, write_json
from msi2he_jax.registration.control_points import estimate_affine
from msi2he_jax.registration.transforms import Transform

SUCCESS_PX, GROSS_PX, STAYS_PX = 2.0, 6.0, 0.5
RESULT = harness.RESULTS / "outside.json"
PAGE = report.ROOT / "docs" / "registration.md"
METHODS: dict[str, tuple[str, CoregisterOptions]] = {
    "PCA view, mutual information": ("pca", CoregisterOptions()),
    "all ions, deformable": ("ions", CoregisterOptions(deformable=True)),
}
FROM_BEST, SITK = "all ions, from the best affine", "SimpleITK affine, 12x2 starts"
_SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])  # (x, y) to (y, x)


class Truth:
    """Where a section's tissue pixels belong on its slide.

    Attributes:
        msi_yx_um: `[N, 2]` float64, um.
        histology_yx_um: `[N, 2]` float64, um.
        linear: `[2, 2]` float64, the truth's linear part, acting on (y, x).
        best: The affine that comes nearest.
    """

    def __init__(self, cohort: pathlib.Path, pair: SectionPair):
        self.um = float(pair.moving.native_um.mean())
        name = pair.sample.sample_id
        outside = cohort / "truth" / f"{name}.npz"
        if outside.is_file():
            self._read_outside(outside)
        else:
            points = known_points(pair, cohort / "truth" / name / "transform.json")["truth"]
            self.msi_yx_um, self.histology_yx_um = points
            self.best = Transform(estimate_affine(*points))
        self.linear = self.best.matrix[:2, :2]

    def _read_outside(self, path: pathlib.Path) -> None:
        with np.load(path, allow_pickle=False) as known:
            rows, columns = np.nonzero((known["tissue_msi"] > 0.5) & known["measured"])
            um = float(known["msi_um"])
            axes = known["fwd_y_um"], known["fwd_x_um"]
            there = RegularGridInterpolator(axes, known["fwd_he_um"].astype(np.float64))
            self.msi_yx_um = np.stack([(rows + 0.5) * um, (columns + 0.5) * um], axis=1)
            self.histology_yx_um = there(self.msi_yx_um)[:, ::-1]
            self.best = Transform(_SWAP @ known["best_affine"] @ _SWAP)

    def errors_px(self, transform: Transform) -> np.ndarray:
        """Returns each tissue pixel's error, `[N]`, MSI pixels."""
        return self.lengths_px(transform(self.msi_yx_um) - self.histology_yx_um)

    def lengths_px(self, apart_um: np.ndarray) -> np.ndarray:
        """Returns how long vectors on the slide, `[N, 2]` um, are in MSI pixels, `[N]`."""
        return np.linalg.norm(apart_um @ np.linalg.inv(self.linear).T, axis=1) / self.um


def measure(cohort: pathlib.Path, only: tuple[str, ...] = (), sitk: bool = False) -> list[dict]:
    """Registers every section of a cohort by every method.

    Args:
        cohort: Holds manifest.csv and truth/.
        only: Names of samples; empty means all.
        sitk: Whether SimpleITK registers them, too.

    Returns:
        One row per section and method: `sample_id`, `method`, `median_px`, `cpu_s`, `scale` (linear
        scale over the best affine's), and what the search said of itself.
    """
    rows = []
    for sample in read_manifest(cohort / "manifest.csv"):
        if only and sample.sample_id not in only:
            continue
        rows += _of_sample(cohort, sample, sitk)
        said = ", ".join(f"{row['method']} {row['median_px']:.2f}" for row in rows[-5:])
        print(f"{sample.sample_id}: {said}", flush=True)
    return rows


def _of_sample(cohort: pathlib.Path, sample: Sample, sitk: bool) -> list[dict]:
    pairs = {kind: section_pair(sample, msi_picture(kind, sample)) for kind in ("pca", "ions")}
    truth = Truth(cohort, pairs["pca"])
    rows = [_row(sample, "best affine", truth, truth.best)]
    known = candidates(pairs["pca"], truth.best)
    if "control_points" in known:
        rows.append(_row(sample, "control points", truth, known["control_points"]))
    for method, (kind, options) in METHODS.items():
        started = time.process_time()
        found = coregister(pairs[kind], options)
        spent = {"cpu_s": time.process_time() - started}
        if found.bent:
            affine = Transform(found.transform.matrix)
            rows.append(_row(sample, method.replace("deformable", "affine"), truth, affine, found))
        rows.append(_row(sample, method, truth, found.transform, found) | spent)
    found = coregister(pairs["ions"], CoregisterOptions(start=truth.best))
    walked = Transform(found.transform.matrix)(truth.msi_yx_um) - truth.best(truth.msi_yx_um)
    far = {"walked_px": float(np.median(truth.lengths_px(walked)))}
    rows.append(_row(sample, FROM_BEST, truth, found.transform) | far)
    if sitk:
        started = time.process_time()
        (best,) = sitk_starts(12, (False, True))([types.SimpleNamespace(pair=pairs["pca"].images)])
        spent = {"cpu_s": time.process_time() - started}
        rows.append(_row(sample, SITK, truth, pairs["pca"].in_files(best)) | spent)
    outline = {"outline": _outline(pairs["pca"].moving.measured)}
    return [row | outline for row in rows]


def _outline(measured: np.ndarray) -> str:
    share = measured.sum() / np.prod(np.ptp(np.argwhere(measured), axis=0) + 1)
    return "rectangle" if share >= FOLLOWS_TISSUE_BELOW else "region"


def _row(
    sample: Sample,
    method: str,
    truth: Truth,
    transform: Transform,
    found: Coregistered | None = None,
) -> dict:
    errors = truth.errors_px(transform)
    area = np.linalg.det(transform.matrix[:2, :2]) / np.linalg.det(truth.linear)
    row = {"sample_id": sample.sample_id, "group_id": sample.group_id, "method": method}
    row |= {"median_px": float(np.median(errors)), "p90_px": float(np.percentile(errors, 90))}
    row |= {"scale": float(np.sqrt(abs(area))), "mirrored_right": bool(area > 0)}
    if found is not None and found.search is not None:
        row |= {"score": found.search.score, "gap": found.search.gap}
        row |= found.verdict.as_row() | found.evidence.as_row()
    return row


def condense(rows: list[dict]) -> list[dict]:
    """Returns one row per method: sections, successes, quantiles of the error, gross errors."""
    condensed = []
    for method in dict.fromkeys(row["method"] for row in rows):
        chosen = [row for row in rows if row["method"] == method]
        errors = np.array([row["median_px"] for row in chosen])
        # the first section of a process may compile
        seconds = [row["cpu_s"] for row in chosen if "cpu_s" in row][1:]
        condensed.append(
            {
                "method": method,
                "sections": len(chosen),
                "success": int((errors < SUCCESS_PX).sum()),
                "median_px": float(np.median(errors)),
                "p90_px": float(np.percentile(errors, 90)),
                "gross": int((errors > GROSS_PX).sum()),
                "scale": float(np.median([row["scale"] for row in chosen])),
                "stayed": _share_that_stayed(chosen),
                "cpu_s": float(np.median(seconds)) if seconds else None,
            }
        )
    return condensed


def _share_that_stayed(rows: list[dict]) -> float | None:
    walked = [row["walked_px"] for row in rows if "walked_px" in row]
    return float(np.mean(np.array(walked) <= STAYS_PX)) if walked else None


def by_outline(cohorts: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Puts rectangles and regions apart."""
    return {
        f"{cohort}, {outline}s": [row for row in rows if row.get("outline") == outline]
        for cohort, rows in cohorts.items()
        for outline in ("rectangle", "region")
    }


def table(cohorts: dict[str, list[dict]]) -> str:
    """Returns the Markdown table of all cohorts."""
    names = ["cohort", "method", "sections", "success", "median px", "p90 px", "gross", "scale"]
    names += ["stayed within 0.5 px", "cpu s"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for cohort, rows in cohorts.items():
        for row in condense(rows):
            cells = [cohort, row["method"], str(row["sections"]), str(row["success"])]
            cells += [f"{row['median_px']:.2f}", f"{row['p90_px']:.2f}", str(row["gross"])]
            cells += [
                f"{row['scale']:.3f}",
                _cell(row["stayed"], ".0%"),
                _cell(row["cpu_s"], ".1f"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def page_part(record: dict) -> str:
    """Returns what docs/registration.md says of a record."""
    machine = record["environment"]
    where = f"{harness.machine_words(machine)}, revision {machine['revision']}"
    apart = by_outline(record["cohorts"])
    ions = {
        name: [row for row in rows if row["method"].startswith("all ions")]
        for name, rows in apart.items()
    }
    return f"{where}.\n\n{table(record['cohorts'])}\n\n{table(ions)}"


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, measures, prints, and saves where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cohort", type=pathlib.Path, action="append", required=True)
    parser.add_argument("--samples", default="", help="only these, separated by commas")
    parser.add_argument("--sitk", action="store_true", help="SimpleITK, too: half a minute each")
    parser.add_argument("--save", action="store_true", help="to benchmarks/results and docs/")
    options = parser.parse_args(arguments)
    only = tuple(filter(None, options.samples.split(",")))
    found = {cohort.name: measure(cohort, only, options.sitk) for cohort in options.cohort}
    print(table(found))
    if options.save:
        write_json(RESULT, {"environment": harness.environment(), "cohorts": found})
        body = page_part(read_json(RESULT))
        PAGE.write_text(report.replace_between(PAGE.read_text(), "outside", body))


if __name__ == "__main__":
    main()
