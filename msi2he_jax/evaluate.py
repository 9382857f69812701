"""Scores a trained model on a split: RUN/results.json, RUN/results.csv, and a table on stdout.

    python -m msi2he_jax.evaluate --run=RUN [--data=DIR] [--split=test]

Rows are named by run. A run stands in a row of the paper's Table 1 only where its recipe is that
row's: data of preprocess --preset=paper with that row's padding, and the published configuration;
other sizes and lengths are said. Beside the model stand three kinds of baselines. Some have learnt
nothing: an empty slide, a flat silhouette, the mean training image. Some know the training images
by heart: the nearest patch or image. Some are linear: ridge and partial least squares, of a pixel's
own channels and with the mean of 3x3 neighbours, fitted to the training split. Scores in the tissue
are what counts: on the whole frame an empty slide scores well. Other splits scored before with the
same checkpoint and data stay in the files.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from msi2he_jax import cli, locking, progress
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import existing_folder, read_json, write_json
from msi2he_jax.json_schema import check_json
from msi2he_jax.tables import write_records

FLAGS = cli.new_flags()
flags.DEFINE_string("run", None, "Folder of the trained run.", flag_values=FLAGS)
flags.DEFINE_string(
    "data", None, "Folder of the data set; default: the one it was trained on.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Split to score.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "which", "best", ["best", "latest"], "Checkpoint: best by validation.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", 8, "Images synthesised at once.", flag_values=FLAGS)
flags.DEFINE_integer("tile_px", 16, "Tile of the nearest-patch baseline, px.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Seed of the bootstrap intervals.", flag_values=FLAGS)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Scores the split, writes both files and prints the table."""
    cli.no_positional(args)
    cli.require(values, "run")
    for name in ("batch_size", "tile_px"):
        cli.require_range(values, name, 1, 4096)
    cli.require_range(values, "seed", 0, 2**31 - 1)
    folder = existing_folder(values.run, "--run")
    results = evaluate_run(
        folder,
        values.data,
        split=values.split,
        which=values.which,
        batch_size=values.batch_size,
        tile_px=values.tile_px,
        seed=values.seed,
        tell=progress.tell,
        warn=cli.warn,
    )
    show(folder, results, values.split)


def evaluate_run(
    run_dir: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    split: str = "test",
    which: str = "best",
    batch_size: int = 8,
    tile_px: int = 16,
    seed: int = 0,
    tell: Callable[..., None] = cli.ignore,
    warn: Callable[..., None] = cli.ignore,
) -> dict[str, Any]:
    """Scores a trained model on a split; writes RUN/results.json and RUN/results.csv.

    Args:
        run_dir: The run's folder.
        data: Folder of the data set; None: the one it was trained on.
        split: `train`, `validation` or `test`.
        which: `best` checkpoint by validation, or `latest`.
        batch_size: Images synthesised at once.
        tile_px: Tile of the nearest-patch baseline, px.
        seed: Of the bootstrap intervals.
        tell: Called with a stage in words, parts done and parts in all.
        warn: Called with a list of lines.

    Returns:
        What results.json says: a block for each split, scores by name (docs/training.md).

    Raises:
        InputError: as of `scored`, or another process writes there.
    """
    folder = existing_folder(run_dir, "run")
    with locking.held(folder, "evaluate", inside=True):  # it adds to what another would write
        options = {"batch_size": batch_size, "tile_px": tile_px, "seed": seed}
        results = scored(folder, data, split=split, which=which, tell=tell, warn=warn, **options)
        write_results(folder, results)
    return results


def scored(
    folder: Path,
    data: str | os.PathLike | None,
    *,
    split: str,
    which: str,
    tell: Callable[..., None],
    warn: Callable[..., None],
    **options: int,
) -> dict[str, Any]:
    """Computes what results.json says; writes nothing. Arguments as of `evaluate_run`.

    Raises:
        InputError: no such run, checkpoint or data, an empty split, or data the model does not fit.
    """
    from msi2he_jax.data.loader import load_arrays
    from msi2he_jax.data.provenance import padding_of, read_provenance, warnings_of
    from msi2he_jax.inference.model import load_model
    from msi2he_jax.metrics import results as reporting

    model = load_model(folder, which)
    warn(model.warnings)
    data = existing_folder(data or model.config.data.dir, "--data")
    provenance = read_provenance(data)
    check_data(model, provenance, data)
    warn(warnings_of(provenance))
    arrays = load_arrays(data, split)
    train = arrays if split == "train" else load_arrays(data, "train")
    block = score_split(model, arrays, train, tell=tell, **options)
    padding = padding_of(provenance)
    kind = reporting.model_kind(model.config.model.name, model.config.discriminator.name)
    paper_row, recipe = paper_place(model.config, provenance, kind, padding)
    results = reporting.document(
        {split: block},
        run=folder.resolve().name,
        model=kind,
        padding=padding,
        paper_row=paper_row,
        recipe=recipe,
        checkpoint={"which": which, "step": int(model.step)},
        norm_at_test=model.norm,
        dropout_at_test=bool(model.dropout),
        provenance=provenance,
    )
    return results | _earlier(folder, results, split)


def paper_place(config, provenance: dict, kind: str, padding: str) -> tuple[str | None, str]:
    """Returns the paper's row that a run's recipe is that of, or None, and why in words."""
    from msi2he_jax.config import published_differences
    from msi2he_jax.data.recipe import paper_differences
    from msi2he_jax.metrics.paper import row_of

    if kind == "linear":
        return None, "a linear model, which the paper does not have"
    data, data_sizes = paper_differences(provenance)
    training, sizes = published_differences(config, kind)
    if differing := data + training:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        return None, f"not the paper's recipe: {', '.join(differing[:4])}{more}"
    sizes = data_sizes + sizes
    words = f", in other sizes: {', '.join(sizes)}" if sizes else ""
    return row_of(kind, padding), f"the paper's recipe{words}"


def check_data(model, provenance: dict, data: Path) -> None:
    """Raises InputError where the data were not made as the model's training data were."""
    from msi2he_jax.data.provenance import check_padding, padding_of

    check_padding(padding_of(model.provenance), provenance, data)
    check_padding(model.config.data.padding, provenance, data)
    for key in ("peaks", "scaling"):
        if provenance.get(key) != model.provenance.get(key):
            why = f"differs from that of the run {model.run_dir}: its channels mean something else"
            hint = "name the data set the run was trained on"
            raise InputError(data / "provenance.json", key, why, hint)


def score_split(
    model, arrays, train, *, tell: Callable, batch_size: int, tile_px: int, seed: int
) -> dict:
    """Scores the model, its other normalisation, and the baselines on a loaded split."""
    from msi2he_jax.data.patients import one_spelling
    from msi2he_jax.metrics import baselines, nulls
    from msi2he_jax.metrics import results as reporting
    from msi2he_jax.metrics.evaluation import score_images, unit_float

    others = other_uses(model)
    known_sets = len(nulls.NULL_NAMES) + len(baselines.LINEAR)
    sets, scored = 1 + known_sets + len(others), itertools.count()

    def score(images):
        tell("scoring: set of images", next(scored), sets)
        masks = arrays.tissue_mask, arrays.valid_mask
        return score_images(images, arrays.histology, *masks, batch_size=batch_size)

    fake = synthesize(model, arrays.msi, batch_size, tell)
    known = nulls.Training(train.msi, unit_float(train.histology), train.tissue_mask)
    plain = nulls.null_predictions(known, arrays.msi, arrays.tissue_mask, tile_px=tile_px)
    patients = one_spelling(train.group_ids)
    lines = baselines.linear_predictions(known, patients, train.inside, arrays.msi)
    return reporting.split_block(
        score(fake),
        {name: score(images) for name, images in (plain | lines).items()},
        arrays.sample_ids,
        one_spelling(arrays.group_ids),
        extra=nulls.memorisation(fake, unit_float(arrays.histology), known, train.sample_ids),
        alternatives={
            name: score(synthesize(other, arrays.msi, batch_size, tell))
            for name, other in others.items()
        },
        data_sha256=reporting.data_digest(
            arrays.sample_ids, arrays.histology, arrays.tissue_mask, arrays.valid_mask
        ),
        seed=seed,
    )


def synthesize(model, msi, batch_size: int, tell: Callable = cli.ignore):
    """Images of a whole split, `[N, H, W, K]` -> `[N, H, W, 3]` float32 in [0, 1]."""
    import numpy as np

    from msi2he_jax.metrics.evaluation import batches

    parts = []
    for rows, skip in batches(len(msi), batch_size):
        tell("synthesising: image", rows.start + skip, len(msi))
        parts.append(model.synthesize(msi[rows])[skip:])
    return np.concatenate(parts)


def other_uses(model) -> dict:
    """The same checkpoint with the other statistics, and with dropout on or off, by name."""
    from msi2he_jax.inference.model import NORMS, load_model

    changes = []
    if model.config.model.norm == "batch":
        changes += [{"norm": norm} for norm in NORMS if norm != model.norm]
    if model.config.model.dropout:
        changes.append({"dropout": not model.dropout})
    return {
        f"{name}_at_test={value}".lower(): load_model(model.run_dir, model.which, **change)
        for change in changes
        for name, value in change.items()
    }


def _earlier(folder: Path, results: dict, split: str) -> dict:
    """Other splits scored before, of the same data and checkpoint; a damaged file is replaced."""
    from msi2he_jax.metrics.results import other_splits
    from msi2he_jax.metrics.results_schema import RESULTS

    path = folder / "results.json"
    try:
        earlier = read_json(path)
        check_json(path, earlier, RESULTS)
    except InputError:
        return {}
    return other_splits(earlier, results, split)


def write_results(folder: Path, results: dict) -> None:
    """Writes results.json and results.csv, each whole or not at all."""
    from msi2he_jax.metrics.results import csv_rows

    write_records(folder / "results.csv", csv_rows(results))
    write_json(folder / "results.json", results)


def show(folder: Path, results: dict, split: str) -> None:
    """Prints the run's scores beside the baselines and the paper's."""
    from msi2he_jax.metrics.paper import PAPER_SOURCE, paper_table, table_text

    block = results[split]
    progress.clear()
    print(f"{split}: {block['samples']} images, {block['groups']} group(s); {results['words']}")
    print(table_text(paper_table(results, split)))
    print(f"[..]: {results['interval']}. Paper: {PAPER_SOURCE}.")
    print(f"{results['run']}: {results['recipe']}")
    print(block["words"])
    cli.print_written(folder, [folder / "results.json", folder / "results.csv"])


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
