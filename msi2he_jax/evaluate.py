"""Scores a trained model on a split: RUN/results.json, RUN/results.csv, and a table on stdout.

    python -m msi2he_jax.evaluate --run=RUN [--data=DIR] [--split=test]

Beside the model stand the baselines that have learnt nothing (an empty slide, a flat silhouette,
the mean training image) or only by heart (the nearest training patch or image), and the paper's
own numbers in a column of their own. Scores in the tissue are what counts: on the whole frame an
empty slide scores well. Other splits scored before with the same checkpoint stay in the files.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

from absl import flags, logging

from msi2he_jax import cli
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file, existing_folder, read_json, write_json

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

PAD_VALUES = {"provenance": None, "white": 255, "black": 0}


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Scores the split, writes both files and prints the table."""
    cli.no_positional(args)
    cli.require(values, "run")
    for name in ("batch_size", "tile_px"):
        cli.require_range(values, name, 1, 4096)
    cli.require_range(values, "seed", 0, 2**31 - 1)
    folder = existing_folder(values.run, "--run")
    results = evaluate(
        folder,
        values.data,
        split=values.split,
        which=values.which,
        batch_size=values.batch_size,
        tile_px=values.tile_px,
        seed=values.seed,
    )
    write_results(folder, results)
    show(folder, results, values.split)


def evaluate(
    folder: Path,
    data: str | os.PathLike | None,
    *,
    split: str,
    which: str,
    batch_size: int,
    tile_px: int,
    seed: int,
) -> dict:
    """Computes what results.json says; writes nothing.

    Raises:
        InputError: no such run, checkpoint or data, an empty split, or data the model does not fit.
    """
    from msi2he_jax.data.loader import load_arrays
    from msi2he_jax.data.provenance import read_provenance
    from msi2he_jax.inference.model import load_model
    from msi2he_jax.metrics import results as reporting

    model = load_model(folder, which)
    data = existing_folder(data or model.config.data.dir, "--data")
    provenance = read_provenance(data)
    check_data(model, provenance, data)
    pad_value = PAD_VALUES[model.config.data.padding]
    arrays = load_arrays(data, split, pad_value=pad_value)
    train = arrays if split == "train" else load_arrays(data, "train", pad_value=pad_value)
    block = score_split(model, arrays, train, batch_size=batch_size, tile_px=tile_px, seed=seed)
    checkpoint = {"which": which, "step": int(model.step)}
    black = (provenance["pad_value"] if pad_value is None else pad_value) == 0
    return reporting.document(
        {**_earlier(folder, checkpoint, split), split: block},
        model=reporting.model_kind(model.config.model.name, model.config.discriminator.name),
        padding="black" if black else "white",
        checkpoint=checkpoint,
        norm_at_test=model.norm,
        dropout_at_test=bool(model.dropout),
        provenance=provenance,
    )


def check_data(model, provenance: dict, data: Path) -> None:
    """Raises InputError where the data were not made as the model's training data were."""
    for key in ("peaks", "scaling"):
        if provenance.get(key) != model.provenance.get(key):
            why = f"differs from that of the run {model.run_dir}: its channels mean something else"
            hint = "name the data set the run was trained on"
            raise InputError(data / "provenance.json", key, why, hint)


def score_split(model, arrays, train, *, batch_size: int, tile_px: int, seed: int) -> dict:
    """Scores the model, its other normalisation, and the baselines on a loaded split."""
    from msi2he_jax.metrics import nulls
    from msi2he_jax.metrics import results as reporting
    from msi2he_jax.metrics.evaluation import score_images, unit_float

    def score(images):
        masks = arrays.tissue_mask, arrays.valid_mask
        return score_images(images, arrays.histology, *masks, batch_size=batch_size)

    logging.info("scoring %d images", len(arrays))
    fake = synthesize(model, arrays.msi, batch_size)
    known = nulls.Training(train.msi, unit_float(train.histology), train.tissue_mask)
    baselines = nulls.null_predictions(known, arrays.msi, arrays.tissue_mask, tile_px=tile_px)
    return reporting.split_block(
        score(fake),
        {name: score(images) for name, images in baselines.items()},
        arrays.sample_ids,
        arrays.group_ids,
        extra=nulls.memorisation(fake, unit_float(arrays.histology), known, train.sample_ids),
        alternatives={
            f"norm_at_test={other.norm}": score(synthesize(other, arrays.msi, batch_size))
            for other in other_norms(model)
        },
        seed=seed,
    )


def synthesize(model, msi, batch_size: int):
    """Images of a whole split, `[N, H, W, K]` -> `[N, H, W, 3]` float32 in [0, 1]."""
    import numpy as np

    from msi2he_jax.metrics.evaluation import batches

    parts = [
        np.asarray(model.apply(msi[rows]), np.float32)[skip:]
        for rows, skip in batches(len(msi), batch_size)
    ]
    return np.clip((np.concatenate(parts) + 1.0) / 2.0, 0.0, 1.0)


def other_norms(model) -> list:
    """The same checkpoint with the other statistics, where it has batch norm."""
    from msi2he_jax.inference.model import NORMS, load_model

    if model.config.model.norm != "batch":
        return []
    norms = [norm for norm in NORMS if norm != model.norm]
    return [load_model(model.run_dir, model.which, norm=norm) for norm in norms]


def _earlier(folder: Path, checkpoint: dict, split: str) -> dict:
    """Other splits scored before with the same checkpoint; a damaged file is replaced."""
    from msi2he_jax.metrics.results import other_splits

    try:
        return other_splits(read_json(folder / "results.json"), checkpoint, split)
    except (InputError, AttributeError):
        return {}


def write_results(folder: Path, results: dict) -> None:
    """Writes results.json and results.csv, each whole or not at all."""
    from msi2he_jax.metrics.results import csv_rows

    rows = csv_rows(results)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        atomic_file(folder / "results.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_json(folder / "results.json", results)


def show(folder: Path, results: dict, split: str) -> None:
    """Prints the paper's table with this run in it."""
    from msi2he_jax.metrics.results import PAPER_SOURCE, paper_table, table_text

    block = results[split]
    print(f"{split}: {block['samples']} images, {block['groups']} group(s); {results['words']}")
    print(table_text(paper_table(results, split)))
    print(f"[..]: {results['interval']}. Paper: {PAPER_SOURCE}.")
    print(block["words"])
    print(f"{folder / 'results.json'}, {folder / 'results.csv'}")


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
