"""Several training steps as one function, to be compiled."""

from __future__ import annotations

from collections.abc import Callable

import jax

from msi2he_jax.training.methods import Method
from msi2he_jax.training.state import TrainState

_STEPS = 2  # the loader draws from streams 0 and 1 of the seed


def make_chunk(
    method: Method,
    sample: Callable[[dict[str, jax.Array], jax.Array, jax.Array], dict],
    length: int,
) -> Callable[[TrainState, dict[str, jax.Array], jax.Array], tuple[TrainState, dict]]:
    """Returns `length` steps in a row as one function `(state, arrays, seed) -> (state, metrics)`.

    Batches are drawn inside; every random number is a function of the seed and the step, so that
    how steps are cut into chunks changes nothing.

    Args:
        method: Whose steps.
        sample: `(arrays, step, seed) -> batch`, as `Method.step` takes it.
        length: Steps.

    Returns:
        The function; its `metrics` are `[length]` float32 each.
    """

    def chunk(state, arrays, seed):
        def body(state, _):
            batch = sample(arrays, state.step, seed)
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STEPS), state.step)
            return method.step(state, batch, key)

        if length == 1:  # without a loop around it: see `Parallel.loops`
            state, metrics = body(state, None)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(body, state, length=length)

    return chunk
