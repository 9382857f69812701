"""What a training method is, and what its functions are built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from msi2he_jax.training.optimizer import flow_optimizer, make_optimizer, steps_per_epoch
from msi2he_jax.training.state import Graphs, TrainState, build_graphs

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train, as functions.

    Attributes:
        name: Key of `methods.METHODS`.
        init: `(data, note) -> TrainState` before the first step. With `data`, the training split,
            what can be solved in closed form is solved, and `note` is told; with None it is left at
            zero, as for a state that a checkpoint fills. A function of the seed and the data.
        step: `(state, batch, key) -> (state, metrics)`, pure. `batch` holds `msi` `[B, H, W, K]`
            float in [0, 1], `image` `[B, H, W, 3]` float in [-1, 1] and `tissue_mask` `[B, H, W]`
            bool; `key` is of this step. Metrics are float32 scalars; `skipped` is 1 where a loss or
            a gradient was not finite, and nothing but the counters has changed.
        finish: `state -> (params, stats)`: what synthesises, of a state at any step.
        synthesize: `(params, stats, msi, norm=, dropout_key=) -> image`, `[B, H, W, 3]` float in
            [-1, 1]; `norm` is `batch` or `running`, `dropout_key` None for no dropout.
    """

    name: str
    init: Callable[..., TrainState]
    step: Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
    finish: Callable[[TrainState], tuple[Any, Any]]
    synthesize: Callable[..., jax.Array]


class Optimizers(NamedTuple):
    """Of the networks; of the flow network None where there is none."""

    generator: optax.GradientTransformationExtraArgs
    discriminator: optax.GradientTransformationExtraArgs
    flow: optax.GradientTransformation | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What a method's functions share; an option that is off leaves no trace in the program.

    Attributes:
        config: The whole configuration.
        graphs: The networks without their arrays.
        optimizers: As `optimizer.adam` they can leave a step out.
        axis_name: Mapped axis over which gradients and losses are averaged, or None.
    """

    config: Any
    graphs: Graphs
    optimizers: Optimizers
    axis_name: str | None = None


def make_setup(config: Any, *, examples: int = 1, axis_name: str | None = None) -> Setup:
    """Builds networks and optimisers; arguments as of `methods.make_method`."""
    optimizers = build_optimizers(config, examples)
    return Setup(config, build_graphs(config, axis_name), optimizers, axis_name)


def build_optimizers(config: Any, examples: int) -> Optimizers:
    """Returns the networks' optimisers.

    Args:
        config: The whole configuration.
        examples: Pairs of the training split.
    """
    settings = config.optimizer
    epoch = steps_per_epoch(config, examples)
    schedule = {"steps": config.train.steps, "steps_per_epoch": epoch}
    rates = (settings.learning_rate, settings.d_learning_rate or settings.learning_rate)
    first, second = (make_optimizer(settings, learning_rate=rate, **schedule) for rate in rates)
    flow = flow_optimizer(config, first) if config.flow.enabled else None
    return Optimizers(first, second, flow)
