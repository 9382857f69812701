"""Affine and displacement transforms of points and images, in micrometres.

One frame for all resolutions: pixel (i, j) is centred at ((i + 0.5) * um, (j + 0.5) * um).
Everything here is float64 on the host; a transform is applied once per image, not once per step.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage


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


def swap_xy(matrix: np.ndarray) -> np.ndarray:
    """Turns a matrix acting on (y, x, 1) into the one acting on (x, y, 1), and back.

    Args:
        matrix: `[3, 3]` float.

    Returns:
        `[3, 3]` float64.
    """
    order = [1, 0, 2]
    return np.asarray(matrix, np.float64)[np.ix_(order, order)]


def apply_affine(matrix: np.ndarray, points_yx: np.ndarray) -> np.ndarray:
    """Maps points by an affine matrix.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        points_yx: `[..., 2]` float, (y, x), um.

    Returns:
        `[..., 2]` float64, um.
    """
    matrix = np.asarray(matrix, np.float64)
    return np.asarray(points_yx, np.float64) @ matrix[:2, :2].T + matrix[:2, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverts an affine matrix; its last row stays exactly (0, 0, 1).

    Args:
        matrix: `[3, 3]` float.

    Returns:
        `[3, 3]` float64.
    """
    linear = np.linalg.inv(np.asarray(matrix, np.float64)[:2, :2])
    return from_parts(linear, -linear @ np.asarray(matrix, np.float64)[:2, 2])


def compose(*matrices: np.ndarray) -> np.ndarray:
    """Chains affine matrices; the last one named is applied first.

    Args:
        *matrices: each `[3, 3]` float.

    Returns:
        `[3, 3]` float64.
    """
    result = np.eye(3)
    for matrix in matrices:
        result = result @ np.asarray(matrix, np.float64)
    return result


def from_parts(linear: np.ndarray, offset_yx: np.ndarray) -> np.ndarray:
    """Builds a matrix from its linear part and its offset.

    Args:
        linear: `[2, 2]` float.
        offset_yx: `[2]` float, um.

    Returns:
        `[3, 3]` float64.
    """
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, offset_yx
    return matrix


def rotation(
    degrees: float,
    *,
    mirrored: bool = False,
    scale: float = 1.0,
    center_from=(0, 0),
    center_to=None,
) -> np.ndarray:
    """Builds a similarity transform that takes one centre to another.

    Args:
        degrees: Clockwise angle as seen on screen (y downwards).
        mirrored: Flip x before rotating.
        scale: Fixed um per moving um.
        center_from: `[2]` (y, x), um, of the moving frame.
        center_to: `[2]` (y, x), um, where it lands; None leaves it in place.

    Returns:
        `[3, 3]` float64, acting on (y, x, 1).
    """
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = scale * np.array([[cos, sin], [-sin, cos]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])
    center_to = center_from if center_to is None else center_to
    return from_parts(linear, np.asarray(center_to, np.float64) - linear @ np.asarray(center_from))


def decompose(matrix: np.ndarray) -> dict:
    """Says in words what an affine does (polar decomposition).

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.

    Returns:
        `rotation_deg` (clockwise on screen, in (-180, 180]), `mirrored`, `scale_min`, `scale_max`
        (singular values), `offset_y_um`, `offset_x_um`.
    """
    matrix = np.asarray(matrix, np.float64)
    left, scales, right = np.linalg.svd(matrix[:2, :2])
    mirrored = bool(np.linalg.det(matrix[:2, :2]) < 0)
    turn = left @ right @ np.diag([1.0, -1.0 if mirrored else 1.0])
    return {
        "rotation_deg": float(np.rad2deg(np.arctan2(turn[0, 1], turn[0, 0]))),
        "mirrored": mirrored,
        "scale_min": float(scales[1]),
        "scale_max": float(scales[0]),
        "offset_y_um": float(matrix[0, 2]),
        "offset_x_um": float(matrix[1, 2]),
    }


def apply_transform(
    matrix: np.ndarray, displacement: Displacement | None, points_yx: np.ndarray
) -> np.ndarray:
    """Maps MSI points to histology: `matrix * point + displacement(point)`.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        displacement: The field on MSI positions, or None.
        points_yx: `[..., 2]` float, MSI (y, x), um.

    Returns:
        `[..., 2]` float64, histology (y, x), um.
    """
    moved = apply_affine(matrix, points_yx)
    return moved if displacement is None else moved + displacement(points_yx)


def invert_points(
    matrix: np.ndarray,
    displacement: Displacement | None,
    points_yx: np.ndarray,
    *,
    iterations: int = 50,
    tolerance_um: float = 1e-6,
) -> np.ndarray:
    """Maps histology points back to MSI; a fixed-point iteration where a field is added.

    Converges where the field bends less than the affine scales (no folding).

    Args:
        matrix: `[3, 3]` float, MSI to histology, acting on (y, x, 1), um.
        displacement: The field on MSI positions, or None.
        points_yx: `[..., 2]` float, histology (y, x), um.
        iterations: Most steps.
        tolerance_um: Stops once no point moves more.

    Returns:
        `[..., 2]` float64, MSI (y, x), um.
    """
    backward = invert(matrix)
    guess = apply_affine(backward, points_yx)
    if displacement is None:
        return guess
    for _ in range(iterations):
        update = apply_affine(backward, np.asarray(points_yx) - displacement(guess))
        moved, guess = np.max(np.abs(update - guess), initial=0.0), update
        if moved < tolerance_um:
            break
    return guess


def pixel_centers(shape: tuple[int, int], um_per_px) -> np.ndarray:
    """Returns where the pixels of an image are.

    Args:
        shape: (rows, columns).
        um_per_px: Pixel size, um; one number or (y, x).

    Returns:
        `[rows, columns, 2]` float64 (y, x), um.
    """
    size = np.broadcast_to(np.asarray(um_per_px, np.float64), 2)
    axes = [(np.arange(count) + 0.5) * um for count, um in zip(shape, size, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def warp_image(
    image: np.ndarray,
    *,
    source_um_per_px,
    matrix_out_to_source: np.ndarray,
    out_shape: tuple[int, int],
    out_um_per_px,
    displacement: Displacement | None = None,
    order: int = 1,
    fill=0,
) -> np.ndarray:
    """Draws an image on another grid through a transform, low-passed first where it shrinks.

    Args:
        image: `[H, W]` or `[H, W, C]`, any dtype; uint8 is rounded, bool thresholded at one half.
        source_um_per_px: Its pixel size, um; one number or (y, x).
        matrix_out_to_source: `[3, 3]` float, output (y, x, 1) um to image um.
        out_shape: (rows, columns) of the result.
        out_um_per_px: Pixel size of the result, um; one number or (y, x).
        displacement: Field on output positions added to the matrix's result, or None.
        order: 0 nearest (labels; no low-pass), 1 bilinear.
        fill: Value outside the image, a number or `[C]`.

    Returns:
        `[h, w]` or `[h, w, C]` in the dtype of `image` (float64 stays, other floats float32).
    """
    source = np.broadcast_to(np.asarray(source_um_per_px, np.float64), 2)
    points = pixel_centers(out_shape, out_um_per_px)
    where = apply_transform(matrix_out_to_source, displacement, points) / source - 0.5
    planes = image[..., None] if image.ndim == 2 else image
    sigma = _prefilter_sigma(matrix_out_to_source, source, out_um_per_px) if order else (0, 0)
    outside = ~_inside(where, planes.shape[:2])
    fills = np.broadcast_to(fill, planes.shape[-1])
    drawn = [
        _draw(planes[..., c], where, sigma, order, outside, fills[c]) for c in range(len(fills))
    ]
    result = np.stack(drawn, axis=-1)
    return result[..., 0] if image.ndim == 2 else result


def _draw(plane, where, sigma, order, outside, fill) -> np.ndarray:
    """Samples one channel; the border pixel's value holds up to its outer edge, `fill` beyond."""
    values = plane.astype(np.float64 if plane.dtype == np.float64 else np.float32)
    if max(sigma) > 0:
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    drawn = ndimage.map_coordinates(values, np.moveaxis(where, -1, 0), order=order, mode="nearest")
    drawn[outside] = fill
    if plane.dtype == bool:
        return drawn >= 0.5
    if np.issubdtype(plane.dtype, np.integer):
        limits = np.iinfo(plane.dtype)
        return np.clip(np.rint(drawn), limits.min, limits.max).astype(plane.dtype)
    return drawn


def _inside(where: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether fractional indices lie within the pixels' outer edges."""
    return np.all((where >= -0.5) & (where <= np.asarray(shape) - 0.5), axis=-1)


def _prefilter_sigma(matrix, source_um: np.ndarray, out_um) -> np.ndarray:
    """Gaussian width per image axis that stands in for the area of one output pixel.

    Source: the `(factor - 1) / 2` rule of skimage.transform.resize, per axis of the rotated pixel.
    """
    out = np.broadcast_to(np.asarray(out_um, np.float64), 2)
    step_px = np.asarray(matrix, np.float64)[:2, :2] * out / source_um[:, None]
    return np.maximum(np.linalg.norm(step_px, axis=1) - 1.0, 0.0) / 2.0
