"""Marks landmarks, or brings those of other software into landmarks.csv; says how well they agree.

    python -m msi2he_jax.landmarks --page --manifest=FILE --sample=NAME --out=page.html
    python -m msi2he_jax.landmarks --page --manifest=FILE --all --out=DIR
    python -m msi2he_jax.landmarks --histology_points=slide.geojson --histology_um_per_px=0.25
        --msi_points=msi.csv --msi_um_per_px=50 --out=landmarks.csv
    python -m msi2he_jax.landmarks --bigwarp=landmarks.csv --histology_um_per_px=0.25
        --msi_um_per_px=50 --out=landmarks.csv

Points files: QuPath GeoJSON (level-0 pixels), napari points CSV (axis-0 is y), ITK or elastix
(`point` or `index`). Points of two files are paired by name where every point has one, else by
order. Formats that put the centre of the first pixel at 0 are moved by half a pixel.
--page writes one HTML file to open in a browser: MSI and slide side by side, to click pairs of
places in and to save as SAMPLE_landmarks.csv, which is then named in the manifest's column
landmarks; it starts from the sample's landmarks where their file is there. --all writes a page for
each section. Files of other rows need not be there.
"""

from __future__ import annotations

import sys

from absl import flags

from msi2he_jax import cli, progress
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
flags.DEFINE_boolean("all", False, "With --page: a page for each section.", **_DEFINED)
flags.DEFINE_string(
    "moving",
    "pca",
    "How the MSI is shown at first: tic, pca, tsne, umap, ion:MZ; the page can show others.",
    **_DEFINED,
)
flags.DEFINE_float("ion_ppm", None, "Half width of an ion's window, ppm.", **_DEFINED)
flags.DEFINE_list("eval", [], "Names of points to hold out of every fit.", **_DEFINED)
flags.DEFINE_string(
    "out", None, "landmarks.csv or page.html to write, or the folder of --all.", **_DEFINED
)
flags.DEFINE_boolean("overwrite", False, "Replace files that are there.", **_DEFINED)


def run(values: flags.FlagValues, args: list[str]) -> int:
    """Converts points to landmarks.csv and prints how well they agree, or writes pages."""
    cli.no_positional(args)
    _check(values)
    if values.page:
        return _write_pages(values)
    from msi2he_jax.registration.control_points import fit_landmarks
    from msi2he_jax.registration.landmarks import write_landmarks

    points = _held_out(values, _read(values))
    found = fit_landmarks(points, kind="affine")
    fit = found.as_row()
    cli.warn(found.warnings, values.out)
    write_landmarks(values.out, points)
    median, rms = fit["leave_one_out_median_um"], fit["control_points_residual_rms_um"]
    left_out = "unknown of 3 points" if median is None else f"median {median:.1f} um"
    print(f"{len(points)} points, {fit['control_points_used']} of them to fit")
    print(f"affine: leave-one-out error {left_out}, residual {rms:.1f} um")
    print(values.out)
    return cli.DONE


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together."""
    import os

    cli.require(values, "out")
    for name in ("histology_um_per_px", "msi_um_per_px", "msi_um_per_px_y"):
        cli.require_range(values, name, 1e-4, 1e5)
    if values.page:
        return _check_page(values)
    if os.path.exists(values.out) and not values.overwrite:
        raise InputError(values.out, "--out", "is there already", "or pass --overwrite")
    if values.all or values.sample:
        raise InputError("--all" if values.all else "--sample", "", "goes with --page")
    pair = [bool(values.histology_points), bool(values.msi_points)]
    if bool(values.bigwarp) == any(pair) or pair[0] != pair[1]:
        why = "is required with --msi_points=FILE, or --bigwarp=FILE instead of both"
        raise InputError("--histology_points", "", why)


def _check_page(values: flags.FlagValues) -> None:
    import os

    cli.require(values, "manifest")
    if values.all and values.sample:
        raise InputError("--sample", "", "does not go with --all", "give one of them")
    if values.all:
        if os.path.exists(values.out) and not os.path.isdir(values.out):
            raise InputError(values.out, "--out", "is no folder", "--all writes a page a section")
        return
    if not values.out.lower().endswith((".html", ".htm")):
        raise InputError(values.out, "--out", "must end in .html with --page")
    if os.path.exists(values.out) and not values.overwrite:
        raise InputError(values.out, "--out", "is there already", "or pass --overwrite")


def _write_pages(values: flags.FlagValues) -> int:
    """Writes the pages on which landmarks are marked; a fault of one does not stop the others."""
    from pathlib import Path

    from msi2he_jax.data.manifest import read_rows
    from msi2he_jax.data.msi_warnings import shared_file_warnings

    rows = read_rows(values.manifest, files=("imzml", "histology"))
    chosen = rows if values.all else [_chosen(values, rows)]
    shared = shared_file_warnings([row.sample for row in rows if row.sample])
    failed = 0
    for done, row in enumerate(chosen):
        progress.tell("page", done, len(chosen), row.name)
        out = Path(values.out) / f"{row.name}.html" if values.all else Path(values.out)
        try:
            _write_page(values, row, out, shared.get(row.name, []))
        except InputError as error:
            if not values.all:
                raise
            failed += 1
            progress.clear()
            print(f"error: {row.name}: {error}", file=sys.stderr)
    return cli.USER_ERROR if failed else cli.DONE


def _chosen(values: flags.FlagValues, rows: list):
    """Returns the row of --sample, or the only one."""
    if values.sample is None and len(rows) > 1:
        hint = f"such as {rows[0].name}, or --all"
        raise InputError("--sample", "", f"is required: {len(rows)} sections", hint)
    for row in rows:
        if values.sample in (None, row.name):
            return row
    raise InputError("--sample", "", f"{values.sample!r} is not in {values.manifest}")


def _write_page(values: flags.FlagValues, row, out, shared: list[str]) -> None:
    from msi2he_jax.coregistration.landmark_images import landmark_pictures
    from msi2he_jax.registration.landmark_page import saved_name, write_landmark_page
    from msi2he_jax.registration.landmarks import read_landmarks

    for fault in row.faults:
        raise fault
    if values.all and out.exists() and not values.overwrite:
        raise InputError(out, "--out", "is there already", "or pass --overwrite")
    marked = row.sample.landmarks
    points = read_landmarks(marked) if marked and marked.is_file() else None
    pictures, odd = landmark_pictures(row.sample, values.moving, ion_ppm=values.ion_ppm)
    cli.warn([*shared, *odd], row.name)
    write_landmark_page(out, row.name, *pictures, points)
    name = saved_name(row.name)
    progress.clear()
    where = "beside the manifest, and put its name in the manifest's column landmarks"
    print(f"open {out} in a browser, mark pairs, and save {name} {where}")


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
