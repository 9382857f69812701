"""Where an affine refinement starts: every angle, both mirrorings, any shift, or around a guess.

A pose is a canvas transform `u -> linear u + shift` of moving onto fixed, `u` in half widths.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.registration import measures, point_prior, transforms
from msi2he_jax.registration.similarity import Search

ANGLES = 36
GUESS_TURNS_DEG = np.linspace(-15.0, 15.0, 31)
GUESS_REACH = 0.2  # half widths
EVERYWHERE = 10.0  # half widths: more than any canvas


def everywhere(seed: int = 0, scales: Sequence[float] = (1.0,)) -> np.ndarray:
    """Lists the orientations of a search from no guess.

    Args:
        seed: Offsets the angles by less than one step; 0 does not.
        scales: Fixed um per moving um to try.

    Returns:
        `[scales, 2, ANGLES, 2, 2]` float32: scale, mirroring, angle.
    """
    step = 360.0 / ANGLES
    offset = np.random.default_rng(seed).uniform(0, step) if seed else 0.0
    turns = [
        [transforms.rotation(offset + k * step, mirrored=m)[:2, :2] for k in range(ANGLES)]
        for m in (False, True)
    ]
    return np.multiply.outer(np.asarray(scales), np.array(turns)).astype(np.float32)


def around(linear: np.ndarray, scales: Sequence[float] = (1.0,)) -> np.ndarray:
    """Lists the orientations of a search around a guess.

    Args:
        linear: `[2, 2]` float, the guess.
        scales: Factors on the guess' own scale to try.

    Returns:
        `[scales, 1, 31, 2, 2]` float32.
    """
    turns = [[linear @ transforms.rotation(turn)[:2, :2] for turn in GUESS_TURNS_DEG]]
    return np.multiply.outer(np.asarray(scales), np.array(turns)).astype(np.float32)


def best_poses(pairs: dict, orientations: np.ndarray, near, reach, keep: int, search: Search):
    """Finds the best shift of every orientation, and the best orientations.

    Args:
        pairs: Canvases of B pairs, see `automatic.draw_pair`, each `[B, ...]`.
        orientations: `[B, scales, mirrorings, angles, 2, 2]` float32.
        near: `[B, 2]` float, the shift to stay near, half widths.
        reach: `[B]` float, how near, half widths.
        keep: How many poses to return.
        search: What scores all shifts of an orientation.

    Returns:
        linears `[B, keep, 2, 2]` float32 and shifts `[B, keep, 2]` float32, best first.
    """
    flat = orientations.reshape(len(orientations), -1, 2, 2)
    near, reach = (np.asarray(value, np.float32) for value in (near, reach))
    scores, shifts = map(np.asarray, best_shifts(pairs, flat, near, reach, search))
    chosen = np.stack([_ranked(s.reshape(orientations.shape[1:4]))[:keep] for s in scores])
    rows = np.arange(len(flat))[:, None]
    return flat[rows, chosen], shifts[rows, chosen]


def _ranked(scores: np.ndarray) -> np.ndarray:
    """Ranks orientations, each at its best scale, local maxima along the angle before flanks."""
    best = scores.max(axis=0)
    peak = (best >= np.roll(best, 1, axis=1)) & (best >= np.roll(best, -1, axis=1))
    order = np.lexsort((-best.ravel(), ~peak.ravel()))
    return scores.argmax(axis=0).ravel()[order] * best.size + order


@functools.partial(jax.jit, static_argnames="search")
def best_shifts(pairs: dict, linears, near, reach, search: Search):
    """Finds the best whole-pixel shift of every orientation.

    Args:
        pairs: Canvases of B pairs, see `automatic.draw_pair`, each `[B, ...]`.
        linears: `[B, S, 2, 2]` float32, orientations.
        near: `[B, 2]` float32, the shift to stay near, half widths.
        reach: `[B]` float32, how near, half widths.
        search: What scores all shifts of an orientation.

    Returns:
        scores `[B, S]` and shifts `[B, S, 2]`, half widths.
    """
    return jax.lax.map(lambda one: _search_one(*one, search), (pairs, linears, near, reach))


def _search_one(pair: dict, linears, near, reach, search: Search):
    n = pair["mask"].shape[-1]
    planes, slide = search.prepare(pair)
    axis = (jnp.arange(n) - n // 2) * (2.0 / n)
    distance = jnp.hypot(axis[:, None] - near[0], axis[None] - near[1])

    def one(linear):
        index = measures.to_index(measures.grid(n) @ jnp.linalg.inv(linear).T, n)
        scores = search.shifts(measures.bilinear(planes, index).reshape(-1, n, n), slide)
        if "points" in pair:
            scores = scores - point_prior.against_shifts(pair["points"], linear, axis)
        scores = jnp.where(distance <= reach, scores, -jnp.inf)
        best = jnp.argmax(scores)
        return scores.ravel()[best], jnp.stack([axis[best // n], axis[best % n]])

    # one by one where memory is small and gains nothing from width
    return jax.lax.map(one, linears, batch_size=None if jax.default_backend() == "cpu" else 24)
