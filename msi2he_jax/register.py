"""Registers MSI to histology: finds the transform, scores it, and shows it.

    python -m msi2he_jax.register --manifest=FILE --moving=synthetic --run=RUN --out=DIR
    python -m msi2he_jax.register --manifest=FILE --moving=pca|tsne|umap|ion:MZ --out=DIR

Writes DIR/SAMPLE/ (transform.json, msi_to_histology.tfm, histology_to_msi.tfm, tre.csv, the moving
image and two overlays), DIR/summary.csv and DIR/summary.json. The automatic method never sees a
landmark; `eval` landmarks only ever score, and `fit` landmarks make the control-point affine that
is printed beside. Where truth/SAMPLE/transform.json lies beside the manifest (simulate writes it),
the error over all of the tissue is scored too. A section whose patient trained the generator is
refused: what it synthesises there, it has learnt by heart.
"""

from __future__ import annotations

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
    "method", "automatic", ["automatic", "control-points"], "How to find it.", **_DEFINED
)
flags.DEFINE_enum(
    "metric",
    "mi",
    ["mi", "ncc"],
    "What the automatic method refines: mutual information, or correlation of like with like.",
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
flags.DEFINE_float("ion_ppm", None, "Half width of an ion's window, ppm.", **_DEFINED)
flags.DEFINE_integer("seed", 0, "For t-SNE, UMAP and the starting angles.", **_DEFINED)
flags.DEFINE_boolean(
    "force",
    False,
    "Register even what the generator was trained on (scores mean less).",
    **_DEFINED,
)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Registers every section asked for and writes what was found."""
    cli.no_positional(args)
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
    if values.moving == "synthetic" and not values.force:
        refuse_training(samples, provenance, values.run)
    with atomic_folder(values.out, overwrite=values.overwrite) as folder:
        rows = []
        for sample in samples:
            rows.append(_register_one(values, folder / sample.sample_id, sample, model))
            _tell(rows[-1])
        summary = summarize(
            rows, moving=values.moving, method=values.method, manifest=str(values.manifest)
        )
        if model:
            marks = {
                "run": str(values.run),
                "checkpoint": {"which": model.which, "step": model.step},
            }
            summary |= marks | {"simulated": provenance.get("simulated"), "forced": values.force}
        write_summary(folder, summary)
    print("\n".join(summary_lines(summary)))
    print(f"{values.out}/summary.json")


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything slow."""
    cli.require(values, "manifest", "out", "moving")
    cli.require_range(values, "seed", 0, 2**31 - 1)
    cli.require_range(values, "ion_ppm", 1e-3, 1e5)
    if values.moving == "synthetic" and not values.run:
        hint = "name the trained run, or register a view: --moving=pca"
        raise InputError("--run", "", "is required with --moving=synthetic", hint)
    if values.moving not in ("synthetic", "pca", "tsne", "umap"):
        from msi2he_jax.inference.moving import ion_of

        ion_of(values.moving)
    out = Path(values.out)
    if out.is_dir() and any(out.iterdir()) and not values.overwrite:
        raise InputError(out, "--out", "is not empty", "name another folder, or pass --overwrite")


def _register_one(values: flags.FlagValues, folder: Path, sample, model) -> dict:
    """Registers one section and writes its folder; returns its row of the summary."""
    from msi2he_jax.inference import sections
    from msi2he_jax.inference.moving import moving_image
    from msi2he_jax.registration.summary import sample_row
    from msi2he_jax.registration.transforms import decompose

    logging.info("%s: making the %s image", sample.sample_id, values.moving)
    options = {"ion_ppm": values.ion_ppm, "seed": values.seed, "force": values.force}
    moving = moving_image(values.moving, sample, model=model, **options)
    slide = sections.read_working_slide(sample, moving)
    landmarks = sections.landmarks_of(sample)
    started = time.perf_counter()
    matrix, search = _find(values, sample, moving, slide, landmarks)
    seconds = time.perf_counter() - started
    truth = Path(values.manifest).parent / "truth" / sample.sample_id / "transform.json"
    points = sections.known_points(landmarks, moving, slide, truth)
    matrices = sections.candidates(sample, matrix, moving, slide, landmarks)
    row = {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "section": sample.section,
        "moving": values.moving,
        **sample_row(sections.score(matrices, points, moving, slide), values.method),
        **decompose(matrix),
        **search,
        "tissue_dice": sections.tissue_dice(matrix, moving, slide),
        "msi_um_per_px": float(moving.native_um.mean()),
        "seconds": seconds,
    }
    _write(values, folder, moving, slide, matrix, row, points)
    return row


def _find(values: flags.FlagValues, sample, moving, slide, landmarks):
    """Returns the matrix by the method asked for, and how sure the search was of it."""
    from msi2he_jax.inference import sections

    if values.method == "control-points":
        return sections.control_point_matrix(sample, landmarks), {}
    matrix, result = sections.align(sample, moving, slide, metric=values.metric, seed=values.seed)
    names = ("score", "coarse_score", "runner_up", "ambiguous")
    return matrix, {name: getattr(result, name) for name in names}


def _write(
    values: flags.FlagValues, folder: Path, moving, slide, matrix, row: dict, points
) -> None:
    """Writes one section's transform, errors and pictures."""
    from msi2he_jax.inference.pictures import overlays
    from msi2he_jax.interop.png import write_png
    from msi2he_jax.registration.export import Transform, write_transform
    from msi2he_jax.registration.overlay import to_rgb
    from msi2he_jax.registration.scores import target_registration_error
    from msi2he_jax.registration.summary import write_errors

    folder.mkdir()
    method = f"{values.method} {values.metric}" if values.method == "automatic" else values.method
    write_transform(folder, Transform(matrix, None, f"{method} of {values.moving}", row))
    errors = {
        use: (msi, target_registration_error(matrix, None, msi, histology))
        for use, (msi, histology) in points.items()
    }
    write_errors(folder / "tre.csv", errors)
    marks = {"synthetic": moving.synthetic, "description": f"moving image: {moving.kind}"}
    name = f"{row['sample_id']}_SYNTHETIC.png" if moving.synthetic else "moving.png"
    picture = to_rgb(moving.picture, moving.measured)
    write_png(folder / name, picture, um_per_px=float(moving.um_per_px[1]), **marks)
    for name, image in overlays(moving, picture, slide, matrix).items():
        write_png(folder / f"overlay_{name}.png", image, um_per_px=slide.um_per_px, **marks)


def _tell(row: dict) -> None:
    """Logs one section's result."""
    error = row.get("tre_median_um")
    shown = "no held-out landmark" if error is None else f"median TRE {error:.1f} um"
    doubt = "; another pose scores nearly as well, look at it" if row.get("ambiguous") else ""
    logging.info("%s: %s, %.1f s%s", row["sample_id"], shown, row["seconds"], doubt)


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
