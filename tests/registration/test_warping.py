"""Bands draw what one piece draws."""

import numpy as np
import pytest

from msi2he_jax.registration import transforms
from msi2he_jax.registration.transforms import Displacement, Transform
from msi2he_jax.registration.warping import out_grid, warp_by_bands

FIELD = Displacement(
    np.linspace(0, 900, 5),
    np.linspace(0, 700, 4),
    np.random.default_rng(1).normal(0, 20, (5, 4, 2)),
)


@pytest.mark.parametrize("displacement", [None, FIELD])
@pytest.mark.parametrize("out_um", [3.0, 17.0, (40.0, 25.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_bands_draw_what_one_piece_draws(displacement, out_um, dtype):
    rng = np.random.default_rng(0)
    image = (rng.uniform(0, 255, (80, 70, 2)) > 99) if dtype is bool else None
    image = rng.uniform(0, 255, (80, 70, 2)).astype(dtype) if image is None else image
    transform = Transform(transforms.rotation(25, center_from=(400, 300)), displacement)
    options = {
        "source_um_per_px": (10.0, 8.0),
        "out_shape": (48, 45),
        "out_um_per_px": out_um,
        "fill": 7,
    }
    whole = transform.warp(image, **options)
    for band_pixels in (1, 400, 10**9):
        bands = warp_by_bands(image, out_to_source=transform, **options, band_pixels=band_pixels)
        assert bands.dtype == whole.dtype
        np.testing.assert_allclose(bands.astype(float), whole.astype(float), atol=2e-3)


class _Watched:
    """An array that says how much was asked of it at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, box):
        part = self.array[box]
        self.most = max(self.most, part.shape[0] * part.shape[1])
        return part


def test_a_band_asks_for_its_part_alone():
    image = _Watched(np.zeros((2000, 50), np.uint8))
    warp_by_bands(
        image,
        source_um_per_px=1.0,
        out_to_source=Transform(),
        out_shape=(2000, 50),
        out_um_per_px=1.0,
        band_pixels=5000,
    )
    assert image.most < 130 * 50


def test_nothing_but_fill_where_the_image_is_elsewhere():
    drawn = warp_by_bands(
        np.ones((4, 4)),
        source_um_per_px=1.0,
        out_to_source=Transform(transforms.translation((1e4, 1e4))),
        out_shape=(6, 5),
        out_um_per_px=1.0,
        fill=-1,
    )
    np.testing.assert_array_equal(drawn, -np.ones((6, 5)))


def test_the_grid_covers_the_extent():
    assert out_grid((100.0, 99.0), 10.0) == (10, 10)
    assert out_grid((100.0, 101.0), (50.0, 10.0)) == (2, 11)
