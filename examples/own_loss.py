"""Trains with a loss of your own: a U-Net whose reconstruction loss is Charbonnier's.

python examples/own_loss.py --data=PAIRS --workdir=DIR [--steps=500]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools

import jax.numpy as jnp

import msi2he_jax as msi2he
from msi2he_jax.training.methods import METHODS, generator, make_regression

SOFTNESS = 1e-3


def charbonnier(image, flow, part, others):
    """A smooth L1 of generated images `[B, H, W, 3]`: the mean root of squares, softened."""
    batch, _ = part
    loss = jnp.mean(jnp.sqrt((image - batch["image"]) ** 2 + SOFTNESS**2))
    return loss, ({"reconstruction": loss}, others)


def step(setup, state, batch, key):
    """One step of the generator, as `regression_step`, with the other loss."""
    examples = batch, generator.example_keys(setup, key, len(batch["msi"]))
    forward = functools.partial(generator.forward, setup, state.generator.params)
    grads, (stats, _) = generator.generator_grads(setup, state, examples, charbonnier, forward)
    return generator.complete_step(setup, state, grads, stats)


def make_method(setup):
    """The method: all of regression but its step."""
    return dataclasses.replace(make_regression(setup), step=functools.partial(step, setup))


def main(words: list[str] | None = None) -> None:
    """Trains, and prints how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--config", default="unet:fair")
    parser.add_argument("--steps", type=int, default=500)
    asked = parser.parse_args(words)
    METHODS["regression"] = make_method
    changes = {"data.dir": asked.data, "train.steps": asked.steps}
    outcome = msi2he.train_model(asked.config, asked.workdir, changes=changes)
    print(f"{outcome.reason} at step {outcome.step}")


if __name__ == "__main__":
    main()
