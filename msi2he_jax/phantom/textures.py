"""Random fields laid out in micrometres, so that a seed gives the same tissue at any resolution."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, sparse

# Standard deviation of a uniform cubic B-spline surface over independent unit-variance nodes.
_SPLINE_STD = 0.479


@dataclasses.dataclass(frozen=True)
class Canvas:
    """The pixel grid of one slide image.

    Attributes:
        shape: (rows, columns).
        um_per_px: Pixel size, um.
    """

    shape: tuple[int, int]
    um_per_px: float

    @property
    def size_um(self) -> tuple[float, float]:
        """Extent (y, x), um."""
        return self.shape[0] * self.um_per_px, self.shape[1] * self.um_per_px

    @property
    def y_um(self) -> np.ndarray:
        """Pixel centres `[H, 1]` float64, um."""
        return ((np.arange(self.shape[0]) + 0.5) * self.um_per_px)[:, None]

    @property
    def x_um(self) -> np.ndarray:
        """Pixel centres `[1, W]` float64, um."""
        return ((np.arange(self.shape[1]) + 0.5) * self.um_per_px)[None, :]

    def index(self, points_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the pixels that hold some points, the nearest border pixel for those outside.

        Args:
            points_yx: `[..., 2]` float (y, x), um.

        Returns:
            Row and column, each `[...]` int64.
        """
        index = np.floor(np.asarray(points_yx) / self.um_per_px).astype(np.int64)
        limits = np.asarray(self.shape) - 1
        index = np.clip(index, 0, limits)
        return index[..., 0], index[..., 1]


def smooth_noise(rng: np.random.Generator, canvas: Canvas, scale_um: float) -> np.ndarray:
    """Draws a smooth random surface: a cubic B-spline over random nodes.

    Args:
        rng: Source of randomness; as many draws as nodes.
        canvas: The pixel grid.
        scale_um: Distance of the nodes, um; bumps are about twice as wide.

    Returns:
        `[H, W]` float32, zero mean, about unit variance.
    """
    counts = [int(np.ceil(size / scale_um)) + 4 for size in canvas.size_um]
    nodes = rng.standard_normal(counts).astype(np.float32)
    rows = _spline_weights(canvas.y_um.ravel() / scale_um, counts[0])
    columns = _spline_weights(canvas.x_um.ravel() / scale_um, counts[1])
    return np.ascontiguousarray((columns @ (rows @ nodes).T).T) / np.float32(_SPLINE_STD)


def _spline_weights(position: np.ndarray, count: int) -> sparse.csr_array:
    """Uniform cubic B-spline basis `[P, count]` float32: four nodes bear on each position."""
    first = np.floor(position).astype(np.int64)
    nodes = first[:, None] + np.arange(4)
    distance = np.abs(position[:, None] + 1.0 - nodes)
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    weights = np.where(distance < 1.0, near, far).astype(np.float32)
    starts = np.arange(0, nodes.size + 1, 4)
    return sparse.csr_array((weights.ravel(), nodes.ravel(), starts), (len(position), count))


def fibres(
    rng: np.random.Generator, canvas: Canvas, *, thickness_um: float, waviness_um: float = 90.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws wavy streaks: noise that is long along a bent coordinate and short across it.

    Args:
        rng: Source of randomness.
        canvas: The pixel grid.
        thickness_um: Width of a streak, um.
        waviness_um: How far streaks leave a straight line, um.

    Returns:
        The streaks `[H, W]` float32, zero mean, about unit variance; and the bent coordinate
        across them `[H, W]` float64, um, whose level lines they follow.
    """
    angle = rng.uniform(0, np.pi)
    across = canvas.x_um * np.cos(angle) + canvas.y_um * np.sin(angle)
    along = canvas.y_um * np.cos(angle) - canvas.x_um * np.sin(angle)
    across = across + waviness_um * smooth_noise(rng, canvas, 260.0)
    across = across + 0.22 * waviness_um * smooth_noise(rng, canvas, 70.0)
    along = along + waviness_um * smooth_noise(rng, canvas, 200.0)
    tile = rng.standard_normal((256, 256)).astype(np.float32)
    where = np.stack([across / thickness_um, along / (11.0 * thickness_um)])
    streaks = 1.5 * ndimage.map_coordinates(tile, where, order=1, mode="grid-wrap")
    return streaks, across


@dataclasses.dataclass(frozen=True)
class Cells:
    """A plane tiled by rounded cells (Worley noise).

    Attributes:
        wall_um: `[H, W]` float32, distance to the nearest wall, um.
        center_yx_um: `[H, W, 2]` float32, centre of the cell a pixel lies in, um.
        dice: `[H, W]` float32, one uniform [0, 1) number per cell.
    """

    wall_um: np.ndarray
    center_yx_um: np.ndarray
    dice: np.ndarray


def cells(rng: np.random.Generator, canvas: Canvas, spacing_um: float) -> Cells:
    """Tiles the canvas with cells around a jittered lattice.

    Args:
        rng: Source of randomness.
        canvas: The pixel grid.
        spacing_um: Mean distance of cell centres, um.

    Returns:
        The tiling.
    """
    counts = [int(np.ceil(size / spacing_um)) + 3 for size in canvas.size_um]
    jitter = rng.uniform(0.12, 0.88, (*counts, 2)).astype(np.float32)
    dice = rng.random(counts, dtype=np.float32)
    home_y = (canvas.y_um / spacing_um).astype(np.int64) + 1
    home_x = (canvas.x_um / spacing_um).astype(np.int64) + 1
    nearest = np.full(canvas.shape, np.inf, np.float32)
    second = nearest.copy()
    owner = np.zeros(canvas.shape, np.int64)
    for step_y in (-1, 0, 1):
        for step_x in (-1, 0, 1):
            flat = (home_y + step_y) * counts[1] + home_x + step_x
            center = jitter.reshape(-1, 2)[flat]
            dy = center[..., 0] + (home_y + step_y - 1) - canvas.y_um / spacing_um
            dx = center[..., 1] + (home_x + step_x - 1) - canvas.x_um / spacing_um
            distance = np.hypot(dy, dx).astype(np.float32)
            closer = distance < nearest
            second = np.minimum(second, np.where(closer, nearest, distance))
            owner = np.where(closer, flat, owner)
            nearest = np.where(closer, distance, nearest)
    lattice = np.stack(np.divmod(owner, counts[1]), axis=-1) - 1
    center_yx = (lattice + jitter.reshape(-1, 2)[owner]) * np.float32(spacing_um)
    return Cells(0.5 * spacing_um * (second - nearest), center_yx, dice.ravel()[owner])


def scatter(rng: np.random.Generator, canvas: Canvas, spacing_um: float) -> np.ndarray:
    """Draws points that keep some distance from each other (a jittered lattice).

    Args:
        rng: Source of randomness.
        canvas: The pixel grid.
        spacing_um: Mean distance, um.

    Returns:
        `[N, 2]` float64 (y, x), um; some lie a little outside the canvas.
    """
    counts = [int(np.ceil(size / spacing_um)) for size in canvas.size_um]
    lattice = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1)
    return ((lattice + rng.random((*counts, 2))) * spacing_um).reshape(-1, 2)


def splat(points_yx: np.ndarray, weights: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Adds weighted points to the pixels around them (bilinear shares).

    Args:
        points_yx: `[N, 2]` float (y, x), um.
        weights: `[N]` float.
        canvas: The pixel grid.

    Returns:
        `[H, W]` float64; sums to `weights` but for what falls outside.
    """
    position = points_yx / canvas.um_per_px - 0.5
    low = np.floor(position).astype(np.int64)
    part = position - low
    total = np.zeros(canvas.shape[0] * canvas.shape[1])
    for step_y in (0, 1):
        for step_x in (0, 1):
            row, column = low[:, 0] + step_y, low[:, 1] + step_x
            share = np.abs(1 - step_y - part[:, 0]) * np.abs(1 - step_x - part[:, 1])
            ok = (row >= 0) & (row < canvas.shape[0]) & (column >= 0) & (column < canvas.shape[1])
            flat = row[ok] * canvas.shape[1] + column[ok]
            total += np.bincount(flat, (share * weights)[ok], minlength=total.size)
    return total.reshape(canvas.shape)
