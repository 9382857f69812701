"""The README's picture: MSI, synthetic H&E, real H&E and difference of test sections of a demo.

python examples/panels.py [--run=runs/demo/pix2pix] [--data=data/pairs] [--out=docs/panels.png]
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from PIL import Image

from msi2he_jax.data.loader import load_arrays
from msi2he_jax.inference import load_model
from msi2he_jax.inference.tiled import to_uint8
from msi2he_jax.reporting.figures import difference

SIDE_PX, GAP_PX = 220, 6


def panel(pixels: np.ndarray) -> np.ndarray:
    """Fits uint8 [h, w, 3] into a white square of SIDE_PX."""
    scale = SIDE_PX / max(pixels.shape[:2])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    square = Image.new("RGB", (SIDE_PX + GAP_PX, SIDE_PX + GAP_PX), "white")
    square.paste(image, ((SIDE_PX - size[0]) // 2, (SIDE_PX - size[1]) // 2))
    return np.asarray(square)


def row(view: np.ndarray, fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Returns one section's four panels side by side, each uint8 [h, w, 3]."""
    return np.concatenate([panel(p) for p in (view, fake, real, difference(fake, real))], axis=1)


def main() -> None:
    """Synthesises the test split and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=pathlib.Path, default=pathlib.Path("runs/demo/pix2pix"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/pairs"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/panels.png"))
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    arrays = load_arrays(options.data, "test")
    fakes = to_uint8(np.asarray(load_model(options.run).apply(arrays.msi)))
    rows = []
    for index in range(min(options.rows, len(arrays))):
        height, width = arrays.extent_px[index]
        pictures = (arrays.view[index], fakes[index], arrays.histology[index])
        rows.append(row(*(picture[:height, :width] for picture in pictures)))
    Image.fromarray(np.concatenate(rows)).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
