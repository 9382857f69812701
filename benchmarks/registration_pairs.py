"""Pairs of known truth to register: simulated cohorts, easy and hard, and what moves in them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from msi2he_jax import simulate
from msi2he_jax.coregistration import scoring
from msi2he_jax.coregistration.section_choice import refuse_training
from msi2he_jax.coregistration.section_pair import section_pair
from msi2he_jax.coregistration.synthetic_moving import moving_image
from msi2he_jax.data.manifest import Sample, read_manifest
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.inference import Model, load_model
from msi2he_jax.registration import canvas, transforms
from msi2he_jax.registration.automatic import Pair

FIRST = 24  # sections that a generator may have been trained on come first and are left out
GRID_PX, MSI_UM = 64, 50.0
EASY_DEG = 10.0
PART = 0.6
# Largest displacement of the smooth warp, MSI pixels, and what is done to the pairs.
COHORTS = {
    "easy": (1.0, "turned"),
    "rotated+mirrored": (1.0, ""),
    "warped": (5.0, ""),
    "partial tissue": (1.0, "cut"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One section and its slide, as pictures whose frames begin at their corners.

    Attributes:
        name: The sample.
        pair: What automatic methods take.
        msi_yx_um: `[N, 2]` every measured pixel on tissue.
        histology_yx_um: `[N, 2]` where it belongs.
        fit_msi_yx_um: `[n, 2]` landmarks that control points may use.
        fit_histology_yx_um: `[n, 2]` likewise.
        native_um: MSI pixel size, um.
        diagonal_um: Of the slide's image, um.
    """

    name: str
    pair: Pair
    msi_yx_um: np.ndarray
    histology_yx_um: np.ndarray
    fit_msi_yx_um: np.ndarray
    fit_histology_yx_um: np.ndarray
    native_um: float
    diagonal_um: float


def simulated(folder: pathlib.Path, warp_px: float, sections_count: int, seed: int) -> pathlib.Path:
    """Simulates a cohort unless it is there; returns its manifest."""
    place = folder / f"cohort_warp{warp_px:g}_{sections_count}_seed{seed}"
    if not (place / "manifest.csv").is_file():
        flags = [f"--out={place}", f"--sections={sections_count}", f"--grid={GRID_PX}"]
        flags += [f"--seed={seed}", f"--msi-um-per-px={MSI_UM}", f"--warp-um={warp_px * MSI_UM}"]
        if code := simulate.main(flags):
            raise SystemExit(code)
    return place / "manifest.csv"


def cases(
    cohort: str, view: str, *, folder: pathlib.Path, run: str | None, count: int, seed: int = 0
) -> Iterator[Case]:
    """Makes the pairs of one cohort with one moving image.

    Args:
        cohort: Of `COHORTS`.
        view: `synthetic` (needs `run`), `pca`, `umap`, `tsne` or `ion:MZ`.
        folder: Where cohorts are kept.
        run: A trained run.
        count: How many pairs.
        seed: Of the simulation; a run must be trained on the first sections of the same seed.

    Yields:
        The pairs, none of a patient in the run's data.
    """
    warp_px, change = COHORTS[cohort]
    model = load_model(run, "best") if view == "synthetic" else None
    # The same pairs for every view, so that rows differ by what moves alone.
    first = max(FIRST, len(read_provenance(run)["samples"]) if run else 0)
    manifest = simulated(folder, warp_px, first + count, seed)
    samples = read_manifest(manifest)[first:]
    if model:
        refuse_training(samples, model.provenance, run)
    for index, sample in enumerate(samples):
        if change == "cut":
            sample = _cut(sample, index)
        case = make_case(sample, view, model)
        yield _turned(case, index) if change == "turned" else case


def _cut(sample: Sample, index: int) -> Sample:
    """Keeps the part of the measured region towards one of its four sides."""
    moving = moving_image("pca", sample)
    height, width = moving.measured.shape
    y, x, h, w = 0, 0, height, width
    if index % 2:
        h = round(PART * height)
        y = (height - h) * (index // 2 % 2)
    else:
        w = round(PART * width)
        x = (width - w) * (index // 2 % 2)
    return dataclasses.replace(sample, msi_roi=(x, y, w, h))


def make_case(sample: Sample, view: str, model: Model | None = None) -> Case:
    """Makes one pair as it is; its landmarks lie in a simulated cohort, beside the truth.

    Args:
        sample: The section.
        view: As in `cases`.
        model: The generator, for `synthetic`.
    """
    moving = moving_image(view, sample, model=model)
    whole = section_pair(sample, moving)
    truth = pathlib.Path(sample.landmarks).parents[1] / "truth" / sample.sample_id
    points = scoring.known_points(whole, truth / "transform.json")
    corners = moving.origin_um, whole.slide.origin_um
    msi, there = (p - o for p, o in zip(points["truth"], corners))
    fit = [p - o for p, o in zip(points["fit"], corners)]
    native = float(moving.native_um.mean())
    return Case(sample.sample_id, whole.images, msi, there, *fit, native, whole.slide.diagonal_um)


def _turned(case: Case, index: int) -> Case:
    """Turns the slide so that what is left to find is a few degrees and no mirroring."""
    homogeneous = np.c_[case.msi_yx_um, np.ones(len(case.msi_yx_um))]
    linear = np.linalg.lstsq(homogeneous, case.histology_yx_um, rcond=None)[0][:2].T
    left, _, right = np.linalg.svd(linear)
    degrees = np.random.default_rng(index).uniform(-EASY_DEG, EASY_DEG)
    turn = transforms.rotation(degrees)[:2, :2] @ (left @ right).T
    side = case.pair.fixed
    size = np.asarray(side.mask.shape) * side.um_per_px
    corners = (np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * size) @ turn.T
    matrix = transforms.from_parts(turn, -corners.min(axis=0))
    shape = tuple(np.ceil(np.ptp(corners, axis=0) / side.um_per_px).astype(int))
    drawn = [
        transforms.warp_image(
            image,
            source_um_per_px=side.um_per_px,
            matrix_out_to_source=transforms.invert(matrix),
            out_shape=shape,
            out_um_per_px=side.um_per_px,
        )
        for image in (side.image, side.mask)
    ]
    fixed = canvas.make_side(*drawn, side.um_per_px, name="fixed")
    moved = [
        transforms.apply_affine(matrix, points)
        for points in (case.histology_yx_um, case.fit_histology_yx_um)
    ]
    return dataclasses.replace(
        case,
        pair=dataclasses.replace(case.pair, fixed=fixed),
        histology_yx_um=moved[0],
        fit_histology_yx_um=moved[1],
    )
