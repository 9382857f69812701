import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.registration import canvas, transforms
from msi2he_jax.registration.automatic import make_pair, register_affine

SLIDE_UM, MSI_UM = 25.0, 100.0


def slide(seed=0, size=160):
    """A lopsided blob of tissue with structure in it: `[size, size]` density and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    waves = [(k, rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3)]
    outline = 0.3 + sum(0.04 * np.sin(k * angle + phase) for k, phase in waves)
    mask = radius < outline
    texture = ndimage.gaussian_filter(rng.normal(size=(size, size)), 6)
    return np.where(mask, 1 + 6 * texture, 0.02), mask


def measured(density, mask, matrix, shape=(48, 50), seed=1):
    """The slide as MSI sees it: another contrast, coarser, noisy; and its tissue."""
    options = {
        "source_um_per_px": SLIDE_UM,
        "matrix_out_to_source": matrix,
        "out_shape": shape,
        "out_um_per_px": MSI_UM,
    }
    seen = transforms.warp_image(density, fill=0.02, **options)
    tissue = transforms.warp_image(mask, **options)
    rng = np.random.default_rng(seed)
    contrast = np.where(tissue, 3 * (seen - 0.9) ** 2 + 0.5 * seen, 0.3)
    return contrast + rng.normal(0, 0.05, shape), tissue


def error_px(result, matrix, tissue):
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    difference = transforms.apply_affine(result.matrix, points) - transforms.apply_affine(
        matrix, points
    )
    return np.median(np.linalg.norm(difference, axis=1)) / MSI_UM


def pose(degrees, mirrored):
    center = np.full(2, 80 * SLIDE_UM)
    return transforms.rotation(
        degrees, mirrored=mirrored, scale=1.02, center_from=(2400, 2500), center_to=center + 150
    )


@pytest.mark.parametrize(("degrees", "mirrored"), [(0, False), (137, True), (-94, False)])
def test_any_angle_and_mirroring_is_found(degrees, mirrored):
    density, mask = slide()
    matrix = pose(degrees, mirrored)
    moving, tissue = measured(density, mask, matrix)
    result = register_affine(
        moving, density, None, mask, moving_um_per_px=MSI_UM, fixed_um_per_px=SLIDE_UM
    )
    assert error_px(result, matrix, tissue) < 0.5
    assert {start["mirrored"] for start in result.starts} == {False, True}


def test_like_is_matched_with_like_by_correlation():
    density, mask = slide(3)
    matrix = pose(60, True)
    options = {"source_um_per_px": SLIDE_UM, "out_um_per_px": MSI_UM, "out_shape": (48, 50)}
    moving = transforms.warp_image(density, matrix_out_to_source=matrix, fill=0.02, **options)
    tissue = transforms.warp_image(mask, matrix_out_to_source=matrix, **options)
    result = register_affine(
        moving,
        density,
        tissue,
        mask,
        moving_um_per_px=MSI_UM,
        fixed_um_per_px=SLIDE_UM,
        metric="ncc",
    )
    assert error_px(result, matrix, tissue) < 0.3
    assert result.score > 0.9


def test_part_of_the_tissue_is_enough():
    density, mask = slide(5)
    matrix = pose(200, False)
    moving, tissue = measured(density, mask, matrix)
    kept = slice(0, 30)
    result = register_affine(
        moving[kept],
        density,
        None,
        mask,
        moving_um_per_px=MSI_UM,
        fixed_um_per_px=SLIDE_UM,
    )
    assert error_px(result, matrix, tissue[kept]) < 0.7


def test_missing_pixels_and_long_pixels_are_honoured():
    density, mask = slide(7)
    matrix = pose(20, True)
    moving, tissue = measured(density, mask, matrix, shape=(96, 50))
    size = (MSI_UM / 2, MSI_UM)
    seen = transforms.warp_image(
        moving,
        source_um_per_px=MSI_UM,
        matrix_out_to_source=np.eye(3),
        out_shape=(96, 50),
        out_um_per_px=size,
    )
    valid = np.random.default_rng(0).random(seen.shape) > 0.1
    seen[~valid] = np.nan
    result = register_affine(
        seen,
        density,
        None,
        mask,
        moving_um_per_px=size,
        fixed_um_per_px=SLIDE_UM,
        moving_valid=valid,
    )
    assert error_px(result, matrix, tissue) < 0.5


def test_the_same_call_gives_the_same_answer():
    density, mask = slide()
    moving, _ = measured(density, mask, pose(30, False))
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM, "seed": 4}
    first, second = (register_affine(moving, density, None, mask, **sizes) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)


def disc(stripes):
    """Round tissue whose inside hardly says which way round it lies."""
    y, x = np.mgrid[:160, :160] - 79.5
    mask = np.hypot(y, x) < 55
    return np.where(mask, 1 + 0.5 * np.cos(x / 5) * stripes, 0.02), mask


def test_a_guess_is_searched_around_and_nowhere_else():
    density, mask = disc(stripes=True)  # half a turn away it looks the same
    matrix = pose(40, False)
    moving, _ = measured(density, mask, matrix)
    for turn in (0, 180):
        about = matrix @ transforms.rotation(turn + 9, center_from=(2400, 2500))
        truth = matrix @ transforms.rotation(turn, center_from=(2400, 2500))
        about[:2, 2] += 150.0
        sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
        result = register_affine(moving, density, None, mask, start=about, **sizes)
        turned = transforms.decompose(result.matrix)["rotation_deg"]
        expected = transforms.decompose(truth)["rotation_deg"]
        assert abs((turned - expected + 180) % 360 - 180) < 4
    with pytest.raises(InputError, match="start: matrix"):
        register_affine(moving, density, None, mask, start=np.zeros((3, 3)), **sizes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fixed_mask": np.zeros((160, 160), bool)}, "fixed: tissue"),
        ({"fixed_mask": np.ones((9, 9), bool)}, "fixed: mask"),
        ({"moving_um_per_px": 0.0}, "moving: um per pixel"),
        ({"moving_um_per_px": np.nan}, "moving: um per pixel"),
        ({"moving": np.full((48, 50), np.nan)}, "moving: pixels"),
        ({"metric": "ssd"}, "'ssd'"),
    ],
)
def test_what_makes_no_sense_is_refused(change, said):
    density, mask = slide()
    moving, _ = measured(density, mask, pose(0, False))
    given = {
        "moving": moving,
        "fixed": density,
        "moving_mask": None,
        "fixed_mask": mask,
        "moving_um_per_px": MSI_UM,
        "fixed_um_per_px": SLIDE_UM,
    }
    with pytest.raises(InputError, match=said):
        register_affine(**(given | change))


def test_canvas_transform_becomes_micrometres():
    image = np.random.default_rng(0).random((40, 30))
    moving = canvas.make_side(image, None, (50.0, 40.0))
    fixed = canvas.make_side(image, None, 20.0)
    matrix = canvas.matrix_um(np.eye(2), (0.5, 0.0), moving, fixed, 1000.0)
    center = transforms.apply_affine(matrix, moving.center_um)
    np.testing.assert_allclose(center, fixed.center_um + np.array([500.0, 0.0]))


def test_canvas_levels_ranks_and_keeps_positions():
    image = np.zeros((32, 32))
    image[:16] = 1000.0
    image += np.linspace(0, 1, 32)
    side = canvas.make_side(image, None, 10.0)
    values, mask, known = canvas.draw(side, 160.0, 32)
    assert values.min() >= 0 and values.max() <= 1
    assert values[0, :15].min() > 0.45 > values[0, 17:].max() - 0.06
    np.testing.assert_allclose(mask, 1.0)
    np.testing.assert_allclose(known, 1.0)


def test_larger_pixels_show_the_same_picture():
    density, mask = slide()
    moving, _ = measured(density, mask, pose(30, False))
    pair = make_pair(moving, density, None, mask, moving_um_per_px=MSI_UM, fixed_um_per_px=SLIDE_UM)
    resized, radius = pair.resized(2.0), pair.moving.radius_um()
    assert resized.moving.radius_um() == pytest.approx(2 * radius)
    drawn = (
        canvas.draw(side, k * radius, 32) for side, k in ((pair.moving, 1), (resized.moving, 2))
    )
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
