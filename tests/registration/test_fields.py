"""Fields on even grids and the inverse of a transform."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.registration import fields, transforms
from msi2he_jax.registration.transforms import Displacement


def _transform(seed):
    rng = np.random.default_rng(seed)
    y, x = np.cumsum(rng.uniform(100, 300, 9)), np.cumsum(rng.uniform(100, 300, 12))
    field = Displacement(y, x, rng.normal(0, 8, (9, 12, 2)))
    matrix = transforms.rotation(
        rng.uniform(-180, 180), mirrored=bool(rng.integers(2)), scale=rng.uniform(0.8, 1.2)
    )
    return matrix, field, rng.uniform((y[0], x[0]), (y[-1], x[-1]), (200, 2))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_inverse_takes_points_back(seed):
    matrix, field, points = _transform(seed)
    there = transforms.apply_transform(matrix, field, points)
    back = transforms.apply_transform(*fields.inverse(matrix, field, tolerance_um=0.5), there)
    assert np.abs(back - points).max() < 1.0
    again = fields.inverse(matrix, None)
    np.testing.assert_allclose(again[0] @ matrix, np.eye(3), atol=1e-12)
    assert again[1] is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_an_even_field_is_the_same_field_beyond_its_edge_too(seed):
    _, field, points = _transform(seed)
    even = fields.evenly(field, tolerance_um=0.5)
    assert np.ptp(np.diff(even.y_um)) < 1e-6 and np.ptp(np.diff(even.x_um)) < 1e-6
    assert np.abs(even(points) - field(points)).max() < 1.0
    assert even.y_um[0] < field.y_um[0] and even.x_um[-1] > field.x_um[-1]
    corner = np.array([even.y_um[0], even.x_um[-1]])
    np.testing.assert_allclose(even(corner), field(corner), atol=1e-9)


def test_an_even_field_keeps_its_nodes():
    y = np.arange(10) * 50.0
    field = Displacement(y, y, np.random.default_rng(0).normal(0, 5, (10, 10, 2)))
    even = fields.evenly(field)
    assert len(even.y_um) == 14
    grid = np.stack(np.meshgrid(y, y, indexing="ij"), axis=-1)
    np.testing.assert_allclose(even(grid), field.disp_um, atol=1e-9)


def test_a_total_field_moves_points_all_the_way():
    matrix, field, points = _transform(3)
    even = fields.evenly(field, tolerance_um=0.2)
    total = fields.total_field(matrix, even)
    wanted = transforms.apply_transform(matrix, even, points)
    np.testing.assert_allclose(points + total(points), wanted, atol=1e-9)
