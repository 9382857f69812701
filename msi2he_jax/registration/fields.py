"""Displacements on even grids, and the inverse of a transform in the same form.

Other software wants fields evenly spaced, and knows nothing of them beyond their edge. What is
sampled here is refined until it agrees with the original between its nodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement

MOST_NODES_A_SIDE = 1024
LEAST_NODES_A_SIDE = 9
CHECKED_POINTS = 4000


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


def inverse(
    matrix: np.ndarray,
    displacement: Displacement | None,
    *,
    box_um: tuple[np.ndarray, np.ndarray] | None = None,
    tolerance_um: float = 0.25,
) -> tuple[np.ndarray, Displacement | None]:
    """Turns a transform round: a matrix and a displacement from histology to MSI.

    Args:
        matrix: `[3, 3]` float, MSI to histology, acting on (y, x, 1), um.
        displacement: The field added to it, or None.
        box_um: Where on the histology it must hold: two corners `[2]` (y, x), um; None takes
            where the field's own positions land, with a margin.
        tolerance_um: Largest error between nodes.

    Returns:
        `[3, 3]` float64 and the field on histology positions (None where there was none), so that
        `transforms.apply_transform` of both maps histology points to MSI.
    """
    backward = transforms.invert(matrix)
    if displacement is None:
        return backward, None

    def left_over(points):
        back = transforms.invert_points(matrix, displacement, points)
        return back - transforms.apply_affine(backward, points)

    box = landing_box_um(matrix, displacement) if box_um is None else box_um
    spacing = _spacing(displacement) * transforms.decompose(matrix)["scale_min"]
    return backward, even_field(left_over, box, spacing, tolerance_um)


def landing_box_um(matrix: np.ndarray, displacement: Displacement) -> tuple:
    """Returns the box on the histology into which a field's positions fall, a tenth wider.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        displacement: The field.

    Returns:
        Two corners, `[2]` float64 (y, x) each, um.
    """
    grid = np.stack(np.meshgrid(displacement.y_um, displacement.x_um, indexing="ij"), axis=-1)
    there = transforms.apply_transform(matrix, displacement, grid).reshape(-1, 2)
    margin = 0.1 * np.ptp(there, axis=0)
    return there.min(axis=0) - margin, there.max(axis=0) + margin


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
    spacing = _spacing(displacement)
    # whole steps, so that an even grid keeps its own nodes
    margin = np.maximum(2, np.ceil(0.1 * (high - low) / spacing)) * spacing
    return even_field(displacement, (low - margin, high + margin), spacing, tolerance_um)


def even_field(
    function: Callable, box_um: tuple, spacing_um: np.ndarray, tolerance_um: float
) -> Displacement:
    """Samples a smooth function evenly, finer and finer until it is met between the nodes too.

    Args:
        function: Takes points `[..., 2]` (y, x), um, and gives displacements `[..., 2]`, um.
        box_um: Two corners, `[2]` (y, x) each, um.
        spacing_um: `[2]` (y, x), um, to begin with.
        tolerance_um: Largest error wanted; the finest grid has `MOST_NODES_A_SIDE`.

    Returns:
        The field.
    """
    low, high = (np.asarray(corner, np.float64) for corner in box_um)
    steps = np.ceil((high - low) / np.asarray(spacing_um, np.float64) - 1e-9).astype(int)
    steps = np.clip(steps, LEAST_NODES_A_SIDE - 1, MOST_NODES_A_SIDE - 1)
    places = np.random.default_rng(0).uniform(low, high, (CHECKED_POINTS, 2))
    wanted = function(places)
    while True:
        y, x = (np.linspace(low[k], high[k], steps[k] + 1) for k in (0, 1))
        field = Displacement(y, x, function(np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)))
        error = np.abs(field(places) - wanted).max()
        if error <= tolerance_um or 2 * steps.max() >= MOST_NODES_A_SIDE:
            return field
        steps = 2 * steps


def total_field(matrix: np.ndarray, displacement: Displacement) -> Displacement:
    """Returns by how far a transform moves each position of its field, matrix included.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        displacement: A field.

    Returns:
        A field on the same positions, to be added to the points themselves.
    """
    grid = np.stack(np.meshgrid(displacement.y_um, displacement.x_um, indexing="ij"), axis=-1)
    moved = transforms.apply_affine(matrix, grid) + displacement.disp_um - grid
    return Displacement(displacement.y_um, displacement.x_um, moved)


def _spacing(displacement: Displacement) -> np.ndarray:
    """Smallest step along each axis, um; a single position counts as one um."""
    axes = (displacement.y_um, displacement.x_um)
    return np.array([np.diff(axis).min() if len(axis) > 1 else 1.0 for axis in axes])
