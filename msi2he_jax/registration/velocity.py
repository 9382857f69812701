"""Smooth invertible deformations: cubic B-spline velocity fields, integrated (JAX).

Coordinates are (y, x) canvas half widths, -1 to 1. A stationary velocity field v gives the map
exp(v), and exp(-v) is its inverse, so both directions of a registration come from one field.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.registration import measures

NODES = 64  # per side, on which velocities are integrated
SQUARINGS = 6


@functools.cache
def spline_basis(n: int, controls: int) -> np.ndarray:
    """Returns the uniform cubic B-splines at pixel centres.

    Args:
        n: Pixels across the canvas.
        controls: Control points, intervals plus 3.

    Returns:
        `[n, controls]` float32; rows sum to 1.
    """
    intervals = controls - 3
    position = (np.arange(n) + 0.5) * intervals / n
    first = np.minimum(position.astype(int), intervals - 1)
    t = (position - first)[:, None]
    pieces = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    basis = np.zeros((n, controls), np.float32)
    np.put_along_axis(basis, first[:, None] + np.arange(4), np.concatenate(pieces, 1) / 6, 1)
    return basis


@functools.cache
def refine_basis(controls: int, finer: int) -> np.ndarray:
    """Returns `[finer, controls]` float32: coefficients of nearly the same spline, finer."""
    fine, coarse = spline_basis(4 * NODES, finer), spline_basis(4 * NODES, controls)
    return np.linalg.lstsq(fine, coarse, rcond=None)[0].astype(np.float32)


@functools.cache
def linear_basis(n: int) -> np.ndarray:
    """Returns `[n, NODES]` float32: bilinear interpolation from the nodes to n pixel centres."""
    position = np.clip((np.arange(n) + 0.5) * NODES / n - 0.5, 0, NODES - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(NODES))).astype(np.float32)


def along_both(basis: np.ndarray, field: jax.Array) -> jax.Array:
    """Applies one basis along rows and columns.

    Args:
        basis: `[n, m]` float32.
        field: `[m, m, 2]` float.

    Returns:
        `[n, n, 2]` float.
    """
    return jnp.einsum("ia,jb,abk->ijk", basis, basis, field)


def exponential(velocity: jax.Array) -> jax.Array:
    """Integrates a velocity field over unit time, by scaling and squaring.

    Args:
        velocity: `[n, n, 2]` float at pixel centres, half widths.

    Returns:
        `[n, n, 2]` float, the displacement exp(v)(u) - u, half widths; beyond the canvas the field
        continues as it is at the border.

    Source: Arsigny et al. 2006 (MICCAI, LNCS 4190:924).
    """
    n = velocity.shape[0]
    grid = measures.grid(n)

    def double(step, _):
        index = jnp.clip(measures.to_index(grid + step, n), 0.0, n - 1.0)
        return step + measures.bilinear(step.T.reshape(2, n, n), index).T, None

    # a scan, which compiles once what six copies would compile six times
    step, _ = jax.lax.scan(double, velocity.reshape(-1, 2) / 2**SQUARINGS, length=SQUARINGS)
    return step.reshape(n, n, 2)


def differences(field: jax.Array) -> jax.Array:
    """Returns the derivatives of a field between neighbouring pixels.

    Args:
        field: `[n, n, 2]` float, half widths.

    Returns:
        `[n - 1, n - 1, 2, 2]` float: the last axes are component and direction; no unit.
    """
    n = field.shape[0]
    rows = (field[1:, :-1] - field[:-1, :-1]) * (n / 2)
    columns = (field[:-1, 1:] - field[:-1, :-1]) * (n / 2)
    return jnp.stack([rows, columns], axis=-1)


def determinants(displacement: np.ndarray, spacing) -> np.ndarray:
    """Returns the Jacobian determinants of `u + displacement(u)` at all corners of all grid cells.

    Between nodes the field is bilinear and a determinant linear in either coordinate, so its
    extremes are among these; one ring beyond the border, where the field is constant, is included.

    Args:
        displacement: `[n, m, 2]` float (y, x).
        spacing: Distances of nodes (y, x), in the same unit: numbers, or `[n + 1, 1, 1]` and
            `[1, m + 1, 1]` where they vary.

    Returns:
        `[4, n + 1, m + 1]` float64.
    """
    field = np.pad(np.asarray(displacement, np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    dy, dx = np.diff(field, axis=0) / spacing[0], np.diff(field, axis=1) / spacing[1]
    corners = []
    for left in (slice(None, -1), slice(1, None)):
        for top in (slice(None, -1), slice(1, None)):
            a, b = dy[:, left], dx[top]
            corners.append((1 + a[..., 0]) * (1 + b[..., 1]) - a[..., 1] * b[..., 0])
    return np.stack(corners)
