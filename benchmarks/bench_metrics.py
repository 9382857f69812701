"""SSIM and MI against scikit-image and NumPy:  python -m benchmarks.bench_metrics"""

from __future__ import annotations

import argparse
import functools

import jax
import numpy as np
from skimage.metrics import structural_similarity as skimage_ssim

from benchmarks import harness
from benchmarks.harness import Variant
from msi2he_jax.metrics.information import mutual_information
from msi2he_jax.metrics.similarity import structural_similarity


def images(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two float32 [count, side, side, 3] in [0, 1], the second a noisy first."""
    random = np.random.default_rng(0)
    coarse = random.random((count, side // 8, side // 8, 3), dtype=np.float32)
    first = np.kron(coarse, np.ones((1, 8, 8, 1), np.float32))
    noise = random.normal(0, 0.1, first.shape).astype(np.float32)
    return first, np.clip(first + noise, 0, 1)


def ssim_table(side: int, count: int, gaussian: bool) -> dict:
    """Times SSIM of `count` RGB images of `side` px."""
    a, b = images(count, side)
    on_device = jax.device_put((a, b))
    options = {"data_range": 1.0, "channel_axis": -1}
    options |= {"gaussian_weights": True, "use_sample_covariance": False} if gaussian else {}
    ours = jax.jit(functools.partial(structural_similarity, data_range=1.0, gaussian=gaussian))
    variants = [
        Variant("msi2he_jax", lambda: ours(*on_device).block_until_ready(), count),
        Variant(
            "scikit-image",
            lambda: [skimage_ssim(x, y, **options) for x, y in zip(a, b, strict=True)],
            count,
            peer=True,
        ),
    ]
    return {"unit": "image pairs", "rows": harness.measure(variants, rounds=3 if count > 16 else 5)}


def mi_table(side: int, count: int, bins: int = 256) -> dict:
    """Times MI of `count` grey images of `side` px."""
    a, b = (image[..., 0] for image in images(count, side))
    on_device = jax.device_put((a, b))
    ours = jax.jit(functools.partial(mutual_information, bins=bins))
    pairs = list(zip(a, b, strict=True))
    variants = [
        Variant("msi2he_jax", lambda: ours(*on_device).block_until_ready(), count),
        Variant(
            "np.histogram2d", lambda: [_by_histogram(x, y, bins) for x, y in pairs], count, True
        ),
        Variant("np.bincount", lambda: [_by_bincount(x, y, bins) for x, y in pairs], count, True),
    ]
    return {"unit": "image pairs", "rows": harness.measure(variants, rounds=3 if count > 16 else 5)}


def _by_histogram(x: np.ndarray, y: np.ndarray, bins: int) -> float:
    edges = [[0, 1], [0, 1]]
    return _information(np.histogram2d(x.ravel(), y.ravel(), bins=bins, range=edges)[0])


def _by_bincount(x: np.ndarray, y: np.ndarray, bins: int) -> float:
    i, j = (np.minimum((v * bins).astype(np.int64), bins - 1) for v in (x, y))
    counts = np.bincount((i * bins + j).ravel(), minlength=bins * bins)
    return _information(counts.reshape(bins, bins))


def _information(counts: np.ndarray) -> float:
    joint = counts / counts.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / apart[filled])).sum())


def main(gpu: bool = False) -> None:
    """Runs all tables and prints where they are stored; on a card more images at once."""
    many, few = (256, 16) if gpu else (16, 2)
    jobs = {
        "SSIM 7x7, 256 px": lambda: ssim_table(256, many, gaussian=False),
        "SSIM 7x7, 1024 px": lambda: ssim_table(1024, few, gaussian=False),
        "SSIM Gaussian 11x11, 256 px": lambda: ssim_table(256, many, gaussian=True),
        "SSIM Gaussian 11x11, 1024 px": lambda: ssim_table(1024, few, gaussian=True),
        "MI 256 bins, 256 px": lambda: mi_table(256, many),
    }
    keep = functools.partial(harness.save, "metrics")
    print(keep(*harness.run_tables(jobs, 90 if gpu else 1e9, keep)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="batches for a graphics card")
    main(parser.parse_args().gpu)
