"""A transform as a value: applied, chained, inverted, moved between frames, said in words."""

import ast
import functools
import pathlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msi2he_jax
from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement, Transform

POINTS = np.random.default_rng(0).uniform(0, 5000, (50, 2))
PACKAGE = pathlib.Path(msi2he_jax.__file__).parent


@st.composite
def affines(draw):
    """Turned, scaled, sheared, mirrored, moved."""
    shear = transforms.from_parts(np.array([[1.0, draw(st.floats(-0.3, 0.3))], [0, 1]]), (0, 0))
    turn = transforms.rotation(
        draw(st.floats(-179, 179)),
        mirrored=draw(st.booleans()),
        scale=draw(st.floats(0.5, 2)),
        center_to=[draw(st.floats(-1e4, 1e4)) for _ in range(2)],
    )
    return Transform(turn @ shear)


@st.composite
def bent(draw):
    """An affine and a smooth field, small against it: no folding."""
    affine = draw(affines())
    y, x = np.linspace(-500, 5500, 25), np.linspace(-800, 6000, 21)
    phase = draw(st.floats(0, 6))
    wave = np.sin(y / 1500 + phase)[:, None] * np.cos(x / 1200)[None]
    smallest = transforms.decompose(affine.matrix)["scale_min"]
    field = Displacement(y, x, smallest * np.stack([80 * wave, -50 * wave], axis=-1))
    return Transform(affine.matrix, field)


either = st.one_of(affines(), bent())
origins = st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))


@settings(max_examples=30, deadline=None)
@given(either, affines())
def test_a_chain_that_ends_in_an_affine_is_exact(first, last):
    chained = first.then(last)
    np.testing.assert_allclose(chained(POINTS), last(first(POINTS)), rtol=1e-12, atol=1e-7)
    assert (chained.displacement is None) == (first.displacement is None)


@settings(max_examples=8, deadline=None)
@given(either, bent())
def test_a_chain_that_ends_in_a_field_holds_to_its_tolerance(first, last):
    inside = first.inverse()(POINTS) if first.displacement is None else POINTS
    chained = first.then(last, tolerance_um=0.5)
    assert np.abs(chained(inside) - last(first(inside))).max() < 1.0


@settings(max_examples=30, deadline=None)
@given(affines())
def test_the_inverse_of_an_affine_is_exact(transform):
    back = transform.inverse()
    np.testing.assert_allclose(back(transform(POINTS)), POINTS, atol=1e-7)
    assert back.displacement is None


@settings(max_examples=8, deadline=None)
@given(bent())
def test_the_inverse_of_a_field_holds_to_its_tolerance(transform):
    there = transform(POINTS)
    assert np.abs(transform.inverse(tolerance_um=0.5)(there) - POINTS).max() < 1.0
    found, converged = transform.invert_points(there)
    assert converged.all()
    np.testing.assert_allclose(found, POINTS, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(either, origins, origins)
def test_frames_of_images_and_files(transform, here, there):
    """A point at p of an image that begins at `here` is at p + here in the file."""
    inner = transform.in_images(here, there)
    np.testing.assert_allclose(inner(POINTS) + there, transform(POINTS + here), atol=1e-6)
    again = inner.in_files(here, there)
    np.testing.assert_allclose(again(POINTS), transform(POINTS), atol=1e-6)


def test_an_image_lands_where_its_points_do():
    """A crop of an image, warped through the transform to the crop, is the warped image."""
    image = np.random.default_rng(1).random((60, 50))
    field = Displacement(np.arange(9) * 40.0, np.arange(9) * 40.0, np.full((9, 9, 2), 7.5))
    transform = Transform(transforms.rotation(90, center_from=(150, 120)), field)
    grid = {"out_shape": (20, 20), "out_um_per_px": 5.0, "source_um_per_px": 5.0}
    whole = transform.in_images((100, 80)).warp(image, **grid)
    crop = transform.in_images((100, 80), (50, 25)).warp(image[10:, 5:], **grid)
    np.testing.assert_allclose(crop, whole, atol=1e-12)


def test_a_value_cannot_be_changed_and_travels():
    matrix = np.eye(3)
    transform = Transform(matrix)
    matrix[0, 2] = 5
    assert transform.matrix[0, 2] == 0
    with pytest.raises(ValueError, match="read-only"):
        transform.matrix[0, 0] = 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transform)).matrix, np.eye(3))
    np.testing.assert_array_equal(Transform()(POINTS), POINTS)


def test_it_says_what_it_does():
    matrix = transforms.rotation(30, mirrored=True, scale=2.0, center_to=(10, -20))
    assert repr(Transform(matrix)) == (
        "Transform(rotation=30 deg, scale=2 to 2, mirrored=True, offset_yx=(10, -20) um, "
        "displacement=none)"
    )
    field = Displacement(np.arange(2.0), np.arange(2.0), np.full((2, 2, 2), [3.0, 4.0]))
    assert repr(Transform(matrix, field)).endswith("displacement=5 um)")


@functools.cache
def _sources():
    folders = (PACKAGE, PACKAGE.parent / "benchmarks", PACKAGE.parent / "examples")
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    return [(path, ast.parse(path.read_text())) for path in paths if path.name != "transforms.py"]


def test_no_function_takes_a_matrix_and_a_displacement():
    """Both together are a Transform."""
    found = []
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = {each.arg for each in every}
                matrix = any("matrix" in name or name == "affine" for name in names)
                field = any("displacement" in name or name in ("field", "bent") for name in names)
                found += [f"{path.name}:{node.lineno}"] if matrix and field else []
    assert not found


def test_no_shift_between_frames_is_written_by_hand():
    """`in_images` and `in_files` know the signs."""
    found = []
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).split(".")[-1]
                first = ast.unparse(node.args[0]) if node.args else ""
                method = isinstance(node.func, ast.Attribute)
                if (method and name == "shifted") or (
                    name == "from_parts" and first == "np.eye(2)"
                ):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found


def test_two_values_are_two_things_and_either_can_be_a_key():
    """Arrays do not compare to one truth: equality is identity, as `eq=False` says."""
    first, second = Transform(), Transform()
    assert first != second and {first: 1}[first] == 1


def test_frames_that_are_not_named_begin_where_their_files_do():
    assert np.array_equal(Transform().in_files().matrix, np.eye(3))
    np.testing.assert_allclose(Transform().in_files(to_yx=(3.0, 4.0))([0.0, 0.0]), [3.0, 4.0])
    np.testing.assert_allclose(Transform().in_files(from_yx=(3.0, 4.0))([3.0, 4.0]), [0.0, 0.0])


def test_points_of_any_shape_are_mapped_back_with_a_flag_each():
    points, converged = Transform().invert_points(np.zeros((3, 4, 2)))
    assert points.shape == (3, 4, 2) and converged.shape == (3, 4) and converged.all()


def _bump(first_um, last_um, size_um):
    """A field on a square, 41 nodes a side: a smooth bump in its middle."""
    at = np.linspace(first_um, last_um, 41)
    bump = size_um * np.sin(np.linspace(0, np.pi, 41))
    return Transform(
        displacement=Displacement(at, at, np.repeat(np.outer(bump, bump)[..., None], 2, 2))
    )


def test_a_chain_of_fields_covers_both():
    """One lies low and left, the other high and right: the chain holds on all of both."""
    first, last = _bump(0.0, 1000.0, 20.0), _bump(3000.0, 5000.0, 30.0)
    points = np.stack(np.meshgrid(*[np.linspace(0, 5000, 51)] * 2, indexing="ij"), -1)
    np.testing.assert_allclose(first.then(last)(points), last(first(points)), atol=0.26)


def test_an_inverse_holds_a_little_beyond_where_positions_land():
    """By a tenth of the width on each side: there, too, it is the inverse of what is continued."""
    field = _bump(0.0, 1000.0, 20.0)
    y, x = field.inverse().displacement.positions.reshape(-1, 2).T
    for axis in (y, x):
        assert axis.min() <= -99.0 and axis.max() >= 1099.0 and np.ptp(axis) < 1300.0
