"""A cohort of simulated patients, written as the files a user would hand in, with their truth."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import scipy
from PIL import Image

from msi2he_jax import __version__
from msi2he_jax.io_safety import write_json
from msi2he_jax.phantom import cuts, geometry, molecules, pen, pictures, staining, tissue
from msi2he_jax.phantom.hardness import NONE, Hardness
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.ions import Ion, ion_table
from msi2he_jax.phantom.outlines import Shape
from msi2he_jax.phantom.section import Probe, Section, harder, measure_slide
from msi2he_jax.phantom.slide import Slide, abundance_of
from msi2he_jax.phantom.spectra import centroid_spectra, profile_spectra
from msi2he_jax.phantom.surroundings import section_ions, surround
from msi2he_jax.registration import export
from msi2he_jax.registration.landmarks import write_landmarks
from msi2he_jax.registration.transforms import decompose
from msi2he_jax.tables import write_records

COLUMNS = (
    "sample_id",
    "group_id",
    "imzml",
    "msi_roi",
    "histology",
    "histology_roi",
    "histology_um_per_px",
    "msi_um_per_px",
    "msi_um_per_px_y",
    "section",
    "landmarks",
    "split",
    "view",
)
POLARITY = "negative"
_PALETTE = (
    (255, 255, 255),
    (240, 150, 190),
    (250, 235, 160),
    (120, 90, 200),
    (70, 20, 110),
    (150, 60, 60),
    (220, 40, 40),
    (200, 230, 250),
    (40, 110, 200),
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to simulate.

    Attributes:
        sections: Number of sections.
        sections_per_group: Sections of one patient; procedural cohorts only.
        seed: Everything follows from it.
        histology_um_per_px: Pixel size of the slide images, um.
        spectra: `profile` or `centroid`.
        image_format: `png` or `ome.tiff`.
        probe: The MSI instrument.
        hardness: What makes the cohort hard, and how much.
    """

    sections: int
    sections_per_group: int
    seed: int
    histology_um_per_px: float
    spectra: str
    image_format: str
    probe: Probe
    hardness: Hardness = NONE

    @property
    def radius_um(self) -> float:
        """Radius of the circle that holds a section's tissue, um."""
        warp_um = harder(self.probe, self.hardness).warp_um
        return geometry.tissue_radius_um(self.probe.raster, warp_um)

    @property
    def ions(self) -> tuple[Ion, ...]:
        """All ions of the cohort, ordered by m/z."""
        return section_ions(self.hardness)


@dataclasses.dataclass(frozen=True)
class Member:
    """One section of a cohort before MSI: who it is and its slide."""

    sample_id: str
    group_id: str
    slide: Slide
    facts: dict
    levels: Hardness = NONE


def _rng(plan: Plan, *stream: int) -> np.random.Generator:
    return np.random.default_rng([plan.seed, *stream])


def procedural_members(plan: Plan) -> Iterator[Member]:
    """Draws patients and their slides from the seed alone."""
    return (procedural_member(plan, index) for index in range(plan.sections))


def procedural_member(plan: Plan, index: int) -> Member:
    """Draws one section's patient and slide; the others need not be drawn.

    Args:
        plan: What to simulate.
        index: Which section, from 0.

    Returns:
        The same section, whatever `plan.sections` is.
    """
    patient, turn = divmod(index, plan.sections_per_group)
    rng = _rng(plan, 1, patient)
    habit, stain = tissue.draw_habit(rng), staining.draw_stain(rng)
    rng, levels = _rng(plan, 2, index), _levels(plan, index)
    canvas, center = geometry.draw_canvas(rng, plan.radius_um, plan.histology_um_per_px)
    laid = tissue.lay_out(rng, canvas, habit, center, plan.radius_um, _shape(levels))
    pixels = staining.render(rng, laid, stain)
    slide = Slide(pixels, canvas.um_per_px, abundance_of(laid.labels), center)
    slide = _worn(plan, index, slide, levels)
    group = f"p{patient:02d}"
    facts = {"habit": dataclasses.asdict(habit)}
    return Member(f"{group}_s{turn}", group, slide, facts, levels)


def _levels(plan: Plan, index: int) -> Hardness:
    return plan.hardness.of_section(_rng(plan, 7, index))


def _shape(levels: Hardness) -> Shape:
    return Shape(levels.symmetry, 2 if levels.two_pieces else 1)


def _worn(plan: Plan, index: int, slide: Slide, levels: Hardness) -> Slide:
    """What happens to a slide between the stage and the scanner."""
    slide = cuts.part_cuts(_rng(plan, 8, index), slide, levels)
    return pen.draw_marks(_rng(plan, 9, index), slide) if levels.pen else slide


def picture_members(
    plan: Plan, folder: Path, on_skip: Callable[[str], None] = lambda why: None
) -> Iterator[Member]:
    """Cuts slides from real pictures; the sections of one picture are one patient.

    Args:
        plan: What to simulate.
        folder: Holds the pictures.
        on_skip: Called with the reason for each picture that cannot be used.

    Yields:
        The slides, picture by picture.

    Raises:
        InputError: the folder holds no usable picture.
    """
    sizes = {"um_per_px": plan.histology_um_per_px, "radius_um": plan.radius_um}
    sources = pictures.read_pictures(folder, most=plan.sections, on_skip=on_skip, **sizes)
    index = 0
    for number, picture in enumerate(sources):
        count = len(range(number, plan.sections, len(sources)))
        levels = [_levels(plan, index + turn) for turn in range(count)]
        shapes = [_shape(level) for level in levels]
        cut = pictures.cut_sections(_rng(plan, 6, number), picture, shapes, **sizes)
        for turn, (slide, facts) in enumerate(cut):
            worn = _worn(plan, index, slide, levels[turn])
            yield Member(f"p{number:02d}_s{turn}", f"p{number:02d}", worn, facts, levels[turn])
            index += 1


def measured_sections(
    plan: Plan, members: Iterator[Member], *, mirrored: bool | None = None
) -> Iterator[tuple[Member, Section, np.random.Generator]]:
    """Measures slide after slide.

    Args:
        plan: What to simulate.
        members: The slides, in order from the first.
        mirrored: Whether MSI sees the tissue upside down; None: in every third section.

    Yields:
        The slide, its section, and the source of randomness of what is written of it.
    """
    chemistry = molecules.draw_chemistry(_rng(plan, 3), ion_table())
    chemistry = surround(_rng(plan, 10), chemistry, plan.hardness)
    groups: dict[str, int] = {}
    for index, member in enumerate(members):
        patient = groups.setdefault(member.group_id, len(groups))
        own = molecules.patient_chemistry(_rng(plan, 4, patient), chemistry)
        upside_down = index % 3 == 1 if mirrored is None else mirrored
        rng, how = _rng(plan, 5, index), {"mirrored": upside_down, "levels": member.levels}
        yield member, measure_slide(rng, member.slide, own, plan.probe, **how), rng


def write_cohort(
    folder: Path,
    plan: Plan,
    members: Iterator[Member],
    words: str,
    on_section: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Measures every slide and writes the cohort.

    Args:
        folder: An existing, empty folder.
        plan: What to simulate.
        members: The slides, in order.
        words: What the data are, for a reader of the report.
        on_section: Is told how many sections are written, and of how many.
    """
    write_sections(folder, plan, measured_sections(plan, members), words, on_section)


def write_sections(
    folder: Path,
    plan: Plan,
    sections: Iterable[tuple[Member, Section, np.random.Generator]],
    words: str,
    on_section: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Writes measured sections as a cohort.

    Args:
        folder: An existing, empty folder.
        plan: How they were simulated.
        sections: As `measured_sections` yields them.
        words: What the data are, for a reader of the report.
        on_section: Is told how many sections are written, and of how many.
    """
    folder = Path(folder)
    for name in ("imzml", "histology", "landmarks", "truth"):
        (folder / name).mkdir()
    rows, facts = [], {}
    for member, section, rng in sections:
        rows.append(_write_section(folder, plan, member, section, rng))
        facts[member.sample_id] = member.facts | _facts(member, section)
        on_section(len(rows), plan.sections)
    write_records(folder / "manifest.csv", rows)
    write_json(folder / "cohort.json", _description(plan, words, facts))


def _write_section(folder: Path, plan: Plan, member: Member, section: Section, rng) -> dict:
    """Writes one section's files; returns its row of the manifest."""
    name, raster = member.sample_id, plan.probe.raster
    mz = np.array([ion.mz for ion in plan.ions])
    peaks = section.intensity, mz, section.shift_ppm
    profile = plan.spectra == "profile"
    write_imzml(
        folder / "imzml" / f"{name}.imzML",
        profile_spectra(*peaks) if profile else centroid_spectra(rng, *peaks),
        section.positions_xy,
        kind=plan.spectra,
        polarity=POLARITY,
        um_yx=raster.um,
        identifier=_identifier(plan, name),
        version=__version__,
    )
    image = f"histology/{name}.{plan.image_format}"
    _write_image(folder / image, section.slide, _identifier(plan, name + " histology"))
    write_landmarks(folder / "landmarks" / f"{name}.csv", section.landmarks)
    _write_truth(folder / "truth" / name, section)
    row = dict.fromkeys(COLUMNS, "")
    return row | {
        "sample_id": name,
        "group_id": member.group_id,
        "imzml": f"imzml/{name}.imzML",
        "histology": image,
        "histology_um_per_px": f"{section.slide.um_per_px:g}",
        "msi_um_per_px": f"{raster.um[1]:g}",
        "msi_um_per_px_y": f"{raster.um[0]:g}" if raster.um[0] != raster.um[1] else "",
        "section": "same",
        "landmarks": f"landmarks/{name}.csv",
    }


def _identifier(plan: Plan, name: str) -> uuid.UUID:
    """A UUID that follows from the seed and the name."""
    digest = hashlib.sha256(f"msi2he_jax {plan.seed} {name}".encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=4)


def _write_image(path: Path, slide: Slide, identifier: uuid.UUID) -> None:
    if path.suffix == ".png":
        Image.fromarray(slide.pixels).save(path, compress_level=3)
        return
    import tifffile

    sizes = {f"PhysicalSize{axis}": slide.um_per_px for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    metadata = {"axes": "YXS", "UUID": identifier.urn, **sizes, **units}
    tifffile.imwrite(
        path, slide.pixels, ome=True, photometric="rgb", compression="zlib", metadata=metadata
    )


def _write_truth(folder: Path, section: Section) -> None:
    folder.mkdir()
    record = export.TransformRecord(section.truth, "truth of the simulation")
    export.write_transform(folder, record)
    labels = Image.fromarray(section.slide.labels, mode="P")
    labels.putpalette([value for colour in _PALETTE for value in colour])
    labels.save(folder / "compartments.png")


def _facts(member: Member, section: Section) -> dict:
    spread = section.positions_xy.max(axis=0) - section.positions_xy.min(axis=0) + 1
    return {
        "truth": decompose(section.truth.matrix),
        "hardness": {name: level for name, level in vars(member.levels).items() if level},
        "spectra": len(section.positions_xy),
        "tissue_spectra": int(section.tissue.sum()),
        "grid": [int(spread[1]), int(spread[0])],
        "histology_shape": list(section.slide.pixels.shape[:2]),
    }


def _description(plan: Plan, words: str, facts: dict) -> dict:
    return {
        "simulated": True,
        "words": words,
        "parameters": dataclasses.asdict(plan),
        "polarity": POLARITY,
        "compartments": tissue.COMPARTMENTS,
        "ions": [dataclasses.asdict(ion) for ion in plan.ions],
        "sections": facts,
        "versions": {
            "msi2he_jax": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    }
