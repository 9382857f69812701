import io

import numpy as np
import pytest
from PIL import Image

from msi2he_jax.reporting import figures


def _pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("dark", [False, True])
def test_plots_are_drawn_on_the_page_colour(dark):
    look = figures.look(dark=dark)
    rows = [("model $a_b$", 0.5, 0.4, 0.6), ("null", 0.3, 0.2, 0.4)]
    drawn = [
        figures.learning_curves({"loss $x": {"a": ([1, 2], [3, 4])}, "b": {"c": ([1], [1])}}, look),
        figures.peak_sticks(np.array([100.0, 200.0]), np.array([1.0, 0.0]), look),
        figures.intervals({"ssim": rows, "mi": rows}, look, first=["null"]),
        figures.errors_by_sample(
            ["a", "b"], {"x": [10.0, 30.0], "y": [1, None]}, [False, True], look
        ),
    ]
    for png in drawn:
        pixels = _pixels(png)
        paper = tuple(int(look.paper[i : i + 2], 16) for i in (1, 3, 5))
        assert np.abs(pixels[0, 0].astype(int) - paper).max() <= 8
        assert pixels.std() > 3


def test_narrow_plots_are_narrower():
    series = {"loss": {"a": ([1, 2], [3, 4])}, "b": {"a": ([1, 2], [3, 4])}}
    wide, narrow = (
        _pixels(figures.learning_curves(series, figures.look(narrow=narrow))).shape
        for narrow in (False, True)
    )
    assert narrow[1] < 0.6 * wide[1] and narrow[0] > wide[0]


def test_series_differ_in_lightness_not_only_in_hue():
    for dark in (False, True):
        colours = figures.look(dark=dark).colours[:2]
        grey = [
            np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114])
            for c in colours
        ]
        assert abs(grey[0] - grey[1]) > 15


def test_raster_keeps_small_pictures_and_shrinks_large_ones():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    assert np.array_equal(_pixels(figures.raster(pixels)), pixels)
    assert _pixels(figures.raster(np.zeros((700, 350, 3), np.uint8))).shape == (320, 160, 3)


def test_difference_is_dark_where_nothing_differs_and_black_outside_the_mask():
    first = np.full((4, 4, 3), 200, np.uint8)
    second = first.copy()
    second[0, 0] = 0
    shown = figures.difference(first, second)
    assert shown[0, 0].sum() > shown[3, 3].sum() + 200
    mask = np.ones((4, 4), bool)
    mask[0, 0] = False
    assert not figures.difference(first, second, mask)[0, 0].any()
