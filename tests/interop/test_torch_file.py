"""PyTorch's file format, read and written without PyTorch; what runs code is refused."""

import importlib
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.interop.torch_file import read_state_dict, write_state_dict
from msi2he_jax.io_safety import changed_limits

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


TUPLES = b"()" + b"\x85" * 200_000  # Each instruction packs the one before into a tuple.
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0atQ"
)


def _whole(*numbers: int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"


def _tensor(shape: bytes, strides: bytes) -> bytes:
    return TENSOR + b"(" + STORAGE + b"K\x00" + shape + strides + b"tR"


def _pickle(content: bytes) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00w" + content + b"s."


def _write(path, pickled: bytes, numbers: bytes = bytes(40), **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", numbers)
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"N}" + TUPLES + b"t", "tuples nested more than 8 deep"),
        (b"c__builtin__\nprint\n" + TUPLES + b"tR", "tuples nested more than 8 deep"),
        (b"}\x85K\x01s", "a mapping whose keys are not text"),
        (b"N0" * 10, "the instruction POP"),
        (b"(((}", "lacks its values"),
        (_tensor(_whole(60_000, 50_000), _whole(0, 0)), "uses its numbers several times"),
        (_tensor(_whole(3, 3), _whole(1, 1)), "uses its numbers several times"),
        (_tensor(_whole(*[1] * 40), _whole(*[1] * 40)), "a tensor of 40 axes"),
        (_tensor(_whole(-1), _whole(1)), "without whole numbers"),
        (_tensor(_whole(1), b"G" + bytes(8)), "without whole numbers"),
        (_tensor(_whole(11), _whole(1)), "holds 10 numbers, a tensor reaches to the 11th"),
    ],
)
def test_a_hostile_pickle_is_refused(tmp_path, content, why):
    with pytest.raises(InputError, match=why):
        read_state_dict(_write(tmp_path / "a.pth", _pickle(content)))


def test_the_instructions_are_counted(tmp_path):
    path = _write(tmp_path / "a.pth", _pickle(b"N" * 600_000))
    with pytest.raises(InputError, match="more than 500000 instructions"):
        read_state_dict(path)


def test_many_marks_take_no_longer_than_few(tmp_path):
    """Looking for the last mark below 150,000 others took 150,000 squared steps."""
    content = b"N" * 150_000 + b"(N" * 100_000 + b"t" * 100_000
    with pytest.raises(InputError, match="nested more than 8"):
        read_state_dict(_write(tmp_path / "a.pth", _pickle(content)))


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_what_is_compressed_is_refused(tmp_path, kind):
    pickled = _pickle(_tensor(_whole(10), _whole(1)))
    path = _write(tmp_path / "a.pth", pickled, bytes(10**6), compression=kind)
    with pytest.raises(InputError, match=r"data.pkl: is compressed \(torch.save compresses noth"):
        read_state_dict(path)


def test_what_is_encrypted_is_refused(tmp_path):
    path = _write(tmp_path / "a.pth", _pickle(_tensor(_whole(10), _whole(1))))
    raw = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + flags] |= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"data\.pkl: is encrypted"):
        read_state_dict(path)


def test_a_member_is_read_as_far_as_its_tensors_reach(tmp_path, monkeypatch):
    path = _write(tmp_path / "a.pth", _pickle(_tensor(_whole(10), _whole(1))), bytes(4 * 10**6))
    read, sizes = zipfile.ZipExtFile.read, []
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda s, n: sizes.append(n) or read(s, n))
    assert read_state_dict(path)["w"].shape == (10,)
    assert max(sizes) < 1000


def test_the_limit_is_of_all_tensors_together(tmp_path):
    write_state_dict(tmp_path / "a.pth", {name: np.zeros(100, np.float32) for name in "abc"})
    why = r"has 1200 bytes, at most 1000 are read \(--limits"
    with changed_limits(tensor_bytes=1000), pytest.raises(InputError, match=why):
        read_state_dict(tmp_path / "a.pth")


def test_tensors_that_share_numbers_share_memory(tmp_path):
    """Else many names for one storage would ask for many times the file's size."""
    part = b"X\x01\x00\x00\x00%c" + _tensor(_whole(10), _whole(1)) + b"s"
    pickled = b"\x80\x02}" + b"".join(part.replace(b"%c", bytes([c])) for c in b"vw") + b"."
    found = read_state_dict(_write(tmp_path / "a.pth", pickled))
    assert np.shares_memory(found["v"], found["w"])


def test_mutants_are_refused_or_read(tmp_path, monkeypatch):
    """A few of the campaign of docs/reliability.md, at byte, instruction and zip level."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "reliability")
    result = importlib.import_module("torch_mutants").campaign(2000, 1, tmp_path)
    assert result["faults"] == []
    assert min(result["refused"], result["read otherwise"]) > 30


# Python's own reader of pickles says so of a changed string.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
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
