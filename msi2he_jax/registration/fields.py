"""Displacements: smooth fields on grids of positions, and the same on even grids.

Other software wants fields evenly spaced, and knows nothing of them beyond their edge. What is
sampled here is refined until it agrees with the original between its nodes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from msi2he_jax.errors import InputError

MOST_NODES_A_SIDE = 1024
LEAST_NODES_A_SIDE = 9
CHECKED_POINTS = 4000
LARGEST_UM = 1e12  # No coordinate and no displacement is beyond: a million metres.


@dataclasses.dataclass(frozen=True)
class Displacement:
    """What an affine leaves over: a smooth field added to its result.

    Attributes:
        y_um: `[n]` float64, increasing MSI row positions, um.
        x_um: `[m]` float64, increasing MSI column positions, um.
        disp_um: `[n, m, 2]` float64 (dy, dx) at those positions, um of the fixed frame; bilinear
            between them and constant beyond.
    """

    y_um: np.ndarray
    x_um: np.ndarray
    disp_um: np.ndarray

    def __call__(self, points_yx: np.ndarray) -> np.ndarray:
        """Interpolates the field.

        Args:
            points_yx: `[..., 2]` float, MSI (y, x), um.

        Returns:
            `[..., 2]` float64 (dy, dx), um.
        """
        points = np.asarray(points_yx, np.float64)
        flat = points.reshape(-1, 2)
        index = [_grid_index(flat[:, 0], self.y_um), _grid_index(flat[:, 1], self.x_um)]
        parts = [
            ndimage.map_coordinates(self.disp_um[..., k], index, order=1, mode="nearest")
            for k in (0, 1)
        ]
        return np.stack(parts, axis=-1).reshape(points.shape)

    @property
    def positions(self) -> np.ndarray:
        """Where its nodes lie, `[n, m, 2]` float64 (y, x), um."""
        return np.stack(np.meshgrid(self.y_um, self.x_um, indexing="ij"), axis=-1)

    def shifted(self, offset_yx: np.ndarray) -> Displacement:
        """Returns the same field in a frame whose origin lies elsewhere.

        Args:
            offset_yx: `[2]` float (y, x), um, added to the positions.
        """
        y, x = (np.asarray(a) + o for a, o in zip((self.y_um, self.x_um), offset_yx, strict=True))
        return Displacement(y, x, self.disp_um)


def _grid_index(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Positions as fractional indices of a grid that need not be even; clamped to its ends."""
    return np.interp(values, np.asarray(grid, np.float64), np.arange(len(grid), dtype=np.float64))


@dataclasses.dataclass(frozen=True)
class Frame:
    """The grid of a picture whose outer corner is the origin of its frame.

    Attributes:
        shape: (rows, columns).
        um_per_px: Pixel size (y, x), um.
    """

    shape: tuple[int, int]
    um_per_px: tuple[float, float]

    @property
    def extent_um(self) -> np.ndarray:
        """Far corner, `[2]` float64 (y, x), um."""
        return np.asarray(self.shape, np.float64) * self.um_per_px


def checked(path: str | os.PathLike, field: Displacement) -> Displacement:
    """Returns a field that was read, if it is one.

    Args:
        path: The file, to name in an error.
        field: Any arrays.

    Raises:
        InputError: shapes that do not fit, positions that do not increase, numbers that are not
            finite or beyond `LARGEST_UM`.
    """
    y, x, disp = field.y_um, field.x_um, field.disp_um
    if y.ndim != 1 or x.ndim != 1 or disp.shape != (len(y), len(x), 2):
        why = f"disp_um is {disp.shape} for {y.shape} y and {x.shape} x positions"
        raise InputError(path, "displacement", why)
    finite = all(np.all(np.isfinite(part)) for part in (y, x, disp))
    if not (finite and len(y) and len(x) and np.all(np.diff(y) > 0) and np.all(np.diff(x) > 0)):
        raise InputError(path, "displacement", "positions must increase and all be finite")
    if any(np.abs(part).max() > LARGEST_UM for part in (y, x, disp)):
        raise InputError(path, "displacement", f"holds numbers beyond {LARGEST_UM:g} um")
    return field


def evenly(displacement: Displacement, *, tolerance_um: float = 0.25) -> Displacement:
    """Resamples a field on an even grid a little wider than its own, where it stays constant.

    Args:
        displacement: Any field.
        tolerance_um: Largest error between nodes.

    Returns:
        The same field, evenly spaced along each axis.
    """
    low = np.array([displacement.y_um[0], displacement.x_um[0]])
    high = np.array([displacement.y_um[-1], displacement.x_um[-1]])
    spacing = spacing_um(displacement)
    # whole steps, so that an even grid keeps its own nodes
    margin = np.maximum(2, np.ceil(0.1 * (high - low) / spacing)) * spacing
    return even_field(displacement, (low - margin, high + margin), spacing, tolerance_um)


def even_field(
    function: Callable, box_um: tuple, spacing_um: np.ndarray, tolerance_um: float
) -> Displacement:
    """Samples a smooth function evenly, finer and finer until it is met between the nodes too.

    Args:
        function: Takes points `[..., 2]` (y, x), um, and gives displacements `[..., 2]`, um;
            NaN where there is none.
        box_um: Two corners, `[2]` (y, x) each, um.
        spacing_um: `[2]` (y, x), um, to begin with; kept where a displacement is NaN anywhere,
            since no grid meets a function that jumps.
        tolerance_um: Largest error wanted; the finest grid has `MOST_NODES_A_SIDE`.

    Returns:
        The field; NaN is filled by the nearest node.

    Raises:
        InputError: all is NaN.
    """
    low, high = (np.asarray(corner, np.float64) for corner in box_um)
    steps = np.ceil((high - low) / np.asarray(spacing_um, np.float64) - 1e-9).astype(int)
    steps = np.clip(steps, LEAST_NODES_A_SIDE - 1, MOST_NODES_A_SIDE - 1)
    places = _places((low, high))
    wanted = function(places)
    while True:
        y, x = (np.linspace(low[k], high[k], steps[k] + 1) for k in (0, 1))
        values = _filled(function(np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)))
        field = Displacement(y, x, values)
        error = np.abs(field(places) - wanted).max()
        if not error > tolerance_um or 2 * steps.max() >= MOST_NODES_A_SIDE:
            return field
        steps = 2 * steps


def _places(box_um: tuple) -> np.ndarray:
    """Random points `[CHECKED_POINTS, 2]` of a box, always the same."""
    return np.random.default_rng(0).uniform(*box_um, (CHECKED_POINTS, 2))


def _filled(values: np.ndarray) -> np.ndarray:
    """Replaces NaN by the value of the nearest node `[n, m, 2]` that has one."""
    absent = np.isnan(values).any(axis=-1)
    if absent.all():
        why = "folds everywhere: no point of the histology has one place on the MSI"
        raise InputError("the displacement", "", why, "are its unit and its signs right?")
    if not absent.any():
        return values
    nearest = ndimage.distance_transform_edt(absent, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def spacing_um(displacement: Displacement) -> np.ndarray:
    """Returns the smallest step along each axis, `[2]` float64, um; 1 where there is only one."""
    axes = (displacement.y_um, displacement.x_um)
    return np.array([np.diff(axis).min() if len(axis) > 1 else 1.0 for axis in axes])
