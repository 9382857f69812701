"""The metrics on images of your own: MI, corrected MI, SSIM and PSNR, on the frame and in a mask.

python examples/metrics_alone.py REAL.png SYNTHETIC.png [MASK.png]
"""

from __future__ import annotations

import sys

import jax
import numpy as np
from PIL import Image

import msi2he_jax as msi2he


def read(path: str, mode: str) -> np.ndarray:
    """Reads an image as float32 in [0, 1] with a leading axis, `[1, H, W]` or `[1, H, W, 3]`."""
    return np.asarray(Image.open(path).convert(mode), np.float32)[None] / 255.0


def scores(real: np.ndarray, fake: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Scores images `[1, H, W, 3]` in [0, 1] in a mask `[1, H, W]`; MI of grey levels, 64 bins."""
    grey, key = (real.mean(axis=-1), fake.mean(axis=-1)), jax.random.key(0)
    found = {
        "MI, nats": msi2he.mutual_information(*grey, bins=64, mask=mask),
        "MI corrected, nats": msi2he.corrected_mutual_information(
            *grey, key=key, bins=64, mask=mask
        ),
        "SSIM": msi2he.structural_similarity(real, fake, data_range=1.0, mask=mask),
        "PSNR, dB": msi2he.psnr(real, fake, data_range=1.0, mask=mask),
    }
    return {name: float(value[0]) for name, value in found.items()}


def main(words: list[str] | None = None) -> None:
    """Prints the scores."""
    paths = sys.argv[1:] if words is None else words
    real, fake = (read(path, "RGB") for path in paths[:2])
    masks = {"frame": np.ones(real.shape[:3], bool)}
    if len(paths) > 2:
        masks["mask"] = read(paths[2], "L") > 0.5
    for name, mask in masks.items():
        for score, value in scores(real, fake, mask).items():
            print(f"{name}: {score} {value:.4f}")


if __name__ == "__main__":
    main()
