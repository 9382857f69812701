"""Which validation score should choose the checkpoint?  python -m benchmarks.best_checkpoint DATA

Trains each seed once (--config, smoke.py by default) and scores validation and test split alike
every --every steps. Each choice of `train.best_metric` then takes the step that its validation
score likes best; the table shows what the test split scores there, as a mean over data sets and
seeds, beside the last step and the best that any step of the run would have given. The test split
never chooses anything.
"""

from __future__ import annotations

import argparse
import pathlib

import jax
import numpy as np

from msi2he_jax.config import CHOICES, check_config, load_config
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.io_safety import write_json
from msi2he_jax.training import evaluation, loop, monitor, preparation, run, state
from msi2he_jax.training.parallel import use_compilation_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHOWN = (
    "mi_corrected_nats",
    "stain_h_correlation",
    "stain_e_correlation",
    "mae_masked",
    "ssim_masked",
)


def curves(source: str, data: str, seed: int, steps: int, every: int) -> dict[str, list[dict]]:
    """Trains one run; returns both splits' mean scores after each `every` steps.

    Args:
        source: Configuration.
        data: Folder of the data set.
        seed: Of the run.
        steps: Its length.
        every: Steps between two evaluations.
    """
    config = load_config(source)
    changes = {"data.dir": data, "seed": seed, "train.epochs": 0, "train.steps": steps}
    changes |= dict.fromkeys((f"train.{n}_every" for n in ("eval", "checkpoint", "image")), every)
    config.update_from_flattened_dict(changes)
    check_config(config, source)
    pairs, validation = preparation.open_data(config, print)
    config = preparation.complete_config(config, pairs)
    going = run.build_run(config, pairs, validation, run.Report())
    going.state = going.devices.place(going.state)
    splits = {"validation": validation, "test": load_arrays(data, "test", multiple_of=64)}
    held = {name: split.device_dict() for name, split in splits.items()}
    found = {name: [] for name in splits}
    while going.step < steps:
        loop.train_chunk(going, monitor.Silent())
        if going.step % every == 0:
            arrays = state.inference_arrays(going.devices.single(going.state))
            for name, split in held.items():
                scores = jax.device_get(going.evaluate(*arrays, split)[0])
                means = {key: float(np.nanmean(values)) for key, values in scores.items()}
                found[name].append({"step": going.step} | means)
    return found


def chosen(found: dict[str, list[dict]], metric: str) -> int:
    """Returns the position of the evaluation that `metric` likes best on the validation split."""
    best, place = None, len(found["validation"]) - 1
    for at, scores in enumerate(found["validation"]):
        if evaluation.is_better(metric, scores[metric], best):
            best, place = scores[metric], at
    return place


def table(runs: list[dict[str, list[dict]]]) -> list[str]:
    """Returns the rows, in Markdown."""
    choices = [name for name in CHOICES["train.best_metric"] if name in runs[0]["validation"][0]]
    places = {name: [chosen(found, name) for found in runs] for name in choices}
    places["the last step"] = [-1] * len(runs)
    lines = [f"| chosen by | step | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 2) + "|"]
    for name, where in places.items():
        picked = [found["test"][at] for found, at in zip(runs, where, strict=True)]
        means = [np.mean([scores[key] for scores in picked]) for key in ("step", *SHOWN)]
        cells = [f"{means[0]:.0f}", *(f"{mean:.4f}" for mean in means[1:])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    best = []
    for key in SHOWN:
        pick = min if key in evaluation.LOWER_IS_BETTER else max
        best.append(np.mean([pick(scores[key] for scores in found["test"]) for found in runs]))
    lines.append(f"| best step for each score | | {' | '.join(f'{b:.4f}' for b in best)} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Trains what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="folders that preprocess wrote")
    parser.add_argument("--config", nargs="+", default=[f"{ROOT / 'configs' / 'smoke.py'}"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=25)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for all curves")
    options = parser.parse_args(arguments)
    use_compilation_cache()
    runs = []
    for seed in range(options.seeds):
        for data in options.data:
            for source in options.config:
                runs.append(curves(source, data, seed, options.steps, options.every))
                print(f"{source} {data} seed {seed}", flush=True)
                if options.out:
                    write_json(options.out, {"runs": runs})
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
