"""A cohort of your own, end to end: pairs, a model, its scores, a synthetic image per section.

python examples/own_cohort.py --manifest=FILE --out=DIR [--config=recommended]
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

import msi2he_jax as msi2he


def main(words: list[str] | None = None) -> None:
    """Writes DIR/pairs, DIR/run and DIR/SAMPLE_SYNTHETIC.ome.tif."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--config", default="recommended")
    parser.add_argument("--peaks", type=int, default=50)
    asked = parser.parse_args(words)
    asked.out.mkdir(parents=True, exist_ok=True)
    pairs, run = asked.out / "pairs", asked.out / "run"

    recipe = msi2he.make_recipe("recommended", peaks=asked.peaks)
    prepared = msi2he.preprocess_cohort(asked.manifest, pairs, recipe, overwrite=True)
    print(f"pairs: {prepared.provenance['counts']}")

    outcome = msi2he.train_model(asked.config, run, changes={"data.dir": str(pairs)})
    print(f"training: {outcome.reason} at step {outcome.step}")

    results = msi2he.evaluate_run(run)
    corrected = results["test"]["tissue"]["mi_corrected_nats"]["mean"]
    print(f"test split: corrected MI {corrected:.3f} nats in the tissue")

    model, test = msi2he.load_model(run), msi2he.load_arrays(pairs, "test")
    sizes = {s["sample_id"]: s["um_per_px"] for s in prepared.provenance["samples"]}
    for sample, msi in zip(test.sample_ids, test.msi, strict=True):
        image, um = np.round(255 * model.synthesize(msi)).astype(np.uint8), sizes[sample]
        msi2he.write_ome_tiff(asked.out / f"{sample}_SYNTHETIC.ome.tif", image, um_per_px=um)


if __name__ == "__main__":
    main()
