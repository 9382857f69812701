"""A page too large to be held is averaged piece by piece: the same picture, coarser."""

import numpy as np
import pytest
import tifffile

from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology, resample_area, slide_um_per_px, tiles
from msi2he_jax.io_safety import Limits

RESOLUTION = {"resolution": (1e4 / 0.5, 1e4 / 0.5), "resolutionunit": "CENTIMETER"}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (115, 203, 3), np.uint8)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)


LAYOUTS = [{"tile": (32, 48)}, {"rowsperstrip": 7}, {"tile": (64, 64), "compression": "zlib"}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("factor", [2, 5, 9, 64])
def test_blocks_are_averaged(tmp_path, small_memory, image, layout, factor):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **layout, **RESOLUTION)
    slide = read_histology(tmp_path / "a.tif", target_um_per_px=0.5 * factor)
    assert slide.um_per_px == 0.5 * factor
    assert slide.pixels.shape == (-(-115 // factor), -(-203 // factor), 3)
    whole = slide.pixels.shape[0] - 1, slide.pixels.shape[1] - 1
    cut = image[: whole[0] * factor, : whole[1] * factor]
    expected = resample_area(cut, 0.5, 0.5 * factor)
    inside = slide.pixels[: whole[0], : whole[1]].astype(int)
    assert np.abs(inside - expected).max(initial=0) <= 1
    corner = image[whole[0] * factor :, whole[1] * factor :].mean(axis=(0, 1))
    np.testing.assert_allclose(slide.pixels[-1, -1], corner, atol=1)


def test_a_region_and_transparency(tmp_path, small_memory, image):
    tifffile.imwrite(tmp_path / "g.tif", image, photometric="rgb", tile=(32, 32), **RESOLUTION)
    slide = read_histology(tmp_path / "g.tif", roi=(40, 20, 60, 40), target_um_per_px=2.0)
    assert slide.pixels.shape == (10, 15, 3) and slide.origin_um == (10.0, 20.0)
    np.testing.assert_allclose(slide.pixels[0, 0], image[20:24, 40:44].mean(axis=(0, 1)), atol=1)
    clear = np.concatenate([image, np.zeros_like(image[..., :1])], axis=-1)
    tifffile.imwrite(
        tmp_path / "t.tif", clear, photometric="rgb", extrasamples=[2], tile=(32, 32), **RESOLUTION
    )
    assert np.all(read_histology(tmp_path / "t.tif", target_um_per_px=1.0).pixels == 255)


def test_what_is_needed_in_full_or_is_small_stays_whole(tmp_path, image, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(32, 32), **RESOLUTION)
    small = read_histology(tmp_path / "a.tif", target_um_per_px=5.0)
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)
    full = read_histology(tmp_path / "a.tif")
    for slide in (small, full):
        np.testing.assert_array_equal(slide.pixels, image)


def test_a_slide_larger_than_the_limit_is_read_reduced(tmp_path, small_memory, image, monkeypatch):
    from msi2he_jax.histology import limits

    monkeypatch.setattr(limits, "LIMITS", Limits(image_pixels=5000))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(32, 32), **RESOLUTION)
    assert read_histology(tmp_path / "a.tif", target_um_per_px=2.0).pixels.shape == (29, 51, 3)
    with pytest.raises(InputError, match="is more than 5000 pixels"):
        read_histology(tmp_path / "a.tif", target_um_per_px=0.5)


def test_the_pixel_size_alone(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **RESOLUTION)
    assert slide_um_per_px(tmp_path / "a.tif") == pytest.approx(0.5)
    assert slide_um_per_px(tmp_path / "a.tif", 0.7) == 0.7
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "b.tif").write_bytes(b"hello")
    (tmp_path / "c.tif").write_bytes(b"II*\0hello")
    with pytest.raises(InputError, match="does not say its pixel size"):
        slide_um_per_px(tmp_path / "a.png")
    with pytest.raises(InputError, match="this kind of file is not read"):
        slide_um_per_px(tmp_path / "b.tif")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        slide_um_per_px(tmp_path / "c.tif")


@pytest.mark.parametrize("compression, pieces", [("ADOBE_DEFLATE", False), ("JPEG", True)])
def test_colours_that_only_pillow_turns_to_rgb_are_not_read_in_pieces(
    tmp_path, compression, pieces
):
    image = np.full((64, 64, 3), 120, np.uint8)
    options = {"photometric": "ycbcr", "compression": "zlib", "tile": (32, 32)}
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:  # Only the header is read.
        tiff.pages[0].tags["Compression"].overwrite(tifffile.COMPRESSION[compression])
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiles.needs_pillow(tiff.pages[0]) is not pieces
        assert tiles.comes_in_pieces(tiff.pages[0]) is pieces
