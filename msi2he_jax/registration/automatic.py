"""Automatic affine alignment from no starting guess: every angle, both mirrorings, every shift.

1. 64 px: for 36 angles times 2 mirrorings, mutual information at every shift (Fourier transform).
2. 64 px: the best poses are refined together (vmapped Adam on six parameters).
3. 128 px, then 256 px: fewer poses each time, down to one.
Canvas shapes are fixed, so one compilation serves every pair.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from msi2he_jax.errors import InputError
from msi2he_jax.registration import canvas, similarity, transforms

METRICS = ("mi", "ncc")
ANGLES = 36
SEARCH_PX = 64
SEARCH_BINS = 6
BINS = 16


@dataclasses.dataclass(frozen=True)
class Level:
    """One pyramid level: canvas size, how many poses enter, Adam steps and first step size."""

    px: int
    poses: int
    steps: int
    rate: float


LEVELS = (Level(64, 16, 40, 0.03), Level(128, 4, 40, 0.012), Level(256, 1, 50, 0.005))
# A rival pose this close to the winner's score means that the images hardly decide between them:
# sound alignments left rivals at about half their score, the failures seen at nine tenths.
AMBIGUOUS_MARGIN = 0.15
RIVAL_ANGLE_DEG = 20.0
RIVAL_SHIFT = 0.15


@dataclasses.dataclass(frozen=True)
class AffineResult:
    """What an automatic alignment found.

    Attributes:
        matrix: `[3, 3]` float64, moving to fixed, acting on (y, x, 1), um.
        score: Similarity of the winner after the last level (nats for `mi`).
        coarse_score: Similarity of the winner after the first level.
        runner_up: Similarity after the first level of the best pose that is a different one.
        ambiguous: Whether the runner-up comes so close that the answer should be looked at.
        starts: One dict per refined pose: rotation_deg, mirrored, score.
    """

    matrix: np.ndarray
    score: float
    coarse_score: float
    runner_up: float
    ambiguous: bool
    starts: list[dict]


def register_affine(
    moving: np.ndarray,
    fixed: np.ndarray,
    moving_mask: np.ndarray | None,
    fixed_mask: np.ndarray,
    *,
    moving_um_per_px,
    fixed_um_per_px,
    moving_valid: np.ndarray | None = None,
    metric: str = "mi",
    seed: int = 0,
) -> AffineResult:
    """Aligns an image to another of any modality, from no starting guess.

    Args:
        moving: `[H, W]` or `[H, W, C]` float, MSI frame; only the order of grey values matters.
        fixed: `[h, w]` or `[h, w, D]` float, histology frame, optical density for instance.
        moving_mask: `[H, W]` bool tissue; None where it is not known apart from the background.
        fixed_mask: `[h, w]` bool tissue.
        moving_um_per_px: Pixel size, um; one number or (y, x).
        fixed_um_per_px: Pixel size, um; one number or (y, x).
        moving_valid: `[H, W]` bool, pixels measured; None means all.
        metric: What is refined: `mi` for any two images, `ncc` where grey means the same in both.
        seed: Offsets the grid of starting angles by less than one step; the rest is deterministic.

    Returns:
        The best affine with its score and rivals.

    Raises:
        InputError: no tissue, shapes or pixel sizes that make no sense, unknown metric.
    """
    if metric not in METRICS:
        raise InputError("metric", "", f"{metric!r} is not one of {', '.join(METRICS)}")
    sides = (
        canvas.make_side(moving, moving_mask, moving_um_per_px, valid=moving_valid, name="moving"),
        canvas.make_side(fixed, fixed_mask, fixed_um_per_px, name="fixed"),
    )
    radius = canvas.shared_radius_um(*sides)
    levels = _useful_levels(radius, sides[0].um_per_px.max())
    linears, shifts, _ = _coarse_poses(_pair(sides, radius, SEARCH_PX), seed, levels[0].poses)
    history = []
    for level in levels:
        pair = _pair(sides, radius, level.px)
        linears, shifts, scores = _refine(
            pair, linears[: level.poses], shifts[: level.poses], level.steps, level.rate, metric
        )
        history.append((np.asarray(linears), np.asarray(shifts), np.asarray(scores)))
    return _result(history, sides, radius)


def _useful_levels(radius_um: float, moving_um: float) -> list[Level]:
    """Drops levels finer than a fifth of a moving pixel: they would only interpolate."""
    return [x for x in LEVELS if x.px == LEVELS[0].px or 2 * radius_um / x.px > 0.2 * moving_um]


def _pair(sides, radius: float, n: int) -> dict:
    """Draws both sides at one level; the sharper fixed image is blurred to the moving pixel."""
    moving, fixed = sides
    values, mask, known = canvas.draw(moving, radius, n)
    blur_um = 0.4 * float(moving.um_per_px.mean())
    fixed_values, fixed_mask, _ = canvas.draw(fixed, radius, n, blur_um)
    return {
        "values": values,
        "mask": mask,
        "weight": known,
        "fixed": np.concatenate([fixed_values * fixed_mask, fixed_mask[None]]),
    }


def _coarse_poses(pair: dict, seed: int, keep: int):
    """Returns the `keep` best poses (linear, shift, score) of the exhaustive search."""
    step = 360.0 / ANGLES
    offset = np.random.default_rng(seed).uniform(0, step) if seed else 0.0
    linears = np.stack(
        [
            transforms.rotation(offset + k * step, mirrored=mirrored)[:2, :2]
            for mirrored in (False, True)
            for k in range(ANGLES)
        ]
    ).astype(np.float32)
    scores, shifts = map(np.asarray, _search(pair, linears, SEARCH_BINS))
    order = _peaks_first(scores.reshape(2, ANGLES))[:keep]
    return linears[order], shifts[order], scores[order]


def _peaks_first(scores: np.ndarray) -> np.ndarray:
    """Ranks poses by score, local maxima along the angle before their own flanks."""
    peak = (scores >= np.roll(scores, 1, axis=1)) & (scores >= np.roll(scores, -1, axis=1))
    return np.lexsort((-scores.ravel(), ~peak.ravel()))


@functools.partial(jax.jit, static_argnames="bins")
def _search(pair: dict, linears: jax.Array, bins: int):
    """Best whole-pixel shift of each orientation: scores `[S]`, shifts `[S, 2]` (half widths)."""
    n = pair["mask"].shape[-1]
    y = similarity.memberships(*_unmultiplied(pair["fixed"].reshape(-1, n * n)), bins)
    y = y.reshape(*y.shape[:2], n, n)
    planes = jnp.concatenate(
        [pair["values"] * pair["mask"], pair["mask"][None], pair["weight"][None]]
    )

    def one(linear):
        # rows of an orthogonal matrix invert it: where does each turned pixel come from
        index = _to_index(_grid(n) @ linear, n)
        sampled = similarity.bilinear(planes, index)
        x = similarity.memberships(*_unmultiplied(sampled[:-1]), bins) * sampled[-1]
        scores = similarity.information_of_shifts(x.reshape(*x.shape[:2], n, n), y)
        best = jnp.argmax(scores)
        shift = jnp.stack([best // n, best % n]) - n // 2
        return scores.ravel()[best], shift * (2.0 / n)

    return jax.lax.map(one, linears)


@functools.partial(jax.jit, static_argnames=("steps", "metric"))
def _refine(pair: dict, linears, shifts, steps: int, rate: float, metric: str):
    """Improves poses together by Adam; returns them best first with their scores."""
    score = functools.partial(_score, _prepare(pair), metric)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.05))

    def one(linear, shift):
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

    linears, shifts, scores = jax.vmap(one)(linears, shifts)
    order = jnp.argsort(-scores)
    return linears[order], shifts[order], scores[order]


def _prepare(pair: dict) -> dict:
    """What does not change while poses move."""
    n = pair["mask"].shape[-1]
    values, mask = pair["values"].reshape(-1, n * n), pair["mask"].ravel()
    return {
        "n": n,
        "grid": _grid(n),
        "values": values * mask,
        "members": similarity.memberships(values, mask, BINS),
        "weight": pair["weight"].ravel(),
        "fixed": pair["fixed"],
    }


def _score(ready: dict, metric: str, linear, params) -> jax.Array:
    change, shift = params
    where = ready["grid"] @ (linear @ (jnp.eye(2) + change)).T + shift
    values, mask = _unmultiplied(similarity.bilinear(ready["fixed"], _to_index(where, ready["n"])))
    if metric == "ncc":
        return similarity.normalized_cross_correlation(
            ready["values"], values * mask, ready["weight"]
        )
    members = similarity.memberships(values, mask, BINS)
    return similarity.mutual_information(ready["members"], members, ready["weight"])


def _penalty(linear, params) -> jax.Array:
    """Zero near a rigid motion (pixel sizes are known), steep beyond some 12 % of stretch."""
    total = linear @ (jnp.eye(2) + params[0])
    stretch = jnp.sqrt(jnp.sum((total.T @ total - jnp.eye(2)) ** 2) + 1e-8)
    return 10.0 * jnp.maximum(stretch - 0.25, 0.0) ** 2


def _unmultiplied(planes):
    """Splits `[C + 1, P]` of values times mask, then mask, into values `[C, P]` and mask `[P]`."""
    mask = jnp.clip(planes[-1], 0.0, 1.0)
    return planes[:-1] / jnp.maximum(mask, 1e-3), mask


def _grid(n: int) -> jax.Array:
    """Canvas coordinates of all pixels, `[n * n, 2]` (y, x) in (-1, 1)."""
    axis = (jnp.arange(n) + 0.5) * (2.0 / n) - 1.0
    return jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def _to_index(u, n: int):
    return (u + 1.0) * (n / 2.0) - 0.5


def _result(history, sides, radius: float) -> AffineResult:
    linears, shifts, scores = history[0]
    final_linear, final_shift, final_score = (x[0] for x in history[-1])
    winner = np.argmin(
        [
            np.abs(a - final_linear).sum() + np.abs(b - final_shift).sum()
            for a, b in zip(linears, shifts)
        ]
    )
    rivals = [
        float(s)
        for a, b, s in zip(linears, shifts, scores)
        if _differs(a, b, final_linear, final_shift)
    ]
    runner_up, coarse = max(rivals, default=0.0), float(scores[winner])
    return AffineResult(
        matrix=canvas.matrix_um(final_linear, final_shift, *sides, radius),
        score=float(final_score),
        coarse_score=coarse,
        runner_up=runner_up,
        ambiguous=runner_up > (1 - AMBIGUOUS_MARGIN) * coarse,
        starts=[_start(a, s) for a, s in zip(linears, scores)],
    )


def _start(linear, score) -> dict:
    said = transforms.decompose(transforms.from_parts(linear, (0, 0)))
    return {
        "rotation_deg": said["rotation_deg"],
        "mirrored": said["mirrored"],
        "score": float(score),
    }


def _differs(linear, shift, other_linear, other_shift) -> bool:
    """Whether two poses are different answers, not two steps towards one."""
    a, b = (transforms.decompose(transforms.from_parts(x, (0, 0))) for x in (linear, other_linear))
    turn = abs((a["rotation_deg"] - b["rotation_deg"] + 180) % 360 - 180)
    return (
        a["mirrored"] != b["mirrored"]
        or turn > RIVAL_ANGLE_DEG
        or float(np.abs(shift - other_shift).max()) > RIVAL_SHIFT
    )
