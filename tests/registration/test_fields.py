"""Fields on even grids and the inverse of a transform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.registration import export, fields, scores, transforms
from msi2he_jax.registration.transforms import Displacement, Transform


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
    transform = Transform(matrix, field)
    back = transform.inverse(tolerance_um=0.5)
    assert np.abs(back(transform(points)) - points).max() < 1.0
    again = Transform(matrix).inverse()
    np.testing.assert_allclose(again.matrix @ matrix, np.eye(3), atol=1e-12)
    assert again.displacement is None


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
    total = export.total_field(Transform(matrix, even))
    wanted = Transform(matrix, even)(points)
    np.testing.assert_allclose(points + total(points), wanted, atol=1e-9)


def _folding(reach_um):
    """A field that jumps to and fro from node to node, so far from the middle."""
    axis = np.linspace(0, 2000, 41)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    signs = (-1.0) ** np.add.outer(np.arange(41), np.arange(41))
    near = np.abs(grid - 1000).max(axis=-1) <= reach_um
    return Displacement(axis, axis, np.repeat((3000 * signs * near)[..., None], 2, axis=-1))


def test_the_inverse_of_what_folds_holds_where_it_does_not():
    field, box = _folding(300), (np.zeros(2), np.full(2, 2000.0))
    [said] = scores.fold_warnings(Transform(displacement=field))
    assert "the displacement folds on " in said
    back = Transform(displacement=field).inverse(box_um=box).displacement
    assert back.disp_um.shape == (41, 41, 2) and np.isfinite(back.disp_um).all()
    far = np.array([[100.0, 200.0], [1900.0, 1000.0]])
    np.testing.assert_allclose(back(far), 0, atol=1e-6)
    assert scores.fold_warnings(Transform()) == []
    assert scores.fold_warnings(Transform(*_transform(3)[:2])) == []


def test_what_folds_everywhere_has_no_inverse():
    with pytest.raises(InputError, match="folds everywhere"):
        fields.even_field(lambda at: np.full(at.shape, np.nan), (np.zeros(2), np.ones(2)), 0.1, 0.1)
