"""Coregisters the sections of a manifest from Python, and prints what is known of each.

python examples/coregister.py --manifest=FILE [--moving=pca] [--deformable] [--out=DIR]
"""

from __future__ import annotations

import argparse
import pathlib

import msi2he_jax as msi2he


def main(words: list[str] | None = None) -> None:
    """Aligns section after section; writes DIR/SAMPLE/transform.json and its other forms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--moving", default="pca")
    parser.add_argument("--deformable", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    asked = parser.parse_args(words)
    options = msi2he.CoregisterOptions(deformable=asked.deformable)
    for sample in msi2he.read_manifest(asked.manifest):
        pair = msi2he.section_pair(sample, msi2he.msi_picture(asked.moving, sample))
        found = msi2he.coregister(pair, options)
        error, sure = found.scores["tre_median_um"], found.uncertainty.median_um
        known = "no landmarks" if error is None else f"{error:.1f} um off the eval landmarks"
        print(f"{sample.sample_id}: {known}, certain to {sure:.1f} um; {found.transform}")
        for warning in [*pair.warnings, *found.warnings]:
            print(f"  warning: {warning}")
        if asked.out:
            (asked.out / sample.sample_id).mkdir(parents=True, exist_ok=True)
            msi2he.write_transform(asked.out / sample.sample_id, found.record)


if __name__ == "__main__":
    main()
