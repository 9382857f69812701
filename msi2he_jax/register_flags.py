"""The flags of register, and what does not go together among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from msi2he_jax import cli
from msi2he_jax.errors import InputError
from msi2he_jax.registration.similarity import METRICS

FLAGS = cli.new_flags()
_DEFINED = {"flag_values": FLAGS}
flags.DEFINE_string("manifest", None, "The cohort's manifest.csv.", **_DEFINED)
flags.DEFINE_string(
    "moving",
    None,
    "What moves: ions (all of them), synthetic, pca, tsne, umap or ion:MZ. Default: synthetic "
    "where --run is named, else ions.",
    **_DEFINED,
)
flags.DEFINE_string("run", None, "Folder of the trained run, for synthetic.", **_DEFINED)
flags.DEFINE_string("out", None, "Folder to write; must be new or empty.", **_DEFINED)
flags.DEFINE_boolean("overwrite", False, "Replace a folder that is not empty.", **_DEFINED)
flags.DEFINE_enum(
    "method",
    "automatic",
    ["automatic", "control-points", "given"],
    "How to find it; given takes --init as it is.",
    **_DEFINED,
)
flags.DEFINE_boolean("deformable", False, "Bend what was found further into place.", **_DEFINED)
flags.DEFINE_boolean(
    "unknown_scale", False, "Search scales from 0.8 to 1.25: a pixel size is a guess.", **_DEFINED
)
flags.DEFINE_float(
    "scale_sd",
    None,
    "How well both pixel sizes are known, as a share, for --metric=explained; default 0.03.",
    **_DEFINED,
)
flags.DEFINE_float("stiffness", 1.0, "How hard it is to bend, against usual.", **_DEFINED)
flags.DEFINE_enum(
    "fit",
    "affine",
    ["affine", "similarity", "robust"],
    "What control points determine; robust leaves outliers out.",
    **_DEFINED,
)
flags.DEFINE_float("outlier_um", None, "Outliers err by more, um; default 3 MSI px.", **_DEFINED)
flags.DEFINE_string("init", None, "Transform to start from; a file or a folder.", **_DEFINED)
flags.DEFINE_string(
    "points",
    None,
    "landmarks.csv of 2 to 4 points that guide the search, or a folder.",
    **_DEFINED,
)
flags.DEFINE_float("points_sd_um", None, "Standard deviation of --points, um.", **_DEFINED)
flags.DEFINE_string(
    "via",
    None,
    "Transform from MSI to --scan, which is aligned instead; or a folder.",
    **_DEFINED,
)
flags.DEFINE_float("via_sd_um", None, "Standard deviation of --via; default: its own.", **_DEFINED)
flags.DEFINE_string("scan", None, "The instrument's picture of the section.", **_DEFINED)
flags.DEFINE_float("scan_um_per_px", None, "Pixel size of --scan, um.", **_DEFINED)
flags.DEFINE_enum(
    "maps",
    None,
    ["msi_to_histology", "histology_to_msi"],
    "Direction of an ITK file or numbers that do not say it.",
    **_DEFINED,
)
flags.DEFINE_list("ions", [], "m/z of ions to draw on the slide, such as 885.55.", **_DEFINED)
flags.DEFINE_float(
    "out_um_per_px", None, "Pixel size drawn at, um; default a quarter MSI pixel.", **_DEFINED
)
flags.DEFINE_string(
    "annotations", None, "QuPath GeoJSON of the slide, or a folder of SAMPLE.geojson.", **_DEFINED
)
flags.DEFINE_enum(
    "on_error", "raise", ["raise", "skip"], "At a section that cannot be read.", **_DEFINED
)
flags.DEFINE_enum(
    "require",
    None,
    ["reliable"],
    "Exit code 3 where the verdict on any section is another; all is written all the same.",
    **_DEFINED,
)
flags.DEFINE_string("apply", None, "Transform to move --input by.", **_DEFINED)
flags.DEFINE_string("input", None, "Image, points CSV or GeoJSON to move.", **_DEFINED)
flags.DEFINE_enum("to", None, ["msi", "histology"], "Frame to move --input into.", **_DEFINED)
flags.DEFINE_float("input_um_per_px", None, "Pixel size of --input, level 0, um.", **_DEFINED)
flags.DEFINE_enum(
    "interpolation", "linear", ["linear", "nearest"], "For --apply; nearest for labels.", **_DEFINED
)
flags.DEFINE_enum(
    "metric",
    None,
    list(METRICS),
    "What is refined; default: explained for ions, else mi. "
    + " ".join(f"{name}: {each.summary}." for name, each in METRICS.items()),
    **_DEFINED,
)
flags.DEFINE_list("samples", [], "Only these sample_ids, separated by commas.", **_DEFINED)
flags.DEFINE_enum(
    "split",
    None,
    ["test", "all"],
    "Sections to take; default: the run's test split where --run is given, else all.",
    **_DEFINED,
)
flags.DEFINE_enum("which", "best", ["best", "latest"], "Checkpoint of the run.", **_DEFINED)
flags.DEFINE_integer("dropout_samples", 0, "Pixels count less where they differ.", **_DEFINED)
flags.DEFINE_float("ion_ppm", None, "Half width of an ion's window, ppm.", **_DEFINED)
flags.DEFINE_integer("seed", 0, "For t-SNE, UMAP and the starting angles.", **_DEFINED)
flags.DEFINE_boolean(
    "force",
    False,
    "Register even what the generator was trained on (scores mean less).",
    **_DEFINED,
)
_POSITIVE = ("ion_ppm", "out_um_per_px", "outlier_um", "stiffness", "scale_sd")
_POSITIVE += ("points_sd_um", "via_sd_um", "scan_um_per_px")
# Where the first is given, so must be the second.
_TOGETHER = (("points", "points_sd_um"), ("points_sd_um", "points"), ("via", "scan"))
_TOGETHER += (("scan", "via"), ("via_sd_um", "via"), ("scan_um_per_px", "scan"))
FILES = ("init", "annotations", "points", "via", "scan")  # one per section, or one for the only one


def check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything slow."""
    from msi2he_jax.io_safety import refuse_filled

    cli.require(values, "manifest", "out")
    if values.moving is None:
        values.moving = "synthetic" if values.run else "ions"
    cli.require_range(values, "seed", 0, 2**31 - 1)
    for name in _POSITIVE:
        cli.require_range(values, name, 1e-3, 1e5)
    parse_ions(values.ions)
    if values.moving == "synthetic" and not values.run:
        hint = "name the trained run, or register all ions: --moving=ions"
        raise InputError("--run", "", "is required with --moving=synthetic", hint)
    if values.method == "given" and not values.init:
        raise InputError("--init", "", "is required with --method=given", "name a transform")
    if values.method == "control-points" and values.init:
        raise InputError("--init", "", "goes with --method=automatic or given")
    if values.method == "given" and values.deformable:
        hint = "--method=automatic --init=FILE searches around it, then bends"
        raise InputError("--deformable", "", "does not go with --method=given", hint)
    for name, other in _TOGETHER:
        if bool(values[name].value) and not values[other].value:
            raise InputError(f"--{other}", "", f"is required with --{name}")
    for name in ("points", "via"):
        if values[name].value and values.method != "automatic":
            raise InputError(f"--{name}", "", f"goes with --method=automatic, not {values.method}")
    compared = values.metric or ("explained" if values.moving == "ions" else "mi")
    if values.scale_sd and compared != "explained":
        raise InputError("--scale_sd", "", f"goes with --metric=explained, not {compared}")
    for name in ("input", "to"):
        if values[name].value is not None:
            raise InputError(f"--{name}", "", "goes with --apply=TRANSFORM")
    if values.moving not in ("synthetic", "ions", "pca", "tsne", "umap"):
        from msi2he_jax.coregistration.moving import ion_of

        ion_of(values.moving)
    refuse_filled(values.out, overwrite=values.overwrite)


def parse_ions(words: Sequence[str]) -> list[float]:
    """Returns the m/z named on a command line.

    Args:
        words: Such as `885.55`.

    Raises:
        InputError: a word that is no m/z.
    """
    found = []
    for word in words:
        try:
            mz = float(word)
        except ValueError:
            mz = 0.0
        if not 0 < mz < 1e6:
            raise InputError("--ions", "", f"{word!r} is no m/z", "as in --ions=885.55,281.25")
        found.append(mz)
    return found


def check_sections(values: flags.FlagValues, samples) -> None:
    """Refuses one file for several sections, and names a missing one at once."""
    from msi2he_jax.registration.given import file_of_sample

    for flag in FILES:
        if not values[flag].value:
            continue
        path = Path(values[flag].value)
        if len(samples) > 1 and not path.is_dir():
            hint = "name a folder with one per sample, or one section with --samples=NAME"
            raise InputError(path, f"--{flag}", f"is one file for {len(samples)} sections", hint)
        if values.on_error == "raise":
            for sample in samples:
                file_of_sample(path, sample.sample_id, flag)
