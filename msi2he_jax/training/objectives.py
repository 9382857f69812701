"""What the discriminator and the generator minimise, as functions of what is differentiated.

`recipe` is a `recipe.Recipe`, `batch` what `step.train_step` takes, `judge` the discriminator as a
`state.Network`. What a recipe leaves off leaves no trace in the compiled program.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from msi2he_jax.data import sampling
from msi2he_jax.models.layers import fold_in
from msi2he_jax.training import losses
from msi2he_jax.training.diffaugment import augment
from msi2he_jax.training.state import run

# What an example's key is folded with; 0 is the generator's dropout.
_PENALTY, _ON_FAKE, _ON_REAL, _IN_GENERATOR = 1, 2, 3, 4


def judge_objective(
    recipe: Any,
    params: Any,
    judge: Any,
    batch: dict[str, jax.Array],
    fake: jax.Array,
    keys: jax.Array,
    step: jax.Array,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
    """Loss of the discriminator as a function of `params`.

    Args:
        recipe: What does not change.
        params: Its parameters.
        judge: The discriminator, for its statistics.
        batch: Of the step, as `loader.sample_batch` draws it: `msi` [B, H, W, K] and more.
        fake: `[B, H, W, 3]` float in [-1, 1], detached.
        keys: `[B]`, of the examples in this step.
        step: int32 scalar, counts the steps between penalties.

    Returns:
        Scalar; metrics, scalars by name, and the statistics after fake and real images.
    """
    graph = recipe.graphs.discriminator
    msi, image = batch["msi"], batch["image"]
    real_keys = fold_in(keys, _ON_REAL)
    shown = _shown(recipe, fold_in(keys, _ON_FAKE), msi, fake)
    modes = {"train": True, "remat": recipe.remat}
    on_fake, stats = run(graph, params, judge.stats, *shown, **modes)
    shown = _shown(recipe, real_keys, msi, image)
    on_real, stats = run(graph, params, stats, *shown, **modes)
    value = losses.over_scales(losses.discriminator_loss, on_real, on_fake, gan=recipe.gan)

    def score(x: jax.Array) -> Any:
        return run(graph, params, stats, shown[0], x, train=False, norm="batch")[0]

    if recipe.gan == "wgangp":
        between = shown[1], _shown(recipe, real_keys, msi, fake)[1]
        penalty = losses.gradient_penalty(score, *between, fold_in(keys, _PENALTY))
        value += recipe.gradient_penalty * penalty
    metrics = {}
    if recipe.r1:
        metrics["r1"] = _now_and_then(
            lambda: losses.real_gradient_penalty(score, shown[1]), step, recipe.r1_every
        )
        value += recipe.r1 * metrics["r1"]
    return value, (metrics, stats)


def _now_and_then(penalty: Any, step: jax.Array, every: int) -> jax.Array:
    """The penalty in each `every`th step, as many times as large; so its mean stays.

    Source: "lazy regularisation", Karras et al. 2020, https://arxiv.org/abs/1912.04958.
    """
    if every == 1:
        return penalty()
    kind = jax.eval_shape(penalty)
    nothing = lambda: jnp.zeros(kind.shape, kind.dtype)  # noqa: E731
    return jax.lax.cond(step % every == 0, lambda: every * penalty(), nothing)


def generator_objective(
    recipe: Any,
    fake: jax.Array,
    flow: Any | None,
    judge: Any | None,
    batch: dict[str, jax.Array],
    keys: jax.Array,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
    """Loss of the generator as a function of its image, and of the flow network's parameters.

    Args:
        recipe: What does not change.
        fake: `[B, H, W, 3]` float in [-1, 1].
        flow: Parameters of the flow network, or None.
        judge: The discriminator, or None.
        batch: Of the step, as `loader.sample_batch` draws it: `msi` [B, H, W, K] and more.
        keys: `[B]`, of the examples in this step.

    Returns:
        Scalar; metrics, scalars by name, and the discriminator's statistics afterwards.
    """
    total, metrics = _reconstruction(recipe, fake, flow, batch)
    if judge is None:
        return total, (metrics, None)
    graph, keys = recipe.graphs.discriminator, fold_in(keys, _IN_GENERATOR)
    shown = _shown(recipe, keys, batch["msi"], fake)
    features = bool(recipe.feature_matching)
    modes = {"train": True, "features": features, "remat": recipe.remat}
    judged, stats = run(graph, judge.params, judge.stats, *shown, **modes)
    logits, seen = judged if features else (judged, None)
    adversarial = losses.over_scales(losses.generator_loss, logits, gan=recipe.gan)
    metrics["adversarial"] = adversarial
    total += recipe.lambda_gan * adversarial
    if features:
        real = _shown(recipe, keys, batch["msi"], batch["image"])
        modes = {"train": False, "norm": "batch", "features": True}
        expected = run(graph, judge.params, judge.stats, *real, **modes)[0][1]
        metrics["feature_matching"] = losses.feature_matching_loss(seen, expected)
        total += recipe.feature_matching * metrics["feature_matching"]
    return total, (metrics, stats)


def _reconstruction(recipe: Any, fake: jax.Array, flow: Any | None, batch: dict) -> tuple:
    """The weighted loss and its parts; with a flow, of the image moved onto the real one."""
    total, metrics = 0.0, {}
    if flow is not None:
        moves = run(recipe.graphs.flow, flow, {}, fake, batch["image"])[0]
        fake = sampling.displace(fake, moves)
        metrics["flow_px"] = jnp.mean(jnp.linalg.norm(jax.lax.stop_gradient(moves), axis=-1))
        metrics["flow_roughness"] = losses.roughness(moves)
        total = recipe.lambda_l1 * recipe.smoothness * metrics["flow_roughness"]
    pixel_weights = None
    if recipe.background_weight != 1.0:
        pixel_weights = jnp.where(batch["tissue_mask"], 1.0, recipe.background_weight)
    value = losses.reconstruction_loss(
        fake,
        batch["image"],
        kind=recipe.reconstruction,
        levels=recipe.pyramid_levels,
        pixel_weights=pixel_weights,
        example_weights=batch.get("weight"),
    )
    metrics["reconstruction"] = value
    return total + recipe.lambda_l1 * value, metrics


def _shown(recipe: Any, keys: jax.Array, msi: jax.Array, image: jax.Array) -> tuple:
    """MSI and image as the discriminator sees them."""
    off = not any(dataclasses.astuple(recipe.diffaugment))
    return (msi, image) if off else augment(keys, msi, image, recipe.diffaugment)
