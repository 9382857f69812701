"""Pen marks on a slide: lines beside the tissue, rings around it and strokes across it."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.cuts import radius_of
from msi2he_jax.phantom.slide import Slide

# Share of the light that the ink lets through in red, green, blue.
INKS = {
    "black": (0.10, 0.10, 0.12),
    "blue": (0.08, 0.20, 0.70),
    "green": (0.06, 0.50, 0.28),
    "red": (0.80, 0.12, 0.16),
}
PLACES = ("beside", "across", "ring")
_MOST_STROKES = 3


def draw_marks(rng: np.random.Generator, slide: Slide) -> Slide:
    """Marks a slide as pathologists do: one ink, black as often as the others together.

    Args:
        rng: Source of randomness.
        slide: The slide.

    Returns:
        The marked slide, with one to three strokes; what MSI meets is unchanged.
    """
    ink = rng.choice(list(INKS), p=[0.5, 0.2, 0.15, 0.15])
    for place in rng.choice(PLACES, rng.integers(1, _MOST_STROKES + 1), p=[0.5, 0.35, 0.15]):
        slide = mark(rng, slide, str(ink), str(place))
    return slide


def mark(rng: np.random.Generator, slide: Slide, ink: str, place: str) -> Slide:
    """Draws one stroke.

    Args:
        rng: Source of randomness.
        slide: The slide.
        ink: Key of INKS.
        place: One of PLACES: `beside` the tissue, `across` it, or a `ring` around it.

    Returns:
        The marked slide; what MSI meets is unchanged.
    """
    radius = radius_of(slide)
    path = {"beside": _beside, "across": _across, "ring": _ring}[place](rng) * radius
    path = _smooth(path + np.asarray(slide.center_yx), slide.um_per_px)
    width = rng.uniform(0.06, 0.14) * radius
    away = np.ones(slide.mask.shape, bool)
    index = np.floor(path / slide.um_per_px).astype(int)
    index = index[((index >= 0) & (index < away.shape)).all(axis=1)]
    if not len(index):
        return slide
    away[tuple(index.T)] = False
    distance = ndimage.distance_transform_edt(away) * slide.um_per_px
    cover = np.clip(0.5 + (0.5 * width - distance) / (2.0 * slide.um_per_px), 0.0, 1.0)
    through = np.asarray(INKS[ink]) ** (cover * rng.uniform(0.8, 1.1))[..., None]
    pixels = np.clip(np.rint(slide.pixels * through), 0, 255).astype(np.uint8)
    return dataclasses.replace(slide, pixels=pixels)


def _turn(rng, points: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _beside(rng) -> np.ndarray:
    """A shaky line or a loop beside a circle of radius 1, `[N, 2]`."""
    if rng.random() < 0.5:
        along = np.linspace(-1.4, 1.4, 6)
        away = 1.15 + rng.normal(0, 0.08, len(along))
        return _turn(rng, np.stack([away, along], axis=1))
    turns = np.linspace(0, 2 * np.pi, 9)
    size = rng.uniform(0.12, 0.25)
    loop = np.stack([np.sin(turns), rng.uniform(0.6, 1.0) * np.cos(turns)], axis=1) * size
    return _turn(rng, loop + np.array([1.25, rng.uniform(-0.8, 0.8)]))


def _across(rng) -> np.ndarray:
    """A shaky line through a circle of radius 1, `[N, 2]`."""
    along = np.linspace(rng.uniform(-1.5, -0.4), rng.uniform(0.4, 1.5), 6)
    away = rng.uniform(-0.6, 0.6) + np.cumsum(rng.normal(0, 0.08, len(along)))
    return _turn(rng, np.stack([away, along], axis=1))


def _ring(rng) -> np.ndarray:
    """A ring around most of a circle of radius 1, its ends apart, `[N, 2]`."""
    turns = np.linspace(0, rng.uniform(1.6, 2.05) * np.pi, 14)
    away = rng.uniform(0.85, 1.15) * (1.0 + rng.normal(0, 0.04, len(turns)))
    return _turn(rng, np.stack([away * np.sin(turns), away * np.cos(turns)], axis=1))


def _smooth(points: np.ndarray, step_um: float) -> np.ndarray:
    """Points at most half a pixel apart along a smooth curve through some points."""
    from scipy.interpolate import make_interp_spline

    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    curve = make_interp_spline(np.linspace(0, 1, len(points)), points, k=3)
    return curve(np.linspace(0, 1, max(8, int(3.0 * length / step_um))))
