"""Marks landmarks, or brings those of other software into landmarks.csv; says how well they agree.

    python -m msi2he_jax.landmarks --page --manifest=FILE --sample=NAME --out=page.html
    python -m msi2he_jax.landmarks --histology_points=slide.geojson --histology_um_per_px=0.25
        --msi_points=msi.csv --msi_um_per_px=50 --out=landmarks.csv
    python -m msi2he_jax.landmarks --bigwarp=landmarks.csv --histology_um_per_px=0.25
        --msi_um_per_px=50 --out=landmarks.csv

Points files: QuPath GeoJSON (level-0 pixels), napari points CSV (axis-0 is y), ITK or elastix
(`point` or `index`). Points of two files are paired by name where every point has one, else by
order. Formats that put the centre of the first pixel at 0 are moved by half a pixel.
--page writes one HTML file to open in a browser: both pictures side by side, to click pairs of
places in and to save as landmarks.csv; it starts from the sample's landmarks where it has some.
"""

from __future__ import annotations

import sys

from absl import flags

from msi2he_jax import cli
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
_DEFINED = {"flag_values": FLAGS}
flags.DEFINE_string("histology_points", None, "Points marked on the slide.", **_DEFINED)
flags.DEFINE_string("msi_points", None, "The same points marked on the MSI.", **_DEFINED)
flags.DEFINE_string("bigwarp", None, "BigWarp landmark CSV, both images in one file.", **_DEFINED)
flags.DEFINE_enum(
    "bigwarp_moving", "msi", ["msi", "histology"], "BigWarp's moving image.", **_DEFINED
)
flags.DEFINE_float(
    "histology_um_per_px", None, "Pixel size of the image marked, level 0, um.", **_DEFINED
)
flags.DEFINE_float("msi_um_per_px", None, "Pixel size of the MSI image marked, um.", **_DEFINED)
flags.DEFINE_float("msi_um_per_px_y", None, "The same along y, where it differs.", **_DEFINED)
for _side in ("histology", "msi"):
    flags.DEFINE_string(
        f"{_side}_unit",
        "um",
        "Unit of BigWarp or ITK coordinates: um, nm, mm, or px for an uncalibrated image.",
        **_DEFINED,
    )
    flags.DEFINE_enum(
        f"{_side}_origin",
        "center",
        ["center", "corner"],
        "Where BigWarp or ITK coordinates are 0: centre or outer corner of the first pixel.",
        **_DEFINED,
    )
flags.DEFINE_boolean("page", False, "Write a page to mark landmarks on.", **_DEFINED)
flags.DEFINE_string("manifest", None, "The cohort's manifest.csv, for --page.", **_DEFINED)
flags.DEFINE_string("sample", None, "sample_id, for --page; default the only one.", **_DEFINED)
flags.DEFINE_string("moving", "pca", "How the MSI is shown: pca, tsne, umap, ion:MZ.", **_DEFINED)
flags.DEFINE_float("ion_ppm", None, "Half width of an ion's window, ppm.", **_DEFINED)
flags.DEFINE_list("eval", [], "Names of points to hold out of every fit.", **_DEFINED)
flags.DEFINE_string("out", None, "landmarks.csv or page.html to write.", **_DEFINED)
flags.DEFINE_boolean("overwrite", False, "Replace a file that is there.", **_DEFINED)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Converts points to landmarks.csv and prints how well they agree, or writes the page."""
    cli.no_positional(args)
    _check(values)
    if values.page:
        _write_page(values)
        return
    from msi2he_jax.registration.control_points import fit_landmarks
    from msi2he_jax.registration.landmarks import write_landmarks

    points = _held_out(values, _read(values))
    fit = fit_landmarks(points, kind="affine").as_row()
    write_landmarks(values.out, points)
    median, rms = fit["leave_one_out_median_um"], fit["control_points_residual_rms_um"]
    left_out = "unknown of 3 points" if median is None else f"median {median:.1f} um"
    print(f"{len(points)} points, {fit['control_points_used']} of them to fit")
    print(f"affine: leave-one-out error {left_out}, residual {rms:.1f} um")
    print(values.out)


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together."""
    import os

    cli.require(values, "out")
    for name in ("histology_um_per_px", "msi_um_per_px", "msi_um_per_px_y"):
        cli.require_range(values, name, 1e-4, 1e5)
    if os.path.exists(values.out) and not values.overwrite:
        raise InputError(values.out, "--out", "is there already", "or pass --overwrite")
    if values.page:
        cli.require(values, "manifest")
        if not values.out.lower().endswith((".html", ".htm")):
            raise InputError(values.out, "--out", "must end in .html with --page")
        return
    pair = [bool(values.histology_points), bool(values.msi_points)]
    if bool(values.bigwarp) == any(pair) or pair[0] != pair[1]:
        why = "is required with --msi_points=FILE, or --bigwarp=FILE instead of both"
        raise InputError("--histology_points", "", why)


def _write_page(values: flags.FlagValues) -> None:
    """Writes the page on which a section's landmarks are marked."""
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.inference.marking import landmark_pictures
    from msi2he_jax.registration.landmark_page import write_landmark_page
    from msi2he_jax.registration.landmarks import read_landmarks

    samples = {sample.sample_id: sample for sample in read_manifest(values.manifest)}
    if values.sample is None and len(samples) > 1:
        hint = f"such as {next(iter(samples))}"
        raise InputError("--sample", "", f"is required: {len(samples)} sections", hint)
    name = values.sample or next(iter(samples))
    if name not in samples:
        raise InputError("--sample", "", f"{name!r} is not in {values.manifest}")
    sample = samples[name]
    pictures = landmark_pictures(sample, values.moving, ion_ppm=values.ion_ppm)
    points = read_landmarks(sample.landmarks) if sample.landmarks else None
    write_landmark_page(values.out, name, *pictures, points)
    print(f"open {values.out} in a browser, mark pairs, and save landmarks.csv")


def _read(values: flags.FlagValues):
    """Returns the landmarks of the files named."""
    from msi2he_jax.registration import landmark_import

    scales = _scale(values, "msi"), _scale(values, "histology")
    if values.bigwarp:
        return landmark_import.read_bigwarp(values.bigwarp, *scales, moving=values.bigwarp_moving)
    msi = landmark_import.read_points(values.msi_points)
    histology = landmark_import.read_points(values.histology_points)
    return landmark_import.pair_points(msi, histology, *scales)


def _scale(values: flags.FlagValues, side: str):
    from msi2he_jax.registration.landmark_import import Scale

    x = values[f"{side}_um_per_px"].value
    y = (values.msi_um_per_px_y if side == "msi" else None) or x
    unit, origin = values[f"{side}_unit"].value, values[f"{side}_origin"].value
    return Scale(None if x is None else (y, x), unit, origin, f"--{side}_um_per_px")


def _held_out(values: flags.FlagValues, points):
    """Marks the points named in --eval."""
    import dataclasses

    import numpy as np

    for name in values.eval:
        if name not in points.name:
            raise InputError("--eval", "", f"no point is called {name!r}")
    return dataclasses.replace(
        points, use=np.where(np.isin(points.name, values.eval), "eval", points.use)
    )


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
