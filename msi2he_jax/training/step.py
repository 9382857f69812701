"""One training step, pure, and a compiled chunk of them.

Order as in pix2pix: the generator runs once; the discriminator learns from its image, detached;
then the generator learns through the discriminator as just updated. Statistics of the discriminator
follow: fake, real, fake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from msi2he_jax.training import losses
from msi2he_jax.training.state import Average, Graphs, Network, TrainState

_STEPS = 2  # the loader draws from streams 0 and 1 of the seed


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step needs besides its state and batch.

    Attributes:
        graphs: The networks.
        generator_optimizer: The generator's optimiser.
        discriminator_optimizer: The discriminator's.
        gan: Kind of adversarial loss.
        reconstruction: Kind of reconstruction loss.
        lambda_gan: Weight of the adversarial loss.
        lambda_l1: Weight of the reconstruction loss.
        gradient_penalty: Weight of the penalty of `wgangp`.
        dropout: Whether the generator drops out in training.
        ema: Decay of the moving average; 0 for none.
        axis_name: Mapped axis over which gradients and losses are averaged, or None.
    """

    graphs: Graphs
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    gan: str = "vanilla"
    reconstruction: str = "l1"
    lambda_gan: float = 1.0
    lambda_l1: float = 100.0
    gradient_penalty: float = 10.0
    dropout: bool = True
    ema: float = 0.0
    axis_name: str | None = None


def make_recipe(
    config: Any,
    graphs: Graphs,
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation],
    axis_name: str | None = None,
) -> Recipe:
    """Returns the recipe of `config`; `optimizers` are the generator's and the discriminator's."""
    return Recipe(
        graphs=graphs,
        generator_optimizer=optimizers[0],
        discriminator_optimizer=optimizers[1],
        gan=config.loss.gan,
        reconstruction=config.loss.reconstruction,
        lambda_gan=config.loss.lambda_gan,
        lambda_l1=config.loss.lambda_l1,
        gradient_penalty=config.loss.gradient_penalty,
        dropout=config.model.dropout > 0,
        ema=config.ema,
        axis_name=axis_name,
    )


def train_step(
    recipe: Recipe, state: TrainState, batch: dict[str, jax.Array], key: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step; where a loss or a gradient is not finite, nothing but the counters changes.

    Args:
        recipe: What does not change.
        state: Before the step.
        batch: `msi` `[B, H, W, K]` float in [0, 1] and `image` `[B, H, W, 3]` float in [-1, 1].
        key: Of this step's random numbers.

    Returns:
        The state after the step, and float32 scalars: `reconstruction`, `skipped` (of this step, 0
        or 1) and, with a discriminator, `adversarial`, `discriminator`.
    """
    msi, image = batch["msi"], batch["image"]
    dropout_key, penalty_key = jax.random.split(key)

    def paint(params: Any) -> tuple[jax.Array, Any]:
        drop = dropout_key if recipe.dropout else None
        inputs = {"train": True, "norm": "batch", "dropout_key": drop}
        return run(recipe.graphs.generator, params, state.generator.stats, msi, **inputs)

    fake, pull_back, stats = jax.vjp(paint, state.generator.params, has_aux=True)
    judge, metrics, finite = state.discriminator, {}, jnp.asarray(True)
    if judge is not None:
        judge, metrics, finite = _teach_judge(recipe, judge, msi, image, fake, penalty_key)
    (_, (more, judge_stats)), cotangent = jax.value_and_grad(_generator_loss, 1, has_aux=True)(
        recipe, fake, judge, msi, image
    )
    gradient, more = _mean((pull_back(cotangent)[0], more), recipe.axis_name)
    metrics |= more
    finite &= _all_finite((gradient, metrics))
    generator = _update(recipe.generator_optimizer, state.generator, gradient, stats)
    if judge is not None:
        judge = dataclasses.replace(judge, stats=judge_stats)
    average = _follow(recipe.ema, state, generator)
    new = dataclasses.replace(state, generator=generator, discriminator=judge, average=average)
    return _accept(finite, state, new), metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}


def run(graph: Any, params: Any, stats: Any, *inputs: Any, **modes: Any) -> tuple[Any, Any]:
    """Applies a network to its arrays: returns its output and its statistics afterwards."""
    # copy=True: the statistics are written under a gradient, which must not touch the caller's.
    module = nnx.merge(graph, params, stats, copy=True)
    output = module(*inputs, **modes)
    return output, nnx.state(module, nnx.BatchStat)


def _teach_judge(recipe, judge, msi, image, fake, key):
    """Updates the discriminator on a detached `fake`: it, its metrics, whether all was finite."""
    fake = jax.lax.stop_gradient(fake)
    graph = recipe.graphs.discriminator

    def loss(params):
        on_fake, stats = run(graph, params, judge.stats, msi, fake, train=True)
        on_real, stats = run(graph, params, stats, msi, image, train=True)
        value = losses.discriminator_loss(on_real, on_fake, gan=recipe.gan)
        if recipe.gan == "wgangp":

            def score(x):
                return run(graph, params, stats, msi, x, train=False, norm="batch")[0]

            value += recipe.gradient_penalty * losses.gradient_penalty(score, image, fake, key)
        return value, stats

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(judge.params)
    value, gradient = _mean((value, gradient), recipe.axis_name)
    judge = _update(recipe.discriminator_optimizer, judge, gradient, stats)
    return judge, {"discriminator": value}, _all_finite((value, gradient))


def _generator_loss(recipe, fake, judge, msi, image):
    """Loss as a function of the synthetic image; its parts and the discriminator's statistics."""
    value = losses.reconstruction_loss(fake, image, kind=recipe.reconstruction)
    metrics, total, stats = {"reconstruction": value}, recipe.lambda_l1 * value, None
    if judge is not None:
        graph = recipe.graphs.discriminator
        logits, stats = run(graph, judge.params, judge.stats, msi, fake, train=True)
        metrics["adversarial"] = losses.generator_loss(logits, gan=recipe.gan)
        total += recipe.lambda_gan * metrics["adversarial"]
    return total, (metrics, stats)


def _mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the mapped axis: of gradients, since the gradient of a mean would be wrong."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _update(optimizer, network: Network, gradient: Any, stats: Any) -> Network:
    updates, state = optimizer.update(gradient, network.optimizer, network.params)
    return Network(optax.apply_updates(network.params, updates), stats, state)


def _follow(decay: float, state: TrainState, generator: Network) -> Average | None:
    """Moves the average; early on faster, so that the random start is soon forgotten."""
    if state.average is None:
        return None
    steps = (state.step - state.skipped).astype(jnp.float32)
    keep = jnp.minimum(decay, (1.0 + steps) / (10.0 + steps))

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return (keep * old + (1.0 - keep) * new).astype(old.dtype)

    now = Average(generator.params, generator.stats)
    return jax.tree.map(move, state.average, now)


def _accept(finite: jax.Array, old: TrainState, new: TrainState) -> TrainState:
    """Takes `new` where `finite`, else `old`; counts either way."""
    chosen = jax.tree.map(lambda before, after: jnp.where(finite, after, before), old, new)
    return dataclasses.replace(
        chosen,
        step=old.step + 1,
        skipped=old.skipped + (~finite).astype(jnp.int32),
        skipped_in_a_row=jnp.where(finite, 0, old.skipped_in_a_row + 1),
    )


def make_chunk(
    recipe: Recipe,
    sample: Callable[[dict[str, jax.Array], jax.Array, jax.Array], dict],
    length: int,
) -> Callable[[TrainState, dict[str, jax.Array], jax.Array], tuple[TrainState, dict]]:
    """Returns `length` steps in a row as one function `(state, arrays, seed) -> (state, metrics)`.

    Batches are drawn inside; every random number is a function of the seed and the step, so that
    how steps are cut into chunks changes nothing.

    Args:
        recipe: What does not change.
        sample: `(arrays, step, seed) -> batch`, as `train_step` takes it.
        length: Steps.

    Returns:
        The function; its `metrics` are `[length]` float32 each.
    """

    def chunk(state, arrays, seed):
        def body(state, _):
            batch = sample(arrays, state.step, seed)
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STEPS), state.step)
            if recipe.axis_name is not None:  # each device drops out other units
                key = jax.random.fold_in(key, jax.lax.axis_index(recipe.axis_name))
            return train_step(recipe, state, batch, key)

        if length == 1:  # without a loop around it: see `Parallel.loops`
            state, metrics = body(state, None)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(body, state, length=length)

    return chunk
