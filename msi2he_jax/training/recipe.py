"""What a training step needs besides its state and its batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from msi2he_jax.training.diffaugment import DiffAugment
from msi2he_jax.training.optimizer import flow_optimizer
from msi2he_jax.training.state import Graphs


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step needs besides its state and batch; what is off leaves no trace in the program.

    Attributes:
        graphs: The networks.
        generator_optimizer: The generator's optimiser; as `optimizer.adam` it can leave a step out.
        discriminator_optimizer: The discriminator's.
        flow_optimizer: The flow network's, or None.
        gan: Kind of adversarial loss.
        reconstruction: Kind of reconstruction loss.
        lambda_gan: Weight of the adversarial loss.
        lambda_l1: Weight of the reconstruction loss.
        gradient_penalty: Weight of the penalty of `wgangp`.
        r1: Weight of the gradient penalty on real images.
        r1_every: Steps between two such penalties.
        feature_matching: Weight of the feature matching loss.
        pyramid_levels: Sizes of the images that the reconstruction loss compares.
        background_weight: Weight of pixels outside the tissue in it.
        smoothness: Weight of the flow's smoothness, relative to `lambda_l1`.
        diffaugment: What the discriminator's images go through.
        dropout: Whether the generator drops out in training.
        ema: Decay of the moving average; 0 for none.
        axis_name: Mapped axis over which gradients and losses are averaged, or None.
        statistics: `all`: normalised over the whole batch; `device`: each device over its own part.
        microbatches: Parts of the batch that are worked on one after the other.
        remat: What gradients compute once more instead of keeping it, as `state.run` takes it.
    """

    graphs: Graphs
    generator_optimizer: optax.GradientTransformationExtraArgs
    discriminator_optimizer: optax.GradientTransformationExtraArgs
    flow_optimizer: optax.GradientTransformationExtraArgs | None = None
    gan: str = "vanilla"
    reconstruction: str = "l1"
    lambda_gan: float = 1.0
    lambda_l1: float = 100.0
    gradient_penalty: float = 10.0
    r1: float = 0.0
    r1_every: int = 1
    feature_matching: float = 0.0
    pyramid_levels: int = 1
    background_weight: float = 1.0
    smoothness: float = 0.5
    diffaugment: DiffAugment = dataclasses.field(default_factory=DiffAugment)
    dropout: bool = True
    ema: float = 0.0
    axis_name: str | None = None
    statistics: str = "all"
    microbatches: int = 1
    remat: str = "none"


def make_recipe(
    config: Any,
    graphs: Graphs,
    optimizers: tuple[optax.GradientTransformationExtraArgs, optax.GradientTransformationExtraArgs],
    axis_name: str | None = None,
) -> Recipe:
    """Returns the recipe of `config`; `optimizers` are the generator's and the discriminator's."""
    loss = {name: config.loss[name] for name in config.loss if name != "tissue_power"}
    return Recipe(
        graphs=graphs,
        generator_optimizer=optimizers[0],
        discriminator_optimizer=optimizers[1],
        flow_optimizer=flow_optimizer(config, optimizers[0]) if config.flow.enabled else None,
        **loss,
        smoothness=config.flow.smoothness,
        diffaugment=DiffAugment(**config.diffaugment),
        dropout=config.model.dropout > 0,
        ema=config.ema,
        axis_name=axis_name,
        statistics=config.statistics,
        microbatches=config.train.microbatches,
        remat=config.train.remat,
    )
