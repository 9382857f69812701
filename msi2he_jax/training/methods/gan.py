"""pix2pix and its relatives: a generator learns from pixels and from a discriminator.

A step is that of pix2pix: the generator runs once; the discriminator learns from its image,
detached; then the generator learns through the discriminator as just updated. Statistics of the
discriminator follow: fake, real, fake.

Source: Isola et al. 2017 and pytorch-CycleGAN-and-pix2pix; feature matching and several scales:
Wang et al. 2018 (pix2pixHD); flow network: Kong et al. 2021 (RegGAN).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from msi2he_jax.models.layers import fold_in
from msi2he_jax.training import losses
from msi2he_jax.training.accumulation import mean_over_parts
from msi2he_jax.training.methods import generator
from msi2he_jax.training.methods.generator import Forward, Part
from msi2he_jax.training.methods.initial import initial_state
from msi2he_jax.training.methods.setup import Batch, Method, Metrics, Setup
from msi2he_jax.training.state import Network, TrainState, apply_network, inference_arrays

_PENALTY = 1  # what an example's key is folded with; `generator.DROPOUT` is the other


def make_gan(setup: Setup) -> Method:
    """Returns the method of a generator and a discriminator."""
    return Method(
        name="gan",
        init=functools.partial(initial_state, setup),
        step=functools.partial(gan_step, setup),
        finish=inference_arrays,
        synthesize=functools.partial(generator.synthesize, setup),
    )


def gan_step(
    setup: Setup, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """Takes one step of both networks, as `Method.step` says; `key` is a PRNG key.

    Returns:
        The state after the step; `reconstruction`, `adversarial`, `discriminator`, `skipped`, and
        where they are on `feature_matching`, `flow_px` (mean displacement), `flow_roughness`.
    """
    examples = batch, generator.example_keys(setup, key, len(batch["msi"]))
    generate = functools.partial(generator.forward, setup, state.generator.params)
    if setup.config.train.microbatches == 1:
        generate = _only_once(generate)
    discriminator, metrics, finite = learn_discriminator(setup, state, examples, generate)

    def objective(image, flow, part, stats):
        updated = dataclasses.replace(discriminator, stats=stats)
        return generator_objective(setup, image, flow, updated, part[0])

    grads, stats = generator.generator_grads(
        setup, state, examples, objective, generate, discriminator.stats
    )
    stats = generator.shared_statistics(setup, stats)
    discriminator = dataclasses.replace(discriminator, stats=stats[1])
    grads = grads._replace(metrics=metrics | grads.metrics)
    return generator.complete_step(setup, state, grads, stats[0], discriminator, finite)


def _only_once(generate: Callable[..., Forward]) -> Callable[..., Forward]:
    """Where a batch is one part, both networks learn from one pass of the generator."""
    passes: list[Forward] = []

    def once(stats: Any, part: Part) -> Forward:
        if not passes:
            passes.append(generate(stats, part))
        return passes[0]

    return once


def learn_discriminator(
    setup: Setup, state: TrainState, examples: Part, generate: Callable[[Any, Part], Forward]
) -> tuple[Network, Metrics, jax.Array]:
    """Takes the discriminator's step.

    Args:
        setup: Of the method.
        state: Before the step.
        examples: The batch and its keys.
        generate: `(stats, part) -> Forward`.

    Returns:
        The discriminator afterwards, its loss as a metric, and as a bool scalar whether loss and
        gradients were finite.
    """
    before = state.discriminator

    def of_part(stats, part):
        fake = jax.lax.stop_gradient(generate(state.generator.stats, part).image)
        loss = functools.partial(discriminator_objective, setup)
        grads = jax.value_and_grad(loss, has_aux=True)
        (value, stats), grads = grads(before.params, stats, part, fake)
        return stats, (value, grads)

    count = setup.config.train.microbatches
    stats, found = mean_over_parts(of_part, before.stats, examples, count)
    value, grads = generator.mean_over_devices(found, setup.axis_name)
    after = generator.update_network(setup.optimizers.discriminator, before, grads, stats)
    return after, {"discriminator": value}, generator.all_finite((value, grads))


def discriminator_objective(
    setup: Setup, params: Any, stats: Any, part: Part, fake: jax.Array
) -> tuple[jax.Array, Any]:
    """Returns the discriminator's loss as a function of its parameters.

    Args:
        setup: Of the method.
        params: Its parameters.
        stats: Its statistics.
        part: Examples and their keys.
        fake: `[B, H, W, 3]` float in [-1, 1], generated and detached.

    Returns:
        Scalar, and the statistics after fake and real images.
    """
    (batch, keys), loss = part, setup.config.loss
    graph, msi, real = setup.graphs.discriminator, batch["msi"], batch["image"]
    modes = {"train": True, "remat": setup.config.train.remat}
    on_fake, stats = apply_network(graph, params, stats, msi, fake, **modes)
    on_real, stats = apply_network(graph, params, stats, msi, real, **modes)
    value = losses.over_scales(losses.discriminator_loss, on_real, on_fake, gan=loss.gan)

    def logits(image: jax.Array) -> Any:
        return apply_network(graph, params, stats, msi, image, train=False, norm="batch")[0]

    if loss.gan == "wgangp":
        penalty = losses.gradient_penalty(logits, real, fake, fold_in(keys, _PENALTY))
        value += loss.gradient_penalty * penalty
    return value, stats


def generator_objective(
    setup: Setup, image: jax.Array, flow: Any | None, discriminator: Network, batch: Batch
) -> tuple[jax.Array, tuple[Metrics, Any]]:
    """Returns the generator's loss as a function of its image and the flow network's parameters.

    Args:
        setup: Of the method.
        image: `[B, H, W, 3]` float in [-1, 1], generated.
        flow: Parameters of the flow network, or None.
        discriminator: As just updated.
        batch: As of `Method.step`.

    Returns:
        Scalar; metrics, and the discriminator's statistics afterwards.
    """
    loss, graph = setup.config.loss, setup.graphs.discriminator
    total, metrics = generator.reconstruction(setup, image, flow, batch)
    modes = {"train": True, "remat": setup.config.train.remat}
    modes["features"] = bool(loss.feature_matching)
    arrays = graph, discriminator.params, discriminator.stats
    output, stats = apply_network(*arrays, batch["msi"], image, **modes)
    logits, features = output if loss.feature_matching else (output, None)
    metrics["adversarial"] = losses.over_scales(losses.generator_loss, logits, gan=loss.gan)
    total += loss.lambda_gan * metrics["adversarial"]
    if loss.feature_matching:
        modes = {"train": False, "norm": "batch", "features": True}
        (_, real), _ = apply_network(*arrays, batch["msi"], batch["image"], **modes)
        metrics["feature_matching"] = losses.feature_matching_loss(features, real)
        total += loss.feature_matching * metrics["feature_matching"]
    return total, (metrics, stats)
