"""Adam and its learning-rate schedule, per step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def steps_per_epoch(config: Any, examples: int) -> int:
    """Returns how many batches make an epoch of `examples` pairs; a last part of one counts not."""
    return max(1, examples // config.train.batch_size)


def make_schedule(
    config: Any, *, steps: int, steps_per_epoch: int, learning_rate: float
) -> Callable[[jax.Array | int], jax.Array | float]:
    """Returns the learning rate as a function of the step.

    `linear` is pix2pix' rule in whole epochs: constant, then falling in equal parts. `exact` steps
    it at the start of each epoch as PyTorch's code does since 2020, so that the last epoch runs at
    0; `fixed` at the end, so that it runs at 1 / (decaying epochs + 1).

    Args:
        config: Section `optimizer`: `schedule`, `schedule_form`, `decay_from`.
        steps: Steps of the whole training.
        steps_per_epoch: Batches that show every example once.
        learning_rate: The constant part.

    Source: `get_scheduler` of pytorch-CycleGAN-and-pix2pix, with `epoch_count=1`.
    """
    if config.schedule == "constant":
        return lambda step: learning_rate
    epochs, constant, late = _epochs(config, steps, steps_per_epoch)

    def rate(step: jax.Array | int) -> jax.Array:
        epoch = jnp.asarray(step) // steps_per_epoch + late
        past = jnp.maximum(0, epoch + 1 - constant).astype(float)  # float64 where it is enabled
        return learning_rate * jnp.maximum(0.0, 1.0 - past / (epochs - constant + 1))

    return rate


def decay_begins(config: Any, *, steps: int, steps_per_epoch: int) -> int:
    """Returns the first step that a schedule takes at less than the full rate; 0 if it is constant.

    Args:
        config: Section `optimizer`.
        steps: Steps of the whole training.
        steps_per_epoch: Batches that show every example once.
    """
    if config.schedule == "constant":
        return 0
    _, constant, late = _epochs(config, steps, steps_per_epoch)
    return max(0, constant - late) * steps_per_epoch


def _epochs(config: Any, steps: int, steps_per_epoch: int) -> tuple[int, int, int]:
    """Epochs in all, those before the decay, and by how many `schedule_form` is ahead."""
    epochs = max(1, -(-steps // steps_per_epoch))
    constant = min(epochs, round(config.decay_from * epochs))
    return epochs, constant, 1 if config.schedule_form == "exact" else 0


def make_optimizer(
    config: Any, *, steps: int, steps_per_epoch: int, learning_rate: float
) -> optax.GradientTransformationExtraArgs:
    """Returns bias-corrected Adam with epsilon outside the root, as PyTorch and Keras have it.

    Args:
        config: Section `optimizer`.
        steps: Steps of the whole training.
        steps_per_epoch: Batches that show every example once.
        learning_rate: Of the schedule's constant part.
    """
    schedule = make_schedule(
        config, steps=steps, steps_per_epoch=steps_per_epoch, learning_rate=learning_rate
    )
    decay = {"weight_decay": config.weight_decay} if config.weight_decay else {}
    return adam(schedule, b1=config.b1, b2=config.b2, eps=config.eps, **decay)


def adam(
    schedule: Callable[[jax.Array], jax.Array | float],
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.adam` that can leave a step out: `update(..., accept=False)` keeps its state.

    Choosing between old and new moments afterwards would cost as much as Adam itself: XLA then
    computes the moments twice and copies them. The updates of a step left out mean nothing.

    Args:
        schedule: The learning rate as a function of the steps taken.
        b1: Decay of the first moment.
        b2: Decay of the second.
        eps: Added to the root of the second.
        weight_decay: Part of each parameter, times the learning rate, taken off in each step.

    Source: Kingma and Ba 2015; Loshchilov and Hutter 2019; operation by operation as `optax.adam`
    and `optax.adamw`.
    """

    def update(gradient, state, params=None, *, accept=True):
        def moved(decay: float, old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(accept, (1 - decay) * new + decay * old, old)

        mu = jax.tree.map(lambda m, g: moved(b1, m, g), state.mu, gradient)
        nu = jax.tree.map(lambda v, g: moved(b2, v, g**2), state.nu, gradient)
        count = optax.safe_increment(state.count)
        first, second = 1 - b1**count, 1 - b2**count
        rate = -1 * schedule(state.count)

        def step(m: jax.Array, v: jax.Array, *weight: jax.Array) -> jax.Array:
            found = m / first.astype(m.dtype) / (jnp.sqrt(v / second.astype(v.dtype)) + eps)
            if weight:
                found = found + weight_decay * weight[0]
            return jnp.asarray(rate, found.dtype) * found

        count = jnp.where(accept, count, state.count)
        weights = (params,) if weight_decay else ()
        return jax.tree.map(step, mu, nu, *weights), optax.ScaleByAdamState(count, mu, nu)

    init = optax.scale_by_adam(b1, b2, eps).init
    return optax.GradientTransformationExtraArgs(init, update)


def flow_optimizer(
    config: Any, generator_optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns the flow network's optimiser: the generator's, at the rate of section `flow`.

    Args:
        config: The whole configuration.
        generator_optimizer: Adam, or any other whose updates are proportional to its rate.
    """
    if not config.flow.learning_rate:
        return generator_optimizer
    factor = config.flow.learning_rate / config.optimizer.learning_rate
    return optax.chain(generator_optimizer, optax.scale(factor))
