"""What training changes from step to step, and how it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from msi2he_jax.models import FlowNet, build_discriminator, build_generator, layers

_KEPT = {
    "activations": jax.checkpoint_policies.save_only_these_names(layers.CONVOLVED),
    "networks": jax.checkpoint_policies.nothing_saveable,
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """The arrays of one network.

    Attributes:
        params: `nnx.State` of `nnx.Param`.
        stats: `nnx.State` of `nnx.BatchStat`.
        optimizer: State of its optimiser.
    """

    params: Any
    stats: Any
    optimizer: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Average:
    """Moving averages of a generator's parameters and statistics."""

    params: Any
    stats: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a checkpoint must hold for a resumed run to equal an uninterrupted one.

    Attributes:
        step: int32 scalar, steps taken, skipped ones included.
        skipped: int32 scalar, steps whose loss or gradients were not finite.
        skipped_in_a_row: int32 scalar, how many of these came last.
        generator: The generator.
        discriminator: The discriminator, or None.
        average: Moving average of the generator, or None.
        flow: The network that registers synthetic to real images, or None.
    """

    step: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    generator: Network
    discriminator: Network | None
    average: Average | None
    flow: Network | None = None


@dataclasses.dataclass(frozen=True)
class Graphs:
    """What does not change: how the arrays of a network fit together (`nnx.GraphDef`, hashable)."""

    generator: Any
    discriminator: Any | None
    flow: Any | None = None


def build_graphs(config: Any, axis_name: str | None = None) -> Graphs:
    """Returns the networks of `config` without their arrays; nothing is computed.

    Args:
        config: The whole configuration, `model.in_channels` included.
        axis_name: Mapped axis to synchronise batch statistics over, or None; with
            `statistics=device` nothing is synchronised.

    Raises:
        InputError: a value that no network has.
    """

    def graph(build: Callable[..., nnx.Module], *options: Any) -> Any:
        return jax.eval_shape(lambda: _split(build(config, *options)))[0]

    axis_name = axis_name if config.statistics == "all" else None
    adversarial = config.discriminator.name != "none"
    return Graphs(
        generator=graph(_generator, axis_name),
        discriminator=graph(_discriminator, axis_name) if adversarial else None,
        flow=graph(_flow) if config.flow.enabled else None,
    )


def parameter_shapes(config: Any) -> tuple[Any, Any]:
    """Returns shapes and dtypes of the generator's parameters and statistics; computes nothing."""
    return jax.eval_shape(lambda: _split(_generator(config)))[1:]


def discriminator_shapes(config: Any) -> tuple[Any, Any]:
    """Returns shapes and dtypes of the discriminator's parameters and statistics."""
    return jax.eval_shape(lambda: _split(_discriminator(config)))[1:]


def create_train_state(
    config: Any,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    flow_optimizer: optax.GradientTransformation | None = None,
) -> TrainState:
    """Returns the state before the first step; a function of `config.seed` alone.

    Args:
        config: The whole configuration, `model.in_channels` included.
        generator_optimizer: The generator's optimiser.
        discriminator_optimizer: The discriminator's.
        flow_optimizer: The flow network's, where there is one.
    """

    def create() -> TrainState:
        generator = _begin(_generator(config), generator_optimizer)
        adversarial = config.discriminator.name != "none"
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
            generator=generator,
            discriminator=_begin(_discriminator(config), discriminator_optimizer)
            if adversarial
            else None,
            average=Average(generator.params, generator.stats) if config.ema else None,
            flow=_begin(_flow(config), flow_optimizer) if config.flow.enabled else None,
        )

    # A copy, since the average must not share its arrays with what a donated call overwrites.
    return jax.tree.map(jnp.copy, jax.jit(create)())


def apply_network(
    graph: Any, params: Any, stats: Any, *inputs: Any, remat: str = "none", **modes: Any
) -> tuple[Any, Any]:
    """Applies a network to its arrays: returns its output and its statistics afterwards.

    Args:
        graph: `nnx.GraphDef` of the network.
        params: Its parameters.
        stats: Its statistics.
        *inputs: What it is applied to.
        remat: What its gradient computes once more instead of keeping it: `"none"`;
            `"activations"`, all but what convolutions give; `"networks"`, everything.
        **modes: Handed to the network.
    """

    def apply(params, stats, *inputs):
        # copy=True: the statistics are written under a gradient, which must not touch the caller's.
        module = nnx.merge(graph, params, stats, copy=True)
        output = module(*inputs, **modes)
        return output, nnx.state(module, nnx.BatchStat)

    if remat != "none":
        apply = jax.checkpoint(apply, policy=_KEPT[remat])
    return apply(params, stats, *inputs)


def inference_arrays(state: TrainState) -> tuple[Any, Any]:
    """Returns the parameters and statistics to synthesise with: the average where there is one."""
    best = state.average or state.generator
    return best.params, best.stats


def _generator(config: Any, axis_name: str | None = None) -> nnx.Module:
    return build_generator(config.model, rngs=nnx.Rngs(params=config.seed), axis_name=axis_name)


def _discriminator(config: Any, axis_name: str | None = None) -> nnx.Module:
    settings = {
        **config.discriminator,
        "in_channels": config.model.in_channels,
        "dtype": config.model.dtype,
        "lowering": config.model.lowering,
    }
    # Another seed than the generator's, so that layers of one shape do not start alike.
    rngs = nnx.Rngs(params=jax.random.fold_in(jax.random.key(config.seed), 1))
    return build_discriminator(type(config)(settings), rngs=rngs, axis_name=axis_name)


def _flow(config: Any) -> nnx.Module:
    return FlowNet(
        features=config.flow.features,
        depth=config.flow.depth,
        dtype=config.model.dtype,
        lowering=config.model.lowering,
        rngs=nnx.Rngs(params=jax.random.fold_in(jax.random.key(config.seed), 2)),
    )


def _split(module: nnx.Module) -> tuple[Any, Any, Any]:
    return nnx.split(module, nnx.Param, nnx.BatchStat)


def _begin(module: nnx.Module, optimizer: optax.GradientTransformation) -> Network:
    _, params, stats = _split(module)
    return Network(params, stats, optimizer.init(params))
