"""Spectral normalisation: a convolution whose kernel is divided by its largest singular value."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from msi2he_jax.models import layers

_FIRST_ITERATIONS = 15  # so that training begins with a good estimate, as PyTorch's does


class SpectralConv(layers.Conv):
    """A convolution with a kernel of spectral norm 1, taken as a matrix of all taps by outputs.

    The left singular vector is followed by one power iteration per training call. It is kept as a
    statistic, so that it lies in checkpoints and a resumed run goes on with it.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Kernel side, px.
        rngs: Stream `params` is used.

    Source: Miyato et al. 2018, https://arxiv.org/abs/1802.05957, algorithm 1.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs, **options):
        super().__init__(inputs, outputs, size, rngs=rngs, **options)
        matrix = self._matrix()
        start = jax.random.normal(rngs.params(), (outputs,), matrix.dtype)
        iterate = lambda _, u: _power_iteration(matrix, u)[1]  # noqa: E731
        self.singular = nnx.BatchStat(lax.fori_loop(0, _FIRST_ITERATIONS, iterate, _unit(start)))

    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Applies it: `[B, H, W, inputs]` -> `[B, h, w, outputs]`; follows on where `train`."""
        matrix = self._matrix()
        fixed = lax.stop_gradient(matrix)
        before, after = _power_iteration(fixed, self.singular[...])
        if train:
            self.singular.set_value(after)
        return self._applied(x, self.kernel[...] / (before @ matrix @ after))

    def _matrix(self) -> Array:
        kernel = self.kernel[...]
        return kernel.reshape(-1, kernel.shape[-1])


def _power_iteration(matrix: Array, u: Array) -> tuple[Array, Array]:
    """One step from the vector `[outputs]`: the other singular vector `[taps]`, and the next."""
    other = _unit(matrix @ u)
    return other, _unit(matrix.T @ other)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
