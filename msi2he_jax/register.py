"""Registers MSI to histology: finds the transform, scores it, shows it, and puts it to use.

    python -m msi2he_jax.register --manifest=FILE --moving=synthetic --run=RUN --out=DIR
    python -m msi2he_jax.register --manifest=FILE --moving=ions|pca|tsne|umap|ion:MZ --out=DIR
    python -m msi2he_jax.register --apply=DIR/SAMPLE/transform.json --input=FILE
        --to=msi|histology --out=FILE

Writes DIR/SAMPLE/ (transform.json, its forms for ITK, elastix and OME-NGFF, tre.csv, the moving
image, two overlays, uncertainty_um.npy and its picture, the slide on the MSI's frame; ion images
on the slide with --ions, spectra per region with --annotations) and DIR/summary.csv and .json. The
automatic method never sees a landmark, nor does the verdict (reliable, doubtful, not registrable;
--require=reliable: exit code 3 where there is another). `eval` landmarks only score, `fit`
landmarks make the control-point affine beside; truth/SAMPLE/transform.json beside the manifest
(simulate writes it) scores all of the tissue. A section whose patient trained the generator is
refused: what it synthesises there, it has learnt by heart.

--init starts the search from a transform (transform.json, ITK .tfm, 3 x 3 numbers, landmarks.csv,
or a folder with one of these per sample); --method=given takes it as it is. --points adds 2 to 4
marked points of a stated error. --via leads the MSI to the instrument's own --scan, and the scan is
registered in its place. --apply moves any image, CSV of points (x_um, y_um, or a landmarks.csv) or
QuPath GeoJSON either way.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError
from msi2he_jax.register_flags import FILES, FLAGS, check, check_sections, parse_ions

_NOT_OF_A_SECTION = {"out", "overwrite", "on_error", "require", "samples", "split", *FILES}
_NOT_OF_A_SECTION |= {"manifest", "run", "which", "apply", "input", "to"}
_NOT_OF_A_SECTION |= {"debug", "quiet", "help", "h"}


def run(values: flags.FlagValues, args: list[str]) -> int | None:
    """Registers every section asked for and writes what was found, or applies a transform."""
    cli.no_positional(args)
    if values.apply:
        return _apply(values)
    check(values)
    from msi2he_jax.coregistration.finished import finished_sections
    from msi2he_jax.coregistration.section_choice import choose_sections, without_trained
    from msi2he_jax.data.manifest import read_manifest, with_one_spelling
    from msi2he_jax.data.msi_warnings import shared_file_warnings
    from msi2he_jax.inference import load_model
    from msi2he_jax.registration import summary as summaries

    samples = with_one_spelling(read_manifest(values.manifest))
    shared = shared_file_warnings(samples)
    model = load_model(values.run, values.which) if values.run else None
    cli.warn(model.warnings if model else ())
    provenance = model.provenance if model else None
    samples = choose_sections(samples, provenance, values.split, values.samples, values.manifest)
    check_sections(values, samples)
    for sample in samples:
        cli.warn(shared.get(sample.sample_id, []), sample.sample_id)
    skipped: list[dict[str, str]] = []
    if values.moving == "synthetic" and not values.force:
        samples, trained = without_trained(samples, provenance, values.run)
        for sample, error in trained:
            _leave_out(values, skipped, sample, error)
        if not samples:
            raise error
    with finished_sections(values.out) as kept, cli.keeping(kept.words):
        rows = _register_all(values, kept, samples, model, skipped)
        facts = {name: values[name].value for name in ("moving", "method", "manifest")}
        said = [f"{s.sample_id}: {each}" for s in samples for each in shared.get(s.sample_id, [])]
        said += [f"{row['sample_id']}: {each}" for row in rows for each in row.pop("warnings")]
        summary = summaries.summarize(rows, **facts, skipped=skipped, warnings=said)
        if model:
            summary |= {"run": str(values.run), "simulated": provenance.get("simulated")}
            summary["checkpoint"] = {"which": model.which, "step": model.step}
            summary["forced"] = values.force
        summaries.write_summary(kept.sections, summary)
        kept.hand_over(Path(values.out), [row["sample_id"] for row in rows])
    progress.clear()
    print("\n".join([*summaries.summary_lines(summary), *summaries.left_out_lines(rows)]))
    if skipped:
        print(f"skipped, see summary.json: {', '.join(each['sample_id'] for each in skipped)}")
    cli.print_written(values.out, names=[row["sample_id"] for row in rows])
    met = not skipped and all(row["verdict"] == values.require for row in rows)
    return cli.UNMET if values.require and not met else None


def _leave_out(values: flags.FlagValues, skipped: list, sample, error: InputError) -> InputError:
    """Raises a section's fault, or records it."""
    if values.on_error == "raise":
        raise error
    cli.warn([f"skipped: {error}"], sample.sample_id)
    skipped.append({"sample_id": sample.sample_id, "why": str(error)})
    return error


def _register_all(values: flags.FlagValues, kept, samples, model, skipped: list[dict]) -> list:
    """Registers section after section but for those an earlier run finished; returns rows."""
    rows, found, before = [], 0, kept.count()
    for done, sample in enumerate(samples):
        progress.tell("section", done, len(samples), sample.sample_id, ready=found)
        try:
            key = _key(values, sample, model)
            row = kept.find(sample.sample_id, key)
            found += row is not None
            if row is None:
                with kept.make(sample.sample_id, key) as (folder, row):
                    row |= _register_one(values, folder, sample, model)
            rows.append(row)
        except InputError as error:
            if values.on_error == "raise":
                raise kept.told(error) from error
            last = _leave_out(values, skipped, sample, error)
    if not rows:
        raise last
    if before:
        print(
            f"continued an earlier run: {found} of {len(samples)} sections were already done, "
            f"{before - found} of other options or files were not used"
        )
    return rows


def _key(values: flags.FlagValues, sample, model) -> str:
    """Returns what decides a section's result, as a digest."""
    from msi2he_jax.coregistration.finished import section_key
    from msi2he_jax.coregistration.scoring import truth_path
    from msi2he_jax.registration.given import file_of_sample, files_read

    name = sample.sample_id
    files = [truth_path(values.manifest, sample)]
    files += [file_of_sample(Path(values[f].value), name, f) for f in FILES if values[f].value]
    files = [each for path in files for each in (files_read(path) if path else [])]
    names = [name for name in values if name not in _NOT_OF_A_SECTION and "." not in name]
    options = {name: values[name].value for name in names}
    return section_key(sample, options, model, files)


def _register_one(values: flags.FlagValues, folder: Path, sample, model) -> dict:
    """Registers one section and writes its folder; returns its row of the summary."""
    from msi2he_jax.coregistration import scoring
    from msi2he_jax.coregistration.coregister import coregister
    from msi2he_jax.coregistration.section_pair import section_pair
    from msi2he_jax.coregistration.section_pictures import grids_of
    from msi2he_jax.coregistration.synthetic_moving import moving_image
    from msi2he_jax.interop import section_files
    from msi2he_jax.registration.export import TransformRecord

    how = {"ion_ppm": values.ion_ppm, "seed": values.seed, "force": values.force}
    how["samples"] = values.dropout_samples
    pair = section_pair(sample, moving_image(values.moving, sample, model=model, **how))
    cli.warn(pair.warnings, sample.sample_id)
    started = time.perf_counter()
    with cli.asking_for("--scan_um_per_px", "histology_um_per_px"):
        found = coregister(pair, _options(values, sample))
    seconds = time.perf_counter() - started
    cli.warn(found.warnings, sample.sample_id)
    points = scoring.known_points(pair, scoring.truth_path(values.manifest, sample))
    row = {
        "sample_id": sample.sample_id,
        "group_id": sample.group_id,
        "section": sample.section,
        "moving": found.moving,
        **found.score(points),
        "seconds": seconds,
        **found.uncertainty.as_row(),
    }
    grids = grids_of(pair, values.out_um_per_px)
    record = TransformRecord(found.transform, found.method, row, grids)
    section_files.write_found(folder, pair, record, points)
    section_files.write_uncertainty(folder, pair.moving, found.uncertainty)
    section_files.write_slide_on_msi(folder, sample, record)
    _put_to_use(values, folder, sample, record, model)
    return row | {"warnings": [*pair.warnings, *found.warnings]}


def _options(values: flags.FlagValues, sample):
    """Returns how a section is to be aligned."""
    from msi2he_jax.coregistration.chain import make_via
    from msi2he_jax.coregistration.coregister import CoregisterOptions
    from msi2he_jax.registration.given import file_of_sample, read_given
    from msi2he_jax.registration.landmarks import read_landmarks
    from msi2he_jax.registration.point_prior import point_prior

    names = ("method", "metric", "unknown_scale", "scale_sd", "deformable", "stiffness", "fit")
    given = {name: values[name].value for name in (*names, "outlier_um", "seed")}
    files = {
        name: file_of_sample(Path(values[name].value), sample.sample_id, name)
        for name in ("init", "points", "via", "scan")
        if values[name].value
    }
    if values.init:
        given["start"] = read_given(files["init"], maps=values.maps).transform
    if values.points:
        given["points"] = point_prior(read_landmarks(files["points"]), values.points_sd_um)
    if values.via:
        first = read_given(files["via"], maps=values.maps)
        sizes = {"scan_um_per_px": values.scan_um_per_px, "sd_um": values.via_sd_um}
        given["via"] = make_via(first, files["scan"], path=files["via"], **sizes)
    return CoregisterOptions(**given)


def _put_to_use(values: flags.FlagValues, folder: Path, sample, record, model) -> None:
    """Draws ion images on the slide and averages spectra over regions, where asked for."""
    from msi2he_jax.interop import section_files
    from msi2he_jax.registration.given import file_of_sample

    if values.ions:
        mz, grid = parse_ions(values.ions), record.grids["histology"]
        shown = f"{grid.shape[0]} x {grid.shape[1]} px at {grid.um_per_px[0]:g} um"
        progress.clear()
        print(f"{sample.sample_id}: drawing {len(mz)} ion images of {shown}", flush=True)
        section_files.write_ions(folder, sample, record, mz, values.ion_ppm)
    if values.annotations:
        path = file_of_sample(Path(values.annotations), sample.sample_id, "annotations")
        known = model and model.provenance
        section_files.write_regions(folder, sample, record, path, known)


def _apply(values: flags.FlagValues) -> None:
    """Moves one file through a transform that was found before."""
    from msi2he_jax.interop import transform_files
    from msi2he_jax.registration.given import read_given

    cli.require(values, "input", "to", "out")
    for name in ("input_um_per_px", "out_um_per_px"):
        cli.require_range(values, name, 1e-4, 1e5)
    if Path(values.out).exists() and not values.overwrite:
        raise InputError(values.out, "--out", "is there already", "or pass --overwrite")
    record = read_given(values.apply, maps=values.maps)
    sizes = values.input_um_per_px, values.out_um_per_px
    options = transform_files.ApplyOptions(values.to, *sizes, values.interpolation)
    tell = functools.partial(print, flush=True)
    with cli.asking_for("--input_um_per_px", "histology_um_per_px"):
        files = values.input, values.out
        print(transform_files.transform_file(record, *files, options, tell, cli.warn))


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
