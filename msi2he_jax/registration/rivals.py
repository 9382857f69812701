"""Poses beside each other: how far they are apart, which go on, and how near the next one comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msi2he_jax.registration.similarity import Level

if TYPE_CHECKING:
    from msi2he_jax.registration.automatic import Pair

FAR_PX = 2.0  # MSI pixels: what is no registration any more


def entering(
    pair: Pair, level: Level, linears: np.ndarray, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the poses of one pair that enter a level, none twice where the level asks for that.

    Args:
        pair: The images.
        level: How many enter, and how far apart they have to lie.
        linears: `[S, 2, 2]` float, best first.
        shifts: `[S, 2]` float, half widths.

    Returns:
        As many as the level takes; where there are too few, the best again.
    """
    if not level.apart_px:
        return linears[: level.poses], shifts[: level.poses]
    kept: list[int] = []
    for i in range(len(linears)):
        gaps = (apart_px(pair, linears[i], shifts[i], linears[k], shifts[k]) for k in kept)
        if len(kept) < level.poses and all(gap > level.apart_px for gap in gaps):
            kept.append(i)
    filled = kept + [kept[0]] * (level.poses - len(kept))
    return linears[filled], shifts[filled]


def apart_px(pair: Pair, linear, shift, other_linear, other_shift) -> float:
    """Returns how far two poses lie from each other over the measured region, MSI pixels (rms).

    Args:
        pair: The images.
        linear: `[2, 2]` float.
        shift: `[2]` float, half widths.
        other_linear: `[2, 2]` float.
        other_shift: `[2]` float, half widths.
    """
    inside = (np.argwhere(pair.moving.mask) + 0.5) * pair.moving.um_per_px - pair.moving.center_um
    moved = inside / pair.radius_um @ (linear - other_linear).T + (shift - other_shift)
    scale = np.sqrt(abs(np.linalg.det(linear))) * pair.moving.um_per_px.mean() / pair.radius_um
    return float(np.sqrt(np.mean(np.sum(moved**2, axis=1))) / scale)


def gap(history: Sequence[Sequence[np.ndarray]], pair: Pair) -> float | None:
    """Returns how much less the best pose scores that is a different answer from the winner.

    Args:
        history: Of each level linears `[S, 2, 2]`, shifts `[S, 2]`, scores `[S]`, best first.
        pair: The images.

    Returns:
        On the last level but one, or the one before that still held a pose more than `FAR_PX`
        MSI pixels away; None without any.
    """
    final = history[-1][0][0], history[-1][1][0]
    for linears, shifts, scores in history[-2::-1]:
        away = [apart_px(pair, *final, *pose) for pose in zip(linears, shifts)]
        far = [float(score) for score, px in zip(scores, away) if px > FAR_PX]
        if far:
            return float(scores[int(np.argmin(away))]) - max(far)
    return None
