"""Whole pix2pix training steps:  python -m benchmarks.bench_train_step [--full]

Compares the lowerings of the strided and transposed convolutions. Without --full the networks are a
quarter as wide and images half as large, so that a CPU finishes. Data are random: throughput does
not depend on them.
"""

from __future__ import annotations

import argparse
import functools

import jax
import numpy as np

from benchmarks import harness
from benchmarks.harness import Variant
from msi2he_jax.config import default_config
from msi2he_jax.training.optimizer import make_optimizer
from msi2he_jax.training.state import build_graphs, create_train_state
from msi2he_jax.training.step import make_recipe, train_step

CHANNELS = 50


def config_of(features: int, depth: int, lowering: str):
    """Returns pix2pix' configuration at a given width, depth and lowering."""
    config = default_config()
    config.model.in_channels = CHANNELS
    config.model.features = config.discriminator.features = features
    config.model.depth = depth
    config.model.lowering = lowering
    return config


def jax_step(config, batch: dict):
    """Returns a call that takes one step and waits for it."""
    rate = {"steps": 1000, "steps_per_epoch": 100, "learning_rate": 2e-4}
    optimizers = tuple(make_optimizer(config.optimizer, **rate) for _ in range(2))
    recipe = make_recipe(config, build_graphs(config), optimizers)
    step = jax.jit(functools.partial(train_step, recipe), donate_argnums=0)
    held = [create_train_state(config, *optimizers)]
    key = jax.random.key(0)

    def call() -> None:
        held[0], metrics = step(held[0], batch, key)
        jax.block_until_ready(metrics)

    return call


def random_batch(size: int, side: int) -> dict[str, np.ndarray]:
    """Returns `msi` [B, H, W, K] in [0, 1] and `image` [B, H, W, 3] in [-1, 1], float32."""
    random = np.random.default_rng(0)
    msi = random.random((size, side, side, CHANNELS), dtype=np.float32)
    return {"msi": msi, "image": 2 * random.random((size, side, side, 3), dtype=np.float32) - 1}


def table(size: int, side: int, features: int, depth: int) -> dict:
    """Times a step of `size` images of `side` px with every lowering."""
    batch = random_batch(size, side)
    on_device = jax.device_put(batch)
    lowerings = ("auto", "vjp", "matmul", "plain")
    variants = [
        Variant(f"msi2he_jax, {name}", jax_step(config_of(features, depth, name), on_device), size)
        for name in lowerings
    ]
    return {"unit": "images", "rows": harness.measure(variants)}


def main(full: bool = False) -> None:
    """Runs the tables and prints where they are stored."""
    sizes = [(1, 256, 64, 8), (4, 256, 64, 8)] if full else [(4, 128, 16, 7)]
    tables = {
        f"training step, {side} px, {features} features, batch {size}": table(
            size, side, features, depth
        )
        for size, side, features, depth in sizes
    }
    print(harness.save("train_step", tables))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the published widths, at 256 px")
    main(parser.parse_args().full)
