"""A generator that learns from pixels alone: the paper's U-Net, and any other without adversary."""

from __future__ import annotations

import functools

import jax

from msi2he_jax.training.methods import generator
from msi2he_jax.training.methods.initial import initial_state
from msi2he_jax.training.methods.setup import Batch, Method, Metrics, Setup
from msi2he_jax.training.state import TrainState, inference_arrays


def make_regression(setup: Setup) -> Method:
    """Returns the method of a generator and a reconstruction loss."""
    return Method(
        name="regression",
        init=functools.partial(initial_state, setup),
        step=functools.partial(regression_step, setup),
        finish=inference_arrays,
        synthesize=functools.partial(generator.synthesize, setup),
    )


def regression_step(
    setup: Setup, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """Takes one step of the generator, as `Method.step` says; `key` is a PRNG key.

    Returns:
        The state after the step; `reconstruction`, `skipped`, and with a flow network `flow_px`
        (mean displacement) and `flow_roughness`.
    """
    examples = batch, generator.example_keys(setup, key, len(batch["msi"]))
    generate = functools.partial(generator.forward, setup, state.generator.params)

    def objective(image, flow, part, others):
        loss, metrics = generator.reconstruction(setup, image, flow, part[0])
        return loss, (metrics, others)

    grads, (stats, _) = generator.generator_grads(setup, state, examples, objective, generate)
    return generator.complete_step(setup, state, grads, generator.shared_statistics(setup, stats))
