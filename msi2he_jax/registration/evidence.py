"""What the images themselves say of an alignment, however it was found: figures for a verdict.

No landmark is seen. All figures are of `explained`: what the moving image's channels tell of the
slide. `verdict.py` puts them together.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.registration import canvas, explained, measures, poses, transforms
from msi2he_jax.registration.automatic import Pair, draw_pair
from msi2he_jax.registration.similarity import METRICS

REACH_PX = 6.0  # MSI pixels: shifts are tried that far
TURNS = 12  # orientations tried beside, for each mirroring
INDEPENDENT_PX = 30.0  # MSI pixels that say as much as one alone: neighbours are alike
_CANVAS_PX, _SEARCH_PX, _BLUR_PX = 96, 64, 0.5
_SEARCH = METRICS["explained"].search[-1]  # by details


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
    linear, shift = linear.astype(np.float32), shift.astype(np.float32)
    drawn, offsets = draw_pair(pair, _CANVAS_PX, _BLUR_PX), _offsets()
    step = 2.0 * drawn["msi_px"] / _CANVAS_PX
    scores = _scores(
        drawn, np.repeat(linear[None], len(offsets), 0), shift + step * offsets @ linear.T
    )
    others = _scores(drawn, *_other_orientations(pair, linear))
    here = int(np.flatnonzero(~offsets.any(axis=1))[0])
    votes = float(pair.moving.confidence[pair.moving.mask].sum()) / INDEPENDENT_PX
    by_classes, by_detail = (_likelihood(each, votes) for each in scores)
    return Evidence(
        lead=float(scores[1, here] - others[1].max()),
        drift_px=float(np.linalg.norm(by_detail @ offsets)),
        spread_px=float(np.sqrt(by_classes @ np.sum(offsets**2, axis=1))),
    )


def _offsets() -> np.ndarray:
    """Shifts to try, `[S, 2]` float32, MSI pixels."""
    steps = np.arange(-REACH_PX, REACH_PX + 1)
    there = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return there[np.linalg.norm(there, axis=1) <= REACH_PX].astype(np.float32)


def _other_orientations(pair: Pair, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turned, mirrored or both, each at its best shift: `[O, 2, 2]` and `[O, 2]`, half widths."""
    turns = [
        transforms.rotation(k * 360.0 / TURNS, mirrored=mirrored)[:2, :2]
        for mirrored in (False, True)
        for k in range(TURNS)
    ]
    linears = np.stack([linear @ turn for turn in turns[1:]]).astype(np.float32)
    drawn = {name: each[None] for name, each in draw_pair(pair, _SEARCH_PX, _BLUR_PX).items()}
    near, reach = np.zeros((1, 2), np.float32), np.full(1, poses.EVERYWHERE, np.float32)
    _, shifts = poses.best_shifts(drawn, linears[None], near, reach, _SEARCH)
    return linears, np.asarray(shifts[0])


def _likelihood(scores: np.ndarray, votes: float) -> np.ndarray:
    found = np.exp(votes * (scores - scores.max()))
    return found / found.sum()


def _scores(drawn: dict, linears: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Both scores at poses, `[2, S]`: classes, detail."""
    return np.asarray(_both_scores(drawn, linears, shifts), np.float64)


@jax.jit
def _both_scores(drawn: dict, linears, shifts) -> jax.Array:
    ready = explained.prepare(drawn)
    slide = jnp.concatenate([drawn["fixed"], drawn["fixed_known"][None]])
    grid = measures.grid(slide.shape[-1])

    def one(pose):
        linear, shift = pose
        there = measures.slide_at(slide, grid @ linear.T + shift[None])
        scores = (
            f(ready, *there) for f in (explained.classes_explained, explained.detail_explained)
        )
        return jnp.stack([*scores])

    return jax.lax.map(one, (linears, shifts)).T
