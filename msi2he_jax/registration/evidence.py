"""What the images themselves say of an alignment, however it was found: figures for a verdict.

No landmark is seen. All figures are of `explained`: what the moving image's channels tell of the
slide. `verdict.py` puts them together.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.registration import canvas, explained, measures, transforms
from msi2he_jax.registration.automatic import Pair, draw_pair

REACH_PX = 6.0  # MSI pixels: shifts are tried that far
TURNS = 12  # orientations tried beside, for each mirroring
INDEPENDENT_PX = 30.0  # MSI pixels that say as much as one alone: neighbours are alike
_CANVAS_PX, _SEARCH_PX, _BLUR_PX = 96, 64, 0.5


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Figures read off two images at an alignment.

    Attributes:
        lead: `explained.detail_explained` less that of the best of 23 other orientations, each at
            its best shift, nats per MSI pixel.
        drift_px: How far the mean of shifts lies from none, MSI pixels, where the detail score is
            taken as a likelihood over shifts up to `REACH_PX`.
        spread_px: Root mean square of those shifts under `explained.classes_explained`, MSI pixels.
    """

    lead: float
    drift_px: float
    spread_px: float

    def as_row(self) -> dict[str, float]:
        """Returns the columns of a table."""
        return {f"evidence_{name}": value for name, value in dataclasses.asdict(self).items()}


def read_evidence(pair: Pair, matrix: np.ndarray) -> Evidence:
    """Reads the figures of an alignment off its images.

    Args:
        pair: From `automatic.make_pair`.
        matrix: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.
    """
    linear, shift = canvas.pose(matrix, pair.moving, pair.fixed, pair.radius_um)
    drawn = draw_pair(pair, _CANVAS_PX, _BLUR_PX)
    poses = linear.astype(np.float32), shift.astype(np.float32)
    offsets = _offsets()
    scores = np.asarray(_scores_at_shifts(drawn, *poses, offsets), np.float64)
    others = [linear @ turn for turn in _turns()]
    coarse = draw_pair(pair, _SEARCH_PX, _BLUR_PX)
    rivals = np.asarray(_scores_of_others(drawn, coarse, np.asarray(others, np.float32)))
    here = int(np.flatnonzero(~offsets.any(axis=1))[0])
    votes = float(pair.moving.confidence[pair.moving.mask].sum()) / INDEPENDENT_PX
    by_classes, by_detail = (_likelihood(each, votes) for each in scores)
    return Evidence(
        lead=float(scores[1, here] - rivals.max()),
        drift_px=float(np.linalg.norm(by_detail @ offsets)),
        spread_px=float(np.sqrt(by_classes @ np.sum(offsets**2, axis=1))),
    )


def _offsets() -> np.ndarray:
    """Shifts to try, `[S, 2]` float32, MSI pixels."""
    steps = np.arange(-REACH_PX, REACH_PX + 1)
    there = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return there[np.linalg.norm(there, axis=1) <= REACH_PX].astype(np.float32)


def _turns() -> list[np.ndarray]:
    """All orientations to try beside one: turned, mirrored or both."""
    turns = [
        transforms.rotation(k * 360.0 / TURNS, mirrored=mirrored)[:2, :2]
        for mirrored in (False, True)
        for k in range(TURNS)
    ]
    return turns[1:]


def _likelihood(scores: np.ndarray, votes: float) -> np.ndarray:
    found = np.exp(votes * (scores - scores.max()))
    return found / found.sum()


@jax.jit
def _scores_at_shifts(drawn: dict, linear, shift, offsets) -> jax.Array:
    """Both scores at every offset, `[2, S]`: classes, detail."""
    both = functools.partial(_both, explained.prepare(drawn), drawn)
    step = 2.0 * drawn["msi_px"] / drawn["mask"].shape[-1]
    return jnp.stack(
        jax.lax.map(lambda offset: both(linear, shift + linear @ offset * step), offsets), 0
    )


@jax.jit
def _scores_of_others(drawn: dict, coarse: dict, linears) -> jax.Array:
    """The detail score of every orientation at its best shift, `[O]`."""
    both = functools.partial(_both, explained.prepare(drawn), drawn)
    planes, slide = explained.detail_planes(coarse)
    n = coarse["mask"].shape[-1]
    axis = (jnp.arange(n) - n // 2) * (2.0 / n)

    def one(linear):
        index = measures.to_index(measures.grid(n) @ jnp.linalg.inv(linear).T, n)
        turned = measures.bilinear(planes, index).reshape(-1, n, n)
        best = jnp.argmax(explained.explained_at_shifts(turned, slide))
        return both(linear, jnp.stack([axis[best // n], axis[best % n]]))[1]

    return jax.lax.map(one, linears)


def _both(ready: dict, drawn: dict, linear, shift):
    slide = jnp.concatenate([drawn["fixed"], drawn["fixed_known"][None]])
    there = measures.slide_at(slide, measures.grid(slide.shape[-1]) @ linear.T + shift[None])
    return explained.classes_explained(ready, *there), explained.detail_explained(ready, *there)
