"""Registers MSI to histology: finds the transform, scores it, shows it, and puts it to use.

    python -m msi2he_jax.register --manifest=FILE --moving=synthetic --run=RUN --out=DIR
    python -m msi2he_jax.register --manifest=FILE --moving=pca|tsne|umap|ion:MZ --out=DIR
    python -m msi2he_jax.register --apply=DIR/SAMPLE/transform.json --input=FILE
        --to=msi|histology --out=FILE

Writes DIR/SAMPLE/ (transform.json, its forms for ITK, elastix and OME-NGFF, tre.csv, the moving
image, two overlays, uncertainty_um.npy and its picture, the slide on the MSI's frame; ion images
on the slide with --ions, spectra per region with --annotations) and DIR/summary.csv and .json. The
automatic method never sees a landmark; `eval` landmarks only ever score, and `fit` landmarks make
the control-point affine printed beside. Where truth/SAMPLE/transform.json lies beside the manifest
(simulate writes it), the error over all of the tissue is scored too. A section whose patient
trained the generator is refused: what it synthesises there, it has learnt by heart.

--init starts the search from a transform (transform.json, ITK .tfm, 3 x 3 numbers, landmarks.csv,
or a folder with one of these per sample); --method=given takes it as it is. --apply moves any
image, CSV of points (x_um, y_um, or a landmarks.csv) or QuPath GeoJSON either way.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from absl import flags, logging

from msi2he_jax import cli
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
_DEFINED = {"flag_values": FLAGS}
flags.DEFINE_string("manifest", None, "The cohort's manifest.csv.", **_DEFINED)
flags.DEFINE_string(
    "moving", "synthetic", "What moves: synthetic, pca, tsne, umap or ion:MZ.", **_DEFINED
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
flags.DEFINE_string("apply", None, "Transform to move --input by.", **_DEFINED)
flags.DEFINE_string("input", None, "Image, points CSV or GeoJSON to move.", **_DEFINED)
flags.DEFINE_enum("to", None, ["msi", "histology"], "Frame to move --input into.", **_DEFINED)
flags.DEFINE_float("input_um_per_px", None, "Pixel size of --input, level 0, um.", **_DEFINED)
flags.DEFINE_enum(
    "interpolation", "linear", ["linear", "nearest"], "For --apply; nearest for labels.", **_DEFINED
)
flags.DEFINE_enum(
    "metric",
    "mi",
    ["mi", "ncc", "ngf"],
    "What is refined: mutual information, correlation of like with like, or edges (ngf).",
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


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Registers every section asked for and writes what was found, or applies a transform."""
    cli.no_positional(args)
    if values.apply:
        _apply(values)
        return
    _check(values)
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.inference import load_model
    from msi2he_jax.inference.sections import choose_sections, refuse_training
    from msi2he_jax.io_safety import atomic_folder
    from msi2he_jax.registration.summary import summarize, summary_lines, write_summary

    samples = read_manifest(values.manifest)
    model = load_model(values.run, values.which) if values.run else None
    provenance = model.provenance if model else None
    samples = choose_sections(samples, provenance, values.split, values.samples, values.manifest)
    _check_sections(values, samples)
    if values.moving == "synthetic" and not values.force:
        refuse_training(samples, provenance, values.run)
    with atomic_folder(values.out, overwrite=values.overwrite) as folder:
        rows, skipped = _register_all(values, folder, samples, model)
        summary = summarize(
            rows,
            moving=values.moving,
            method=values.method,
            manifest=str(values.manifest),
            skipped=skipped,
        )
        if model:
            summary |= {"run": str(values.run), "simulated": provenance.get("simulated")}
            summary["checkpoint"] = {"which": model.which, "step": model.step}
            summary["forced"] = values.force
        write_summary(folder, summary)
    print("\n".join([*summary_lines(summary), *_left_out_lines(rows)]))
    if skipped:
        print(f"skipped, see summary.json: {', '.join(each['sample_id'] for each in skipped)}")
    print(f"{values.out}/summary.json")


def _register_all(values: flags.FlagValues, folder: Path, samples, model) -> tuple[list, list]:
    """Registers section after section; returns rows, and what was skipped and why."""
    rows, skipped = [], []
    for sample in samples:
        place = folder / sample.sample_id
        try:
            rows.append(_register_one(values, place, sample, model))
            _tell(rows[-1])
        except InputError as error:
            if values.on_error == "raise":
                raise
            shutil.rmtree(place, ignore_errors=True)
            logging.warning("%s: skipped: %s", sample.sample_id, error)
            skipped.append({"sample_id": sample.sample_id, "why": str(error)})
            last = error
    if not rows:
        raise last
    return rows, skipped


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything slow."""
    from msi2he_jax.inference.ions import parse_ions

    cli.require(values, "manifest", "out", "moving")
    cli.require_range(values, "seed", 0, 2**31 - 1)
    for name in ("ion_ppm", "out_um_per_px", "outlier_um", "stiffness"):
        cli.require_range(values, name, 1e-3, 1e5)
    parse_ions(values.ions)
    if values.moving == "synthetic" and not values.run:
        hint = "name the trained run, or register a view: --moving=pca"
        raise InputError("--run", "", "is required with --moving=synthetic", hint)
    if values.method == "given" and not values.init:
        raise InputError("--init", "", "is required with --method=given", "name a transform")
    if values.method == "control-points" and values.init:
        raise InputError("--init", "", "goes with --method=automatic or given")
    if values.method == "given" and values.deformable:
        hint = "--method=automatic --init=FILE searches around it, then bends"
        raise InputError("--deformable", "", "does not go with --method=given", hint)
    for name in ("input", "to"):
        if values[name].value is not None:
            raise InputError(f"--{name}", "", "goes with --apply=TRANSFORM")
    if values.moving not in ("synthetic", "pca", "tsne", "umap"):
        from msi2he_jax.data.moving import ion_of

        ion_of(values.moving)
    out = Path(values.out)
    if out.is_dir() and any(out.iterdir()) and not values.overwrite:
        raise InputError(out, "--out", "is not empty", "name another folder, or pass --overwrite")


def _check_sections(values: flags.FlagValues, samples) -> None:
    """Refuses one file for several sections, and names a missing one at once."""
    for flag in ("init", "annotations"):
        if not values[flag].value:
            continue
        path = Path(values[flag].value)
        if len(samples) > 1 and not path.is_dir():
            hint = "name a folder with one per sample, or one section with --samples=NAME"
            raise InputError(path, f"--{flag}", f"is one file for {len(samples)} sections", hint)
        if values.on_error == "raise":
            for sample in samples:
                _of_sample(path, sample, flag)


def _of_sample(path: Path, sample, flag: str) -> Path:
    """Returns the file itself, or that of a sample in a folder."""
    if not path.is_dir() or (path / "transform.json").is_file():
        return path
    name, endings = sample.sample_id, {"init": ("", ".json", ".tfm", ".txt", ".csv")}
    for ending in endings.get(flag, (".geojson", ".json")):
        if (path / f"{name}{ending}").exists():
            return path / f"{name}{ending}"
    raise InputError(path, f"--{flag}", f"holds nothing for {name}")


def _register_one(values: flags.FlagValues, folder: Path, sample, model) -> dict:
    """Registers one section and writes its folder; returns its row of the summary."""
    from msi2he_jax.data.alignment import read_working_slide
    from msi2he_jax.inference import carried, pairing, sections
    from msi2he_jax.inference.ions import parse_ions
    from msi2he_jax.inference.moving import moving_image
    from msi2he_jax.interop import section_files
    from msi2he_jax.registration.export import Transform
    from msi2he_jax.registration.scores import smoothness
    from msi2he_jax.registration.summary import sample_row
    from msi2he_jax.registration.transforms import decompose

    logging.info("%s: making the %s image", sample.sample_id, values.moving)
    options = {"ion_ppm": values.ion_ppm, "seed": values.seed, "force": values.force}
    options["samples"] = values.dropout_samples
    moving = moving_image(values.moving, sample, model=model, **options)
    slide = read_working_slide(sample, moving)
    landmarks = sections.landmarks_of(sample)
    fit = _fit(values, landmarks, moving)
    started = time.perf_counter()
    matrix, field, search = _find(values, sample, moving, slide, fit)
    if values.deformable:
        field, bent = _bend(values, sample, moving, slide, matrix)
        search |= bent
    seconds = time.perf_counter() - started
    truth = Path(values.manifest).parent / "truth" / sample.sample_id / "transform.json"
    points = sections.known_points(landmarks, moving, slide, truth)
    matrices = sections.candidates(sample, matrix, moving, slide, landmarks)
    row = {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "section": sample.section,
        "moving": values.moving,
        **sample_row(sections.score(matrices, points, moving, slide, field), values.method),
        **decompose(matrix),
        **search,
        **smoothness(matrix, field),
        **(fit.as_row() if fit else {}),
        "tissue_dice": sections.tissue_dice(matrix, moving, slide, field),
        "msi_um_per_px": float(moving.native_um.mean()),
        "seconds": seconds,
    }
    precision = pairing.uncertainty_of(sample, moving, slide, matrix, field)
    row |= precision.as_row()
    grids = carried.grids_of(moving, slide, values.out_um_per_px)
    found = Transform(matrix, field, _method(values), row, grids)
    section_files.write_found(folder, moving, slide, found, points)
    section_files.write_uncertainty(folder, moving, precision)
    section_files.write_slide_on_msi(folder, sample, found)
    if values.ions:
        mz, grid = parse_ions(values.ions), grids["histology"]
        shown = f"{grid.shape[0]} x {grid.shape[1]} px at {grid.um_per_px[0]:g} um"
        print(f"{sample.sample_id}: drawing {len(mz)} ion images of {shown}", flush=True)
        section_files.write_ions(folder, sample, found, mz, values.ion_ppm)
    if values.annotations:
        path = _of_sample(Path(values.annotations), sample, "annotations")
        provenance = model.provenance if model else None
        section_files.write_regions(folder, sample, found, path, provenance)
    return row


def _method(values: flags.FlagValues) -> str:
    words = {"automatic": f"automatic {values.metric}", "control-points": f"{values.fit} fit"}
    bent = ", deformable" if values.deformable else ""
    return f"{words.get(values.method, values.method)} of {values.moving}{bent}"


def _bend(values: flags.FlagValues, sample, moving, slide, matrix):
    """Returns the displacement (None where the affine was kept), and what can be said of it."""
    from msi2he_jax.inference.bending import bend

    options = {"metric": values.metric, "stiffness": values.stiffness}
    field, result = bend(sample, moving, slide, matrix, **options)
    names = ("inverse_consistency_um", "kept_affine")
    return field, {name: getattr(result, name) for name in names}


def _fit(values: flags.FlagValues, landmarks, moving):
    """Fits the landmarks where they determine something; faults count where the fit is used."""
    from msi2he_jax.registration.control_points import fit_landmarks

    outlier_um = values.outlier_um or 3 * float(moving.native_um.mean())
    try:
        return landmarks and fit_landmarks(
            landmarks, kind=values.fit, outlier_um=outlier_um, seed=values.seed
        )
    except InputError as error:
        if values.method == "control-points":
            raise
        logging.warning("control points left out: %s", error)
    return None


def _find(values: flags.FlagValues, sample, moving, slide, fit):
    """Returns matrix and displacement by the method asked for, and how sure the search was."""
    from msi2he_jax.inference import sections
    from msi2he_jax.registration.automatic import UNKNOWN_SCALE
    from msi2he_jax.registration.given import read_given

    if values.method == "control-points":
        matrix = fit.matrix if fit else sections.control_point_matrix(sample, None)
        return matrix, None, {}
    start = None
    if values.init:
        path = _of_sample(Path(values.init), sample, "init")
        start = read_given(path, maps=values.maps)
        if values.method == "given":
            return start.matrix, start.displacement, {}
    options = {"metric": values.metric, "seed": values.seed, "start": start and start.matrix}
    options["scales"] = UNKNOWN_SCALE if values.unknown_scale else (1.0,)
    matrix, result = sections.align(sample, moving, slide, **options)
    names = ("score", "coarse_score", "runner_up", "ambiguous")
    return matrix, None, {name: getattr(result, name) for name in names}


def _apply(values: flags.FlagValues) -> None:
    """Moves one file through a transform that was found before."""
    from msi2he_jax.interop import carrying
    from msi2he_jax.registration.given import read_given

    cli.require(values, "input", "to", "out")
    for name in ("input_um_per_px", "out_um_per_px"):
        cli.require_range(values, name, 1e-4, 1e5)
    if Path(values.out).exists() and not values.overwrite:
        raise InputError(values.out, "--out", "is there already", "or pass --overwrite")
    transform = read_given(values.apply, maps=values.maps)
    sizes = values.input_um_per_px, values.out_um_per_px
    options = carrying.Options(values.to, *sizes, values.interpolation)
    suffix = Path(values.input).suffix.lower()
    lists = {".csv": carrying.carry_points}
    lists |= dict.fromkeys((".geojson", ".json"), carrying.carry_geojson)
    if suffix in lists:
        done = lists[suffix](transform, values.input, values.out, options)
        print(f"{done} moved into the frame of the {values.to}\n{values.out}")
        return
    if suffix not in carrying.IMAGES:
        hint = "images (PNG, JPEG, TIFF, OME-TIFF, SVS), .csv and .geojson are moved"
        raise InputError(values.input, "--input", f"ends in {suffix!r}", hint)
    carrying.check_written(values.out)
    picture = carrying.read_picture(values.input, transform, options)
    shape, um = carrying.plan_image(transform, picture, options)
    print(f"drawing {shape[0]} x {shape[1]} px at {um[1]:g} um", flush=True)
    drawn = carrying.draw_image(transform, picture, shape, um, options)
    carrying.write_picture(values.out, drawn, um, picture)
    print(values.out)


def _tell(row: dict) -> None:
    """Logs one section's result."""
    error = row.get("tre_median_um")
    shown = "no held-out landmark" if error is None else f"median TRE {error:.1f} um"
    doubt = "; another pose scores nearly as well, look at it" if row.get("ambiguous") else ""
    logging.info("%s: %s, %.1f s%s", row["sample_id"], shown, row["seconds"], doubt)


def _left_out_lines(rows: list[dict]) -> list[str]:
    """Says per section how well its control points agree, each left out in turn."""
    return [
        f"{row['sample_id']}: {row['control_points_fit']} control points: leave-one-out error "
        f"median {row['leave_one_out_median_um']:.1f}, max {row['leave_one_out_max_um']:.1f} um "
        f"({row['control_points_used']} used, {row['control_points_outliers']} outliers)"
        for row in rows
        if row.get("leave_one_out_median_um") is not None
    ]


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
