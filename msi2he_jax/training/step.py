"""One training step, pure, and a compiled chunk of them.

Order as in pix2pix: the generator runs once; the discriminator learns from its image, detached;
then the generator learns through the discriminator as just updated. Statistics of the discriminator
follow: fake, real, fake.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from msi2he_jax.models.layers import fold_in
from msi2he_jax.training import objectives
from msi2he_jax.training.accumulation import mean_over_parts
from msi2he_jax.training.recipe import Recipe
from msi2he_jax.training.state import Average, Network, TrainState, run

_STEPS = 2  # the loader draws from streams 0 and 1 of the seed
_DROPOUT = 0  # what an example's key is folded with; `objectives` has the others


def train_step(
    recipe: Recipe, state: TrainState, batch: dict[str, jax.Array], key: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step; where a loss or a gradient is not finite, nothing but the counters changes.

    Args:
        recipe: What does not change.
        state: Before the step.
        batch: `msi` `[B, H, W, K]` float in [0, 1] and `image` `[B, H, W, 3]` float in [-1, 1];
            where the recipe asks for them `tissue_mask` `[B, H, W]` bool; `weight` `[B]` float
            weighs the examples where it is there.
        key: Of this step's random numbers; each example draws by its place in the whole batch, so
            that how devices and parts share a batch changes nothing.

    Returns:
        The state after the step, and float32 scalars: `reconstruction`, `skipped` (of this step, 0
        or 1); with a discriminator `adversarial`, `discriminator`, and where they are on `r1`,
        `feature_matching`; with a flow `flow_px` (mean displacement), `flow_roughness`.
    """
    learn = _learn if recipe.microbatches == 1 else _learn_in_parts
    keys = _example_keys(recipe, key, len(batch["msi"]))
    judge, slopes, (stats, judge_stats), metrics, finite = learn(recipe, state, batch, keys)
    finite &= _all_finite((slopes, metrics))
    own = {"accept": finite}
    generator = _update(recipe.generator_optimizer, state.generator, slopes[0], stats, **own)
    flow = state.flow
    if flow is not None:
        flow = _update(recipe.flow_optimizer, flow, slopes[1], flow.stats, **own)
    if judge is not None:
        judge = dataclasses.replace(judge, stats=judge_stats)
    average = _follow(recipe.ema, state, generator)
    judge, average = (
        _chosen(finite, new, old)
        for new, old in ((judge, state.discriminator), (average, state.average))
    )
    parts = {"generator": generator, "discriminator": judge, "average": average, "flow": flow}
    new = dataclasses.replace(_counted(finite, state), **parts)
    return new, metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}


def _example_keys(recipe: Recipe, key: jax.Array, count: int) -> jax.Array:
    """Keys `[count]` of the examples that are here, by their places in the batch of all devices."""
    first = 0 if recipe.axis_name is None else count * jax.lax.axis_index(recipe.axis_name)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(first + jnp.arange(count))


def _learn(recipe, state, batch, keys):
    """The discriminator as taught; slopes of generator and flow; statistics; metrics; finite."""
    here = functools.partial(paint, recipe, batch["msi"], keys, state.generator.stats)
    fake, pull_back, stats = jax.vjp(here, state.generator.params, has_aux=True)
    judge, metrics, finite = state.discriminator, {}, jnp.asarray(True)
    if judge is not None:
        found = _judge_slopes(recipe, judge, batch, fake, keys, state.step)
        judge, metrics, finite = _taught(recipe, judge, *found)
    slopes, judge_stats, more = _generator_slopes(recipe, state, fake, judge, batch, keys)
    slopes, more = _mean(((pull_back(slopes[0])[0], slopes[1]), more), recipe.axis_name)
    stats, judge_stats = _shared((stats, judge_stats), recipe)
    return judge, slopes, (stats, judge_stats), metrics | more, finite


def _learn_in_parts(recipe, state, batch, keys):
    """The same for gradients averaged over parts of the batch; the generator paints twice.

    Statistics of normalisation and running averages are a part's own.
    """
    judge, metrics, finite = state.discriminator, {}, jnp.asarray(True)

    def of_judge(stats, part):
        batch, keys = part
        fake = paint(recipe, batch["msi"], keys, state.generator.stats, state.generator.params)[0]
        kept = dataclasses.replace(judge, stats=stats)
        return _judge_slopes(recipe, kept, batch, fake, keys, state.step)

    def of_generator(carry, part):
        batch, keys = part
        here = functools.partial(paint, recipe, batch["msi"], keys, carry[0])
        fake, pull_back, stats = jax.vjp(here, state.generator.params, has_aux=True)
        kept = judge and dataclasses.replace(judge, stats=carry[1])
        slopes, judge_stats, metrics = _generator_slopes(recipe, state, fake, kept, batch, keys)
        return (stats, judge_stats), ((pull_back(slopes[0])[0], slopes[1]), metrics)

    parts = (batch, keys), recipe.microbatches
    if judge is not None:
        found = mean_over_parts(of_judge, judge.stats, *parts)
        judge, metrics, finite = _taught(recipe, judge, *found)
    stats = state.generator.stats, judge and judge.stats
    stats, found = mean_over_parts(of_generator, stats, *parts)
    slopes, more = _mean(found, recipe.axis_name)
    return judge, slopes, _shared(stats, recipe), metrics | more, finite


def paint(recipe, msi, keys, stats, params):
    """The generator's image and its statistics afterwards; `keys` `[B]` are the examples'."""
    drop = fold_in(keys, _DROPOUT) if recipe.dropout else None
    inputs = {"train": True, "norm": "batch", "dropout_key": drop, "remat": recipe.remat}
    return run(recipe.graphs.generator, params, stats, msi, **inputs)


def _judge_slopes(recipe, judge, batch, fake, keys, step):
    """The discriminator's statistics, and its loss, slopes and metrics on a detached `fake`."""
    fake = jax.lax.stop_gradient(fake)

    def loss(params):
        return objectives.judge_objective(recipe, params, judge, batch, fake, keys, step)

    (value, (metrics, stats)), slopes = jax.value_and_grad(loss, has_aux=True)(judge.params)
    return stats, (value, slopes, metrics)


def _taught(recipe, judge, stats, found):
    """The discriminator after its step, its metrics, whether all was finite."""
    value, slopes, metrics = _mean(found, recipe.axis_name)
    judge = _update(recipe.discriminator_optimizer, judge, slopes, stats)
    return judge, {"discriminator": value, **metrics}, _all_finite((value, slopes))


def _generator_slopes(recipe, state, fake, judge, batch, keys):
    """Gradients by the image and by the flow's parameters; the judge's statistics; metrics."""
    flow = None if state.flow is None else state.flow.params
    slope = jax.grad(objectives.generator_objective, (1, 2), has_aux=True)
    slopes, (metrics, stats) = slope(recipe, fake, flow, judge, batch, keys)
    return slopes, stats, metrics


def _shared(stats: Any, recipe: Recipe) -> Any:
    """Running statistics that devices took on their own are averaged, to stay one state."""
    return _mean(stats, recipe.axis_name) if recipe.statistics == "device" else stats


def _mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the mapped axis: of gradients, since the gradient of a mean would be wrong."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _all_finite(tree: Any) -> jax.Array:
    """Whether all is finite: by each array's largest, so that no array of flags is written."""
    largest = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.isfinite(jnp.stack(largest)))


def _update(
    optimizer, network: Network, gradient: Any, stats: Any, accept: jax.Array | bool = True
) -> Network:
    """Takes a step where `accept`, else leaves the network as it is."""
    updates, state = optimizer.update(gradient, network.optimizer, network.params, accept=accept)
    params = optax.apply_updates(network.params, updates)
    kept = _chosen(accept, (params, stats), (network.params, network.stats))
    return Network(*kept, state)


def _chosen(accept: jax.Array | bool, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda after, before: jnp.where(accept, after, before), new, old)


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


def _counted(finite: jax.Array, state: TrainState) -> TrainState:
    return dataclasses.replace(
        state,
        step=state.step + 1,
        skipped=state.skipped + (~finite).astype(jnp.int32),
        skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
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
            return train_step(recipe, state, batch, key)

        if length == 1:  # without a loop around it: see `Parallel.loops`
            state, metrics = body(state, None)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(body, state, length=length)

    return chunk
