"""Where MSI pixels lie on the slide: the known affine and warp, the measured region, landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.textures import Canvas, smooth_noise
from msi2he_jax.registration.transforms import Displacement, apply_transform, compose, from_parts


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


@dataclasses.dataclass(frozen=True)
class Truth:
    """The map of MSI points onto the slide: histology = matrix * msi + displacement(msi).

    Attributes:
        matrix: `[3, 3]` float64, acting on (y, x, 1), um.
        displacement: What the matrix leaves over, on MSI positions, or None.
    """

    matrix: np.ndarray
    displacement: Displacement | None

    def to_histology(self, points_yx: np.ndarray) -> np.ndarray:
        """Maps points.

        Args:
            points_yx: `[..., 2]` float, MSI (y, x), um.

        Returns:
            `[..., 2]` float64, histology (y, x), um.
        """
        return apply_transform(self.matrix, self.displacement, points_yx)

    def rebased(self, corner_yx_um: np.ndarray) -> Truth:
        """The same map for MSI coordinates that start at another corner.

        Args:
            corner_yx_um: `[2]` float (y, x), the new origin in the old coordinates, um.

        Returns:
            The map of the new coordinates.
        """
        corner = np.asarray(corner_yx_um, np.float64)
        matrix = compose(self.matrix, from_parts(np.eye(2), corner))
        field = self.displacement
        if field is not None:
            axes = field.y_um - corner[0], field.x_um - corner[1]
            field = Displacement(*axes, field.disp_um)
        return Truth(matrix, field)


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
) -> Truth:
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
    return Truth(from_parts(linear, offset), _draw_warp(rng, raster, warp_um))


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


def draw_measured(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    """Draws which positions were measured: a rectangle around the tissue, with parts missing.

    Args:
        rng: Source of randomness.
        tissue: `[H, W]` bool, tissue on the raster.

    Returns:
        `[H, W]` bool.
    """
    near = ndimage.binary_dilation(tissue, iterations=2)
    rows, columns = np.nonzero(near.any(1))[0], np.nonzero(near.any(0))[0]
    measured = np.zeros_like(tissue)
    measured[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    for corner in range(4):
        size = rng.uniform(0.15, 0.5, 2) * rng.integers(0, 2)
        _cut_corner(measured, near, (rows, columns), corner, size)
    late_line = rng.integers(rows[0], rows[-1] + 1)
    start = slice(columns[0], columns[0] + rng.integers(2, 8))
    measured[late_line, start] &= near[late_line, start]
    return measured & (rng.random(tissue.shape) >= 0.003)


def _cut_corner(measured, near, span, corner: int, size: np.ndarray) -> None:
    """Leaves out a triangle at a corner of the rectangle where there is no tissue."""
    rows, columns = span
    y = np.arange(measured.shape[0])[:, None] - rows[0]
    x = np.arange(measured.shape[1])[None, :] - columns[0]
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    y = height - y if corner & 1 else y
    x = width - x if corner & 2 else x
    outside = y / (size[0] * height + 1e-9) + x / (size[1] * width + 1e-9) < 1.0
    measured[outside & ~near] = False


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
