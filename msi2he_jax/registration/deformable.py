"""Deformable alignment on top of an affine: a stationary velocity field, never folding.

The slide is drawn through the affine into the MSI's frame; there a B-spline velocity field is
fitted by Adam, coarse to fine: a similarity less a diffusion penalty and one on small Jacobian
determinants. What comes out is checked cell by cell: where it folds, the field is made stiffer and
fitted again, and in the end the affine stands alone. So it is where a field that was fitted to half
of the blocks of a chequerboard does not raise the score of the other half (`Similarity.guarded`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from msi2he_jax.errors import InputError
from msi2he_jax.registration import canvas, measures, velocity
from msi2he_jax.registration.automatic import Pair, batch_size
from msi2he_jax.registration.similarity import Similarity, similarity_named
from msi2he_jax.registration.transforms import Displacement, Transform

MARGIN = 1.12
BLOCK_MSI_PX = 6.0  # side of the chequerboard's blocks
STIFFER = (1.0, 4.0, 16.0)
LOWEST_DETERMINANT = 0.3


@dataclasses.dataclass(frozen=True)
class Level:
    """One level: canvas size, control points per side, Adam steps, first step."""

    px: int
    controls: int
    steps: int
    rate: float


LEVELS = (Level(64, 7, 60, 0.006), Level(128, 11, 60, 0.003), Level(256, 11, 30, 0.001))


@dataclasses.dataclass(frozen=True)
class DeformableResult:
    """What a deformable alignment found.

    Attributes:
        displacement: Field on moving positions: fixed = matrix * moving + displacement(moving), um;
            None where the affine was kept.
        inverse: Field on moving positions q = matrix^-1 * fixed: moving = q + inverse(q), um; None
            likewise.
        score: Similarity on the finest level.
        affine_score: Similarity of the affine alone.
        det_min: Smallest Jacobian determinant, relative to the affine's, over the whole field.
        det_max: Largest.
        inverse_consistency_um: Mean distance over the tissue of inverse(forward(point)) to point.
        stiffness: How many times stiffer than usual the field had to be.
        kept_affine: Whether there is no field: every one folded somewhere, there or back, or gained
            nothing on pixels held out.
    """

    displacement: Displacement | None
    inverse: Displacement | None
    score: float
    affine_score: float
    det_min: float
    det_max: float
    inverse_consistency_um: float
    stiffness: float
    kept_affine: bool


def register_deformable(
    pair: Pair, matrix: np.ndarray, *, metric: str = "mi", stiffness: float = 1.0
) -> DeformableResult:
    """Bends one pair into place; see `deform_cohort`.

    Args:
        pair: From `automatic.make_pair`.
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        metric: A name in `similarity.METRICS`.
        stiffness: Factor on the smoothness penalty.

    Returns:
        The field, its inverse and what can be said of it.
    """
    return deform_cohort([pair], [matrix], metric=metric, stiffness=stiffness)[0]


def deform_cohort(
    pairs: Sequence[Pair],
    matrices: Sequence[np.ndarray],
    *,
    metric: str = "mi",
    stiffness: float = 1.0,
    batch: int = 8,
) -> list[DeformableResult]:
    """Bends many pairs into place, in batches.

    Args:
        pairs: From `automatic.make_pair`.
        matrices: each `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        metric: A name in `similarity.METRICS`.
        stiffness: Factor on the smoothness penalty.
        batch: Most pairs at a time.

    Returns:
        One result per pair, in order.

    Raises:
        InputError: unknown metric, a stiffness that is not positive.
    """
    similarity = similarity_named(metric)
    if not 0 < stiffness < np.inf:
        raise InputError("stiffness", "", f"{stiffness} is not a positive factor")
    results: dict[int, DeformableResult] = {}
    for factor in STIFFER:
        todo = [i for i in range(len(pairs)) if i not in results or results[i].kept_affine]
        for chosen in _batches([pairs[i] for i in todo], todo, batch):
            one = [(pairs[i], matrices[i]) for i in chosen]
            results |= dict(zip(chosen, _deform(one, similarity, factor * stiffness)))
    return [results[i] for i in range(len(pairs))]


def _batches(pairs: list[Pair], names: list[int], size: int) -> list[list[int]]:
    """Groups pairs by what must be equal within one compilation."""
    groups: dict[tuple, list[int]] = {}
    for pair, name in zip(pairs, names):
        key = pair.moving.image.shape[-1], pair.fixed.image.shape[-1], len(_useful_levels(pair))
        groups.setdefault(key, []).append(name)
    return [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]


def _radius_um(pair: Pair) -> float:
    return MARGIN * pair.moving.radius_um()


def _useful_levels(pair: Pair) -> list[Level]:
    """Drops levels finer than a quarter of a moving pixel; two always stay."""
    finest = 0.25 * pair.moving.um_per_px.max()
    return [x for x in LEVELS if x.px <= LEVELS[1].px or 2 * _radius_um(pair) / x.px > finest]


def _deform(chosen, metric: Similarity, stiffness: float) -> list[DeformableResult]:
    """Fits one batch, filled up to one of few sizes, each of which compiles once."""
    filled = [*chosen, *[chosen[-1]] * (batch_size(len(chosen)) - len(chosen))]
    levels = _useful_levels(filled[0][0])
    coefficients = np.zeros((len(filled), levels[0].controls, levels[0].controls, 2), np.float32)
    weight = np.float32(stiffness * metric.stiffness)
    gains = _held_out_gains(filled, levels[0], weight, metric) if metric.guarded else None
    for level in levels:
        planes = _stacked(filled, level)
        coefficients, *scores = _fit(planes, _finer(coefficients, level), weight, level, metric)
    before, after = (np.asarray(x) for x in scores)
    forward, backward = map(np.asarray, _integrate(coefficients))
    return [
        _affine_only(float(before[i]), stiffness)
        if gains is not None and gains[i] <= 0
        else _result(pair, matrix, forward[i], backward[i], (before[i], after[i]), stiffness)
        for i, (pair, matrix) in enumerate(chosen)
    ]


def _held_out_gains(chosen, level: Level, weight, metric: Similarity) -> np.ndarray:
    """What fields on one half of the blocks add to the score of the other, `[B]`, both ways."""
    planes = _stacked(chosen, level)
    indices = np.indices(planes["weight"].shape[1:])
    block = BLOCK_MSI_PX * planes["msi_px"][:, None, None]
    first = sum(each[None] // block for each in indices) % 2 == 0
    start = np.zeros((len(chosen), level.controls, level.controls, 2), np.float32)
    gains = np.zeros(len(chosen))
    for fitted in (first, ~first):
        known = planes | {"weight": planes["weight"] * fitted}
        found, *_ = _fit(known, start, weight, level, metric)
        before, after = _scores(planes | {"weight": planes["weight"] * ~fitted}, found, metric)
        gains += np.asarray(after) - np.asarray(before)
    return gains


def _stacked(chosen, level: Level) -> dict[str, np.ndarray]:
    drawn = [draw(pair, matrix, level.px) for pair, matrix in chosen]
    return {name: np.stack([d[name] for d in drawn]) for name in drawn[0]}


def _finer(coefficients, level: Level):
    if coefficients.shape[1] == level.controls:
        return coefficients
    basis = velocity.refine_basis(coefficients.shape[1], level.controls)
    return jax.vmap(lambda c: velocity.along_both(basis, c))(coefficients)


def draw(pair: Pair, matrix: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Draws both sides in the moving frame, the fixed one through the affine.

    Args:
        pair: The images.
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
        n: Canvas pixels per side.

    Returns:
        `values` `[C, n, n]`, `mask` `[n, n]`, `weight` `[n, n]` (known on both sides), `fixed`
        `[D + 1, n, n]`: values times mask, then mask; `fixed_known` `[n, n]`; `msi_px`, canvas
        pixels per moving pixel; float32.
    """
    radius = _radius_um(pair)
    values, mask, known = canvas.draw(pair.moving, radius, n)
    frame = Transform(matrix).in_images(pair.moving.center_um - radius)
    blur_um = 0.4 * float(pair.moving.um_per_px.mean())
    seen, tissue, inside = canvas.draw(pair.fixed, radius, n, blur_um, frame)
    fixed = np.concatenate([seen * tissue, tissue[None]])
    msi_px = np.float32(float(pair.moving.um_per_px.mean()) * n / (2 * radius))
    drawn = {"values": values, "mask": mask, "weight": known * inside, "fixed": fixed}
    return drawn | {"fixed_known": inside, "msi_px": msi_px}


@functools.partial(jax.jit, static_argnames=("level", "metric"))
def _fit(pairs: dict, coefficients, stiffness, level: Level, metric: Similarity):
    """Adam on the coefficients of every pair; returns them with scores before and after."""
    one = functools.partial(_fit_one, stiffness=stiffness, level=level, metric=metric)
    return measures.over_pairs(one, pairs, coefficients)


def _fit_one(pair: dict, coefficients, stiffness, level: Level, metric: Similarity):
    optimizer = optax.adam(optax.cosine_decay_schedule(level.rate, level.steps, 0.05))
    scoring = _scoring(pair, metric)

    def loss(c):
        score, roughness = scoring(c)
        return stiffness * roughness - score

    def step(carry, _):
        c, state = carry
        updates, state = optimizer.update(jax.grad(loss)(c), state)
        return (optax.apply_updates(c, updates), state), None

    (found, _), _ = jax.lax.scan(
        step, (coefficients, optimizer.init(coefficients)), None, length=level.steps
    )
    return found, scoring(jnp.zeros_like(found))[0], scoring(found)[0]


@functools.partial(jax.jit, static_argnames="metric")
def _scores(pairs: dict, coefficients, metric: Similarity):
    """Scores without and with fields."""

    def one(pair, c):
        scoring = _scoring(pair, metric)
        return scoring(jnp.zeros_like(c))[0], scoring(c)[0]

    return measures.over_pairs(one, pairs, coefficients)


def _scoring(pair: dict, metric: Similarity):
    """What takes one pair's coefficients to similarity and roughness."""
    slide = jnp.concatenate([pair["fixed"], pair["fixed_known"][None]])
    ready = metric.prepare(pair)
    return lambda coefficients: _score_under(metric, coefficients, ready, slide)


def _score_under(metric: Similarity, coefficients, ready, slide):
    """Similarity and roughness of one field."""
    n = slide.shape[-1]
    v = velocity.along_both(_nodes_basis(coefficients), coefficients)
    moved = velocity.exponential(v)
    where = velocity.along_both(velocity.linear_basis(n), moved).reshape(-1, 2)
    score = metric.deformable(ready, *measures.slide_at(slide, measures.grid(n) + where))
    return score, _roughness(v, moved)


def _roughness(v, moved) -> jax.Array:
    """Diffusion of the velocity, and a wall in front of small Jacobian determinants."""
    slope = velocity.differences(moved)
    determinant = (1 + slope[..., 0, 0]) * (1 + slope[..., 1, 1]) - (
        slope[..., 0, 1] * slope[..., 1, 0]
    )
    wall = jnp.mean(jnp.maximum(LOWEST_DETERMINANT - determinant, 0.0) ** 2)
    return jnp.mean(jnp.sum(velocity.differences(v) ** 2, axis=(-2, -1))) + 100.0 * wall


def _nodes_basis(coefficients) -> np.ndarray:
    return velocity.spline_basis(velocity.NODES, coefficients.shape[0])


@jax.jit
def _integrate(coefficients):
    """Displacements at the nodes, there and back, `[B, NODES, NODES, 2]`, half widths."""
    v = jax.vmap(lambda c: velocity.along_both(_nodes_basis(c), c))(coefficients)
    return jax.vmap(velocity.exponential)(v), jax.vmap(velocity.exponential)(-v)


def _result(pair: Pair, matrix, forward, backward, scores, stiffness) -> DeformableResult:
    radius = _radius_um(pair)
    axis = ((np.arange(velocity.NODES) + 0.5) * 2 / velocity.NODES - 1) * radius
    axes = pair.moving.center_um[0] + axis, pair.moving.center_um[1] + axis
    there = Displacement(*axes, radius * np.asarray(forward, np.float64))
    back = Displacement(*axes, radius * np.asarray(backward, np.float64))
    det = np.stack(
        [velocity.determinants(f.disp_um, (axis[1] - axis[0],) * 2) for f in (there, back)]
    )
    if det.min() <= 0:
        return _affine_only(float(scores[0]), stiffness)
    points = (np.argwhere(pair.moving.mask) + 0.5) * pair.moving.um_per_px
    moved = points + there(points)
    gap = np.linalg.norm(moved + back(moved) - points, axis=-1)
    linear = np.asarray(matrix, np.float64)[:2, :2]
    return DeformableResult(
        displacement=Displacement(*axes, there.disp_um @ linear.T),
        inverse=back,
        score=float(scores[1]),
        affine_score=float(scores[0]),
        det_min=float(det[0].min()),
        det_max=float(det[0].max()),
        inverse_consistency_um=float(gap.mean()),
        stiffness=stiffness,
        kept_affine=False,
    )


def _affine_only(affine_score: float, stiffness: float) -> DeformableResult:
    return DeformableResult(
        None, None, affine_score, affine_score, 1.0, 1.0, 0.0, stiffness, kept_affine=True
    )
