import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement


@st.composite
def affines(draw):
    degrees = draw(st.floats(-179, 179))
    scale = draw(st.floats(0.3, 3))
    offset = [draw(st.floats(-1e4, 1e4)) for _ in range(2)]
    shear = draw(st.floats(-0.3, 0.3))
    turn = transforms.rotation(
        degrees, mirrored=draw(st.booleans()), scale=scale, center_from=(0, 0), center_to=offset
    )
    return turn @ transforms.from_parts(np.array([[1.0, shear], [0.0, 1.0]]), (0, 0))


POINTS = np.random.default_rng(0).uniform(0, 5000, (20, 2))


def bent_field():
    y = np.linspace(0, 5000, 11)
    x = np.linspace(0, 6000, 9)
    wave = np.sin(y / 1500)[:, None] * np.cos(x / 1200)[None]
    return Displacement(y, x, np.stack([80 * wave, -50 * wave], axis=-1))


@settings(max_examples=40, deadline=None)
@given(affines())
def test_inverse_undoes_and_keeps_the_last_row(matrix):
    back = transforms.apply_affine(
        transforms.invert(matrix), transforms.apply_affine(matrix, POINTS)
    )
    np.testing.assert_allclose(back, POINTS, atol=1e-6)
    np.testing.assert_array_equal(transforms.invert(matrix)[2], [0, 0, 1])


@settings(max_examples=40, deadline=None)
@given(affines())
def test_swap_xy_maps_swapped_points_and_undoes_itself(matrix):
    swapped = transforms.apply_affine(transforms.swap_xy(matrix), POINTS[:, ::-1])
    np.testing.assert_allclose(swapped[:, ::-1], transforms.apply_affine(matrix, POINTS))
    np.testing.assert_array_equal(transforms.swap_xy(transforms.swap_xy(matrix)), matrix)


@settings(max_examples=40, deadline=None)
@given(affines(), affines())
def test_compose_applies_the_last_first(a, b):
    both = transforms.apply_affine(transforms.compose(a, b), POINTS)
    np.testing.assert_allclose(both, transforms.apply_affine(a, transforms.apply_affine(b, POINTS)))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [-170.0, -30.0, 0.0, 90.0, 145.0])
def test_decompose_reads_back_what_rotation_built(degrees, mirrored):
    said = transforms.decompose(transforms.rotation(degrees, mirrored=mirrored, scale=2.0))
    assert said["rotation_deg"] == pytest.approx(degrees)
    assert said["mirrored"] is mirrored
    assert (said["scale_min"], said["scale_max"]) == pytest.approx((2.0, 2.0))


def test_rotation_is_clockwise_on_screen():
    turned = transforms.apply_affine(transforms.rotation(90), [0.0, 1.0])
    np.testing.assert_allclose(turned, [1.0, 0.0], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(affines())
def test_inverse_of_a_bent_transform_comes_back(matrix):
    field = bent_field()
    # the field is small against the affine: no folding whatever the drawn scale
    scale = np.linalg.svd(matrix[:2, :2], compute_uv=False)[1]
    field = Displacement(field.y_um, field.x_um, field.disp_um * scale)
    there = transforms.apply_transform(matrix, field, POINTS)
    back, converged = transforms.Transform(matrix, field).invert_points(there)
    assert converged.all()
    np.testing.assert_allclose(back, POINTS, atol=1e-3)


def test_displacement_is_bilinear_inside_and_constant_beyond():
    disp = np.zeros((2, 3, 2))
    disp[1, 2] = [4.0, -2.0]
    field = Displacement(np.array([0.0, 10.0]), np.array([0.0, 10.0, 30.0]), disp)
    np.testing.assert_allclose(field([5.0, 20.0]), [1.0, -0.5])
    np.testing.assert_allclose(field([99.0, 99.0]), [4.0, -2.0])


def test_identity_warp_returns_the_image():
    image = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    out = transforms.warp_image(
        image,
        source_um_per_px=4.0,
        matrix_out_to_source=np.eye(3),
        out_shape=(9, 7),
        out_um_per_px=4.0,
    )
    np.testing.assert_array_equal(out, image)


def test_quarter_turn_is_exact():
    image = np.random.default_rng(2).random((8, 6))
    # output pixel (i, j) shows image pixel (7 - j, i): the image turned clockwise
    back = transforms.invert(transforms.rotation(90, center_from=(0, 0), center_to=(0, 8 * 2.0)))
    out = transforms.warp_image(
        image, source_um_per_px=2.0, matrix_out_to_source=back, out_shape=(6, 8), out_um_per_px=2.0
    )
    np.testing.assert_allclose(out, np.rot90(image, -1))


def test_minifying_averages_and_keeps_positions():
    rows = np.arange(64) + 0.5
    ramp = np.repeat(rows[:, None], 64, axis=1)
    noisy = ramp + np.random.default_rng(3).normal(0, 5, ramp.shape)
    out = transforms.warp_image(
        noisy,
        source_um_per_px=1.0,
        matrix_out_to_source=np.eye(3),
        out_shape=(8, 8),
        out_um_per_px=8.0,
    )
    error = out - 8 * (np.arange(8) + 0.5)[:, None]
    assert np.std(error[1:-1]) < 1.5
    assert abs(np.mean(error[1:-1])) < 0.3


def test_outside_is_filled_per_channel_up_to_the_outer_edge():
    image = np.full((4, 4, 2), 7.0)
    shift = transforms.from_parts(np.eye(2), (0.0, 3.0))
    out = transforms.warp_image(
        image,
        source_um_per_px=1.0,
        matrix_out_to_source=shift,
        out_shape=(4, 4),
        out_um_per_px=1.0,
        fill=(1.0, 2.0),
    )
    np.testing.assert_array_equal(out[:, 0], np.full((4, 2), 7.0))
    np.testing.assert_array_equal(out[:, 1:, 0], 1.0)
    np.testing.assert_array_equal(out[:, 1:, 1], 2.0)


def test_masks_stay_boolean_and_labels_are_not_mixed():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    args = {
        "source_um_per_px": 1.0,
        "matrix_out_to_source": np.eye(3),
        "out_shape": (16, 16),
        "out_um_per_px": 0.5,
    }
    warped = transforms.warp_image(mask, **args)
    assert warped.dtype == bool
    assert warped.sum() == 4 * mask.sum()
    labels = mask.astype(np.uint8) * 9
    assert set(np.unique(transforms.warp_image(labels, order=0, **args))) == {0, 9}


def test_points_and_images_agree_under_a_bent_transform():
    """A dot drawn at q in histology shows up at the MSI position that maps to q."""
    field = bent_field()
    matrix = transforms.rotation(30, mirrored=True, center_from=(2500, 3000))
    target = np.array([[2600.0, 3100.0]])
    y, x = np.moveaxis(transforms.pixel_centers((250, 300), 20.0), -1, 0)
    dot = np.exp(-((y - target[0, 0]) ** 2 + (x - target[0, 1]) ** 2) / (2 * 60.0**2))
    seen = transforms.warp_image(
        dot,
        source_um_per_px=20.0,
        matrix_out_to_source=matrix,
        out_shape=(250, 300),
        out_um_per_px=20.0,
        displacement=field,
    )
    centers = transforms.pixel_centers(seen.shape, 20.0)
    center = (centers * seen[..., None]).sum((0, 1)) / seen.sum()
    wanted, _ = transforms.Transform(matrix, field).invert_points(target)
    np.testing.assert_allclose(center, wanted[0], atol=6.0)


def test_what_lies_beyond_the_outer_edge_is_fill():
    """Out to the edge of the border pixels, not to their centres, and no further."""
    drawn = transforms.warp_image(
        np.full((2, 2), 5.0),
        source_um_per_px=1.0,
        matrix_out_to_source=transforms.from_parts(np.eye(2), np.array([-1.0, -1.0])),
        out_shape=(16, 16),
        out_um_per_px=0.25,
        fill=-1,
    )
    expected = np.full((16, 16), -1.0)
    expected[4:12, 4:12] = 5.0
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_float_keeps_its_precision(dtype):
    options = {"source_um_per_px": 1.0, "out_um_per_px": 1.0, "out_shape": (3, 3)}
    image = np.full((3, 3), 1 / 3, dtype)
    drawn = transforms.warp_image(image, matrix_out_to_source=np.eye(3), **options)
    assert drawn.dtype == dtype
    np.testing.assert_array_equal(drawn, image)


def test_half_a_pixel_of_a_mask_is_inside():
    between = transforms.from_parts(np.eye(2), np.array([0.0, 0.5]))
    options = {"source_um_per_px": 1.0, "out_um_per_px": 1.0, "out_shape": (1, 1)}
    mask = np.array([[True, False]])
    assert transforms.warp_image(mask, matrix_out_to_source=between, **options).all()


def test_decompose_tells_scales_and_offsets_apart():
    found = transforms.decompose(transforms.from_parts(np.diag([3.0, 2.0]), np.array([7.0, -5.0])))
    assert (found["scale_min"], found["scale_max"]) == pytest.approx((2.0, 3.0))
    assert (found["offset_y_um"], found["offset_x_um"]) == (7.0, -5.0)
