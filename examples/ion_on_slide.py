"""One ion's image on the slide: registers all ions, then draws one where the slide's tissue is.

python examples/ion_on_slide.py --manifest=FILE --mz=788.55 --out=ion.png [--sample=ID]
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from PIL import Image

import msi2he_jax as msi2he


def main(words: list[str] | None = None) -> None:
    """Writes the slide in grey, the ion over it in red, at the pixel size of registration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--mz", type=float, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sample", help="default: the first")
    asked = parser.parse_args(words)
    samples = msi2he.read_manifest(asked.manifest)
    sample = next(s for s in samples if asked.sample in (None, s.sample_id))

    pair = msi2he.section_pair(sample, msi2he.msi_picture("ions", sample))
    found = msi2he.coregister(pair)
    print(f"{sample.sample_id}: {found.verdict.word}; {found.verdict.reason}")

    ion = msi2he.msi_picture(f"ion:{asked.mz}", sample)
    slide = pair.slide
    between_images = found.transform.in_images(ion.origin_um, slide.origin_um)
    on_slide = between_images.inverse().warp(
        ion.picture[..., 0].astype(np.float32),
        source_um_per_px=ion.um_per_px,
        out_shape=slide.pixels.shape[:2],
        out_um_per_px=slide.um_per_px,
    )
    grey = np.repeat(slide.pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    share = (on_slide / max(on_slide.max(), 1e-6))[..., None]
    blended = (1 - share) * grey + share * np.array([255.0, 0.0, 0.0])
    Image.fromarray(blended.round().astype(np.uint8)).save(asked.out)


if __name__ == "__main__":
    main()
