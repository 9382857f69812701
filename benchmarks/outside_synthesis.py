"""What can a few sections teach?  python -m benchmarks.outside_synthesis --screen|--final|--collect

Synthesis on sections that this project did not simulate (`outside_sections`): patients left out in
four folds of two, one more validates, five teach. Linear maps and networks see the same pairs, at
the MSI's own resolution. --screen tries every idea on the first fold with one seed; --final the
linear maps and the finalists on all folds with three seeds. Checkpoints are chosen by the corrected
MI of the validation patient; the test patients choose nothing but, in the screening, what becomes a
finalist. Hence the first fold is looked at often, the others once, and both means are given.

`oracle` is ridge on the ions that the generator lists, with pairs aligned by its true map: what
peak picking and landmarks lose. Each (idea, fold, seed) is kept in --out, so a command that was
stopped goes on. --save writes benchmarks/results/outside-synthesis.json and docs/results.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import pathlib
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS, environment
from benchmarks.outside_lines import LINES, Line, linear_images
from benchmarks.outside_synthesis_page import PAGE, row_words, write_page
from msi2he_jax import preprocess
from msi2he_jax.config import check_config, load_config
from msi2he_jax.data.loader import Arrays, load_arrays
from msi2he_jax.evaluate import synthesize
from msi2he_jax.inference import load_model
from msi2he_jax.io_safety import read_json, write_json
from msi2he_jax.metrics.evaluation import score_images
from msi2he_jax.training import loop
from msi2he_jax.training.parallel import use_compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAMPLE_DATA = pathlib.Path(os.environ.get("MSI2HE_SAMPLE_DATA", ROOT.parent / "shared" / "data"))
FOLDS, SEEDS, STEPS, EVERY = 4, 3, 200, 20
GRID_MULTIPLE_PX = 16  # so that all folds have one shape, and scores are compiled once
METRICS = ("r2", "r2_masked", "mi_corrected_nats", "stain_h_correlation", "stain_e_correlation")
ORACLE_POINTS = 200
# The network that ideas change, one thing at a time: small, and quick on a CPU.
BASE = {
    "model.depth": 2,
    "model.features": 16,
    "model.start": "ridge",
    "optimizer.learning_rate": 1e-3,
    "train.steps": STEPS,
    "train.eval_every": EVERY,
    "train.checkpoint_every": STEPS,
    "train.image_every": STEPS,
    "train.patience": 0,
}


@dataclasses.dataclass(frozen=True)
class Idea:
    """A network to try: the base network with some settings changed.

    Attributes:
        name: Of its row.
        changes: Configuration keys and values.
    """

    name: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


ORACLE = (LINES[1], LINES[4])
BEGUN = "U-Net on ridge"
GAINS = {"augmentation.channel_gain": 0.3}
INSTANCE = {"model.norm": "instance"}
PLS = {"model.start": "pls"}
WIDE = {"model.neighbours_px": 7}
IDEAS = (
    Idea(BEGUN),
    Idea("U-Net alone", {"model.start": "none"}),
    Idea(f"{BEGUN}: PLS instead", {"model.start": "pls"}),
    Idea(f"{BEGUN}: squared error", {"loss.reconstruction": "mse"}),
    Idea(f"{BEGUN}: 4 features", {"model.features": 4}),
    Idea(f"{BEGUN}: depth 1", {"model.depth": 1}),
    Idea(f"{BEGUN}: weight decay 0.3", {"optimizer.weight_decay": 0.3}),
    Idea(f"{BEGUN}: rate 1e-4", {"optimizer.learning_rate": 1e-4}),
    Idea(f"{BEGUN}: no dropout", {"model.dropout": 0.0}),
    Idea(f"{BEGUN}: ions dropped, 0.3", {"augmentation.channel_dropout": 0.3}),
    Idea(f"{BEGUN}: ion gains, 0.3", {"augmentation.channel_gain": 0.3}),
    Idea(f"{BEGUN}: patches of 24 px", {"data.crop_px": 24, "train.batch_size": 16}),
    Idea(f"{BEGUN}: background counts a tenth", {"loss.background_weight": 0.1}),
    Idea(f"{BEGUN}: averaged weights", {"ema": 0.98}),
    Idea(f"{BEGUN}: instance norm", {"model.norm": "instance"}),
    Idea(f"{BEGUN}: stopped by R2", {"train.best_metric": "r2"}),
    # What won in the screening, together.
    Idea(f"{BEGUN}: ion gains, instance norm", GAINS | INSTANCE),
    Idea(f"{BEGUN}: PLS, ion gains", GAINS | PLS),
    Idea(f"{BEGUN}: PLS 7x7, ion gains", GAINS | PLS | WIDE),
    Idea(f"{BEGUN}: PLS 7x7, ion gains, instance norm", GAINS | PLS | WIDE | INSTANCE),
    Idea(
        f"{BEGUN}: PLS 7x7, ion gains, instance norm, depth 1",
        GAINS | PLS | WIDE | INSTANCE | {"model.depth": 1},
    ),
    Idea(
        f"{BEGUN}: PLS 7x7, ion gains and drops, instance norm",
        GAINS | PLS | WIDE | INSTANCE | {"augmentation.channel_dropout": 0.1},
    ),
)


def read_rows(cohort: pathlib.Path) -> list[dict[str, str]]:
    """Reads a cohort's manifest; its file names become absolute."""
    with open(cohort / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    files = ("imzml", "histology", "landmarks")
    return [row | {name: str((cohort / row[name]).resolve()) for name in files} for row in rows]


def split_of(groups: list[str], fold: int) -> dict[str, str]:
    """Returns each patient's split: two test, the next one validates, all others teach.

    Args:
        groups: Names of all patients.
        fold: 0 to `FOLDS` - 1.
    """
    groups = sorted(groups)
    size = len(groups) // FOLDS
    test = groups[fold * size : (fold + 1) * size]
    validation = groups[(fold + 1) * size % len(groups)]
    split = dict.fromkeys(groups, "train") | dict.fromkeys(test, "test")
    return split | {validation: "validation"}


def pairs(cohort: pathlib.Path, place: pathlib.Path, fold: int, *, oracle: bool) -> pathlib.Path:
    """Makes one fold's pairs unless they are there; returns their folder."""
    folder = place / f"fold_{fold}{'_oracle' if oracle else ''}"
    if (folder / "pairs" / "provenance.json").is_file():
        return folder / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(cohort)
    split = split_of(list({row["group_id"] for row in rows}), fold)
    for row in rows:
        row["split"] = split[row["group_id"]]
        if oracle:
            row["landmarks"] = str(true_landmarks(cohort, row["sample_id"], folder))
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    flags = [f"--manifest={folder / 'manifest.csv'}", f"--out={folder / 'pairs'}", "--overwrite"]
    flags += [f"--target_um_per_px={rows[0]['msi_um_per_px']}", "--quiet"]
    if code := preprocess.main(flags + [f"--peak_list={cohort / 'peaks.csv'}"] * oracle):
        raise SystemExit(code)
    return folder / "pairs"


def true_landmarks(cohort: pathlib.Path, sample: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes points of the true map in the tissue as landmarks; returns the file."""
    truth = np.load(cohort / "truth" / f"{sample}.npz")
    rows, columns = np.nonzero((truth["tissue_msi"] > 0.5) & truth["measured"])
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), ORACLE_POINTS)).round().astype(int)
    um = float(truth["msi_um"])
    msi = np.stack([columns[chosen] + 0.5, rows[chosen] + 0.5], axis=1) * um
    histology = _along(truth, msi)
    path = (folder / f"{sample}.csv").resolve()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = ("histology_x_um", "histology_y_um", "msi_x_um", "msi_y_um")
        writer.writerow(("name", "use", *names))
        points = np.concatenate([histology, msi], axis=1)
        writer.writerows((f"p{n}", "fit", *point) for n, point in enumerate(points.tolist()))
    return path


def _along(truth: Any, msi: np.ndarray) -> np.ndarray:
    """Carries points `[N, 2]` (x, y; um) by the true map."""
    from scipy.interpolate import RegularGridInterpolator

    grid = truth["fwd_y_um"], truth["fwd_x_um"]
    return RegularGridInterpolator(grid, truth["fwd_he_um"].astype(float))(msi[:, ::-1])


def sample_scores(images: np.ndarray, arrays: Arrays) -> list[dict[str, Any]]:
    """Scores images `[N, H, W, 3]`, float in [0, 1], of a split, one row a section."""
    blocks = score_images(images, arrays.histology, arrays.tissue_mask, arrays.valid_mask)
    scores = blocks["paper"] | blocks["tissue"]
    names = zip(arrays.sample_ids, arrays.group_ids, strict=True)
    return [
        {"sample_id": sample, "group_id": group} | {m: float(scores[m][i]) for m in METRICS}
        for i, (sample, group) in enumerate(names)
    ]


def linear_run(line: Line, folder: pathlib.Path, fold: int, prefix: str = "") -> None:
    """Fits a linear map and scores it on one fold's test patients, unless that was done."""
    kept = folder.parent / "lines" / f"{_file_name(line.name)}.json"
    if not kept.is_file():
        train, test = (split_arrays(folder, split) for split in ("train", "test"))
        kept.parent.mkdir(exist_ok=True)
        samples = sample_scores(linear_images(line, train, test), test)
        write_json(
            kept, {"idea": f"{prefix}{line.name}", "fold": fold, "seed": 0, "samples": samples}
        )


def split_arrays(folder: pathlib.Path, split: str) -> Arrays:
    """Loads a split on the grid that all folds share."""
    return load_arrays(folder, split, multiple_of=GRID_MULTIPLE_PX)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def configuration(idea: Idea, folder: pathlib.Path, seed: int) -> Any:
    """Returns the checked configuration of one run."""
    config = load_config("unet:fair")
    changes = {"name": "outside", "seed": seed, "data.dir": str(folder)} | BASE | idea.changes
    config.update_from_flattened_dict(changes)
    check_config(config, idea.name)
    return config


def network_run(
    idea: Idea, folder: pathlib.Path, place: pathlib.Path, fold: int, seed: int
) -> pathlib.Path:
    """Trains and scores one network, unless that was done; returns its folder."""
    run = place / "runs" / _file_name(idea.name) / f"fold_{fold}_seed_{seed}"
    if not (run / "scores.json").is_file():
        begin = time.perf_counter()
        loop.train_and_evaluate(configuration(idea, folder, seed), run)
        model, test = load_model(run, "best"), split_arrays(folder, "test")
        images = synthesize(model, test.msi, 8)
        np.save(run / "images.npy", images)
        facts = {"idea": idea.name, "fold": fold, "seed": seed, "best_step": int(model.step)}
        facts |= {"seconds": time.perf_counter() - begin, "samples": sample_scores(images, test)}
        write_json(run / "scores.json", facts)
        print(row_words(facts), flush=True)
    return run


def averaged(idea: Idea, folder: pathlib.Path, runs: list[pathlib.Path], fold: int) -> None:
    """Scores the mean of the images of several seeds, unless that was done."""
    kept = runs[0].parent / f"averaged_{fold}" / "scores.json"
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        images = np.mean([np.load(run / "images.npy") for run in runs], axis=0)
        facts = {"idea": f"{idea.name}, mean of {len(runs)} seeds", "fold": fold, "seed": 0}
        samples = sample_scores(images, split_arrays(folder, "test"))
        write_json(kept, facts | {"samples": samples})


def run_all(options: argparse.Namespace) -> None:
    """Does what is missing: linear maps first, then networks, then the oracle."""
    folds = range(1 if options.screen else FOLDS)
    folders = [pairs(options.cohort, options.out, fold, oracle=False) for fold in folds]
    for fold, folder in zip(folds, folders, strict=True):
        for line in LINES:
            linear_run(line, folder, fold)
        print(f"fold {fold}: linear maps done", flush=True)
    for fold, folder in zip(folds, folders, strict=True):
        for idea in IDEAS:
            if options.screen or idea.name in options.finalists:
                networks(idea, folder, options.out, fold, 1 if options.screen else SEEDS)
    for fold in folds:
        folder = pairs(options.cohort, options.out, fold, oracle=True)
        for line in ORACLE:
            linear_run(line, folder, fold, "oracle: ")


def networks(idea: Idea, folder: pathlib.Path, place: pathlib.Path, fold: int, seeds: int) -> None:
    """Runs an idea with several seeds, and scores their mean."""
    runs = [network_run(idea, folder, place, fold, seed) for seed in range(seeds)]
    if seeds > 1:
        averaged(idea, folder, runs, fold)


def collected(place: pathlib.Path) -> list[dict[str, Any]]:
    """Returns all runs that are done, linear maps first, ideas in the order of the lists."""
    paths = sorted(place.glob("fold_*/lines/*.json")) + sorted(place.glob("runs/*/*/scores.json"))
    names = [f"{prefix}{line.name}" for prefix in ("oracle: ", "") for line in LINES]
    names += [idea.name for idea in IDEAS]

    def place_of(run: dict[str, Any]) -> tuple:
        known = [n for n, name in enumerate(names) if run["idea"].startswith(name)]
        return max(known, key=lambda n: len(names[n]), default=len(names)), run["idea"], run["fold"]

    return sorted(map(read_json, paths), key=place_of)


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for each idea: over sections of all folds, and the spread of seeds.

    Args:
        runs: Each of one idea, fold and seed, with its samples' scores.
    """
    rows = []
    for name in dict.fromkeys(run["idea"] for run in runs):
        own = [run for run in runs if run["idea"] == name]
        row: dict[str, Any] = {"idea": name, "folds": len({run["fold"] for run in own})}
        row["seeds"] = len({run["seed"] for run in own})
        steps = [run["best_step"] for run in own if "best_step" in run]
        row["best_step"] = statistics.median(steps) if steps else None
        for metric in METRICS:
            seeds = [_middle(own, metric, seed) for seed in sorted({run["seed"] for run in own})]
            later = [run for run in own if run["fold"] > 0]
            row[metric] = {
                "mean": statistics.mean(seeds),
                "spread": max(seeds) - min(seeds) if len(seeds) > 1 else None,
                "unseen": _middle(later, metric) if later else None,
            }
        rows.append(row)
    return rows


def _middle(runs: list[dict[str, Any]], metric: str, seed: int | None = None) -> float:
    """Mean over sections; of R2, which one section of a foreign shade can drag anywhere, median."""
    values = [s[metric] for r in runs if seed in (None, r["seed"]) for s in r["samples"]]
    return float(np.median(values) if metric.startswith("r2") else np.mean(values))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cohort = SAMPLE_DATA / "outside_sections" / "plain"
    parser.add_argument("--cohort", type=pathlib.Path, default=cohort)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/outside_synthesis"))
    parser.add_argument("--final", action="store_true", help="finalists, all folds and seeds")
    parser.add_argument("--screen", action="store_true", help="all ideas, one fold, one seed")
    parser.add_argument("--collect", action="store_true", help="only what is done; run nothing")
    parser.add_argument("--finalists", nargs="*", default=[], help="names of ideas")
    parser.add_argument("--save", action="store_true", help="write results and docs/results.md")
    options = parser.parse_args(arguments)
    if unknown := set(options.finalists) - {idea.name for idea in IDEAS}:
        parser.error(f"--finalists: not among the ideas: {', '.join(sorted(unknown))}")
    if options.final + options.screen + options.collect != 1:
        parser.error("one of --screen, --final and --collect")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Runs what is missing; shows and keeps what was found."""
    options = parse(arguments)
    if not options.collect:
        use_compilation_cache()
        run_all(options)
    runs = collected(options.out)
    first = [run for run in runs if run["fold"] == 0 and run["seed"] == 0]
    whole = {run["idea"] for run in runs if run["fold"] == FOLDS - 1}
    tables = {
        "first_fold": summary(first),
        "all_folds": summary([run for run in runs if run["idea"] in whole]),
    }
    for row in (*tables["first_fold"], *tables["all_folds"]):
        print(row_words(row), flush=True)
    if options.save:
        kept = RESULTS / "outside-synthesis.json"
        facts = {"environment": environment(), "simulated": True, "steps": STEPS}
        write_json(kept, facts | tables | {"runs": runs})
        write_page(PAGE, read_json(kept))


if __name__ == "__main__":
    main()
