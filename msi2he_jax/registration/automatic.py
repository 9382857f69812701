"""Automatic affine alignment from no starting guess: every angle, both mirrorings, every shift.

1. 64 px: for 36 angles times 2 mirrorings, every shift is scored at once (Fourier transform).
2. 64 px: the best poses are refined together (vmapped Adam on six parameters).
3. Finer canvases: fewer poses each time. `similarity.METRICS` says by which scores and levels.
Canvas shapes are fixed, so one compilation serves every pair; a cohort runs in batches of pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.registration import canvas, point_prior, poses, refinement, rivals, transforms
from msi2he_jax.registration.canvas import Side
from msi2he_jax.registration.point_prior import PointPrior
from msi2he_jax.registration.similarity import MI_SEARCH, Level, Similarity, similarity_named

SEARCH_PX = 64
# Where the pixel size is a guess: five scales from 1/1.25 to 1.25.
UNKNOWN_SCALE = tuple(1.25 ** (k / 2) for k in (-2, -1, 0, 1, 2))

# Standard deviation of the log of the ratio of pixel sizes: usually, and where it is a guess.
SCALE_SD, UNKNOWN_SCALE_SD = 0.03, 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two images to align, checked.

    Attributes:
        moving: The image in the MSI frame.
        fixed: The slide.
        start: `[3, 3]` float64, a guess to search around, moving to fixed, acting on (y, x, 1), um;
            None searches everywhere.
        points: What a person marked, in the frames of both images; or None.
        scale_sd: How well the ratio of both pixel sizes is known: standard deviation of its log.
    """

    moving: Side
    fixed: Side
    start: np.ndarray | None = None
    points: PointPrior | None = None
    scale_sd: float = SCALE_SD

    @property
    def radius_um(self) -> float:
        """Half the width of both canvases, um."""
        return canvas.shared_radius_um(self.moving, self.fixed)

    def around(self, start: np.ndarray) -> Pair:
        """Returns the same images, to be searched around a guess.

        Args:
            start: `[3, 3]` float, moving to fixed, acting on (y, x, 1), um.

        Raises:
            InputError: it is no affine.
        """
        start = np.asarray(start, np.float64)
        usable = start.shape == (3, 3) and np.all(np.isfinite(start))
        if not usable or abs(np.linalg.det(start[:2, :2])) < 1e-9:
            raise InputError("start", "matrix", "is not an affine that can be inverted")
        return dataclasses.replace(self, start=start)

    def holding(self, points: PointPrior) -> Pair:
        """Returns the same images, with points that their alignment should keep together.

        Args:
            points: In the frames of both images.
        """
        return dataclasses.replace(self, points=points)

    def scaled(self, scale_sd: float) -> Pair:
        """Returns the same images, with another certainty of their pixel sizes.

        Args:
            scale_sd: Standard deviation of the log of their ratio.
        """
        return dataclasses.replace(self, scale_sd=scale_sd)

    def resized(self, factor: float) -> Pair:
        """Returns the same images, as if the moving pixels were larger; without start and points.

        Args:
            factor: On the moving image's pixel size.
        """
        side = self.moving
        sizes = {"um_per_px": side.um_per_px * factor, "center_um": side.center_um * factor}
        moving = dataclasses.replace(side, **sizes)
        return dataclasses.replace(self, moving=moving, start=None, points=None)

    def points_on_canvas(self, n: int) -> dict[str, np.ndarray]:
        """Returns `points` as `point_prior.on_canvas` lays them; nothing where there are none.

        Args:
            n: Canvas pixels per side.
        """
        if self.points is None:
            return {}
        centers = self.moving.center_um, self.fixed.center_um
        pixels = float(self.moving.confidence[self.moving.mask].sum())
        drawn = point_prior.on_canvas(self.points, centers, self.radius_um, pixels, n)
        return {"points": drawn}


@dataclasses.dataclass(frozen=True)
class AffineResult:
    """What an automatic alignment found.

    Attributes:
        matrix: `[3, 3]` float64, moving to fixed, acting on (y, x, 1), um.
        score: Similarity of the winner after the last level (nats for `mi`), here and below less
            what `Pair.points` say against the pose.
        starts: One dict per refined pose: rotation_deg, mirrored, score.
        gap: How much less the best pose scores that is more than `rivals.FAR_PX` MSI pixels away,
            on the last level but one; None where all poses led to one.
    """

    matrix: np.ndarray
    score: float
    starts: list[dict]
    gap: float | None = None


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
    return Pair(*sides) if start is None else Pair(*sides).around(start)


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
        metric: What is refined: a name in `similarity.METRICS`, which says what each compares.
        seed: Offsets the grid of starting angles by less than one step; the rest is deterministic.
        scales: Factors to try on the pixel sizes' ratio; `UNKNOWN_SCALE` where it is a guess.
        **sizes: `moving_um_per_px`, `fixed_um_per_px`, `moving_valid`, `start`, as `make_pair`
            takes them.

    Returns:
        The best affine with its score; `verdict` says whether to use it.

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
    similarity = similarity_named(metric)
    if not len(scales) or not all(0 < scale < np.inf for scale in scales):
        raise InputError("scales", "", f"{tuple(scales)} are not positive factors")
    results: list[AffineResult | None] = [None] * len(pairs)
    for indices in _batches(pairs, batch, similarity.levels):
        chosen = [pairs[i] for i in indices]
        for i, result in zip(indices, _register_alike(chosen, similarity, seed, scales)):
            results[i] = result
    return results


def _batches(pairs: Sequence[Pair], size: int, levels) -> list[list[int]]:
    """Groups indices of pairs with the same channels, levels and kind of search."""
    groups: dict[tuple, list[int]] = {}
    for i, pair in enumerate(pairs):
        channels = pair.moving.image.shape[-1], pair.fixed.image.shape[-1]
        key = (*channels, len(_useful_levels(pair, levels)), pair.start is None)
        key += (len(pair.points or ()),)
        groups.setdefault(key, []).append(i)
    return [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]


def batch_size(count: int) -> int:
    """Returns the power of two that holds a batch: few sizes, few compilations."""
    return 1 << (count - 1).bit_length()


def _register_alike(pairs: list[Pair], metric: Similarity, seed: int, scales):
    """Aligns one batch, filled up to one of few sizes, each of which compiles once."""
    count = len(pairs)
    pairs = pairs + [pairs[-1]] * (batch_size(count) - count)
    levels = _useful_levels(pairs[0], metric.levels)
    linears, shifts = _coarse(pairs, seed, scales, levels[0], metric.search or (MI_SEARCH,))
    history = []
    for level in levels:
        drawn = _draw_all(pairs, level.px, level.blur_px)
        chosen = [rivals.entering(*each) for each in zip(pairs, repeat(level), linears, shifts)]
        entering = (np.stack(each) for each in zip(*chosen))
        climbed = metric if level is levels[-1] else metric.coarse or metric
        found = refinement.refine(drawn, *entering, level.steps, level.rate, climbed)
        linears, shifts, scores = map(np.asarray, found)
        history.append((linears, shifts, scores))
    return [_result([[x[i] for x in h] for h in history], pairs[i]) for i in range(count)]


def _coarse(pairs: list[Pair], seed: int, scales, level: Level, searches):
    """The first poses of every pair, `[B, keep, 2, 2]` and `[B, keep, 2]`, half widths."""
    if pairs[0].start is None:
        orientations = np.stack([poses.everywhere(seed, scales)] * len(pairs))
        near, reach = np.zeros((len(pairs), 2)), np.full(len(pairs), poses.EVERYWHERE)
    else:
        orientations = np.stack([poses.around(p.start[:2, :2], scales) for p in pairs])
        landing = [transforms.apply_affine(p.start, p.moving.center_um) for p in pairs]
        near = [(at - p.fixed.center_um) / p.radius_um for at, p in zip(landing, pairs)]
        reach = np.full(len(pairs), poses.GUESS_REACH)
    drawn = _draw_all(pairs, SEARCH_PX, level.blur_px)
    keep = level.poses // len(searches)
    found = [poses.best_poses(drawn, orientations, near, reach, keep, each) for each in searches]
    return tuple(np.concatenate(each, axis=1) for each in zip(*found))


def _useful_levels(pair: Pair, levels: Sequence[Level]) -> list[Level]:
    """Drops levels finer than a fifth of a moving pixel: they would only interpolate."""
    finest = 0.2 * pair.moving.um_per_px.max()
    return [x for x in levels if x.px == levels[0].px or 2 * pair.radius_um / x.px > finest]


def _draw_all(pairs: list[Pair], n: int, blur_px: float) -> dict:
    drawn = {id(pair): draw_pair(pair, n, blur_px) for pair in {id(p): p for p in pairs}.values()}
    planes = [drawn[id(pair)] for pair in pairs]
    return {name: np.stack([p[name] for p in planes]) for name in planes[0]}


def draw_pair(pair: Pair, n: int, blur_px: float = 0.4) -> dict[str, np.ndarray]:
    """Draws both sides at one level; the sharper fixed image is blurred to the moving pixel.

    Args:
        pair: The images.
        n: Canvas pixels per side.
        blur_px: Standard deviation of the blur, moving pixels.

    Returns:
        `values` `[C, n, n]`, `mask` `[n, n]`, `weight` `[n, n]` (known share) of the moving side;
        `fixed` `[D + 1, n, n]`: values times mask, then mask; `fixed_known` `[n, n]`; `msi_px`,
        canvas pixels per moving pixel; `scale_sd`; `points` `[P, 6]`, where there are some;
        float32.
    """
    values, mask, known = canvas.draw(pair.moving, pair.radius_um, n)
    msi_um = float(pair.moving.um_per_px.mean())
    blur_um = blur_px * msi_um
    fixed_values, fixed_mask, seen = canvas.draw(pair.fixed, pair.radius_um, n, blur_um)
    fixed = np.concatenate([fixed_values * fixed_mask, fixed_mask[None]])
    msi_px = np.float32(msi_um * n / (2 * pair.radius_um))
    drawn = {"values": values, "mask": mask, "weight": known, "fixed": fixed}
    drawn |= {"fixed_known": seen, "msi_px": msi_px}
    drawn["scale_sd"] = np.float32(pair.scale_sd)
    return drawn | pair.points_on_canvas(n)


def _result(history, pair: Pair) -> AffineResult:
    linears, _, scores = history[0]
    linear, shift, score = (x[0] for x in history[-1])
    return AffineResult(
        matrix=canvas.matrix_um(linear, shift, pair.moving, pair.fixed, pair.radius_um),
        score=float(score),
        gap=rivals.gap(history, pair),
        starts=[_start(a, s) for a, s in zip(linears, scores)],
    )


def _start(linear, score) -> dict:
    said = transforms.decompose(transforms.from_parts(linear, (0, 0)))
    return {
        "rotation_deg": said["rotation_deg"],
        "mirrored": said["mirrored"],
        "score": float(score),
    }
