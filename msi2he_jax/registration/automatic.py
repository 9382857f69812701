"""Automatic affine alignment from no starting guess: every angle, both mirrorings, every shift.

1. 64 px: for 36 angles times 2 mirrorings, mutual information at every shift (Fourier transform).
2. 64 px: the best poses are refined together (vmapped Adam on six parameters).
3. 128 px, then 256 px: fewer poses each time, down to one.
Canvas shapes are fixed, so one compilation serves every pair; a cohort runs in batches of pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration import canvas, poses, refinement, transforms
from msi2he_jax.registration.canvas import Side

METRICS = ("mi", "ncc", "ngf")
SEARCH_PX = 64
# Where the pixel size is a guess: five scales from 1/1.25 to 1.25.
UNKNOWN_SCALE = tuple(1.25 ** (k / 2) for k in (-2, -1, 0, 1, 2))


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


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two images to align, checked.

    Attributes:
        moving: The image in the MSI frame.
        fixed: The slide.
        start: `[3, 3]` float64, a guess to search around, moving to fixed, acting on (y, x, 1), um;
            None searches everywhere.
    """

    moving: Side
    fixed: Side
    start: np.ndarray | None = None

    @property
    def radius_um(self) -> float:
        """Half the width of both canvases, um."""
        return canvas.shared_radius_um(self.moving, self.fixed)


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


def make_pair(
    moving: np.ndarray,
    fixed: np.ndarray,
    moving_mask: np.ndarray | None,
    fixed_mask: np.ndarray,
    *,
    moving_um_per_px,
    fixed_um_per_px,
    moving_valid: np.ndarray | None = None,
    moving_confidence: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> Pair:
    """Checks two images of any modality.

    Args:
        moving: `[H, W]` or `[H, W, C]` float, MSI frame; only the order of grey values matters.
        fixed: `[h, w]` or `[h, w, D]` float, histology frame, optical density for instance.
        moving_mask: `[H, W]` bool tissue; None where it is not known apart from the background.
        fixed_mask: `[h, w]` bool tissue.
        moving_um_per_px: Pixel size, um; one number or (y, x).
        fixed_um_per_px: Pixel size, um; one number or (y, x).
        moving_valid: `[H, W]` bool, pixels measured; None means all.
        moving_confidence: `[H, W]` float in [0, 1], how much each counts; None: all alike.
        start: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um: searched around; or None.

    Returns:
        The pair.

    Raises:
        InputError: no tissue, shapes or pixel sizes that make no sense, a guess that is no affine.
    """
    options = {"valid": moving_valid, "confidence": moving_confidence, "name": "moving"}
    sides = (
        canvas.make_side(moving, moving_mask, moving_um_per_px, **options),
        canvas.make_side(fixed, fixed_mask, fixed_um_per_px, name="fixed"),
    )
    if start is not None:
        start = np.asarray(start, np.float64)
        usable = start.shape == (3, 3) and np.all(np.isfinite(start))
        if not usable or abs(np.linalg.det(start[:2, :2])) < 1e-9:
            raise InputError("start", "matrix", "is not an affine that can be inverted")
    return Pair(*sides, start)


def register_affine(
    moving: np.ndarray,
    fixed: np.ndarray,
    moving_mask: np.ndarray | None,
    fixed_mask: np.ndarray,
    *,
    metric: str = "mi",
    seed: int = 0,
    scales: Sequence[float] = (1.0,),
    **sizes,
) -> AffineResult:
    """Aligns an image to another of any modality, from no starting guess or around one.

    Args:
        moving: `[H, W]` or `[H, W, C]` float, MSI frame; only the order of grey values matters.
        fixed: `[h, w]` or `[h, w, D]` float, histology frame, optical density for instance.
        moving_mask: `[H, W]` bool tissue; None where it is not known apart from the background.
        fixed_mask: `[h, w]` bool tissue.
        metric: What is refined: `mi` for any two images, `ncc` where grey means the same in both,
            `ngf` where edges agree (on the finest level; `mi` before).
        seed: Offsets the grid of starting angles by less than one step; the rest is deterministic.
        scales: Factors to try on the pixel sizes' ratio; `UNKNOWN_SCALE` where it is a guess.
        **sizes: `moving_um_per_px`, `fixed_um_per_px`, `moving_valid`, `start`, as `make_pair`
            takes them.

    Returns:
        The best affine with its score and rivals.

    Raises:
        InputError: what `make_pair` and `register_cohort` refuse.
    """
    pair = make_pair(moving, fixed, moving_mask, fixed_mask, **sizes)
    return register_cohort([pair], metric=metric, seed=seed, scales=scales)[0]


def register_cohort(
    pairs: Sequence[Pair],
    *,
    metric: str = "mi",
    seed: int = 0,
    scales: Sequence[float] = (1.0,),
    batch: int = 8,
) -> list[AffineResult]:
    """Aligns many pairs, in batches of those that fit one compilation.

    Args:
        pairs: From `make_pair`.
        metric: As `register_affine` takes it.
        seed: As `register_affine` takes it.
        scales: As `register_affine` takes it.
        batch: Most pairs at a time.

    Returns:
        One result per pair, in order, equal to its own alone but for rounding.

    Raises:
        InputError: unknown metric, scales that are not positive.
    """
    if metric not in METRICS:
        raise InputError("metric", "", f"{metric!r} is not one of {', '.join(METRICS)}")
    if not len(scales) or not all(0 < scale < np.inf for scale in scales):
        raise InputError("scales", "", f"{tuple(scales)} are not positive factors")
    results: list[AffineResult | None] = [None] * len(pairs)
    for indices in _batches(pairs, batch):
        chosen = [pairs[i] for i in indices]
        for i, result in zip(indices, _register_alike(chosen, metric, seed, scales)):
            results[i] = result
    return results


def _batches(pairs: Sequence[Pair], size: int) -> list[list[int]]:
    """Groups indices of pairs with the same channels, levels and kind of search."""
    groups: dict[tuple, list[int]] = {}
    for i, pair in enumerate(pairs):
        channels = pair.moving.image.shape[-1], pair.fixed.image.shape[-1]
        key = (*channels, len(_useful_levels(pair)), pair.start is None)
        groups.setdefault(key, []).append(i)
    return [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]


def batch_size(count: int) -> int:
    """Returns the power of two that holds a batch: few sizes, few compilations."""
    return 1 << (count - 1).bit_length()


def _register_alike(pairs: list[Pair], metric: str, seed: int, scales):
    """Aligns one batch, filled up to one of few sizes, each of which compiles once."""
    count = len(pairs)
    pairs = pairs + [pairs[-1]] * (batch_size(count) - count)
    levels = _useful_levels(pairs[0])
    linears, shifts = _coarse(pairs, seed, scales, levels[0].poses)
    history = []
    for level in levels:
        drawn = _draw_all(pairs, level.px)
        keep = slice(0, level.poses)
        # gradients draw a good pose closer, but are too noisy to tell it from a bad one
        judge = "mi" if metric == "ngf" and level is not levels[-1] else metric
        found = refinement.refine(
            drawn, linears[:, keep], shifts[:, keep], level.steps, level.rate, judge
        )
        linears, shifts, scores = map(np.asarray, found)
        history.append((linears, shifts, scores))
    return [_result([[x[i] for x in h] for h in history], pairs[i]) for i in range(count)]


def _coarse(pairs: list[Pair], seed: int, scales, keep: int):
    """The first poses of every pair, `[B, keep, 2, 2]` and `[B, keep, 2]`, half widths."""
    if pairs[0].start is None:
        orientations = np.stack([poses.everywhere(seed, scales)] * len(pairs))
        near, reach = np.zeros((len(pairs), 2)), np.full(len(pairs), poses.EVERYWHERE)
    else:
        orientations = np.stack([poses.around(p.start[:2, :2], scales) for p in pairs])
        landing = [transforms.apply_affine(p.start, p.moving.center_um) for p in pairs]
        near = [(at - p.fixed.center_um) / p.radius_um for at, p in zip(landing, pairs)]
        reach = np.full(len(pairs), poses.GUESS_REACH)
    return poses.best_poses(_draw_all(pairs, SEARCH_PX), orientations, near, reach, keep)


def _useful_levels(pair: Pair) -> list[Level]:
    """Drops levels finer than a fifth of a moving pixel: they would only interpolate."""
    finest = 0.2 * pair.moving.um_per_px.max()
    return [x for x in LEVELS if x.px == LEVELS[0].px or 2 * pair.radius_um / x.px > finest]


def _draw_all(pairs: list[Pair], n: int) -> dict:
    drawn = {id(pair): draw_pair(pair, n) for pair in {id(p): p for p in pairs}.values()}
    planes = [drawn[id(pair)] for pair in pairs]
    return {name: np.stack([p[name] for p in planes]) for name in planes[0]}


def draw_pair(pair: Pair, n: int) -> dict[str, np.ndarray]:
    """Draws both sides at one level; the sharper fixed image is blurred to the moving pixel.

    Args:
        pair: The images.
        n: Canvas pixels per side.

    Returns:
        `values` `[C, n, n]`, `mask` `[n, n]`, `weight` `[n, n]` (known share) of the moving side;
        `fixed` `[D + 1, n, n]`: values times mask, then mask; float32.
    """
    values, mask, known = canvas.draw(pair.moving, pair.radius_um, n)
    blur_um = 0.4 * float(pair.moving.um_per_px.mean())
    fixed_values, fixed_mask, _ = canvas.draw(pair.fixed, pair.radius_um, n, blur_um)
    fixed = np.concatenate([fixed_values * fixed_mask, fixed_mask[None]])
    return {"values": values, "mask": mask, "weight": known, "fixed": fixed}


def _result(history, pair: Pair) -> AffineResult:
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
        matrix=canvas.matrix_um(final_linear, final_shift, pair.moving, pair.fixed, pair.radius_um),
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
