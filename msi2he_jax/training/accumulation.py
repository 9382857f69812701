"""A batch in parts, one after the other: what needs memory is then as large as a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mean_over_parts(
    function: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    batch: Any,
    count: int,
) -> tuple[Any, Any]:
    """Calls a function on each part of a batch and averages what it finds.

    Parts take every `count`-th example, so that a batch shared by devices stays shared evenly.

    Args:
        function: `(carry, part) -> (carry, found)`, a pytree of floats.
        carry: What is handed from part to part.
        batch: Pytree of arrays `[B, ...]`; B is a multiple of `count`.
        count: Parts; 1 calls the function on the batch as it is.

    Returns:
        The last carry, and the mean of what was found.
    """
    if count == 1:
        return function(carry, batch)
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    first = jax.tree.map(lambda x: x[0], parts)
    kinds = jax.eval_shape(function, carry, first)[1]
    nothing = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)

    def add(state, part):
        carry, found = function(state[0], part)
        return (carry, jax.tree.map(jnp.add, state[1], found)), None

    (carry, total), _ = jax.lax.scan(add, (carry, nothing), parts)
    return carry, jax.tree.map(lambda x: x / count, total)
