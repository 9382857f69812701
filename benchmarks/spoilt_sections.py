"""Pairs that registration should refuse or bear.  python -m benchmarks.spoilt_sections --out=DIR

Takes simulated sections and spoils each in every way of `KINDS`: another patient's slide, a stated
pixel size that is wrong by 2, a crop of 40 % of the tissue, a nearly mirror-symmetric outline seen
from behind, black pen, holes, a missing strip, two pieces, a part of the tissue. Writes a cohort
that register reads, with truth/ (none where there is none) and spoilt.csv (sample_id, group_id,
kind, belongs, um_factor), for calibrating and testing a verdict: groups are never to be split.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.io_safety import atomic_folder
from msi2he_jax.phantom import cohort, cuts, pen, regions
from msi2he_jax.phantom.cohort import Member, Plan
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.hardness import parse_hardness
from msi2he_jax.phantom.section import Probe, Section
from msi2he_jax.registration.landmarks import Landmarks
from msi2he_jax.registration.transforms import Displacement, Transform, compose
from msi2he_jax.tables import write_records

CROP_AREA, PART_AREA, HOLES_AREA, STRIP_AREA = 0.4, 0.6, 0.2, 0.2


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way to spoil a pair.

    Attributes:
        levels: Knobs of `Hardness` to set before the section is simulated.
        belongs: Whether MSI and slide show the same tissue.
        um_factor: Stated MSI pixel size over the true one.
        mirrored: Whether MSI is to see the tissue upside down; None leaves it to the number.
    """

    levels: dict[str, float] = dataclasses.field(default_factory=dict)
    belongs: bool = True
    um_factor: float = 1.0
    mirrored: bool | None = None


KINDS = {
    "as_it_is": Kind(),
    "foreign": Kind(belongs=False),
    "half_size": Kind(um_factor=0.5),
    "double_size": Kind(um_factor=2.0),
    "crop": Kind({"crop": 0.0, "two_pieces": 0.0}),
    "symmetric": Kind({"symmetry": 1.0, "bland_ions": 1.0}, mirrored=True),
    "black_pen": Kind({"pen": 0.0}),
    "holes": Kind({"pen": 0.0}),
    "strip": Kind({"pen": 0.0}),
    "two_pieces": Kind({"two_pieces": 1.0}),
    "part": Kind({"crop": 0.0, "two_pieces": 0.0}),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Spoilt:
    """A spoilt pair.

    Attributes:
        kind: Key of `KINDS`.
        member: Its names and slide; the group is that of the MSI.
        section: MSI, slide, truth and landmarks, in the frame of the stated pixel size. Truth and
            landmarks mean nothing where the pair does not belong together.
        rng: For what is written of it.
    """

    kind: str
    member: Member
    section: Section
    rng: np.random.Generator


def spoilt_sections(plan: Plan, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Spoilt]:
    """Simulates sections and spoils them.

    Args:
        plan: What to simulate; at least two groups where `foreign` is among the kinds.
        kinds: Keys of `KINDS`.

    Yields:
        `plan.sections` pairs of each kind, kind by kind.
    """
    for kind in kinds:
        levels = dataclasses.replace(plan.hardness, **KINDS[kind].levels)
        yield from _of_kind(dataclasses.replace(plan, hardness=levels), kind)


def _of_kind(plan: Plan, kind: str) -> Iterator[Spoilt]:
    mirrored = KINDS[kind].mirrored
    members = [cohort.procedural_member(plan, index) for index in range(plan.sections)]
    measured = cohort.measured_sections(plan, iter(members), mirrored=mirrored)
    for index, (member, section, rng) in enumerate(measured):
        own = np.random.default_rng([plan.seed, 99, list(KINDS).index(kind), index])
        if kind == "foreign":
            other = members[(index + plan.sections_per_group) % len(members)]
            section = dataclasses.replace(section, slide=other.slide)
        if kind in _SPOIL:
            section = _SPOIL[kind](own, section, plan.probe.raster.um)
        section = stated(section, KINDS[kind].um_factor)
        name = f"{member.sample_id}_{kind}"
        yield Spoilt(kind, dataclasses.replace(member, sample_id=name), section, rng)


def stated(section: Section, factor: float) -> Section:
    """Takes truth and landmarks to a frame in which MSI pixels are `factor` times as large."""
    if factor == 1.0:
        return section
    field = section.truth.displacement
    if field is not None:
        field = Displacement(field.y_um * factor, field.x_um * factor, field.disp_um)
    matrix = compose(section.truth.matrix, np.diag([1.0 / factor, 1.0 / factor, 1.0]))
    points = section.landmarks
    points = dataclasses.replace(points, msi_yx_um=points.msi_yx_um * factor)
    return dataclasses.replace(section, truth=Transform(matrix, field), landmarks=points)


def kept(section: Section, keep: np.ndarray, um: tuple[float, float]) -> Section:
    """Leaves out spectra; frame and landmarks follow.

    Args:
        section: The section.
        keep: `[P]` bool.
        um: MSI pixel size (y, x), um.
    """
    corner = section.positions_xy.min(axis=0)[::-1]
    shift = (section.positions_xy[keep].min(axis=0)[::-1] - corner) * np.asarray(um)
    points, places = section.landmarks, section.positions_xy[keep][:, ::-1] - corner
    there = np.floor(points.msi_yx_um / um).astype(int)
    seen = (there[:, None] == places).all(axis=-1).any(axis=1)
    points = Landmarks(
        points.name[seen],
        points.use[seen],
        points.msi_yx_um[seen] - shift,
        points.histology_yx_um[seen],
    )
    return dataclasses.replace(
        section,
        truth=section.truth.in_images(shift),
        positions_xy=section.positions_xy[keep],
        intensity=section.intensity[keep],
        shift_ppm=section.shift_ppm[keep],
        tissue=section.tissue[keep],
        landmarks=points,
    )


def _crop(rng, section: Section, um) -> Section:
    """A rectangle inside the tissue."""
    places = section.positions_xy[:, ::-1] - section.positions_xy[:, ::-1].min(axis=0)
    tissue = np.zeros(places.max(axis=0) + 1, bool)
    tissue[tuple(places[section.tissue].T)] = True
    inside = regions.inner_rectangle(rng, tissue, CROP_AREA)
    return kept(section, inside[tuple(places.T)], um)


def _part(rng, section: Section, um) -> Section:
    """One side of the tissue."""
    angle = rng.uniform(0, 2 * np.pi)
    along = section.positions_xy @ [np.cos(angle), np.sin(angle)]
    return kept(section, along <= np.quantile(along[section.tissue], PART_AREA), um)


def _black_pen(rng, section: Section, um) -> Section:
    slide = section.slide
    for place in ("across", "across", "ring"):
        slide = pen.mark(rng, slide, "black", place)
    return dataclasses.replace(section, slide=slide)


def _holes(rng, section: Section, um) -> Section:
    lost = cuts.holes(rng, section.slide, HOLES_AREA)
    return dataclasses.replace(section, slide=cuts.lose(rng, section.slide, lost))


def _strip(rng, section: Section, um) -> Section:
    lost = cuts.strip(rng, section.slide, STRIP_AREA)
    return dataclasses.replace(section, slide=cuts.lose(rng, section.slide, lost))


_SPOIL = {"crop": _crop, "part": _part, "black_pen": _black_pen, "holes": _holes, "strip": _strip}


def write_spoilt(folder: Path, plan: Plan, kinds: Sequence[str] = tuple(KINDS)) -> None:
    """Writes all pairs as a cohort.

    Args:
        folder: An existing, empty folder.
        plan: What to simulate.
        kinds: Keys of `KINDS`.
    """
    rows = []

    def each():
        for pair in spoilt_sections(plan, kinds):
            kind = KINDS[pair.kind]
            rows.append(
                {
                    "sample_id": pair.member.sample_id,
                    "group_id": pair.member.group_id,
                    "kind": pair.kind,
                    "belongs": str(kind.belongs).lower(),
                    "um_factor": f"{kind.um_factor:g}",
                }
            )
            yield pair.member, pair.section, pair.rng

    cohort.write_sections(folder, plan, each(), "Simulated pairs, spoilt on purpose.")
    write_records(folder / "spoilt.csv", rows)
    _state(folder, {row["sample_id"]: KINDS[row["kind"]] for row in rows})


def _state(folder: Path, kinds: dict[str, Kind]) -> None:
    """Puts the stated pixel size into the manifest, and takes away truth where there is none."""
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        kind = kinds[row["sample_id"]]
        row["msi_um_per_px"] = f"{float(row['msi_um_per_px']) * kind.um_factor:g}"
        if not kind.belongs:
            (folder / row["landmarks"]).unlink()
            shutil.rmtree(folder / "truth" / row["sample_id"])
            row["landmarks"] = ""
    write_records(folder / "manifest.csv", rows)


def main() -> None:
    """Reads the flags and writes the cohort."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="Folder to write; new or empty.")
    parser.add_argument("--sections", type=int, default=30, help="Sections of each kind.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hardness", default="usual", help="As for simulate.")
    parser.add_argument("--kinds", default=",".join(KINDS), help="Separated by commas.")
    flags = parser.parse_args()
    probe = Probe(Raster((48, 48), (80.0, 80.0)), warp_um=80.0)
    hardness = parse_hardness(flags.hardness)
    plan = Plan(flags.sections, 2, flags.seed, 10.0, "centroid", "png", probe, hardness)
    with atomic_folder(flags.out, overwrite=False) as folder:
        write_spoilt(folder, plan, flags.kinds.split(","))
    print(f"{flags.out}: {flags.sections} sections of each kind")


if __name__ == "__main__":
    main()
