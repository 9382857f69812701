"""Affine and displacement transforms of points and images, in micrometres.

One frame for all resolutions: pixel (i, j) is centred at ((i + 0.5) * um, (j + 0.5) * um).
Everything here is float64 on the host; a transform is applied once per image, not once per step.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.registration.drawing import draw, pixel_centers, prefilter_sigma_px
from msi2he_jax.registration.fields import Displacement, even_field, spacing_um

# What is taken of a step of the inversion: less of it converges where a field stretches more.
STEP_SHARES = (1.0, 0.5, 0.25)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Transform:
    """A map of points (y, x) in um: `matrix * point + displacement(point)`.

    Attributes:
        matrix: `[3, 3]` float64, acting on (y, x, 1), um; read-only.
        displacement: Field on positions of the frame that points come from, or None.
    """

    matrix: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))
    displacement: Displacement | None = None

    def __post_init__(self):
        """Keeps a copy of the matrix that nobody writes to."""
        matrix = np.array(self.matrix, np.float64)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def __call__(self, points_yx: np.ndarray) -> np.ndarray:
        """Maps points.

        Args:
            points_yx: `[..., 2]` float (y, x), um.

        Returns:
            `[..., 2]` float64, um.
        """
        moved = apply_affine(self.matrix, points_yx)
        return moved if self.displacement is None else moved + self.displacement(points_yx)

    def __repr__(self) -> str:
        """Says what it does: rotation, scale, mirrored, offset, largest displacement."""
        said = decompose(self.matrix)
        bent = "none"
        if self.displacement is not None:
            bent = f"{np.linalg.norm(self.displacement.disp_um, axis=-1).max():.4g} um"
        return (
            f"Transform(rotation={said['rotation_deg']:.4g} deg, "
            f"scale={said['scale_min']:.6g} to {said['scale_max']:.6g}, "
            f"mirrored={said['mirrored']}, "
            f"offset_yx=({said['offset_y_um']:.6g}, {said['offset_x_um']:.6g}) um, "
            f"displacement={bent})"
        )

    def in_images(self, from_yx=(0.0, 0.0), to_yx=(0.0, 0.0)) -> Transform:
        """Continues a transform between files' frames to images that begin elsewhere in them.

        Args:
            from_yx: `[2]` float, where the outer corner of the image that points come from lies in
                its file's frame, um.
            to_yx: The same of the image that they go to.

        Returns:
            The transform between the images' own frames.
        """
        from_yx, to_yx = (np.asarray(corner, np.float64) for corner in (from_yx, to_yx))
        matrix = compose(translation(-to_yx), self.matrix, translation(from_yx))
        return Transform(matrix, self.displacement and self.displacement.shifted(-from_yx))

    def in_files(self, from_yx=(0.0, 0.0), to_yx=(0.0, 0.0)) -> Transform:
        """Takes a transform between images back into their files' frames; undoes `in_images`.

        Args:
            from_yx: As for `in_images`.
            to_yx: As for `in_images`.
        """
        return self.in_images(-np.asarray(from_yx), -np.asarray(to_yx))

    def then(self, other: Transform, *, box_um=None, tolerance_um: float = 0.25) -> Transform:
        """Chains two transforms; this one is applied first.

        Args:
            other: Applied to the result of this one.
            box_um: Where a composed field must hold: two corners `[2]` (y, x), um, of the frame
                that points come from; None takes where either field has positions.
            tolerance_um: Largest error of a composed field between its nodes.

        Returns:
            The chain: exact where `other` is an affine, else sampled.
        """
        matrix = compose(other.matrix, self.matrix)
        if other.displacement is None:
            if self.displacement is None:
                return Transform(matrix)
            turned = self.displacement.disp_um @ other.matrix[:2, :2].T
            return Transform(matrix, dataclasses.replace(self.displacement, disp_um=turned))
        start = Transform(self.matrix)
        boxes = [Transform(invert(start.matrix))._lands(other.displacement)]
        steps = [spacing_um(other.displacement) / decompose(start.matrix)["scale_max"]]
        if self.displacement is not None:
            boxes.append(Transform()._lands(self.displacement))
            steps.append(spacing_um(self.displacement))
        lows, highs = zip(*boxes, strict=True)
        box = (np.min(lows, axis=0), np.max(highs, axis=0)) if box_um is None else box_um

        def left_over(points):
            return other(self(points)) - apply_affine(matrix, points)

        return Transform(matrix, even_field(left_over, box, np.min(steps, axis=0), tolerance_um))

    def inverse(self, *, box_um=None, tolerance_um: float = 0.25) -> Transform:
        """Turns the transform round.

        Where it folds, a point has no one place that it comes from: the field there is that of the
        nearest position that has one (`scores.fold_warnings` says so).

        Args:
            box_um: Where the inverse must hold: two corners `[2]` (y, x), um, of the frame that
                points go to; None takes where the field's own positions land, with a margin.
            tolerance_um: Largest error between nodes.

        Returns:
            The inverse: exact for an affine, else a matrix and an even field.

        Raises:
            InputError: it folds everywhere.
        """
        backward = invert(self.matrix)
        if self.displacement is None:
            return Transform(backward)

        def left_over(points):
            back, converged = self.invert_points(points)
            left = back - apply_affine(backward, points)
            left[~converged] = np.nan
            return left

        box = self._lands(self.displacement) if box_um is None else box_um
        spacing = spacing_um(self.displacement) * decompose(self.matrix)["scale_min"]
        return Transform(backward, even_field(left_over, box, spacing, tolerance_um))

    def _lands(self, field: Displacement) -> tuple[np.ndarray, np.ndarray]:
        """The box into which a field's positions fall, a tenth wider: two corners."""
        there = self(field.positions).reshape(-1, 2)
        margin = 0.1 * np.ptp(there, axis=0)
        return there.min(axis=0) - margin, there.max(axis=0) + margin

    def invert_points(
        self, points_yx: np.ndarray, *, iterations: int = 50, tolerance_um: float = 1e-6
    ) -> tuple[np.ndarray, np.ndarray]:
        """Maps points back; a fixed-point iteration where there is a field.

        Converges where the field bends less than the affine scales (no folding); points that still
        move after `iterations` are tried again with a half and a quarter of each step.

        Args:
            points_yx: `[..., 2]` float (y, x), um, of the frame that points go to.
            iterations: Most steps of each size.
            tolerance_um: A point has converged once its whole step is less (or four units in the
                last place of the largest coordinate, where that is more).

        Returns:
            `[..., 2]` float64 (y, x), um, and `[...]` bool, whether each has converged.
        """
        backward, points = invert(self.matrix), np.asarray(points_yx, np.float64)
        guess = apply_affine(backward, points)
        if self.displacement is None:
            return guess, np.ones(points.shape[:-1], bool)
        shape, points, guess = points.shape, points.reshape(-1, 2), guess.reshape(-1, 2)
        least = max(tolerance_um, 4 * np.spacing(np.abs(guess).max(initial=0.0)))
        left = np.arange(len(points))
        for share in STEP_SHARES:
            where, wanted = guess[left], points[left]
            for _ in range(iterations):
                update = apply_affine(backward, wanted - self.displacement(where))
                size = np.abs(update - where)
                where = (1 - share) * where + share * update
                if size.max(initial=0.0) < least:
                    break
            guess[left] = where
            left = left[~(size.max(axis=-1, initial=0.0) < least)]
            if not len(left):
                break
        converged = np.ones(len(points), bool)
        converged[left] = False
        return guess.reshape(shape), converged.reshape(shape[:-1])

    def warp(
        self, image: np.ndarray, *, source_um_per_px, out_shape, out_um_per_px, order=1, fill=0
    ) -> np.ndarray:
        """Draws an image on the grid that points come from, low-passed first where it shrinks.

        Args:
            image: `[H, W]` or `[H, W, C]`, in the frame that points go to; any dtype: uint8 is
                rounded, bool thresholded at one half.
            source_um_per_px: Its pixel size, um; one number or (y, x).
            out_shape: (rows, columns) of the result.
            out_um_per_px: Pixel size of the result, um; one number or (y, x).
            order: 0 nearest (labels; no low-pass), 1 bilinear.
            fill: Value outside the image, a number or `[C]`.

        Returns:
            `[h, w]` or `[h, w, C]` in the dtype of `image` (float64 stays, other floats float32).
        """
        source = np.broadcast_to(np.asarray(source_um_per_px, np.float64), 2)
        where = self(pixel_centers(out_shape, out_um_per_px)) / source - 0.5
        sigma = prefilter_sigma_px(self.matrix, source, out_um_per_px) if order else (0, 0)
        return draw(image, where, sigma, order, fill)


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


def translation(offset_yx) -> np.ndarray:
    """Builds the matrix that moves points.

    Args:
        offset_yx: `[2]` float, um, added to each.

    Returns:
        `[3, 3]` float64.
    """
    return from_parts(np.eye(2), offset_yx)


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
    """Maps points as `Transform(matrix, displacement)` does.

    Args:
        matrix: `[3, 3]` float, acting on (y, x, 1), um.
        displacement: The field, or None.
        points_yx: `[..., 2]` float (y, x), um.

    Returns:
        `[..., 2]` float64, um.
    """
    return Transform(matrix, displacement)(points_yx)


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
    """Draws an image as `Transform(matrix_out_to_source, displacement).warp` does.

    Args:
        image: `[H, W]` or `[H, W, C]`.
        source_um_per_px: As `Transform.warp` takes it, um, like all not named below.
        matrix_out_to_source: `[3, 3]` float, output (y, x, 1) um to image um.
        out_shape: (rows, columns).
        out_um_per_px: Pixel size of the result, um.
        displacement: Field on output positions added to the matrix's result, or None.
        order: 0 or 1.
        fill: Outside the image.

    Returns:
        `[h, w]` or `[h, w, C]`.
    """
    transform = Transform(matrix_out_to_source, displacement)
    grid = {"out_shape": out_shape, "out_um_per_px": out_um_per_px}
    return transform.warp(image, source_um_per_px=source_um_per_px, order=order, fill=fill, **grid)
