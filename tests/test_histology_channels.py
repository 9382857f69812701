"""Only grey and RGB are taken as colours, and only numbers of which white is known."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology

RGB = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
GREY = {"photometric": "minisblack", "metadata": None}
COLOUR = {"photometric": "rgb", "metadata": None}
OME_BITS = (
    '<OME><Image ID="Image:0"><Pixels ID="Pixels:0" SignificantBits="{}" SizeC="1" '
    'Type="uint16"></Pixels></Image></OME>'
)


def _read(tmp_path, array, channels=None, **options):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    return read_histology(tmp_path / "a.tif", 1, channels=channels).pixels


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_channels_that_may_be_fluorescence_are_refused_unless_chosen(tmp_path, count, planar):
    array = np.concatenate([RGB, RGB[::-1]], axis=-1)[..., :count]
    stored = np.moveaxis(array, -1, 0) if planar == "separate" else array
    options = {**GREY, "planarconfig": planar}
    with pytest.raises(InputError, match=f"holds {count} channels, which may be red, green and"):
        _read(tmp_path, stored, **options)
    chosen = _read(tmp_path, stored, (2, 1, 1), **options)
    np.testing.assert_array_equal(chosen, array[..., [1, 0, 0]])
    grey = _read(tmp_path, stored, (count,), **options)
    np.testing.assert_array_equal(grey, np.repeat(array[..., count - 1 :], 3, axis=-1))
    with pytest.raises(InputError, match="are not one or three of its"):
        _read(tmp_path, stored, (1, 2, count + 1), **options)


def test_pages_as_channels(tmp_path):
    planes = np.moveaxis(np.concatenate([RGB, RGB[::-1]], axis=-1), -1, 0)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "A", "B", "C", "D", "E"]}}
    with pytest.raises(InputError, match=r"6 channels \(dapi, a, b, c, d, e\)"):
        _read(tmp_path, planes, ome=True, photometric="minisblack", metadata=metadata)
    pixels = _read(tmp_path, planes, (1, 2, 3), photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(pixels, RGB)
    with pytest.raises(InputError, match="holds 6 channels"):
        _read(tmp_path, planes, imagej=True, metadata={"axes": "CYX"})


def test_channels_of_a_png(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    pixels = read_histology(tmp_path / "a.png", 1, channels=(3, 2, 1)).pixels
    np.testing.assert_array_equal(pixels, RGB[..., ::-1])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_lies_as_it_may(tmp_path, planar):
    stored = np.moveaxis(RGB, -1, 0) if planar == "separate" else RGB
    np.testing.assert_array_equal(_read(tmp_path, stored, planarconfig=planar, **COLOUR), RGB)


def test_one_pixel_is_an_image(tmp_path):
    np.testing.assert_array_equal(_read(tmp_path, RGB[:1, :1], **COLOUR), RGB[:1, :1])
    np.testing.assert_array_equal(_read(tmp_path, RGB[:1, :, 0], **GREY)[..., 0], RGB[:1, :, 0])


def test_transparency_by_its_kind(tmp_path):
    alpha = np.where(np.arange(20) < 10, 0, 128)[None, :, None].repeat(12, 0).astype(np.uint8)
    straight = _read(tmp_path, np.dstack([RGB, alpha]), extrasamples=[2], **COLOUR)
    expected = np.rint((RGB * (alpha / 255.0)) + 255 - alpha)
    assert np.abs(straight - expected).max() <= 1
    shaded = np.dstack([np.rint(RGB * (alpha / 255.0)).astype(np.uint8), alpha])
    premultiplied = _read(tmp_path, shaded, extrasamples=[1], **COLOUR)
    assert np.abs(premultiplied - expected).max() <= 1
    with pytest.raises(InputError, match="holds 4 channels"):
        _read(tmp_path, np.dstack([RGB, alpha]), extrasamples=[0], **COLOUR)


def _wide(bits):
    return (RGB.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_significant_bits_are_read_as_stated(tmp_path, bits):
    limit = [(281, 3, 3, (2**bits - 1,) * 3, True)]
    assert (
        np.abs(_read(tmp_path, _wide(bits), extratags=limit, **COLOUR) - RGB.astype(int)).max() < 2
    )
    text = {"description": OME_BITS.format(bits)}
    grey = _read(tmp_path, _wide(bits)[..., 0], **GREY, **text)
    assert np.abs(grey[..., 1] - RGB[..., 0].astype(int)).max() < 2


def test_fewer_bits_than_stored_are_never_guessed(tmp_path):
    with pytest.raises(InputError, match="nearly black, or 12 of 16 bits are used"):
        _read(tmp_path, _wide(12), **COLOUR)
    Image.fromarray(_wide(12)[..., 0]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="nearly black, or 12 of 16 bits are used"):
        read_histology(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match="states 12 significant bits, up to 4095, but holds"):
        _read(tmp_path, _wide(16)[..., 0], description=OME_BITS.format(12), **GREY)
    both = {"extratags": [(281, 3, 1, 1023, True)], "description": OME_BITS.format(12)}
    with pytest.raises(InputError, match="conflict: 10 and 12 significant bits of 16"):
        _read(tmp_path, _wide(10)[..., 0], **both, **GREY)


def test_packed_bits_are_scaled(tmp_path):
    pytest.importorskip("imagecodecs", reason="tifffile needs it to pack and unpack 12 bits")
    grey = _wide(12)[..., 0]
    pixels = _read(tmp_path, grey, bitspersample=12, **GREY)
    assert np.abs(pixels[..., 0] - RGB[..., 0].astype(int)).max() < 2


def test_other_numbers(tmp_path):
    share = (RGB / 255).astype(np.float32)
    np.testing.assert_array_equal(_read(tmp_path, share, **COLOUR), RGB)
    for array, said in (
        (share * 255, "float32 values from 0 to 254: what is white is not said, 1, 255 or"),
        (share - 0.5, "float32 values from -0.5 to"),
        (RGB.astype(np.int16) - 9, "int16 values from -9 to 245: what is white is not said"),
        (RGB.astype(np.uint32), "uint32 values from 0 to 254"),
    ):
        with pytest.raises(InputError, match=said):
            _read(tmp_path, array, **COLOUR)
