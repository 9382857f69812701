"""A cohort of simulated patients, written as the files a user would hand in, with their truth."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import platform
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy
from PIL import Image

from msi2he_jax import __version__
from msi2he_jax.io_safety import write_json
from msi2he_jax.phantom import geometry, molecules, pictures, staining, tissue
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.ions import ion_table
from msi2he_jax.phantom.section import Probe, Section, Slide, abundance_of, measure_slide
from msi2he_jax.phantom.spectra import centroid_spectra, profile_spectra
from msi2he_jax.registration import export
from msi2he_jax.registration.landmarks import write_landmarks
from msi2he_jax.registration.transforms import decompose

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
    """

    sections: int
    sections_per_group: int
    seed: int
    histology_um_per_px: float
    spectra: str
    image_format: str
    probe: Probe

    @property
    def radius_um(self) -> float:
        """Radius of the circle that holds a section's tissue, um."""
        return geometry.tissue_radius_um(self.probe.raster, self.probe.warp_um)


@dataclasses.dataclass(frozen=True)
class Member:
    """One section of a cohort before MSI: who it is and its slide."""

    sample_id: str
    group_id: str
    slide: Slide
    facts: dict


def _rng(plan: Plan, *stream: int) -> np.random.Generator:
    return np.random.default_rng([plan.seed, *stream])


def procedural_members(plan: Plan) -> Iterator[Member]:
    """Draws patients and their slides from the seed alone."""
    for index in range(plan.sections):
        patient, turn = divmod(index, plan.sections_per_group)
        rng = _rng(plan, 1, patient)
        habit, stain = tissue.draw_habit(rng), staining.draw_stain(rng)
        rng = _rng(plan, 2, index)
        canvas, center = geometry.draw_canvas(rng, plan.radius_um, plan.histology_um_per_px)
        laid = tissue.lay_out(rng, canvas, habit, center, plan.radius_um)
        pixels = staining.render(rng, laid, stain)
        slide = Slide(pixels, canvas.um_per_px, abundance_of(laid.labels), center)
        group = f"p{patient:02d}"
        yield Member(f"{group}_s{turn}", group, slide, {"habit": dataclasses.asdict(habit)})


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
    for number, picture in enumerate(sources):
        count = len(range(number, plan.sections, len(sources)))
        cut = pictures.cut_sections(_rng(plan, 6, number), picture, count, **sizes)
        for turn, (slide, facts) in enumerate(cut):
            yield Member(f"p{number:02d}_s{turn}", f"p{number:02d}", slide, facts)


def write_cohort(
    folder: Path,
    plan: Plan,
    members: Iterator[Member],
    words: str,
    on_section: Callable[[str], None] = lambda sample_id: None,
) -> None:
    """Measures every slide and writes the cohort.

    Args:
        folder: An existing, empty folder.
        plan: What to simulate.
        members: The slides, in order.
        words: What the data are, for a reader of the report.
        on_section: Called with the sample's name once its files are written.
    """
    folder = Path(folder)
    for name in ("imzml", "histology", "landmarks", "truth"):
        (folder / name).mkdir()
    ions = ion_table()
    cohort = molecules.draw_chemistry(_rng(plan, 3), ions)
    groups: dict[str, int] = {}
    rows, facts = [], {}
    for index, member in enumerate(members):
        patient = groups.setdefault(member.group_id, len(groups))
        chemistry = molecules.patient_chemistry(_rng(plan, 4, patient), cohort)
        rng = _rng(plan, 5, index)
        section = measure_slide(rng, member.slide, chemistry, plan.probe, mirrored=index % 3 == 1)
        rows.append(_write_section(folder, plan, member, section, rng))
        facts[member.sample_id] = member.facts | _facts(section)
        on_section(member.sample_id)
    _write_manifest(folder / "manifest.csv", rows)
    write_json(folder / "cohort.json", _description(plan, words, ions, facts))


def _write_section(folder: Path, plan: Plan, member: Member, section: Section, rng) -> dict:
    """Writes one section's files; returns its row of the manifest."""
    name, raster = member.sample_id, plan.probe.raster
    mz = np.array([ion.mz for ion in ion_table()])
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
    truth = section.truth
    method = "truth of the simulation"
    export.write_transform(folder, export.Transform(truth.matrix, truth.displacement, method))
    labels = Image.fromarray(section.slide.labels, mode="P")
    labels.putpalette([value for colour in _PALETTE for value in colour])
    labels.save(folder / "compartments.png")


def _facts(section: Section) -> dict:
    spread = section.positions_xy.max(axis=0) - section.positions_xy.min(axis=0) + 1
    return {
        "truth": decompose(section.truth.matrix),
        "spectra": len(section.positions_xy),
        "tissue_spectra": int(section.tissue.sum()),
        "grid": [int(spread[1]), int(spread[0])],
        "histology_shape": list(section.slide.pixels.shape[:2]),
    }


def _write_manifest(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _description(plan: Plan, words: str, ions, facts: dict) -> dict:
    return {
        "simulated": True,
        "words": words,
        "parameters": dataclasses.asdict(plan),
        "polarity": POLARITY,
        "compartments": tissue.COMPARTMENTS,
        "ions": [dataclasses.asdict(ion) for ion in ions],
        "sections": facts,
        "versions": {
            "msi2he_jax": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    }
