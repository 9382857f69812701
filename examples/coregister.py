"""Coregisters sections, says what is known of each, and moves the slide's annotations to the MSI.

python examples/coregister.py --manifest=FILE [--moving=ions] [--deformable] [--out=DIR]
    [--annotations=SLIDE.geojson --slide_um_per_px=0.5]
"""

from __future__ import annotations

import argparse
import pathlib

import msi2he_jax as msi2he


def main(words: list[str] | None = None) -> None:
    """Aligns section after section; writes DIR/SAMPLE/transform.json and its other forms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--moving", default="ions")
    parser.add_argument("--deformable", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--annotations", type=pathlib.Path, help="QuPath's, of the slide")
    parser.add_argument("--slide_um_per_px", type=float, help="of the annotations' pixels")
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
        if asked.out and asked.annotations:
            onto_msi = msi2he.ApplyOptions("msi", input_um_per_px=asked.slide_um_per_px)
            moved = asked.out / sample.sample_id / "annotations.geojson"
            files = asked.annotations, moved
            print(msi2he.transform_annotations(found.record, *files, onto_msi))


if __name__ == "__main__":
    main()
