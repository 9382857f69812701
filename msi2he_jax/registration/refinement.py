"""Improves affine poses of many pairs at once by gradient ascent of a similarity (JAX)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from msi2he_jax.registration import measures, point_prior
from msi2he_jax.registration.similarity import Similarity

FREE_STRETCH = 0.25
# Standard deviation of half the log ratio of both scales: what cutting and mounting stretch.
RATIO_SD = 0.03
# Scores are means over pixels whose residuals are not independent: as good as so many that are.
INDEPENDENT = 14.0


@functools.partial(jax.jit, static_argnames=("steps", "metric"))
def refine(pairs: dict, linears, shifts, steps: int, rate: float, metric: Similarity):
    """Improves poses by Adam, all poses of all pairs together.

    Args:
        pairs: Canvases of B pairs, see `automatic.draw_pair`, each `[B, ...]`.
        linears: `[B, S, 2, 2]` float32.
        shifts: `[B, S, 2]` float32, half widths.
        steps: Adam steps.
        rate: First step size.
        metric: What to ascend.

    Returns:
        linears `[B, S, 2, 2]`, shifts `[B, S, 2]` and scores `[B, S]`, best first; where a pair has
        points, less what these say against the pose.
    """
    one = functools.partial(_refine_pair, steps=steps, rate=rate, metric=metric)
    return measures.over_pairs(one, pairs, linears, shifts)


def _refine_pair(pair: dict, linears, shifts, steps: int, rate: float, metric: Similarity):
    n = pair["mask"].shape[-1]
    slide = jnp.concatenate([pair["fixed"], pair["fixed_known"][None]])
    score = functools.partial(_score, metric, metric.prepare(pair), slide, measures.grid(n))
    if "points" in pair:
        score = functools.partial(_with_points, score, pair["points"])
    penalty = functools.partial(_prior, pair["scale_sd"]) if metric.prior else _penalty
    linears, shifts, scores = jax.vmap(lambda *pose: _ascend(score, penalty, *pose, steps, rate))(
        linears, shifts
    )
    order = jnp.argsort(-scores)
    return linears[order], shifts[order], scores[order]


def _ascend(score, penalty, linear, shift, steps: int, rate: float):
    """Adam on one pose; the best step counts, not the last."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.05))

    def loss(params):
        return penalty(linear, params) - score(linear, params)

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


def _score(metric: Similarity, ready, slide, grid, linear, params) -> jax.Array:
    change, shift = params
    where = grid @ (linear @ (jnp.eye(2) + change)).T + shift[None]
    return metric.affine(ready, *measures.slide_at(slide, where))


def _with_points(score, points, linear, params) -> jax.Array:
    change, shift = params
    against = point_prior.against(points, linear @ (jnp.eye(2) + change), shift)
    return score(linear, params) - against


def _penalty(linear, params) -> jax.Array:
    """Zero near a similarity of the start's scale, steep beyond some 12 % of stretch."""
    scale = jnp.sqrt(jnp.abs(jnp.linalg.det(linear)))
    total = linear @ (jnp.eye(2) + params[0]) / scale
    stretch = jnp.sqrt(jnp.sum((total.T @ total - jnp.eye(2)) ** 2) + 1e-8)
    return 10.0 * jnp.maximum(stretch - FREE_STRETCH, 0.0) ** 2


def _prior(scale_sd, linear, params) -> jax.Array:
    """Minus log of a normal prior on log scale and on half the log ratio of both scales."""
    total = linear @ (jnp.eye(2) + params[0])
    area = jnp.maximum(jnp.abs(jnp.linalg.det(total)), 1e-6)
    # exp(2 h) + exp(-2 h) for half the log ratio h: smooth where both scales are equal
    ratio = jnp.sum(total**2) / area
    squared = (0.5 * jnp.log(area) / scale_sd) ** 2 + (ratio - 2.0) / (4.0 * RATIO_SD**2)
    return 0.5 * squared / INDEPENDENT
