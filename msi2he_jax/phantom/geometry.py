"""Where MSI pixels lie on the slide: the known affine and warp, and landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.phantom.textures import Canvas, smooth_noise
from msi2he_jax.registration.transforms import Displacement, Transform, from_parts


@dataclasses.dataclass(frozen=True)
class Raster:
    """The MSI stage: all positions that could be measured.

    Attributes:
        shape: (lines, pixels per line).
        um: Pixel size (y, x), um.
    """

    shape: tuple[int, int]
    um: tuple[float, float]

    @property
    def size_um(self) -> np.ndarray:
        """Extent `[2]` float64 (y, x), um."""
        return np.asarray(self.shape) * np.asarray(self.um)


def tissue_radius_um(raster: Raster, warp_um: float) -> float:
    """Radius of the largest circle of tissue the raster holds with a margin, um."""
    pixel = max(raster.um)
    half = 0.5 * float(min(raster.size_um))
    return 0.97 * (half - max(2.5 * pixel, 0.12 * half) - warp_um)


def draw_canvas(
    rng: np.random.Generator, radius_um: float, um_per_px: float
) -> tuple[Canvas, tuple[float, float]]:
    """Draws how large the slide image is and where the tissue lies on it.

    Args:
        rng: Source of randomness.
        radius_um: Radius of the circle that holds the tissue, um.
        um_per_px: Pixel size of the image, um.

    Returns:
        The pixel grid and the centre (y, x) of the tissue, um.
    """
    size = 2.0 * radius_um * rng.uniform(1.22, 1.5, 2)
    slack = 0.5 * size - 1.05 * radius_um
    center = 0.5 * size + rng.uniform(-0.7, 0.7, 2) * slack
    shape = tuple(int(np.ceil(s / um_per_px)) for s in size)
    return Canvas(shape, um_per_px), (float(center[0]), float(center[1]))


def draw_truth(
    rng: np.random.Generator,
    raster: Raster,
    center_yx: tuple[float, float],
    *,
    mirrored: bool,
    warp_um: float,
) -> Transform:
    """Draws an affine (any angle, small scale and shear) and a smooth warp.

    Args:
        rng: Source of randomness.
        raster: The MSI stage.
        center_yx: Where the raster's centre lands on the slide (y, x), um.
        mirrored: Whether the section lies upside down.
        warp_um: Largest displacement of the warp, um; 0 for none.

    Returns:
        The map of raster coordinates.
    """
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    flip = np.diag([1.0, -1.0 if mirrored else 1.0])
    stretch = np.diag(rng.uniform(0.975, 1.025, 2))
    shear = np.array([[1.0, rng.uniform(-0.02, 0.02)], [0.0, 1.0]])
    linear = turn @ flip @ shear @ stretch
    offset = np.asarray(center_yx) - linear @ (0.5 * raster.size_um)
    offset += rng.uniform(-0.5, 0.5, 2) * raster.um
    return Transform(from_parts(linear, offset), _draw_warp(rng, raster, warp_um))


def _draw_warp(rng, raster: Raster, warp_um: float) -> Displacement | None:
    """A smooth field without an affine part, so that the matrix is the best affine."""
    step = 2.0 * max(raster.um)
    grid = Canvas(tuple(int(np.ceil(s / step)) + 4 for s in raster.size_um), step)
    scale = float(max(raster.size_um)) / 2.5
    field = np.stack([smooth_noise(rng, grid, scale) for _ in range(2)], axis=-1)
    if warp_um <= 0:
        return None
    y, x = np.broadcast_arrays(grid.y_um, grid.x_um)
    design = np.stack([y.ravel(), x.ravel(), np.ones(y.size)], axis=1)
    flat = field.reshape(-1, 2).astype(np.float64)
    flat = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    flat *= warp_um / np.linalg.norm(flat, axis=1).max()
    pad = 2.0 * step
    return Displacement(y[:, 0] - pad, x[0] - pad, flat.reshape(field.shape))


def draw_points(rng: np.random.Generator, allowed: np.ndarray, count: int) -> np.ndarray:
    """Picks points spread over a region, each far from those before.

    Args:
        rng: Source of randomness.
        allowed: `[H, W]` bool.
        count: How many; fewer where the region is smaller than that.

    Returns:
        `[N, 2]` float64 (row, column) within the picked pixels, in pixels from the outer corner.
    """
    places = np.argwhere(allowed)
    places = places[rng.permutation(len(places))]
    chosen = [places[0]]
    distance = np.full(len(places), np.inf)
    for _ in range(min(count, len(places)) - 1):
        distance = np.minimum(distance, np.linalg.norm(places - chosen[-1], axis=1))
        chosen.append(places[int(np.argmax(distance))])
    return np.array(chosen) + rng.uniform(0.1, 0.9, (len(chosen), 2))
