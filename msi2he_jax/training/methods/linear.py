"""A linear map from MSI to colours: solved in closed form before the first step."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from msi2he_jax.training.methods import generator
from msi2he_jax.training.methods.initial import initial_state
from msi2he_jax.training.methods.setup import Batch, Method, Metrics, Setup
from msi2he_jax.training.state import TrainState, apply_network, inference_arrays


def make_linear(setup: Setup) -> Method:
    """Returns the method of a linear map."""
    return Method(
        name="linear",
        init=functools.partial(initial_state, setup),
        step=functools.partial(linear_step, setup),
        finish=inference_arrays,
        synthesize=functools.partial(generator.synthesize, setup),
    )


def linear_step(
    setup: Setup, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """Measures the loss of a batch; nothing is left to learn, and `key` is not used.

    Returns:
        The state with its counters moved; `reconstruction` and `skipped`.
    """
    del key  # nothing is drawn
    network = state.generator
    arrays = setup.graphs.generator, network.params, network.stats
    image, _ = apply_network(*arrays, batch["msi"], train=True)
    _, metrics = generator.reconstruction(setup, image, None, batch)
    metrics = generator.mean_over_devices(metrics, setup.axis_name)
    finite = generator.all_finite(metrics)
    metrics["skipped"] = 1.0 - finite.astype(jnp.float32)
    return generator.count_step(state, finite), metrics
