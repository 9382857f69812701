"""Trains without landmarks, in rounds: align, train, register better, rebuild the pairs, again.

    python examples/bootstrap.py --manifest=FILE --out=DIR [--rounds=2 --folds=2 --config=FILE]

Round 0 aligns each section automatically by its PCA view; what cannot be trusted is left out and
listed. Each further round trains on the pairs of the round before and registers what the generator
paints. Patients are shared out over folds, so that no section is ever painted by a generator that
saw its patient, in any round. Landmarks, where the manifest has any, only score: DIR/rounds.csv
has each round's error, beside that of the control points.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

from msi2he_jax.data.manifest import COLUMNS
from msi2he_jax.data.patients import alike_key
from msi2he_jax.tables import read_table

WORDS = ("round", "pairs", "sections", "registered", "success", "median_um", "median_px", "p90_um")


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--config", default="configs/smoke.py:pix2pix")
    parser.add_argument("--steps", type=int, default=0, help="Training steps; 0: the config's.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--align", default="auto", help="Pairs of round 0: auto or landmarks.")
    parser.add_argument("--method", default="automatic", help="Of register.")
    options = parser.parse_args()
    if options.rounds < 1 or options.folds < 2:
        parser.error("--rounds must be at least 1 and --folds at least 2")
    return options


def verb(name: str, *flags: str) -> None:
    """Runs a verb in its own process, or stops."""
    print(f"$ python -m msi2he_jax.{name} {' '.join(flags)}", flush=True)
    code = subprocess.run([sys.executable, "-m", f"msi2he_jax.{name}", *flags]).returncode
    if code:
        sys.exit(code)


def read_rows(manifest: pathlib.Path) -> list[dict[str, str]]:
    """Reads the manifest; file names become absolute, so that copies of it may lie elsewhere."""
    rows = [row for _, row in read_table(manifest, "manifest", COLUMNS).records()]
    for row in rows:
        for name in ("imzml", "histology", "landmarks"):
            if row.get(name):
                row[name] = str((manifest.parent / row[name]).resolve())
    return rows


def _patient(row: dict[str, str]) -> str:
    """Whom a section is of; names that are alike are never parted."""
    return alike_key(row.get("group_id") or row["sample_id"])


def write_fold(rows: list[dict[str, str]], fold: int, folds: int, path: pathlib.Path) -> None:
    """Writes a manifest whose test split is one fold of the patients; one other validates."""
    patients = sorted({_patient(row) for row in rows})
    if len(patients) < 2 * folds:
        sys.exit(f"error: {len(patients)} patients are too few for {folds} folds of two")
    held = set(patients[fold::folds])
    validating = next(p for p in patients if p not in held)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], "split"])))
        writer.writeheader()
        for row in rows:
            patient = _patient(row)
            split = "test" if patient in held else "train"
            split = "validation" if patient == validating else split
            writer.writerow({**row, "split": split})


def run_fold(options: argparse.Namespace, folder: pathlib.Path, align: str) -> None:
    """Trains on all other folds and registers this one."""
    manifest = f"--manifest={folder / 'manifest.csv'}"
    pairs, run = folder / "pairs", folder / "run"
    verb("preprocess", manifest, f"--out={pairs}", f"--align={align}", "--on_error=skip")
    words = [f"--config={options.config}", f"--workdir={run}", f"--config.data.dir={pairs}"]
    words += [f"--config.train.steps={options.steps}"] if options.steps else []
    verb("train", *words)
    words = ["--moving=synthetic", f"--run={run}", "--split=test", f"--method={options.method}"]
    verb("register", manifest, *words, f"--out={folder / 'registration'}", "--on_error=skip")


def run_round(options: argparse.Namespace, rows, number: int, align: str) -> pathlib.Path:
    """Runs the folds of one round that are missing; returns where all transforms lie."""
    folder = options.out / f"round_{number}"
    together = folder / "registration"
    for fold in range(options.folds):
        place = folder / f"fold_{fold}"
        if not (place / "registration" / "summary.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            write_fold(rows, fold, options.folds, place / "manifest.csv")
            run_fold(options, place, align)
    shutil.rmtree(together, ignore_errors=True)
    for path in sorted(folder.glob("fold_*/registration/*/transform.json")):
        shutil.copytree(path.parent, together / path.parent.name)
    return together


def score(options: argparse.Namespace, number: int, pairs: str, prefix: str = "") -> dict:
    """Puts a round's errors into one row; `prefix` chooses the control points' own."""
    summaries = [
        json.loads(path.read_text())
        for path in (options.out / f"round_{number}").glob("fold_*/registration/summary.json")
    ]
    samples = [sample for summary in summaries for sample in summary["samples"]]
    px = [s[f"{prefix}tre_median_msi_px"] for s in samples if f"{prefix}tre_median_msi_px" in s]
    um = [s[f"{prefix}tre_median_um"] for s in samples if f"{prefix}tre_median_um" in s]
    p90 = [s[f"{prefix}tre_p90_um"] for s in samples if f"{prefix}tre_p90_um" in s]
    known = {"round": number, "pairs": pairs, "sections": len(read_rows(options.manifest))}
    known |= {"registered": len(samples)}
    if px:
        known |= {"success": round(sum(each < 2 for each in px) / len(px), 3)}
        for name, values in (("median_um", um), ("median_px", px), ("p90_um", p90)):
            known[name] = round(statistics.median(values), 3)
    return known


def main() -> None:
    """Runs the rounds and writes the table."""
    options = parse()
    rows, align, table = read_rows(options.manifest), options.align, []
    for number in range(options.rounds):
        name = align if number == 0 else f"round {number - 1}"
        align = str(run_round(options, rows, number, align))
        table.append(score(options, number, name))
    table.append(score(options, options.rounds - 1, "control points", "control_points_"))
    with open(options.out / "rounds.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, WORDS)
        writer.writeheader()
        writer.writerows(table)
    print((options.out / "rounds.csv").read_text())


if __name__ == "__main__":
    main()
