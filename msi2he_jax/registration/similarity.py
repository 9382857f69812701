"""The similarities that registration can maximise: one table, read by both engines and by `--help`.

A new one is an entry of `METRICS` and the functions that it names; nothing else knows of it. Its
functions import JAX when they are called, not here: `register --help` lists the table before that.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msi2he_jax.errors import InputError

if TYPE_CHECKING:
    import jax

BINS = 16
SEARCH_BINS = 6
WINDOW_PX = 4.0  # of the local correlation

Prepare = Callable[[dict], Any]
Score = Callable[[Any, "jax.Array", "jax.Array", "jax.Array"], "jax.Array"]


@dataclasses.dataclass(frozen=True)
class Search:
    """How all whole-pixel shifts of one orientation are scored at once.

    Attributes:
        prepare: Takes the pair's canvases and returns the planes to turn, `[M, n, n]`, and any tree
            of arrays of the slide.
        shifts: Takes the turned planes and that tree; returns `[n, n]`, entry (i, j) the score of
            a shift by (i - n // 2, j - n // 2) pixels. Larger is more alike.
    """

    prepare: Callable[[dict], tuple[jax.Array, Any]]
    shifts: Callable[[jax.Array, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Level:
    """One step of the affine search, from coarse to fine.

    Attributes:
        px: Canvas pixels per side.
        poses: How many poses enter.
        steps: Steps of Adam.
        rate: First step size.
        blur_px: Standard deviation of the slide's blur, MSI pixels.
        apart_px: Of poses nearer to each other than this, MSI pixels (root mean square over the
            measured region), only the best enters.
    """

    px: int
    poses: int
    steps: int
    rate: float
    blur_px: float = 0.4
    apart_px: float = 0.0


LEVELS = (Level(64, 16, 40, 0.03), Level(128, 4, 40, 0.012), Level(256, 1, 50, 0.005))


@dataclasses.dataclass(frozen=True)
class Similarity:
    """One way to say how alike the MSI and the slide are, at a pose or under a field.

    All functions are JAX and are written for one pair at one pose on one canvas of n x n pixels:
    the engines batch them over pairs and poses (`jax.vmap`), compile them, and take gradients of
    the scores in what moved the slide.

    Attributes:
        summary: What it compares, in a few words, for `--help`.
        prepare: Takes the pair's canvases (float32: `values` `[C, n, n]` in [0, 1] and `mask`
            `[n, n]` of the MSI; `weight` `[n, n]`, the share of a pixel that is known; `fixed`
            `[D + 1, n, n]`, the slide where it lies before it moves: values times mask, then mask;
            `fixed_known` `[n, n]`, where there is any slide; `msi_px`, canvas pixels per MSI pixel)
            and returns any tree of arrays. Called once, before the slide moves: the place for
            what depends on the MSI's C channels alone, or on the marginal of the whole slide.
        affine: Takes what `prepare` returned, the slide drawn on the MSI, `[D, n, n]` in [0, 1],
            its tissue, `[n, n]` in [0, 1], and where there is any slide, likewise; returns a
            scalar. Larger is more alike.
        deformable: Likewise, for the deformable engine.
        search: What scores all shifts of an orientation, to find the poses to begin with, as many
            by each; empty: `MI_SEARCH` alone.
        levels: Of the affine search, coarse to fine.
        stiffness: Weight of the smoothness penalty that the deformable engine takes as usual.
        guarded: Whether bending must raise the score of pixels held out, or the affine stays.
        coarse: What the affine engine climbs on all levels but the last; None: this one.
        prior: Whether scales and shear are held by what is known of them, see `refinement`.
    """

    summary: str
    prepare: Prepare
    affine: Score
    deformable: Score
    search: tuple[Search, ...] = ()
    levels: tuple[Level, ...] = LEVELS
    stiffness: float = 1.0
    coarse: Similarity | None = None
    prior: bool = False
    guarded: bool = False


def similarity_named(name: str) -> Similarity:
    """Looks a similarity up.

    Args:
        name: A key of `METRICS`.

    Returns:
        The similarity.

    Raises:
        InputError: there is none of that name.
    """
    if name not in METRICS:
        raise InputError("metric", "", f"{name!r} is not one of {', '.join(METRICS)}")
    return METRICS[name]


def _memberships(values, mask, bins: int = BINS) -> jax.Array:
    from msi2he_jax.registration import measures

    return measures.memberships(values.reshape(len(values), -1), mask.ravel(), bins)


def _search_planes(pair: dict) -> tuple:
    import jax.numpy as jnp

    from msi2he_jax.registration import measures

    n = pair["mask"].shape[-1]
    y = measures.unmultiplied(pair["fixed"].reshape(-1, n * n))
    y = measures.memberships(*y, SEARCH_BINS)
    planes = [pair["values"] * pair["mask"][None], pair["mask"][None], pair["weight"][None]]
    return jnp.concatenate(planes), y.reshape(*y.shape[:2], n, n)


def _information_of_shifts(planes, slide) -> jax.Array:
    from msi2he_jax.registration import measures

    n = planes.shape[-1]
    flat = planes.reshape(len(planes), -1)
    x = measures.memberships(*measures.unmultiplied(flat[:-1]), SEARCH_BINS)
    x = x * flat[None, None, -1]
    return measures.information_of_shifts(x.reshape(*x.shape[:2], n, n), slide)


def _prepare_memberships(pair: dict) -> dict:
    return {
        "members": _memberships(pair["values"], pair["mask"]),
        "weight": pair["weight"].ravel(),
    }


def _mutual_information(ready: dict, values, mask, known) -> jax.Array:
    from msi2he_jax.registration import measures

    seen = _memberships(values, mask)
    return measures.mutual_information(ready["members"], seen, ready["weight"])


def _prepare_values(pair: dict) -> dict:
    return {"values": pair["values"] * pair["mask"][None], "weight": pair["weight"]}


def _correlation(ready: dict, values, mask, known) -> jax.Array:
    from msi2he_jax.registration import measures

    x, y = (v.reshape(len(v), -1) for v in (ready["values"], values * mask[None]))
    return measures.normalized_cross_correlation(x, y, ready["weight"].ravel())


def _local_correlation(ready: dict, values, mask, known) -> jax.Array:
    from msi2he_jax.registration import measures

    images = ready["values"], values * mask[None], ready["weight"]
    return measures.local_correlation(*images, sigma_px=WINDOW_PX)


def _edges(ready: dict, values, mask, known, *, sigma_px: float) -> jax.Array:
    from msi2he_jax.registration import measures

    images = ready["values"], values * mask[None], ready["weight"]
    return measures.normalized_gradient_fields(*images, sigma_px=sigma_px)


def _explained(name: str) -> Callable:
    """A function of `explained`, which is imported when it is called."""

    def call(*args):
        from msi2he_jax.registration import explained

        return getattr(explained, name)(*args)

    return call


MI_SEARCH = Search(_search_planes, _information_of_shifts)
_MI = Similarity(
    "mutual information, for any two images",
    _prepare_memberships,
    affine=_mutual_information,
    deformable=_mutual_information,
    stiffness=2.0,
)
_EXPLAINED = {
    "prepare": _explained("prepare"),
    "deformable": _explained("detail_explained"),
    "search": (
        Search(_explained("class_planes"), _explained("explained_at_shifts")),
        Search(_explained("detail_planes"), _explained("explained_at_shifts")),
    ),
    "levels": (
        Level(64, 24, 24, 0.03, blur_px=2.0),
        Level(64, 12, 24, 0.015, blur_px=0.7, apart_px=1.5),
        Level(96, 6, 24, 0.01, blur_px=0.5, apart_px=1.0),
        Level(96, 6, 40, 0.005, blur_px=0.5, apart_px=1.0),
    ),
    "prior": True,
    "guarded": True,
    "stiffness": 24.0,
}
_BOTH = Similarity("", affine=_explained("both_explained"), **_EXPLAINED)
METRICS: dict[str, Similarity] = {
    "mi": _MI,
    "ncc": Similarity(
        "correlation, where grey means the same in both",
        _prepare_values,
        affine=_correlation,
        deformable=_local_correlation,
    ),
    "ngf": Similarity(
        "edges, where both images have them",
        _prepare_values,
        affine=functools.partial(_edges, sigma_px=3.0),
        deformable=functools.partial(_edges, sigma_px=2.0),
        # gradients draw a good pose closer, but are too noisy to tell it from a bad one
        coarse=_MI,
    ),
    "explained": Similarity(
        "what all channels together explain of the slide",
        affine=_explained("detail_explained"),
        coarse=_BOTH,
        **_EXPLAINED,
    ),
}
