"""The ending of a file's name chooses its format."""

import numpy as np
import pytest
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.interop import write_image as writers
from msi2he_jax.interop.ome_tiff import read_ome_tiff
from msi2he_jax.interop.write_image import write_image

RGB = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.tiff", ".OME.TIFF"])
def test_ome_tiff(tmp_path, ending):
    write_image(tmp_path / f"a{ending}", RGB, (25.0, 50.0), synthetic=True, description="words")
    found = read_ome_tiff(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found.levels[0], RGB)
    assert found.um_per_px == (25.0, 50.0) and found.synthetic and "words" in found.description


@pytest.mark.parametrize("um", [50.0, (25.0, 50.0)])
def test_png(tmp_path, um):
    write_image(tmp_path / "a.PNG", RGB, um, synthetic=True, description="words")
    with Image.open(tmp_path / "a.PNG") as image:
        np.testing.assert_array_equal(np.asarray(image), RGB)
        assert image.text["um_per_px"] == "50" and image.text["Title"] == "SYNTHETIC"
        assert "words" in image.text["Description"]


def test_channels_have_names(tmp_path):
    image = np.zeros((4, 4, 2), np.float32)
    write_image(tmp_path / "a.ome.tif", image, 1.0, channel_names=["m/z 1", "m/z 2"])
    assert read_ome_tiff(tmp_path / "a.ome.tif").channel_names == ("m/z 1", "m/z 2")
    with pytest.raises(InputError, match=r"a PNG holds RGB only \(write \.ome\.tiff\)"):
        write_image(tmp_path / "a.png", image, 1.0, channel_names=["m/z 1", "m/z 2"])


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a", "png"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"must end in \.ome\.tiff, \.ome\.tif, \.png"):
        write_image(tmp_path / name, RGB, 1.0)
    assert not list(tmp_path.iterdir())


def test_a_new_format_is_one_entry(tmp_path, monkeypatch):
    got = []
    monkeypatch.setitem(writers.WRITERS, ".ome.zarr", lambda *a, **k: got.append((a, k)))
    write_image(tmp_path / "a.ome.zarr", RGB, 2.0)
    ((args, options),) = got
    assert args[0] == tmp_path / "a.ome.zarr" and options["um_per_px"] == 2.0
