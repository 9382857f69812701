"""Turns a manifest of imzML files and slides into registered pairs, ready for training.

    python -m msi2he_jax.preprocess --manifest=FILE --out=DIR [--preset=recommended|paper]

Every sample is checked; mass axis, peaks and intensity scale are chosen from the training split
(--preset=paper: from all samples, the test split included, as published), and each section's ion
images and slide are brought onto one grid by its landmarks. DIR receives TFDS shards and
provenance.json, which synthesize uses to treat new data in the same way. --preset=paper does it as
published: profiles interpolated, plain sum over all data, 50 peaks, 256 px. Assumed, since the
paper does not state them: bins of 0.01 Da, no normalisation, the scale to [0, 1] by each channel's
99.5th percentile, above which values are clipped, and that centroid spectra are summed into bins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError
from msi2he_jax.preprocess_flags import FLAGS, check, recipe_of_flags

if TYPE_CHECKING:
    from msi2he_jax.data.recipe import Recipe

# What the stages of the work are called while they run.
_STAGES = {
    "survey": "checking files",
    "align": "aligning",
    "file": "mass shifts",
    "sum": "summing spectra",
    "sizes": "sizes of spectra",
    "values": "reading peaks",
    "view": "drawing views",
    "pair": "making pairs",
}


@dataclasses.dataclass(frozen=True)
class PreparedCohort:
    """What `preprocess_cohort` made.

    Attributes:
        folder: The data set.
        provenance: What its provenance.json holds.
        units: Units of work in all.
        units_found: How many of these an earlier, stopped run had left.
    """

    folder: Path
    provenance: dict[str, Any]
    units: int
    units_found: int


def preprocess_cohort(
    manifest: str | os.PathLike,
    out: str | os.PathLike,
    recipe: Recipe | None = None,
    *,
    align: str = "landmarks",
    overwrite: bool = False,
    on_error: str = "raise",
    workers: int = 1,
    scheduler: str | None = None,
    tell: Callable[..., None] = cli.ignore,
    warn: Callable[..., None] = cli.ignore,
) -> PreparedCohort:
    """Builds a data set of registered pairs from a manifest; a stopped build goes on where it was.

    Args:
        manifest: The manifest.csv (docs/data_format.md).
        out: Folder of the data set.
        recipe: Every choice, as from `make_recipe("recommended", peaks=30)`; None: `recommended`.
        align: `landmarks`, `auto`, or a folder that register wrote.
        overwrite: Whether a data set that is there is replaced.
        on_error: `raise`, or `skip`: leave out a sample that cannot be used, and list it.
        workers: Processes of this computer.
        scheduler: Address of a Dask scheduler whose workers do the work, or None.
        tell: Called with a stage in words, parts done and parts in all.
        warn: Called with a list of lines, and a sample's name where they are about one.

    Raises:
        InputError: an input that cannot be used, in one line.
    """
    from msi2he_jax.coregistration.training_pairs import align_cohort
    from msi2he_jax.data import cohort
    from msi2he_jax.data.builder import write_dataset
    from msi2he_jax.data.recipe import make_recipe
    from msi2he_jax.io_safety import refuse_filled

    manifest = Path(manifest)
    kind = align if align in ("landmarks", "auto") else "given"
    recipe = dataclasses.replace(recipe or make_recipe("recommended"), align=kind)
    samples, splits, odd = _read_cohort(manifest.absolute() if scheduler else manifest, recipe)
    refuse_filled(out, overwrite=overwrite)
    skipped: list[dict[str, str]] = []
    tally: list[tuple[int, int]] = []
    how = {
        "on_fault": functools.partial(_leave_out, skipped, on_error == "skip", warn),
        "on_found": lambda stage, done, units: tally.append((done, units)),
        "on_done": functools.partial(_tell, tell),
    }
    with _workers(out, workers, scheduler, warn) as run_units:
        each = functools.partial(run_units, **how)
        surveys = cohort.survey_cohort(manifest, samples, splits, recipe, each)
        samples = align_cohort(samples, surveys, recipe, Path(align), each)
        plan = cohort.plan_cohort(manifest, samples, splits, recipe, surveys, each)
        plan["skipped"] = skipped
        plan["warnings"] += odd
        examples, finish = cohort.cohort_examples(samples, splits, surveys, plan, each)
        write_dataset(out, examples, plan, finish=finish, overwrite=overwrite)
    found, units = (sum(column) for column in zip(*tally, strict=True))
    return PreparedCohort(Path(out), plan, units, found)


def _read_cohort(manifest: Path, recipe: Recipe) -> tuple[list, dict[str, str], list[str]]:
    """Samples, the split of each, and what is odd about the manifest, in lines."""
    from msi2he_jax.data.manifest import read_manifest, with_one_spelling
    from msi2he_jax.data.msi_warnings import shared_file_warnings
    from msi2he_jax.data.patients import spelling_warnings
    from msi2he_jax.data.split import assign_splits

    samples = read_manifest(manifest)
    splits = assign_splits(samples, recipe.seed, manifest=manifest, force=recipe.force)
    odd = spelling_warnings([s.group_id for s in samples], force=recipe.force)
    odd += [f"{name}: {x}" for name, said in shared_file_warnings(samples).items() for x in said]
    return with_one_spelling(samples), splits, odd


@contextlib.contextmanager
def _workers(
    out: str | os.PathLike, workers: int, scheduler: str | None, warn: Callable[..., None]
) -> Iterator[Callable]:
    """Yields what runs units of work; finished ones are kept until the data set is whole."""
    from msi2he_jax.data import executors, work

    with work.work_folder(out) as folder:
        cluster = {"software": work.software, "on_wait": lambda why: warn([why])}
        with executors.open_map(workers, scheduler, folder=folder, **cluster) as mapper:
            yield functools.partial(work.each, mapper=mapper, folder=folder)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Runs the verb."""
    check(values, args)
    from msi2he_jax.data import work

    with cli.keeping(lambda: work.kept_words(work.work_path(values.out))):
        prepared = preprocess_cohort(
            values.manifest,
            values.out,
            recipe_of_flags(values),
            align=values.align,
            overwrite=values.overwrite,
            on_error=values.on_error,
            workers=values.workers,
            scheduler=values.scheduler,
            tell=progress.tell,
            warn=cli.warn,
        )
    progress.clear()
    print(_summary(values.out, prepared))
    cli.print_written(values.out)
    cli.warn(_warnings(prepared.provenance))


def _leave_out(
    skipped: list[dict[str, str]], skip: bool, warn: Callable, sample, error: InputError
) -> None:
    """A user's mistake stops all, or leaves the sample out and is recorded."""
    if not skip:
        raise error
    warn([f"left out: {error}"], sample.sample_id)
    skipped.append({"sample_id": sample.sample_id, "why": str(error)})


def _tell(tell: Callable, stage: str, done: int, units: int, ready: int) -> None:
    tell(f"{_STAGES[stage]}: part", done, units, ready=ready)


def _summary(out: str, prepared: PreparedCohort) -> str:
    """Says what was made, in a few lines."""
    plan = prepared.provenance
    counts = ", ".join(f"{count} {split}" for split, count in plan["counts"].items())
    sizes = sorted({tuple(record["shape"]) for record in plan["samples"]})
    size = " to ".join(f"{h} x {w}" for h, w in (sizes[0], sizes[-1])[: len(sizes)])
    peaks = plan["peaks"]["mz"]
    lines = [f"{out}: {counts} pairs, {len(peaks)} peaks, m/z {peaks[0]:.4f} to {peaks[-1]:.4f}"]
    lines.append(f"grid {size} px at {_pixel_sizes(plan)} um/px, {plan['preset']} preset")
    lines += _alignment_errors([record["alignment"] for record in plan["samples"]])
    if prepared.units_found:
        words = f"{prepared.units_found} of {prepared.units} units were already done"
        lines.append(f"continued an earlier run: {words}")
    return "\n".join(lines)


def _warnings(plan: dict) -> list[str]:
    """Lists what is odd about the data set, and what it lacks."""
    from msi2he_jax.data.provenance import warnings_of
    from msi2he_jax.data.split import empty_split_warnings

    warnings = warnings_of(plan)
    warnings += [f"{r['sample_id']}: left out: {r['why']}" for r in plan["skipped"]]
    return warnings + empty_split_warnings([name for name, n in plan["counts"].items() if n])


def _alignment_errors(records: list[dict]) -> list[str]:
    """Says how well the pairs are known to be aligned."""
    lines = []
    for name, words in {
        "leave_one_out_median_um": "control points: leave-one-out error",
        "landmark_median_um": f"aligned without landmarks ({records[0]['method']}): error at them",
    }.items():
        known = sorted(r[name] for r in records if r.get(name) is not None)
        if known:
            lines.append(f"{words}, median {known[len(known) // 2]:.1f} um")
    return lines


def _pixel_sizes(plan: dict) -> str:
    sizes = sorted({round(record["um_per_px"], 3) for record in plan["samples"]})
    return " to ".join(f"{size:g}" for size in (sizes[0], sizes[-1])[: len(sizes)])


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
