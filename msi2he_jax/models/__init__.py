"""Networks: generators from MSI to H&E, discriminators. Pure `flax.nnx` modules, no training."""

from msi2he_jax.models.build import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    build_discriminator,
    build_generator,
    multiple_of,
)
from msi2he_jax.models.flow import FlowNet

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "FlowNet",
    "Generator",
    "GeneratorConfig",
    "build_discriminator",
    "build_generator",
    "multiple_of",
]
