"""A batch in parts, one after the other: what needs memory is then as large as a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mean_over_parts(
    function: Callable[[Any, Any, jax.Array], tuple[Any, Any]],
    carry: Any,
    batch: dict[str, jax.Array],
    key: jax.Array,
    count: int,
) -> tuple[Any, Any]:
    """Calls a function on each part of a batch and averages what it finds.

    Parts take every `count`-th example, so that a batch shared by devices stays shared evenly.

    Args:
        function: `(carry, part, key) -> (carry, found)`, a pytree of floats.
        carry: What is handed from part to part.
        batch: Arrays `[B, ...]`; B is a multiple of `count`.
        key: Split among the parts.
        count: Parts.

    Returns:
        The last carry, and the mean of what was found.
    """
    parts = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    keys = jax.random.split(key, count)
    first = jax.tree.map(lambda x: x[0], parts)
    kinds = jax.eval_shape(function, carry, first, keys[0])[1]
    nothing = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)

    def add(state, each):
        carry, found = function(state[0], *each)
        return (carry, jax.tree.map(jnp.add, state[1], found)), None

    (carry, total), _ = jax.lax.scan(add, (carry, nothing), (parts, keys))
    return carry, jax.tree.map(lambda x: x / count, total)
