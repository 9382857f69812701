"""Outlines of tissue on a slide: irregular, nearly symmetric, in one piece or two."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.phantom.textures import Canvas, smooth_noise


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is particular about an outline.

    Attributes:
        symmetry: 0 = as drawn, 1 = its smooth part is its own mirror image.
        pieces: 1 or 2.
    """

    symmetry: float = 0.0
    pieces: int = 1


PLAIN = Shape()


def outline(
    rng: np.random.Generator,
    canvas: Canvas,
    center_yx: tuple[float, float],
    radius_um: float,
    shape: Shape = PLAIN,
) -> np.ndarray:
    """Draws an irregular piece of tissue that stays within a circle.

    Args:
        rng: Source of randomness.
        canvas: The pixel grid.
        center_yx: (y, x) of the circle, um.
        radius_um: Its radius, um.
        shape: What is particular about it.

    Returns:
        `[H, W]` bool.
    """
    own = rng.spawn(1)[0]
    dy, dx = canvas.y_um - center_yx[0], canvas.x_um - center_yx[1]
    theta = np.arctan2(dy, dx)
    aspect, tilt = rng.uniform(0.72, 1.0), rng.uniform(0, np.pi)
    turns = np.linspace(-np.pi, np.pi, 721)
    profile = aspect / np.hypot(aspect * np.cos(turns - tilt), np.sin(turns - tilt))
    for k in range(2, 9):
        profile *= 1.0 + rng.normal(0, 0.13 / k) * np.cos(k * turns + rng.uniform(0, 2 * np.pi))
    if shape.symmetry:
        profile = _mirrored(profile, turns, own.uniform(-np.pi, np.pi), shape.symmetry)
    profile *= 0.97 / profile.max()
    rough = 0.035 * smooth_noise(rng, canvas, radius_um / 14.0)
    rim = np.interp(theta, turns, profile) * (1.0 + np.clip(rough, -0.1, 0.03))
    mask = (np.hypot(dy, dx) < rim * radius_um) & ~_tears(rng, canvas, radius_um)
    return mask if shape.pieces == 1 else mask & ~_gap(own, canvas, (dy, dx), radius_um)


def _mirrored(profile: np.ndarray, turns: np.ndarray, axis: float, share: float) -> np.ndarray:
    """Blends a radial profile with the mean of itself and its mirror image."""
    there = np.interp(2.0 * axis - turns, turns, profile, period=2.0 * np.pi)
    return profile + 0.5 * share * (there - profile)


def _gap(rng, canvas: Canvas, offsets, radius_um: float) -> np.ndarray:
    """A wavy band of glass across the circle, off its centre: two pieces of unlike size."""
    dy, dx = offsets
    angle = rng.uniform(0, np.pi)
    across = dx * np.cos(angle) + dy * np.sin(angle) - rng.uniform(-0.3, 0.3) * radius_um
    across = across + 0.06 * radius_um * smooth_noise(rng, canvas, 0.35 * radius_um)
    return np.abs(across) < 0.5 * rng.uniform(0.12, 0.3) * radius_um


def _tears(rng, canvas: Canvas, radius_um: float) -> np.ndarray:
    """Thin curved gaps where a section ripped, in about half of the sections."""
    curve = smooth_noise(rng, canvas, radius_um * 0.5)
    place = smooth_noise(rng, canvas, radius_um * 0.35)
    slope = np.hypot(*np.gradient(curve, canvas.um_per_px)) + 1e-6
    width_um = 5.0 + 9.0 * np.clip(place - 1.3, 0.0, 1.0)
    return (np.abs(curve) / slope < width_um) & (place > 1.35)
