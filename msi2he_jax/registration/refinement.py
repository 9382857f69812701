"""Improves affine poses of many pairs at once by gradient ascent of a similarity (JAX)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from msi2he_jax.registration import similarity

BINS = 16
FREE_STRETCH = 0.25
GRADIENT_SIGMA_PX = 3.0


@functools.partial(jax.jit, static_argnames=("steps", "metric"))
def refine(pairs: dict, linears, shifts, steps: int, rate: float, metric: str):
    """Improves poses by Adam, all poses of all pairs together.

    Args:
        pairs: Canvases of B pairs, see `automatic.draw_pair`, each `[B, ...]`.
        linears: `[B, S, 2, 2]` float32.
        shifts: `[B, S, 2]` float32, half widths.
        steps: Adam steps.
        rate: First step size.
        metric: `mi`, `ncc` or `ngf`.

    Returns:
        linears `[B, S, 2, 2]`, shifts `[B, S, 2]` and scores `[B, S]`, best first.
    """
    return jax.vmap(lambda *one: _refine_pair(*one, steps, rate, metric))(pairs, linears, shifts)


def _refine_pair(pair: dict, linears, shifts, steps: int, rate: float, metric: str):
    score = functools.partial(_score, _prepare(pair, metric), metric)
    linears, shifts, scores = jax.vmap(lambda *pose: _ascend(score, *pose, steps, rate))(
        linears, shifts
    )
    order = jnp.argsort(-scores)
    return linears[order], shifts[order], scores[order]


def _ascend(score, linear, shift, steps: int, rate: float):
    """Adam on one pose; the best step counts, not the last."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.05))

    def loss(params):
        return _penalty(linear, params) - score(linear, params)

    def step(carry, _):
        params, state, best, best_loss = carry
        value, grads = jax.value_and_grad(loss)(params)
        better = value < best_loss
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), params, best)
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
        return (params, state, best, jnp.minimum(value, best_loss)), None

    start = (jnp.zeros((2, 2)), shift)
    carry = (start, optimizer.init(start), start, jnp.inf)
    (_, _, best, _), _ = jax.lax.scan(step, carry, None, length=steps)
    return linear @ (jnp.eye(2) + best[0]), best[1], score(linear, best)


def _prepare(pair: dict, metric: str) -> dict:
    """What does not change while poses move."""
    n = pair["mask"].shape[-1]
    values, mask = pair["values"].reshape(-1, n * n), pair["mask"].ravel()
    ready = {"grid": similarity.grid(n), "weight": pair["weight"].ravel(), "fixed": pair["fixed"]}
    if metric == "mi":
        return ready | {"members": similarity.memberships(values, mask, BINS)}
    return ready | {"values": values * mask}


def _score(ready: dict, metric: str, linear, params) -> jax.Array:
    change, shift = params
    n = ready["fixed"].shape[-1]
    where = ready["grid"] @ (linear @ (jnp.eye(2) + change)).T + shift
    planes = similarity.bilinear(ready["fixed"], similarity.to_index(where, n))
    values, mask = similarity.unmultiplied(planes)
    if metric == "mi":
        members = similarity.memberships(values, mask, BINS)
        return similarity.mutual_information(ready["members"], members, ready["weight"])
    if metric == "ncc":
        return similarity.normalized_cross_correlation(
            ready["values"], values * mask, ready["weight"]
        )
    x, y = (v.reshape(-1, n, n) for v in (ready["values"], values * mask))
    weight = ready["weight"].reshape(n, n)
    return similarity.normalized_gradient_fields(x, y, weight, sigma_px=GRADIENT_SIGMA_PX)


def _penalty(linear, params) -> jax.Array:
    """Zero near a similarity of the start's scale, steep beyond some 12 % of stretch."""
    scale = jnp.sqrt(jnp.abs(jnp.linalg.det(linear)))
    total = linear @ (jnp.eye(2) + params[0]) / scale
    stretch = jnp.sqrt(jnp.sum((total.T @ total - jnp.eye(2)) ** 2) + 1e-8)
    return 10.0 * jnp.maximum(stretch - FREE_STRETCH, 0.0) ** 2
