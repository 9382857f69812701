"""Which page of a TIFF is the slide: labels, macro pictures and masks never are, nor its levels."""

import numpy as np
import pytest
import tifffile

from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology
from msi2he_jax.histology.pages import factor

RNG = np.random.default_rng(0)
SLIDE = np.kron(RNG.integers(120, 250, (16, 20, 3)), np.ones((16, 16, 1))).astype(np.uint8)
LABEL = np.full((64, 80, 3), (20, 90, 30), np.uint8)  # A quarter of the slide, exactly.
OPTIONS = {"photometric": "rgb", "metadata": None}
TILED = {**OPTIONS, "tile": (32, 32)}
MPP = "Aperio Image Library v12\r\n320x256|AppMag = 20|MPP = 0.5"


def _write(path, *pages):
    with tifffile.TiffWriter(path) as file:
        for picture, options in pages:
            kind = "rgb" if picture.ndim == 3 else "minisblack"
            file.write(picture, **{**OPTIONS, "photometric": kind, **options})
    return path


def _is_slide(image):
    assert image.um_per_px == 0.5
    np.testing.assert_array_equal(image.pixels, SLIDE)


@pytest.mark.parametrize("aperio", [True, False])
@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (LABEL, {"subfiletype": 1}),
        (LABEL, {"subfiletype": 9}),
        (LABEL, {"subfiletype": 1, "tile": (32, 32)}),
        (255 - LABEL, {"subfiletype": 1, "tile": (16, 16)}),
        (LABEL, {"subfiletype": 9, "tile": (32, 32)}),
        (LABEL[..., 0], {"subfiletype": 1, "tile": (32, 32)}),
        (LABEL[:, :79], {"subfiletype": 1}),
        (LABEL[:, :70], {"subfiletype": 1, "tile": (32, 32)}),
        (LABEL[..., 0] > 0, {"subfiletype": 5}),
        (LABEL[..., 0] > 0, {"subfiletype": 4, "tile": (32, 32)}),
        (LABEL, {"subfiletype": 0}),
    ],
)
def test_labels_macros_and_masks_are_no_levels(tmp_path, aperio, picture, options):
    description = {"description": MPP} if aperio else {}
    path = _write(tmp_path / "a.svs", (SLIDE, {**TILED, **description}), (picture, options))
    _is_slide(read_histology(path, 0.5, target_um_per_px=25.0))


@pytest.mark.parametrize("flag", [{"subfiletype": 1}, {"description": "Aperio level"}])
def test_tiled_reduced_pages_are_levels(tmp_path, flag):
    pages = [(SLIDE, {**TILED, "description": MPP}), (SLIDE[::2, ::2], {**TILED, **flag})]
    path = _write(tmp_path / "a.svs", *pages, (LABEL, {"subfiletype": 1}))
    level = read_histology(path, target_um_per_px=25.0)
    assert level.um_per_px == 1.0
    np.testing.assert_array_equal(level.pixels, SLIDE[::2, ::2])


def test_a_mask_and_a_picture_in_sub_ifds_are_no_levels(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(SLIDE, subifds=3, **TILED)
        file.write(LABEL[:50], subfiletype=1, **OPTIONS)
        file.write(SLIDE[::4, ::4, 0], subfiletype=1, photometric="minisblack", metadata=None)
        file.write(SLIDE[::8, ::8], subfiletype=1, **OPTIONS)
    level = read_histology(path, 0.5, target_um_per_px=25.0)
    np.testing.assert_array_equal(level.pixels, SLIDE[::8, ::8])


def test_levels_of_three_named_planes(tmp_path):
    path = tmp_path / "a.ome.tif"
    planes = np.moveaxis(SLIDE, -1, 0)
    metadata = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}}
    options = {"photometric": "minisblack", "tile": (32, 32)}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(planes, subifds=1, metadata=metadata, **options)
        file.write(planes[:, ::2, ::2], subfiletype=1, **options)
    level = read_histology(path, 0.5, target_um_per_px=1.0)
    np.testing.assert_array_equal(level.pixels, SLIDE[::2, ::2])


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([(LABEL, {}), (SLIDE[::8, ::8], {}), (SLIDE, TILED)], "page 3 320 x 256 px: either may"),
        ([(SLIDE, TILED), (SLIDE, TILED)], "holds 2 images of 320 x 256 px: focal planes, or"),
        ([(SLIDE, TILED), (SLIDE[:200], TILED)], "page 2 another image, 320 x 200 px: either may"),
        ([(LABEL, {"subfiletype": 1}), (SLIDE, TILED)], "page 2 320 x 256 px: either may"),
    ],
)
def test_what_the_slide_is_must_be_clear(tmp_path, pages, said):
    with pytest.raises(InputError, match=said):
        read_histology(_write(tmp_path / "a.tif", *pages), 0.5)


def test_a_small_unlike_page_is_a_warning(tmp_path):
    path = _write(tmp_path / "a.tif", (SLIDE, TILED), (LABEL[:40], {}))
    image = read_histology(path, 0.5)
    _is_slide(image)
    assert image.warnings == (
        "the first page is 320 x 256 px, page 2 another image, 80 x 40 px: the first is taken as "
        "the slide",
    )


@pytest.mark.parametrize(
    ("full", "part", "expected"),
    [
        ((3567, 4443), (1783, 2221), 2),  # rounded down, as Aperio does
        ((3567, 4443), (892, 1111), 4),  # rounded up
        ((115, 203), (4, 7), 32),  # so small that one pixel is a quarter of a side
        ((300, 300), (100, 100), 3),
        ((1024, 1040), (200, 203), None),
        ((1024, 1040), (1024, 1040), None),
        ((1024, 1040), (512, 130), None),
    ],
)
def test_by_how_much_a_page_is_coarser(full, part, expected):
    class Page:
        dtype, samplesperpixel = np.uint8, 3

        def __init__(self, shape):
            self.imagelength, self.imagewidth = shape

    assert factor(Page(full), Page(part)) == expected
