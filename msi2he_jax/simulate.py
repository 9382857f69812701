"""Simulates paired MSI and H&E sections with known truth: a cohort to try the whole line on.

    python -m msi2he_jax.simulate --out=DIR [--sections=24 --grid=64 --seed=0]
    python -m msi2he_jax.simulate --out=DIR --histology-dir=FOLDER_OF_H&E_IMAGES
    python -m msi2he_jax.simulate --out=DIR --hardness=hard,pen=0

Writes DIR/manifest.csv (hand it to preprocess), imzml/, histology/, landmarks/, and what a real
study would not know: truth/SAMPLE/ (transform.json, displacement.npz, compartments.png) and
cohort.json. The same flags and seed give the same files.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError

# About 200 bytes per slide pixel are held while it is drawn.
_MOST_SLIDE_MPX = 20
FLAGS = cli.new_flags()
_DEFINED = {"flag_values": FLAGS}
flags.DEFINE_string("out", None, "Folder to write; must be new or empty.", **_DEFINED)
flags.DEFINE_boolean("overwrite", False, "Replace a folder that is not empty.", **_DEFINED)
flags.DEFINE_integer("sections", 24, "Number of sections.", **_DEFINED)
flags.DEFINE_integer("sections-per-patient", 2, "Sections that share a patient.", **_DEFINED)
flags.DEFINE_integer("grid", 64, "MSI pixels per line of the widest section.", **_DEFINED)
flags.DEFINE_integer("seed", 0, "Everything random follows from it.", **_DEFINED)
flags.DEFINE_string(
    "histology-dir",
    None,
    "Folder of H&E images (PNG, JPEG, TIFF, SVS) to cut the sections from; default: procedural "
    "tissue. The sections of one image are one patient. Pen marks and labels are left out.",
    **_DEFINED,
)
flags.DEFINE_enum("spectra", "profile", ["profile", "centroid"], "Kind of spectra.", **_DEFINED)
flags.DEFINE_float("msi-um-per-px", 50.0, "MSI pixel size, um.", **_DEFINED)
flags.DEFINE_float(
    "msi-um-per-px-y", None, "Distance of scan lines, um; default: as msi-um-per-px.", **_DEFINED
)
flags.DEFINE_float(
    "histology-um-per-px",
    6.25,
    "Pixel size of the slide images, um; also of --histology-dir images that do not state theirs.",
    **_DEFINED,
)
flags.DEFINE_float(
    "warp-um",
    None,
    "Largest smooth warp beyond the affine, um; default: one MSI pixel.",
    **_DEFINED,
)
flags.DEFINE_string(
    "hardness",
    "none",
    "What makes registration hard: a preset (none, usual, hard, extreme), knob=level with levels "
    "in [0, 1], or both, as in hard,pen=0. docs/simulation.md lists the knobs.",
    **_DEFINED,
)
flags.DEFINE_float("jitter-ppm", 3.0, "Mass error from spectrum to spectrum, ppm.", **_DEFINED)
flags.DEFINE_enum("format", "png", ["png", "ome.tiff"], "Format of the slide images.", **_DEFINED)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Checks the flags and writes the cohort."""
    cli.no_positional(args)
    cli.require(values, "out")
    _check(values)
    from msi2he_jax import locking
    from msi2he_jax.io_safety import atomic_folder
    from msi2he_jax.phantom.cohort import write_cohort

    plan = _plan(values)
    _check_extent(plan)
    words, members = _slides(values, plan)
    with (
        locking.held(values.out, "simulate"),
        atomic_folder(values.out, overwrite=values.overwrite) as folder,
    ):
        progress.tell("section", 0, plan.sections)
        write_cohort(folder, plan, members, words, functools.partial(progress.tell, "section"))
    names = [path.name for path in Path(values.out, "truth").iterdir()]
    cli.print_written(values.out, names=names)


def _check(values: flags.FlagValues) -> None:
    cli.require_range(values, "sections", 1, 100_000)
    cli.require_range(values, "sections-per-patient", 1)
    cli.require_range(values, "grid", 12, 4096)
    cli.require_range(values, "seed", 0, 2**63)
    cli.require_range(values, "msi-um-per-px", 1.0, 1000.0)
    cli.require_range(values, "msi-um-per-px-y", 1.0, 1000.0)
    cli.require_range(values, "histology-um-per-px", 0.1, values["msi-um-per-px"].value)
    cli.require_range(values, "jitter-ppm", 0.0, 50.0)
    extent_um = values["grid"].value * values["msi-um-per-px"].value
    cli.require_range(values, "warp-um", 0.0, extent_um / 12.0)


def _check_extent(plan) -> None:
    """Refuses rasters too narrow to hold tissue and slides too large for memory."""
    pixel_um = max(plan.probe.raster.um)
    if plan.radius_um < 2.0 * pixel_um:
        lines, columns = plan.probe.raster.shape
        why = f"{lines} lines of {columns} pixels leave no room for tissue"
        raise InputError("--grid", "", why, "use a larger --grid or a smaller --msi-um-per-px-y")
    slide_mpx = (3.0 * plan.radius_um / plan.histology_um_per_px) ** 2 / 1e6
    if slide_mpx > _MOST_SLIDE_MPX:
        why = f"slides would have {slide_mpx:.0f} million pixels, {_MOST_SLIDE_MPX} are possible"
        raise InputError("--grid", "", why, "use a smaller --grid or coarser histology pixels")


def _slides(values: flags.FlagValues, plan):
    """Says in words what the slides are, and draws or cuts them one by one."""
    from msi2he_jax.io_safety import existing_folder
    from msi2he_jax.phantom.cohort import picture_members, procedural_members

    folder = values["histology-dir"].value
    if folder is None:
        words = "Simulated: procedural breast-like tissue, DESI-like spectra; no measurement."
        return words, procedural_members(plan)
    words = "Simulated DESI-like spectra over real H&E pictures; no MSI was measured."
    folder = existing_folder(folder, "histology-dir")
    return words, picture_members(plan, folder, lambda why: cli.warn([f"left out: {why}"]))


def _plan(values: flags.FlagValues):
    from msi2he_jax.phantom.cohort import Plan
    from msi2he_jax.phantom.geometry import Raster
    from msi2he_jax.phantom.hardness import parse_hardness
    from msi2he_jax.phantom.section import Probe

    um_x = values["msi-um-per-px"].value
    um_y = values["msi-um-per-px-y"].value or um_x
    warp = values["warp-um"].value
    lines = round(values.grid * um_x / um_y)
    probe = Probe(
        raster=Raster((lines, values.grid), (um_y, um_x)),
        warp_um=um_x if warp is None else warp,
        jitter_ppm=values["jitter-ppm"].value,
    )
    return Plan(
        sections=values.sections,
        sections_per_group=values["sections-per-patient"].value,
        seed=values.seed,
        histology_um_per_px=values["histology-um-per-px"].value,
        spectra=values.spectra,
        image_format=values.format,
        probe=probe,
        hardness=parse_hardness(values.hardness),
    )


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
