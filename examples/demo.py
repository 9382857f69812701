"""The whole line on a simulated cohort: what `make demo` runs.

    python examples/demo.py [--out=runs/demo] [--sections=24] [--grid=64] [--unet-steps=N]

Simulates paired sections, builds the data set in data/pairs, trains the U-Net baseline and pix2pix,
scores both, registers the test sections, and writes one HTML page. Each step is a command that
works on real data too; it is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import time


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/demo"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/pairs"))
    parser.add_argument("--sections", type=int, default=24)
    parser.add_argument("--grid", type=int, default=64)
    parser.add_argument("--unet-steps", type=int, default=400)
    parser.add_argument("--pix2pix-steps", type=int, default=400)
    return parser.parse_args()


def step(name: str, verb: str, *flags: str) -> dict:
    """Runs one verb in its own process; returns its name and seconds, or stops the demo."""
    print(f"\n== {name}\n$ python -m msi2he_jax.{verb} {' '.join(flags)}", flush=True)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", f"msi2he_jax.{verb}", *flags]).returncode
    if code:
        sys.exit(code)
    seconds = time.perf_counter() - start
    print(f"-- {seconds:.0f} s", flush=True)
    return {"step": name, "seconds": round(seconds, 1)}


def clear(out: pathlib.Path, data: pathlib.Path) -> None:
    """Removes an earlier demo; never a data set that is not simulated."""
    provenance = data / "provenance.json"
    if data.exists() and not (
        provenance.is_file() and json.loads(provenance.read_text()).get("simulated")
    ):
        sys.exit(f"error: {data}: holds data of your own (pass --data=FOLDER for the demo's)")
    shutil.rmtree(data, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)


def training(name: str, out: pathlib.Path, data: pathlib.Path, steps: int) -> list[str]:
    """Returns the flags that train one model of the smoke configuration."""
    flags = [f"--config=configs/smoke.py:{name}", f"--workdir={out / name}"]
    return [*flags, f"--config.data.dir={data}", f"--config.train.steps={steps}"]


def main() -> None:
    """Runs the line and prints where the report is."""
    options = parse()
    out, data = options.out, options.data
    clear(out, data)
    cohort, registration = out / "cohort", out / "registration"
    runs = {"unet": options.unet_steps, "pix2pix": options.pix2pix_steps}
    size = [f"--sections={options.sections}", f"--grid={options.grid}"]
    done = [step("simulate a cohort", "simulate", f"--out={cohort}", *size)]
    manifest = f"--manifest={cohort / 'manifest.csv'}"
    done += [step("build the data set", "preprocess", manifest, f"--out={data}")]
    for name, steps in runs.items():
        done += [step(f"train {name}", "train", *training(name, out, data, steps))]
    for name in runs:
        done += [step(f"score {name}", "evaluate", f"--run={out / name}", f"--data={data}")]
    run = f"--run={out / 'pix2pix'}"
    pictures = f"--out={out / 'synthetic'}"
    done += [step("synthesize the test split", "synthesize", run, f"--data={data}", pictures)]
    moving = ["--moving=synthetic", f"--out={registration}"]
    done += [step("register the test sections", "register", manifest, run, *moving)]
    page = out / "report.html"
    more = [f"--compare={out / 'unet'}", f"--registration={registration}", f"--out={page}"]
    done += [step("write the report", "report", run, *more)]
    summarise(done, out, page)


def summarise(done: list[dict], out: pathlib.Path, page: pathlib.Path) -> None:
    """Prints and stores the seconds of each step and the largest memory of any of them."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    seconds = sum(row["seconds"] for row in done)
    record = {"steps": done, "seconds": round(seconds, 1), "peak_memory_gib": round(peak, 2)}
    (out / "timings.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nDone in {seconds / 60:.1f} minutes, {peak:.2f} GiB at most.")
    print(f"The report: {page.resolve()}")
    verb = pathlib.Path(sys.executable).parent / "msi2he"
    print(f'Your own data next: {verb} doctor manifest.csv  (README.md, "On your own data")')


if __name__ == "__main__":
    main()
