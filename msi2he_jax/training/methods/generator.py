"""A generator's update, as every method that trains one by gradients makes it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from msi2he_jax.data import sampling
from msi2he_jax.models.layers import fold_in
from msi2he_jax.training import losses
from msi2he_jax.training.accumulation import mean_over_parts
from msi2he_jax.training.methods.setup import Batch, Metrics, Setup
from msi2he_jax.training.state import Average, Network, TrainState, apply_network

Part = tuple[Batch, jax.Array]  # examples, and the key of each
DROPOUT = 0  # what an example's key is folded with


class Forward(NamedTuple):
    """One pass of the generator: its image, from a gradient by the image to one by the
    parameters, its statistics afterwards.
    """

    image: jax.Array
    pull_back: Callable[[jax.Array], tuple[Any]]
    stats: Any


class GeneratorGrads(NamedTuple):
    """What a generator and a flow network learn from one batch, averaged over devices."""

    generator: Any
    flow: Any
    metrics: Metrics


def example_keys(setup: Setup, key: jax.Array, count: int) -> jax.Array:
    """Returns keys `[count]` of the examples that are here.

    Each follows from the example's place in the batch of all devices, so that how devices and
    microbatches share a batch changes nothing.

    Args:
        setup: Of the method.
        key: Of the step.
        count: Examples on this device.
    """
    first = 0 if setup.axis_name is None else count * jax.lax.axis_index(setup.axis_name)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(first + jnp.arange(count))


def forward(setup: Setup, params: Any, stats: Any, part: Part) -> Forward:
    """Generates images `[B, H, W, 3]` of a part, ready for the gradient."""
    batch, keys = part
    config = setup.config
    modes = {
        "train": True,
        "norm": "batch",
        "dropout_key": fold_in(keys, DROPOUT) if config.model.dropout > 0 else None,
        "remat": config.train.remat,
    }

    def generate(params):
        return apply_network(setup.graphs.generator, params, stats, batch["msi"], **modes)

    return Forward(*jax.vjp(generate, params, has_aux=True))


def reconstruction(
    setup: Setup, image: jax.Array, flow: Any | None, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """Returns `lambda_l1` times the reconstruction loss, as a function of image and flow network.

    With a flow network (RegGAN, Kong et al. 2021) the image is moved onto the real one first, and
    rough displacements cost.

    Args:
        setup: Of the method.
        image: `[B, H, W, 3]` float in [-1, 1], generated.
        flow: Parameters of the flow network, or None.
        batch: As of `Method.step`.
    """
    loss, total, metrics = setup.config.loss, 0.0, {}
    if flow is not None:
        moves = apply_network(setup.graphs.flow, flow, {}, image, batch["image"])[0]
        image = sampling.displace(image, moves)
        metrics["flow_px"] = jnp.mean(jnp.linalg.norm(jax.lax.stop_gradient(moves), axis=-1))
        metrics["flow_roughness"] = losses.roughness(moves)
        total = loss.lambda_l1 * setup.config.flow.smoothness * metrics["flow_roughness"]
    pixel_weights = None
    if loss.background_weight != 1.0:
        pixel_weights = jnp.where(batch["tissue_mask"], 1.0, loss.background_weight)
    metrics["reconstruction"] = losses.reconstruction_loss(
        image,
        batch["image"],
        kind=loss.reconstruction,
        levels=loss.pyramid_levels,
        pixel_weights=pixel_weights,
    )
    return total + loss.lambda_l1 * metrics["reconstruction"], metrics


def generator_grads(
    setup: Setup,
    state: TrainState,
    examples: Part,
    objective: Callable[..., tuple[jax.Array, tuple[Metrics, Any]]],
    generate: Callable[[Any, Part], Forward],
    others: Any = None,
) -> tuple[GeneratorGrads, tuple[Any, Any]]:
    """Takes the gradients of a generator (and a flow network) over all parts of a batch.

    Args:
        setup: Of the method.
        state: Before the step.
        examples: The batch and its keys.
        objective: `(image, flow, part, others) -> loss, (metrics, others)`.
        generate: `(stats, part) -> Forward`.
        others: What else is handed from part to part, such as a discriminator's statistics.

    Returns:
        The gradients, and statistics of the generator with `others` after the last part.
    """
    flow = None if state.flow is None else state.flow.params

    def of_part(carry, part):
        stats, others = carry
        image, pull_back, stats = generate(stats, part)
        grads = jax.grad(objective, (0, 1), has_aux=True)
        (by_image, by_flow), (metrics, others) = grads(image, flow, part, others)
        return (stats, others), (pull_back(by_image)[0], by_flow, metrics)

    carry = (state.generator.stats, others)
    carry, found = mean_over_parts(of_part, carry, examples, setup.config.train.microbatches)
    return GeneratorGrads(*mean_over_devices(found, setup.axis_name)), carry


def shared_statistics(setup: Setup, stats: Any) -> Any:
    """Averages statistics that devices took on their own parts, so that there is one state."""
    on_their_own = setup.config.statistics == "device"
    return mean_over_devices(stats, setup.axis_name) if on_their_own else stats


def mean_over_devices(tree: Any, axis_name: str | None) -> Any:
    """Averages over the mapped axis: gradients, since the gradient of a mean would be wrong."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def all_finite(tree: Any) -> jax.Array:
    """Returns a bool scalar, whether all is finite: by each array's largest, without flags."""
    largest = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.isfinite(jnp.stack(largest)))


def update_network(
    optimizer: optax.GradientTransformationExtraArgs,
    network: Network,
    grads: Any,
    stats: Any,
    accept: jax.Array | bool = True,
) -> Network:
    """Takes a step of a network's optimiser where `accept` (bool scalar), else changes nothing."""
    updates, state = optimizer.update(grads, network.optimizer, network.params, accept=accept)
    params = optax.apply_updates(network.params, updates)
    kept = select(accept, (params, stats), (network.params, network.stats))
    return Network(*kept, state)


def select(accept: jax.Array | bool, new: Any, old: Any) -> Any:
    """Returns `new` where `accept` (bool scalar), else `old`, leaf by leaf."""
    return jax.tree.map(lambda after, before: jnp.where(accept, after, before), new, old)


def complete_step(
    setup: Setup,
    state: TrainState,
    grads: GeneratorGrads,
    stats: Any,
    discriminator: Network | None = None,
    finite: jax.Array | bool = True,
) -> tuple[TrainState, Metrics]:
    """Updates generator, flow network, average and counters; nothing but counters if not finite.

    Args:
        setup: Of the method.
        state: Before the step.
        grads: Of the generator and the flow network.
        stats: The generator's statistics afterwards.
        discriminator: As updated in this step, or None.
        finite: Bool scalar, whether all was so far.
    """
    finite &= all_finite(grads)
    update = functools.partial(update_network, accept=finite)
    optimizers = setup.optimizers
    generator = update(optimizers.generator, state.generator, grads.generator, stats)
    flow = state.flow
    if flow is not None:
        flow = update(optimizers.flow, flow, grads.flow, flow.stats)
    average = moving_average(setup.config.ema, state, generator)
    new = dataclasses.replace(
        count_step(state, finite),
        generator=generator,
        discriminator=select(finite, discriminator, state.discriminator),
        average=select(finite, average, state.average),
        flow=flow,
    )
    return new, grads.metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}


def moving_average(decay: float, state: TrainState, generator: Network) -> Average | None:
    """Moves the average; early on faster, so that the random start is soon forgotten."""
    if state.average is None:
        return None
    steps = (state.step - state.skipped).astype(jnp.float32)
    keep = jnp.minimum(decay, (1.0 + steps) / (10.0 + steps))

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return (keep * old + (1.0 - keep) * new).astype(old.dtype)

    now = Average(generator.params, generator.stats)
    return jax.tree.map(move, state.average, now)


def count_step(state: TrainState, finite: jax.Array) -> TrainState:
    """Counts a step, and where it was not `finite` (bool scalar) a skipped one."""
    return dataclasses.replace(
        state,
        step=state.step + 1,
        skipped=state.skipped + (~finite).astype(jnp.int32),
        skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
    )


def synthesize(
    setup: Setup,
    params: Any,
    stats: Any,
    msi: jax.Array,
    *,
    norm: str,
    dropout_key: jax.Array | None,
) -> jax.Array:
    """Generates images `[B, H, W, 3]` from `msi` `[B, H, W, K]`, as `Method.synthesize` says."""
    modes = {"train": False, "norm": norm, "dropout_key": dropout_key}
    return apply_network(setup.graphs.generator, params, stats, msi, **modes)[0]
