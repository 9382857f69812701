"""What differs between the cut under MSI and the stained one: lost and new tissue, folds."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.hardness import Hardness
from msi2he_jax.phantom.slide import Slide
from msi2he_jax.phantom.textures import Canvas, smooth_noise

_MOST_AREA = 0.25
_STRIPS = 0.3  # Of the slides that lost or gained tissue.
_MOST_FOLDS = 3
_FOLD_DENSITY = 1.5


def part_cuts(rng: np.random.Generator, slide: Slide, levels: Hardness) -> Slide:
    """Makes the slide and the cut under MSI differ.

    Args:
        rng: Source of randomness.
        slide: Slide and MSI show the same tissue.
        levels: The section's own; `lost_tissue`, `new_tissue` and `folds` matter here.

    Returns:
        The slide without the lost tissue, with folds; what MSI meets lacks the new tissue.
    """
    lost, new, folding = rng.spawn(3)
    measured = slide.abundance
    if levels.new_tissue:
        measured = _without(measured, patches(new, slide, _MOST_AREA * levels.new_tissue))
    if levels.folds:
        slide = fold(folding, slide, levels.folds)
    if levels.lost_tissue:
        slide = lose(lost, slide, patches(lost, slide, _MOST_AREA * levels.lost_tissue))
    if measured is slide.abundance:
        return slide
    return dataclasses.replace(slide, measured=measured)


def patches(rng: np.random.Generator, slide: Slide, area: float) -> np.ndarray:
    """Draws parts of the tissue: torn edges and holes, in some sections a strip.

    Args:
        rng: Source of randomness.
        slide: Holds the tissue.
        area: Share of the tissue's area. The same draws with a larger share give a larger region
            that holds the smaller one.

    Returns:
        `[h, w]` bool.
    """
    if rng.random() < _STRIPS:
        return strip(rng, slide, area)
    return _highest(slide, _bumps(rng, slide) + 1.2 * _border(slide), area)


def holes(rng: np.random.Generator, slide: Slide, area: float) -> np.ndarray:
    """Draws holes inside the tissue.

    Args:
        rng: Source of randomness.
        slide: Holds the tissue.
        area: Share of the tissue's area, as for `patches`.

    Returns:
        `[h, w]` bool.
    """
    return _highest(slide, _bumps(rng, slide) - 4.0 * _border(slide), area)


def strip(rng: np.random.Generator, slide: Slide, area: float) -> np.ndarray:
    """Draws a strip with rough edges across the tissue.

    Args:
        rng: Source of randomness.
        slide: Holds the tissue.
        area: Share of the tissue's area, as for `patches`.

    Returns:
        `[h, w]` bool.
    """
    grid, radius = Canvas(slide.mask.shape, slide.um_per_px), radius_of(slide)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
    y, x = (grid.y_um - slide.center_yx[0]), (grid.x_um - slide.center_yx[1])
    across = (x * np.cos(angle) + y * np.sin(angle)) / radius - offset
    return _highest(slide, 0.04 * _bumps(rng, slide) - np.abs(across), area)


def _highest(slide: Slide, field: np.ndarray, area: float) -> np.ndarray:
    mask = slide.mask
    return mask & (field > np.quantile(field[mask], 1.0 - area)) if mask.any() else mask


def _bumps(rng, slide: Slide) -> np.ndarray:
    grid, radius = Canvas(slide.mask.shape, slide.um_per_px), radius_of(slide)
    return smooth_noise(rng, grid, 0.3 * radius) + 0.3 * smooth_noise(rng, grid, 0.08 * radius)


def _border(slide: Slide) -> np.ndarray:
    """1 on the tissue's border, falling to 0 inside."""
    depth = ndimage.distance_transform_edt(slide.mask) * slide.um_per_px
    return np.exp(-depth / (0.12 * radius_of(slide)))


def lose(rng: np.random.Generator, slide: Slide, lost: np.ndarray) -> Slide:
    """Takes tissue off a slide; MSI has measured it all the same.

    Args:
        rng: Source of randomness, for the grain of the glass.
        slide: The slide.
        lost: `[h, w]` bool.

    Returns:
        The slide with glass in its place; what MSI meets is unchanged.
    """
    glass = glass_rgb(slide) + rng.normal(0, 1.0, lost.shape)[..., None]
    cover = ndimage.gaussian_filter(lost.astype(np.float32), 0.8)[..., None]
    pixels = slide.pixels + cover * (glass - slide.pixels)
    return dataclasses.replace(
        slide,
        pixels=np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
        abundance=_without(slide.abundance, lost),
        measured=slide.met,
    )


def fold(rng: np.random.Generator, slide: Slide, level: float) -> Slide:
    """Makes tissue darker along curves, where it lies twice.

    Args:
        rng: Source of randomness.
        slide: The slide.
        level: In [0, 1]: how dark and how wide.

    Returns:
        The slide; what MSI meets is unchanged.
    """
    grid, radius = Canvas(slide.mask.shape, slide.um_per_px), radius_of(slide)
    twice = np.zeros(slide.mask.shape, np.float32)
    for _ in range(rng.integers(1, _MOST_FOLDS + 1)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6) * radius
        y, x = grid.y_um - slide.center_yx[0], grid.x_um - slide.center_yx[1]
        along = y * np.cos(angle) - x * np.sin(angle) - rng.uniform(-0.5, 0.5) * radius
        across = x * np.cos(angle) + y * np.sin(angle) - offset
        across = across + 0.08 * radius * smooth_noise(rng, grid, 0.4 * radius)
        width = (0.01 + 0.03 * level) * radius * np.clip(1.0 - np.abs(along) / radius / 0.7, 0, 1)
        twice = np.maximum(twice, np.clip(0.5 + (width - np.abs(across)) / slide.um_per_px, 0, 1))
    twice = (twice * slide.mask * (_FOLD_DENSITY * level))[..., None]
    glass = glass_rgb(slide)
    pixels = glass * np.clip(slide.pixels / glass, 1e-3, None) ** (1.0 + twice)
    pixels = np.where(twice > 0, np.clip(np.rint(pixels), 0, 255), slide.pixels)
    return dataclasses.replace(slide, pixels=pixels.astype(np.uint8))


def glass_rgb(slide: Slide) -> np.ndarray:
    """Looks up the colour of a slide's empty glass, `[3]` float64, 0-255."""
    bare = ~ndimage.binary_dilation(slide.mask, iterations=2)
    if np.count_nonzero(bare) < 50:
        return np.array([243.0, 241.0, 244.0])
    return np.median(slide.pixels[bare], axis=0)


def radius_of(slide: Slide) -> float:
    """Radius of a circle of the tissue's area, um."""
    return float(np.sqrt(max(1, slide.mask.sum()) / np.pi) * slide.um_per_px)


def _without(abundance: np.ndarray, gone: np.ndarray) -> np.ndarray:
    return abundance * ~gone[..., None]
