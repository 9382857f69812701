"""A linear map from MSI to colours: a model by itself, or what a network begins with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from msi2he_jax.metrics.regression import LinearFit, with_neighbours
from msi2he_jax.models import layers


class LinearMap(nnx.Module):
    """Colours as a weighted sum of a pixel's channels and of their means over its neighbours.

    Kernel and bias are statistics of the training data: solved for once (`training.methods`), kept
    and averaged like those of batch normalisation, and never trained. Zero until then.

    Args:
        channels: Channels of the MSI, K.
        outputs: Channels of the image.
        neighbours_px: Side of the square of neighbours, px, odd; 1 for the pixel alone.
    """

    def __init__(self, channels: int, outputs: int, *, neighbours_px: int):
        features = channels if neighbours_px == 1 else 2 * channels
        self.kernel = nnx.BatchStat(jnp.zeros((features, outputs), jnp.float32))
        self.bias = nnx.BatchStat(jnp.zeros(outputs, jnp.float32))
        self.neighbours_px = neighbours_px

    def __call__(self, msi: Array) -> Array:
        """`[B, H, W, K]` float in [0, 1] -> `[B, H, W, outputs]` float32, around [-1, 1]."""
        x = with_neighbours(msi.astype(jnp.float32), self.neighbours_px)
        product = jnp.matmul(x, self.kernel[...], precision=jax.lax.Precision.HIGHEST)
        return product + layers.per_channel(self.bias[...])


def fitted_values(fit: LinearFit) -> dict[str, Array]:
    """Returns `kernel` and `bias` of `LinearMap`, float32, from a fit to colours in [0, 1]."""
    values = {"kernel": 2.0 * fit.kernel, "bias": 2.0 * fit.bias - 1.0}
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
