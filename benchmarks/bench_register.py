"""What moves against how it is registered:  python -m benchmarks.bench_register [--run=RUN]

Simulated cohorts with known truth: `easy` (within 10 degrees, not mirrored), `rotated+mirrored`
(any angle, every third mirrored), `warped` (smooth warp up to 5 MSI px), `partial tissue` (60 % of
the section measured). For `synthetic`, RUN is a generator trained on the first 24 sections of the
same simulation (`make demo` does); the pairs are of other patients. Errors are over every measured
pixel on tissue, success is a median below 2 MSI px, Dice compares the slide's tissue as drawn by
the transform found and by the true one. Each cell is kept in --out, so a stopped run goes on, and
--save writes all cells there, of any run, to benchmarks/results and to docs/registration.md.
Seconds are of processor per pair, compilation included: clocks of shared machines lie.

--rounds=FILE only takes over rounds.csv of a finished examples/bootstrap.py.

  --pairs=N --cohorts=A,B --views=synthetic,pca,umap,ion:MZ --methods="A;B" --quick --speed --save
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import pathlib
import time

import numpy as np

from benchmarks import harness, registration_pairs, report
from benchmarks.registration_methods import METHODS
from benchmarks.registration_pairs import COHORTS, Case
from msi2he_jax.io_safety import read_json, write_json
from msi2he_jax.registration import scores, transforms
from msi2he_jax.registration.transforms import Transform

COLUMNS = {
    "success": "{:.0%}",
    "median_um": "{:.1f}",
    "median_px": "{:.2f}",
    "p90_um": "{:.1f}",
    "p90_px": "{:.2f}",
    "rtre": "{:.4f}",
    "dice": "{:.3f}",
    "folding": "{:.3%}",
    "cpu_s": "{:.2f}",
}
SPEED_PAIRS = 32
SPEED_METHODS = ("ours affine", "SimpleITK affine, 12x2 starts")
PAGE = report.ROOT / "docs" / "registration.md"


def judge(case: Case, transform: Transform) -> dict:
    """Scores one transform against the truth."""
    errors = scores.target_registration_error(transform, case.msi_yx_um, case.histology_yx_um)
    sizes = {"msi_um_per_px": case.native_um, "fixed_diagonal_um": case.diagonal_um}
    found = scores.summarize_tre(errors, **sizes) | scores.smoothness(transform)
    return found | {"sample_id": case.name, "dice": tissue_dice(case, transform)}


def tissue_dice(case: Case, transform: Transform) -> float:
    """Overlap of the slide's tissue on the MSI's measured pixels, as found and as it is."""
    side = case.pair.fixed
    grid = transforms.pixel_centers(case.pair.moving.valid.shape, case.pair.moving.um_per_px)
    found = transform(grid[case.pair.moving.mask])
    index = np.floor(found / side.um_per_px).astype(int)
    inside = np.all((index >= 0) & (index < side.mask.shape), axis=1)
    drawn = np.zeros(len(index), bool)
    drawn[inside] = side.mask[tuple(index[inside].T)]
    true = np.zeros(case.pair.moving.valid.shape, bool)
    at = np.floor(case.msi_yx_um / case.pair.moving.um_per_px).astype(int)
    true[tuple(at.T)] = True
    return scores.dice(drawn, true[case.pair.moving.mask])


def measure(cases: list[Case], method: str) -> list[dict]:
    """Registers all pairs; seconds are per pair."""
    call = METHODS[method][0]
    wall, cpu = time.perf_counter(), time.process_time()
    found = call(cases)
    spent = {
        "wall_s": (time.perf_counter() - wall) / len(cases),
        "cpu_s": (time.process_time() - cpu) / len(cases),
    }
    return [judge(case, each) | spent for case, each in zip(cases, found, strict=True)]


def condense(rows: list[dict]) -> dict:
    """One cell of the table: medians over pairs."""
    of = {
        "median_um": "tre_median_um",
        "median_px": "tre_median_msi_px",
        "p90_um": "tre_p90_um",
        "p90_px": "tre_p90_msi_px",
        "rtre": "rtre_median",
        "dice": "dice",
        "wall_s": "wall_s",
        "cpu_s": "cpu_s",
    }
    cell = {name: float(np.median([row[key] for row in rows])) for name, key in of.items()}
    cell["folding"] = float(np.mean([row["folding_fraction"] for row in rows]))
    cell["success"] = float(np.mean([row["success"] for row in rows]))
    return cell | {"pairs": len(rows), "cohort_scores": scores.cohort_scores(rows)}


def cell_file(options, cohort: str, view: str, method: str) -> pathlib.Path:
    """Where a cell is kept; another run, number of pairs or seed is another cell."""
    run = options.run if view == "synthetic" else ""
    key = "|".join(map(str, (cohort, view, method, options.pairs, options.seed, run)))
    name = "".join(c if c.isalnum() else "-" for c in f"{cohort}_{view}_{method}")
    return options.out / f"{name}_{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"


def table(options) -> list[dict]:
    """Measures what is not there yet, cell by cell."""
    rows = []
    for cohort in options.cohorts:
        for number, view in enumerate(options.views):
            made: list[Case] = []
            for method in options.methods:
                if not METHODS[method][1] and number:
                    continue  # it does not look at the view
                path = cell_file(options, cohort, view, method)
                if not path.is_file():
                    made = made or list(_cases(options, cohort, view))
                    shown = view if METHODS[method][1] else "any"
                    cell = {"cohort": cohort, "view": shown, "method": method}
                    write_json(path, cell | {"pairs": measure(made, method)})
                rows.append(_row(read_json(path)))
                print(line(rows[-1]), flush=True)
    return rows


def _row(cell: dict) -> dict:
    return {name: cell[name] for name in ("cohort", "view", "method")} | condense(cell["pairs"])


def collect(folder: pathlib.Path) -> list[dict]:
    """Returns the rows of all cells in a folder, in the order of the table."""
    cells = [_row(read_json(path)) for path in folder.glob("*.json")]
    known: dict[tuple, dict] = {}
    for row in sorted(cells, key=lambda row: row["pairs"]):  # the most pairs of a kind count
        known[row["cohort"], row["view"], row["method"]] = row
    rows = list(known.values())
    views = ["any", "synthetic", *sorted({row["view"] for row in rows})]

    def place(row: dict) -> tuple[int, ...]:
        known = zip((list(COHORTS), views, list(METHODS)), ("cohort", "view", "method"))
        return tuple(order.index(row[name]) for order, name in known)

    return sorted(rows, key=place)


def _cases(options, cohort: str, view: str):
    return registration_pairs.cases(
        cohort, view, folder=options.out, run=options.run, count=options.pairs, seed=options.seed
    )


def heading() -> str:
    """Returns the first two lines of the Markdown table."""
    names = ["cohort", "view", "method", "pairs", *COLUMNS]
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|"


def line(row: dict) -> str:
    """Returns a row of the Markdown table."""
    cells = [row["cohort"], row["view"], row["method"], str(row["pairs"])]
    cells += [form.format(row[name]) for name, form in COLUMNS.items()]
    return f"| {' | '.join(cells)} |"


def speed(options) -> dict:
    """Sets ours beside SimpleITK's 12x2 starts on 32 pairs, one after the other in one run."""
    options.pairs, options.cohorts = SPEED_PAIRS, ["rotated+mirrored"]
    options.views, options.methods = options.views[:1], list(SPEED_METHODS)
    found = [row | {"name": row["method"]} for row in table(options)]
    rows = [
        {
            "name": row["name"],
            "peer": not row["name"].startswith("ours"),
            "median_s": row["wall_s"] * SPEED_PAIRS,
            "cpu_s": row["cpu_s"] * SPEED_PAIRS,
            "items_per_s": 1 / row["wall_s"],
            "ratio": row["wall_s"] / found[0]["wall_s"],
        }
        for row in found
    ]
    print("\n".join("{name}: {median_s:.0f} s, {ratio:.2f} times".format(**row) for row in rows))
    return {"unit": "pairs", "rows": rows}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", help="trained run, for the synthetic view")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bench_register"))
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cohorts", default=",".join(COHORTS))
    parser.add_argument(
        "--views", help="default: pca, umap, ion:885.5499, and synthetic with --run"
    )
    parser.add_argument("--methods", help="names of the table, separated by semicolons")
    parser.add_argument("--quick", action="store_true", help="2 pairs, easy, pca only")
    parser.add_argument("--speed", action="store_true", help="only the time of 32 pairs")
    parser.add_argument("--rounds", type=pathlib.Path, help="rounds.csv of examples/bootstrap.py")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results")
    options = parser.parse_args(arguments)
    views = ["synthetic"] * bool(options.run) + ["pca", "umap", "ion:885.5499"]
    options.views = options.views.split(",") if options.views else views
    options.cohorts = options.cohorts.split(",")
    options.methods = options.methods.split(";") if options.methods else list(METHODS)
    if options.quick:
        options.pairs, options.cohorts, options.views = 2, ["easy"], ["pca"]
    _check(parser, options)
    return options


def _check(parser, options) -> None:
    for name, known in (("cohorts", COHORTS), ("methods", METHODS)):
        if unknown := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))} not among {', '.join(known)}")
    if "synthetic" in options.views and not options.run:
        parser.error("--run: is required for the synthetic view")
    if options.pairs < 1:
        parser.error("--pairs: must be at least 1")


def main(arguments: list[str] | None = None) -> None:
    """Prints the table and keeps its cells."""
    options = parse([] if arguments is None else arguments)
    if options.rounds:
        save_rounds(options.rounds)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if options.speed:
        tables = {"registration, 32 pairs": speed(options)}
        if options.save:
            harness.save("register", tables)
        return
    print(heading())
    table(options)
    if options.save:
        save(collect(options.out))


def save_rounds(path: pathlib.Path) -> None:
    """Writes the rounds of training without landmarks into docs/registration.md."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    lines = [header, ["---"] * len(header), *rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    PAGE.write_text(report.replace_between(PAGE.read_text(), "bootstrap", body))


def save(rows: list[dict]) -> None:
    """Writes the table to benchmarks/results and into docs/registration.md."""
    record = {"environment": harness.environment(), "simulated": True, "rows": rows}
    write_json(harness.RESULTS / "registration.json", record)
    PAGE.write_text(report.replace_between(PAGE.read_text(), "registration", page_table(record)))


def page_table(record: dict) -> str:
    """Returns what docs/registration.md shows of a kept table: where it was measured, its rows."""
    machine = record["environment"]
    where = f"Collected at revision {machine['revision']}, {machine['date']}"
    where += f"; {harness.machine_words(machine)}."
    return "\n".join([where, "", heading(), *map(line, record["rows"])])


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
