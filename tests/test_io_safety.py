"""A file is whole or absent, a path stays inside, a damaged JSON names its line."""

import numpy as np
import pytest

from msi2he_jax import io_safety
from msi2he_jax.errors import InputError


def test_error_is_one_line():
    error = InputError("a\nb.csv", "x_um", "found \u202e 'k'", "write a number")
    assert str(error) == "a\\nb.csv: x_um: found \\u202e 'k' (write a number)"


def test_absent_file_names_its_neighbour(tmp_path):
    (tmp_path / "manifest.csv").touch()
    with pytest.raises(InputError, match=r"no such file \(did you mean manifest.csv\?\)"):
        io_safety.existing_file(tmp_path / "manifst.csv")


def test_folder_is_not_a_file(tmp_path):
    with pytest.raises(InputError, match="is not a regular file"):
        io_safety.existing_file(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        (tmp_path / "f").touch()
        io_safety.existing_folder(tmp_path / "f")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret"])
def test_inside_refuses_to_leave(tmp_path, path):
    with pytest.raises(InputError, match="leads out of"):
        io_safety.inside(tmp_path, path)


def test_atomic_file_keeps_the_old_on_error(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), io_safety.atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


def test_atomic_folder_is_whole_or_absent(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), io_safety.atomic_folder(target) as temporary:
        (temporary / "half").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with io_safety.atomic_folder(target) as temporary:
        (temporary / "one").touch()
    with (
        pytest.raises(InputError, match="is not empty"),
        io_safety.atomic_folder(target),
    ):
        pass
    with io_safety.atomic_folder(target, overwrite=True) as temporary:
        (temporary / "two").touch()
    assert [entry.name for entry in target.iterdir()] == ["two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_json_round_trip(tmp_path):
    value = {"a": np.float32(1.5), "b": np.arange(3), "c": tmp_path}
    io_safety.write_json(tmp_path / "v.json", value)
    assert io_safety.read_json(tmp_path / "v.json") == {
        "a": 1.5,
        "b": [0, 1, 2],
        "c": str(tmp_path),
    }


@pytest.mark.parametrize("text", ["{", "[1,", "\x00", "[" * 100_000])
def test_damaged_json(tmp_path, text):
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(InputError, match="is not valid JSON"):
        io_safety.read_json(tmp_path / "v.json")


def test_sha256(tmp_path):
    (tmp_path / "v").write_bytes(b"abc")
    assert io_safety.sha256(tmp_path / "v").startswith("ba7816bf8f01cfea")


def test_write_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        io_safety.write_json(tmp_path / "file" / "v.json", {})
