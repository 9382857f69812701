"""PyTorch's file format, read and written without PyTorch; what runs code is refused."""

import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.interop.torch_file import read_state_dict, write_state_dict

TENSORS = {
    "model.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "model.1.running_var": np.array([1.0, 2.5], np.float64),
    "model.1.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([[0.5, -2.0]], np.float16),
    "empty": np.zeros((0, 3), np.float32),
}


def test_round_trip_is_exact(tmp_path):
    write_state_dict(tmp_path / "a.pth", TENSORS)
    found = read_state_dict(tmp_path / "a.pth")
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_reads_what_torch_wrote(recorded_pth):
    """Recorded with torch 2.13: a transposed view, an OrderedDict with layer versions, counters."""
    found = read_state_dict(recorded_pth)
    assert found["0.weight"].shape == (3, 2)
    np.testing.assert_array_equal(found["0.weight"], np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(found["1.running_var"], np.ones(3))
    assert found["1.num_batches_tracked"] == 0


class _Evil:
    def __reduce__(self):
        return (print, ("the file was run",))


def test_never_runs_what_is_in_the_file(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": _Evil()}, protocol=2))
    why = "holds a call of __builtin__ print, which no plain state_dict has"
    with pytest.raises(InputError, match=why):
        read_state_dict(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("member", "content", "why"),
    [
        ("data.pkl", b"\x80\x02N.", "something other than a state_dict"),
        ("data.pkl", b"\x80\x02}.", "nothing: is not a tensor"),
        ("data.pkl", b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "a: is not a tensor"),
        ("data.pkl", b"junk", "is no PyTorch checkpoint"),
        ("other.pkl", b"", "it has no data.pkl"),
    ],
)
def test_refuses_other_content(tmp_path, member, content, why):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr(f"archive/{member}", content)
    with pytest.raises(InputError, match=why):
        read_state_dict(tmp_path / "a.pth")


def test_refuses_a_tensor_beyond_its_storage(tmp_path):
    write_state_dict(tmp_path / "a.pth", {"w": np.zeros((4, 4), np.float32)})
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:12] if name.endswith("data/0") else content)
    with pytest.raises(InputError, match="holds 3 numbers, a tensor reaches to the 16th"):
        read_state_dict(tmp_path / "b.pth")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_one_clear_error_or_another_tensor(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    write_state_dict(folder / "a.pth", {"w": TENSORS["model.0.weight"]})
    with zipfile.ZipFile(folder / "a.pth") as archive:
        raw = bytearray(archive.read("archive/data.pkl"))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with zipfile.ZipFile(folder / "b.pth", "w") as archive:
        archive.writestr("archive/data.pkl", bytes(raw))
        archive.writestr("archive/data/0", TENSORS["model.0.weight"].tobytes())
    try:
        found = read_state_dict(folder / "b.pth")
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
