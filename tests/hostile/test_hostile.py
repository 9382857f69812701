"""Every hostile file is refused with the one line that stands in messages.json, word for word."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import folders  # noqa: E402
import images  # noqa: E402
import tables  # noqa: E402

from msi2he_jax import train  # noqa: E402
from msi2he_jax.errors import InputError  # noqa: E402

MESSAGES = json.loads((HERE / "messages.json").read_text(encoding="utf-8"))


def refusal(action, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(name: str, said: str, folder: pathlib.Path) -> None:
    """Compares a message with the one expected; other software's own words end it at `...`."""
    said = said.replace(str(folder), "{}")
    expected = MESSAGES[name]
    if expected.endswith("..."):
        said = said[: len(expected) - 3] + "..."
    assert said == expected


@pytest.mark.parametrize("name", images.REFUSED)
def test_image(name, tmp_path, capfd):
    from msi2he_jax.histology import read_histology

    path = images.make(tmp_path, name)
    check(name, refusal(read_histology, path, images.REFUSED[name][2]), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", tables.CASES)
def test_table(name, tmp_path):
    for file, content in (tables.FILES | tables.CASES[name]).items():
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / file).write_bytes(data)
    check(name, refusal(tables.read, tmp_path), tmp_path)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A tiny data set."""
    return folders.write_data(tmp_path_factory.mktemp("hostile") / "data")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A tiny run that was never trained: its weights are those it began with."""
    return folders.write_run(tmp_path_factory.mktemp("hostile") / "run")


@pytest.mark.parametrize("name", folders.DATA)
def test_data_set(name, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "d")
    folders.DATA[name](copy)
    before = set(sys.modules)
    check(name, refusal(folders.read_data, copy), tmp_path)
    assert not {module for module in set(sys.modules) - before if "hostile" in module}


@pytest.mark.parametrize("name", folders.RUN)
def test_run(name, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "r")
    folders.RUN[name](copy)
    check(name, refusal(folders.read_run, copy), tmp_path)


@pytest.mark.parametrize("name", folders.CONFIGS)
def test_config(name, tmp_path, capsys):
    file, content, words = folders.CONFIGS[name]
    (tmp_path / file).write_text(content)
    assert train.main([f"--config={tmp_path / file}", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    check(name, printed.removeprefix("error: ").strip(), tmp_path)


def test_every_message_is_used():
    names = {*images.REFUSED, *tables.CASES, *folders.DATA, *folders.RUN, *folders.CONFIGS}
    assert names == set(MESSAGES)
    assert len(names) >= 60


@pytest.mark.parametrize("kind", ["folder", "pipe", "long name", "absent", "device"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".imzML", ".csv", ".json"])
def test_what_is_no_file(kind, suffix, tmp_path, capsys):
    """A pipe or a device is never opened: reading it would not end."""
    from msi2he_jax import doctor

    path = tmp_path / ("x" * (1000 if kind == "long name" else 1) + suffix)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    assert doctor.main([str(path)]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and printed.startswith("error: ")
    words = {"folder": "is neither a data set nor a run", "long name": "File name too long"}
    words |= {"absent": "no such file"}
    assert words.get(kind, "is not a regular file") in printed


def test_other_files_named_in_ome_are_not_opened(tmp_path):
    """A slide whose metadata names a file elsewhere shows its own pixels."""
    from msi2he_jax.histology import read_histology
    from msi2he_jax.interop.ome_tiff import read_ome_tiff

    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    secret = images.tiff(np.full((24, 18, 3), 77, np.uint8))
    (tmp_path / "outside" / "secret.tif").write_bytes(secret)
    path = tmp_path / "inside" / "a.ome.tif"
    path.write_bytes(images.ome(images.OME.format("", "0.5", "0.5", images.ELSEWHERE)))
    np.testing.assert_array_equal(read_histology(path).pixels, images.pixels())
    assert "names another file, '../outside/secret.tif'" in refusal(read_ome_tiff, path)
    path.write_bytes(images.ome(images.OME.format("<!DOCTYPE OME>", "0.5", "0.5", "")))
    assert "has a DOCTYPE declaration" in refusal(read_ome_tiff, path)


def cmyk(image):
    return image.convert("CMYK")


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_read_as_pillow_converts_it(name, tmp_path):
    from PIL import Image

    from msi2he_jax.histology import read_histology

    flat = Image.new("RGB", (16, 16), (200, 120, 180))
    cmyk(flat).save(tmp_path / name)
    pixels = read_histology(tmp_path / name, 1).pixels
    assert np.abs(pixels.astype(int) - (200, 120, 180)).max() <= 4


def test_a_larger_limit_lets_an_image_in(tmp_path, capsys):
    from msi2he_jax import doctor

    (tmp_path / "a.png").write_bytes(images.stored("PNG"))
    path = str(tmp_path / "a.png")
    assert doctor.main([path, "--limits.image_pixels=100"]) == 2
    assert "18 x 24 px is more than 100 pixels" in capsys.readouterr().err
    assert doctor.main([path, "--limits.image_pixels=1000"]) == 0
    assert doctor.main([path]) == 0
