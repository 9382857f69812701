"""Turns a manifest of imzML files and slides into registered pairs, ready for training.

    python -m msi2he_jax.preprocess --manifest=FILE --out=DIR [--preset=recommended|paper]

Every sample is checked, the mass axis and the peaks are chosen from the training split, and each
section's ion images and slide are brought onto one grid by its landmarks. DIR receives TFDS shards
and provenance.json, which synthesize uses to treat new data in the same way. --preset=paper does
it as published (interpolation, plain sum over all data, 50 peaks, 256 px; the bin width of 0.01 Da
and the absence of normalisation are assumptions, since the paper does not state them).
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags, logging

from msi2he_jax import cli
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
flags.DEFINE_string("manifest", None, "The manifest.csv (docs/data_format.md).", flag_values=FLAGS)
flags.DEFINE_string("out", None, "Folder of the data set to write.", flag_values=FLAGS)
flags.DEFINE_enum(
    "preset",
    "recommended",
    ["recommended", "paper"],
    "What the flags below are when not given.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("peaks", None, "Most peaks; both presets: 50.", flag_values=FLAGS)
flags.DEFINE_enum(
    "view",
    None,
    ["pca", "tsne", "umap"],
    "Three-channel view, where the manifest names none; both presets: pca.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "target_um_per_px",
    None,
    "Pixel size of all pairs, um; recommended: half the finest MSI pixel. Paper: the longest side "
    "of each pair becomes 256 px.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "padding",
    None,
    ["white", "black"],
    "What lies beyond the slide; both presets: white.",
    flag_values=FLAGS,
)
flags.DEFINE_float("mz_min", None, "Start of the mass axis, m/z.", flag_values=FLAGS)
flags.DEFINE_float("mz_max", None, "End of the mass axis, m/z.", flag_values=FLAGS)
flags.DEFINE_float(
    "axis_step",
    None,
    "Bin width: ppm (recommended, by default estimated from the spectra) or Da (paper: 0.01).",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "exclude_mz", None, "m/z of solvent and matrix ions, never peaks.", flag_values=FLAGS
)
flags.DEFINE_float("exclude_ppm", None, "How near to them, ppm; 30.", flag_values=FLAGS)
flags.DEFINE_integer("seed", None, "For the split and t-SNE or UMAP; 0.", flag_values=FLAGS)
flags.DEFINE_integer("workers", 1, "Processes that read files.", flag_values=FLAGS)
flags.DEFINE_enum(
    "on_error",
    "raise",
    ["raise", "skip"],
    "Stop at a sample that cannot be used, or leave it out and record it.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean("overwrite", False, "Replace what is in --out.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "force",
    False,
    "Go on with mixed spectrum types, polarities or m/z ranges.",
    flag_values=FLAGS,
)
RECIPE_FLAGS = (
    "peaks",
    "view",
    "target_um_per_px",
    "padding",
    "mz_min",
    "mz_max",
    "axis_step",
    "exclude_ppm",
    "seed",
)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Runs the verb."""
    _check(values, args)
    from msi2he_jax.data import cohort
    from msi2he_jax.data.builder import write_dataset
    from msi2he_jax.data.manifest import read_manifest
    from msi2he_jax.data.split import assign_splits

    manifest, recipe = Path(values.manifest), _recipe(values)
    samples = read_manifest(manifest)
    _refuse_filled(Path(values.out), values.overwrite)
    splits = assign_splits(samples, recipe.seed)
    skipped: list[dict[str, str]] = []
    with warnings.catch_warnings(), _mapper(values.workers) as mapper:
        warnings.simplefilter("ignore")  # What they say is in the plan's doubts, and printed.
        each = functools.partial(_each, mapper, skipped, values.on_error == "skip")
        logging.info("reading %d samples", len(samples))
        surveys = cohort.survey_cohort(manifest, samples, splits, recipe, each)
        plan = cohort.plan_cohort(manifest, samples, splits, recipe, surveys, each)
        plan["skipped"] = skipped
        logging.info("%d peaks; making pairs", len(plan["peaks"]["mz"]))
        examples, finish = cohort.cohort_examples(samples, splits, surveys, plan, each)
        write_dataset(values.out, examples, plan, finish=finish, overwrite=values.overwrite)
    print(_summary(values.out, plan))


def _check(values: flags.FlagValues, args: list[str]) -> None:
    cli.no_positional(args)
    cli.require(values, "manifest", "out")
    cli.require_range(values, "peaks", 1, 10_000)
    cli.require_range(values, "workers", 1, 1024)
    cli.require_range(values, "seed", 0, 2**32 - 1)
    for name in ("target_um_per_px", "mz_min", "mz_max", "axis_step"):
        cli.require_range(values, name, 1e-6, 1e6)
    cli.require_range(values, "exclude_ppm", 0, 1e6)
    if None not in (values.mz_min, values.mz_max) and values.mz_min >= values.mz_max:
        raise InputError("--mz_min", "", f"is {values.mz_min:g}, not below --mz_max")


def _recipe(values: flags.FlagValues):
    from msi2he_jax.data.recipe import make_recipe

    changes = {name: values[name].value for name in RECIPE_FLAGS}
    try:
        exclude = tuple(float(word) for word in values.exclude_mz or [])
    except ValueError:
        words = ",".join(values.exclude_mz)
        raise InputError(
            "--exclude_mz", "", f"{words!r} are not m/z", "as in 279.09,283.26"
        ) from None
    return make_recipe(values.preset, **changes, exclude_mz=exclude, force=values.force)


def _refuse_filled(out: Path, overwrite: bool) -> None:
    """Says at once what writing would say after the work is done."""
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(out, "", "is not empty", "name another folder, or pass --overwrite")


@contextlib.contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    """Yields an ordered `map`, in this process or over several."""
    if workers == 1:
        yield map
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _each(mapper: Callable, skipped: list, skip: bool, function: Callable, samples) -> Iterator:
    """Maps over samples; a user's mistake stops all, or leaves the sample out and is recorded."""
    results = mapper(functools.partial(_attempt, function), samples)
    for sample, (result, fault) in zip(samples, results, strict=True):
        if fault is None:
            yield sample, result
            continue
        if not skip:
            raise InputError(*fault)
        error = InputError(*fault)
        logging.warning("%s is left out: %s", sample.sample_id, error)
        skipped.append({"sample_id": sample.sample_id, "why": str(error)})


def _attempt(function: Callable, sample):
    """Returns (result, None), or (None, the parts of an InputError): these cross processes."""
    try:
        return function(sample), None
    except InputError as error:
        return None, (error.path, error.field, error.why, error.hint)


def _summary(out: str, plan: dict) -> str:
    """Says what was made, in a few lines."""
    counts = ", ".join(f"{count} {split}" for split, count in plan["counts"].items())
    sizes = sorted({tuple(record["shape"]) for record in plan["samples"]})
    size = " to ".join(f"{h} x {w}" for h, w in (sizes[0], sizes[-1])[: len(sizes)])
    peaks, errors = plan["peaks"]["mz"], []
    for record in plan["samples"]:
        errors.append(record["control_points"]["leave_one_out_median_um"])
    known = sorted(error for error in errors if error is not None)
    lines = [f"{out}: {counts} pairs, {len(peaks)} peaks, m/z {peaks[0]:.4f} to {peaks[-1]:.4f}"]
    lines.append(f"grid {size} px at {_pixel_sizes(plan)} um/px, {plan['preset']} preset")
    if known:
        lines.append(f"control points: leave-one-out error, median {known[len(known) // 2]:.1f} um")
    doubts = [f"{r['sample_id']}: {r['doubt']}" for r in plan["samples"] if "doubt" in r]
    doubts += plan["doubts"] + [f"{r['sample_id']} left out: {r['why']}" for r in plan["skipped"]]
    empty = [split for split, count in plan["counts"].items() if not count]
    if empty:
        doubts.append(
            f"nothing for {' and '.join(empty)}: a split needs three patients whose sections "
            "share neither file nor slide (or regions of them that do not overlap)"
        )
    return "\n".join(lines + [f"warning: {doubt}" for doubt in doubts])


def _pixel_sizes(plan: dict) -> str:
    sizes = sorted({round(record["um_per_px"], 3) for record in plan["samples"]})
    return " to ".join(f"{size:g}" for size in (sizes[0], sizes[-1])[: len(sizes)])


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
