import numpy as np
import pytest
import tifffile
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.interop.ome_tiff import pyramid, read_ome_tiff, write_ome_tiff


def _noise(*shape, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, shape)
    return values.astype(dtype)


@pytest.mark.parametrize("shape", [(7, 5, 3), (300, 257, 3), (1, 600, 3)])
def test_rgb_round_trip(tmp_path, shape):
    array = _noise(*shape)
    write_ome_tiff(tmp_path / "a.ome.tif", array, um_per_px=12.5)
    image = read_ome_tiff(tmp_path / "a.ome.tif")
    assert np.array_equal(image.levels[0], array)
    assert image.um_per_px == (12.5, 12.5)
    assert not image.synthetic
    assert [level.shape for level in image.levels] == [level.shape for level in pyramid(array)]
    assert max(image.levels[-1].shape[:2]) <= 256


def test_float_channels_round_trip(tmp_path):
    array = _noise(300, 40, 4, dtype=np.float32) * 1e-3
    names = ["m/z 885.5499", "m/z 1", 'a<b>&"c"', "µ"]
    write_ome_tiff(tmp_path / "a.ome.tif", array, um_per_px=(50.0, 100.0), channel_names=names)
    image = read_ome_tiff(tmp_path / "a.ome.tif")
    assert image.levels[0].dtype == np.float32
    assert np.array_equal(image.levels[0], array)
    assert image.channel_names == tuple(names)
    assert image.um_per_px == (50.0, 100.0)
    assert len(image.levels) == 2 and image.levels[1].shape == (150, 20, 4)


def test_three_named_uint8_channels_are_not_rgb(tmp_path):
    array = _noise(9, 9, 3)
    write_ome_tiff(tmp_path / "a.ome.tif", array, um_per_px=1.0, channel_names=["a", "b", "c"])
    assert read_ome_tiff(tmp_path / "a.ome.tif").channel_names == ("a", "b", "c")


def test_synthetic_is_marked_in_name_description_and_annotation(tmp_path):
    path = tmp_path / "s1.ome.tif"
    text = "run {1} <x> é"
    write_ome_tiff(path, _noise(8, 8, 3), um_per_px=1.0, synthetic=True, description=text)
    image = read_ome_tiff(path)
    assert image.synthetic and "SYNTHETIC" in image.name and text in image.description
    with tifffile.TiffFile(path) as tiff:
        assert 'K="synthetic"' in tiff.ome_metadata


@pytest.mark.parametrize("channels", [3, 4])
def test_pillow_reads_level_zero(tmp_path, channels):
    dtype = np.uint8 if channels == 3 else np.float32
    array = _noise(270, 30, channels, dtype=dtype)
    write_ome_tiff(tmp_path / "a.ome.tif", array, um_per_px=20.0)
    with Image.open(tmp_path / "a.ome.tif") as image:
        pixels = np.asarray(image)
        assert np.allclose(image.info["dpi"], 25400 / 20, rtol=1e-3)
    assert np.array_equal(pixels, array if channels == 3 else array[..., 0])


def test_pyramid_levels_are_area_means():
    array = np.array([[0, 4], [8, 12]], np.float32)[..., None].repeat(2, 2)
    levels = pyramid(array, smallest_px=1)
    assert np.array_equal(levels[1], np.full((1, 1, 2), 6.0))
    constant = pyramid(np.full((37, 11, 3), 200, np.uint8), smallest_px=4)
    assert all((level == 200).all() for level in constant)


@pytest.mark.parametrize(
    "array, options, field",
    [
        (np.zeros((4, 4), np.uint8), {}, "array"),
        (np.zeros((4, 0, 3), np.uint8), {}, "array"),
        (np.zeros((4, 4, 3), np.float64), {}, "array"),
        (np.zeros((4, 4, 3), np.uint8), {"um_per_px": 0.0}, "um_per_px"),
        (np.zeros((4, 4, 3), np.uint8), {"um_per_px": float("nan")}, "um_per_px"),
        (np.zeros((4, 4, 3), np.uint8), {"channel_names": ["a"]}, "channel_names"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, array, options, field):
    with pytest.raises(InputError, match=field):
        write_ome_tiff(tmp_path / "a.ome.tif", array, **{"um_per_px": 1.0, **options})
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_no_ome_tiff(tmp_path):
    (tmp_path / "a.ome.tif").write_bytes(b"nothing")
    with pytest.raises(InputError, match="OME-TIFF"):
        read_ome_tiff(tmp_path / "a.ome.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="OME-TIFF"):
        read_ome_tiff(tmp_path / "b.tif")
