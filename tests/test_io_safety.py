"""A file is whole or absent, a path stays inside, a damaged JSON names its line."""

import csv
import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from msi2he_jax import io_safety
from msi2he_jax.errors import InputError
from msi2he_jax.plain_json import json_ready


def test_error_is_one_line():
    error = InputError("a\nb.csv", "x_um", "found \u202e 'k'", "write a number")
    assert str(error) == "a\\nb.csv: x_um: found \\u202e 'k' (write a number)"


def test_error_is_no_longer_than_a_screen():
    assert len(str(InputError("a.csv", "x", "9" * 10**6))) < 2100


def test_error_crosses_to_another_process():
    error = pickle.loads(pickle.dumps(InputError("a", "b", "c", "d")))
    assert (error.path, error.field, error.why, error.hint) == ("a", "b", "c", "d")


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


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_no_files(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(InputError, match="is not a regular file"):
        io_safety.existing_file(tmp_path / "x")


def test_unreadable_file(tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be read"):
        io_safety.existing_file(tmp_path / "x")


def test_names_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="no such file: File name too long"):
        io_safety.existing_file(tmp_path / ("x" * 1000))
    with pytest.raises(InputError, match="no such folder"):
        io_safety.existing_folder(tmp_path / "x")
    with pytest.raises(InputError, match=r"the folder .* does not exist either"):
        io_safety.existing_file(tmp_path / "x" / "y")
    assert io_safety.existing_folder(tmp_path) == tmp_path
    assert io_safety.inside(tmp_path, "a/../b") == tmp_path / "b"


def test_text_that_is_too_large_or_no_text(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfabc")
    assert io_safety.read_text(tmp_path / "x") == "abc"
    with io_safety.changed_limits(text_bytes=6):
        assert io_safety.read_text(tmp_path / "x") == "abc"
    with io_safety.changed_limits(text_bytes=5), pytest.raises(InputError, match="larger than 5 b"):
        io_safety.read_text(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        io_safety.read_text(tmp_path / "x")


def test_limits_reach_other_processes_and_come_back():
    code = "from msi2he_jax.io_safety import LIMITS; print(LIMITS.xml_depth, LIMITS.text_bytes)"
    before = dataclasses.asdict(io_safety.LIMITS)

    def elsewhere():
        words = [sys.executable, "-c", code]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    with io_safety.changed_limits(xml_depth=7):
        with io_safety.changed_limits(text_bytes=9):
            assert elsewhere() == ["7", "9"]
        assert elsewhere() == ["7", str(before["text_bytes"])]
        with io_safety.changed_limits():
            assert io_safety.LIMITS.xml_depth == 7
    assert dataclasses.asdict(io_safety.LIMITS) == before
    assert "MSI2HE_LIMITS" not in os.environ


@pytest.mark.parametrize("number", io_safety.FULL)
def test_a_full_disk_is_one_line_and_the_old_stays(tmp_path, number):
    (tmp_path / "x").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    full = OSError(number, os.strerror(number))
    with (
        pytest.raises(InputError, match="cannot be written: "),
        io_safety.atomic_file(tmp_path / "x"),
    ):
        raise full
    overwriting = io_safety.atomic_folder(tmp_path / "d", overwrite=True)
    with pytest.raises(InputError, match="what was there is kept"), overwriting:
        raise full
    assert (tmp_path / "x").read_text() == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["d", "old", "x"]


@pytest.mark.parametrize("opened", [io_safety.atomic_file, io_safety.atomic_folder])
def test_other_faults_are_not_the_disk_s(tmp_path, opened):
    with pytest.raises(FileNotFoundError), opened(tmp_path / "x"):
        raise FileNotFoundError(2, "No such file")
    assert not list(tmp_path.iterdir())


def test_every_step_of_writing_may_fail(tmp_path, monkeypatch):
    """Each call to the system fails in turn: the old content stays, and nothing else."""
    for name in ("fsync", "chmod", "replace"):
        (tmp_path / "x").write_text("old")

        def fail(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(InputError, match="No space left"):
                io_safety.write_json(tmp_path / "x", 1)
        assert (tmp_path / "x").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_written_may_be_read_by_all(tmp_path):
    io_safety.write_json(tmp_path / "a" / "x.json", 1)
    with io_safety.atomic_folder(tmp_path / "d") as folder:
        (folder / "y").touch()
    assert (tmp_path / "a" / "x.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o755
    onto_a_file = io_safety.atomic_folder(tmp_path / "a" / "x.json")
    with pytest.raises(InputError, match="is a file, a folder was expected"), onto_a_file:
        pass


def _listed(folder):
    (folder / "sub").mkdir()
    (folder / "a").write_text("a")
    (folder / "sub" / "b c").write_text("b")
    io_safety.write_hashes(folder)
    return folder


def test_hashes_are_those_of_sha256sum(tmp_path):
    io_safety.check_hashes(_listed(tmp_path))
    first = hashlib.sha256(b"a").hexdigest()
    assert (tmp_path / "SHA256SUMS").read_text().startswith(f"{first}  a\n")
    (tmp_path / "added").touch()
    io_safety.check_hashes(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "a").write_text("b"), "a: differs from its SHA-256"),
        (lambda d: (d / "sub" / "b c").unlink(), "b c: is missing"),
        (lambda d: (d / "SHA256SUMS").write_text("x\n"), "is no line of it"),
        (lambda d: (d / "SHA256SUMS").write_text(f"{'0' * 64}  ../x\n"), "leads out of"),
    ],
)
def test_damage_is_found(tmp_path, damage, message):
    damage(_listed(tmp_path))
    with pytest.raises(InputError, match=message):
        io_safety.check_hashes(tmp_path)


def test_only_what_is_chosen_is_compared(tmp_path):
    _listed(tmp_path)
    (tmp_path / "a").write_text("b")
    io_safety.check_hashes(tmp_path, lambda name: name != "a")
    (tmp_path / "a").unlink()
    io_safety.check_hashes(tmp_path, lambda name: name != "a")
    (tmp_path / "SHA256SUMS").unlink()
    io_safety.check_hashes(tmp_path)


def test_endless_cells(tmp_path):
    with pytest.raises(InputError, match="x: is not CSV: field larger"), io_safety.csv_errors("x"):
        list(csv.reader(["a" * 200_000]))


def test_what_json_does_not_know():
    @dataclasses.dataclass
    class Pair:
        a: int

    assert json_ready(Pair(3)) == {"a": 3}
    with pytest.raises(TypeError, match="cannot write object as JSON"):
        json_ready(object())


def test_limits_are_those_that_are_documented():
    assert dataclasses.asdict(io_safety.Limits()) == {
        "image_pixels": 10**9,
        "image_ratio": 250,
        "spectrum_points": 5 * 10**7,
        "grid_pixels": 10**8,
        "xml_bytes": 68_719_476_736,
        "xml_depth": 100,
        "text_bytes": 33_554_432,
        "npz_bytes": 268_435_456,
        "json_depth": 100,
        "folder_bytes": 17_179_869_184,
        "tensor_bytes": 4_294_967_296,
        "pickle_bytes": 33_554_432,
        "pickle_steps": 500_000,
        "pickle_depth": 8,
    }


def test_what_is_written_is_on_the_disk_with_its_folder(tmp_path, monkeypatch):
    """A name that the folder forgets in a power cut is a file that was never written."""
    flushed, fsync = [], os.fsync

    def recorded(descriptor: int) -> None:
        flushed.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    with io_safety.atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("a")
    assert flushed == [str(temporary), str(tmp_path)]
    flushed.clear()
    with io_safety.atomic_folder(tmp_path / "b") as folder:
        (folder / "c").write_text("c")
    assert flushed[-1] == str(tmp_path) and str(folder / "c") in flushed


def test_writing_leaves_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for name in "abc":
        with io_safety.atomic_file(tmp_path / name) as temporary:
            temporary.write_text(name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_written_json_has_neither_nan_nor_infinity(tmp_path):
    value = {"a": [1.5, float("nan")], "b": np.array([np.inf, 2.0]), "c": np.float32("-inf")}
    io_safety.write_json(tmp_path / "a.json", value | {"limits": io_safety.LIMITS, "n": np.int8(3)})
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    found = io_safety.read_json(tmp_path / "a.json")
    assert (found["a"], found["b"], found["c"], found["n"]) == ([1.5, None], [None, 2.0], None, 3)
    assert found["limits"]["json_depth"] == 100


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 101 + "]" * 101, "nested more than 100 levels deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested more than 100 levels deep"),
        ("[" * 10**6, "nested more than 100 levels deep"),
        ("[1" + "0" * 400 + "]", r"number 10+ \(401 characters\) is too large"),
        ('{"a": [{"\\udfff": 1}]}', "holds half of a character: '.udfff'"),
        ('["\\ud83d\\ude00 \\ud83d"]', r"holds half of a character: '.ud83d'"),
        ("[1e400]", r"number 1e400 \(5 characters\) is too large"),
    ],
)
def test_json_beyond_bounds_is_refused(tmp_path, text, why):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=why):
        io_safety.read_json(tmp_path / "a.json")


def test_json_of_the_deepest_allowed_is_read(tmp_path):
    (tmp_path / "a.json").write_text("[" * 99 + "[1, 2.5]" + "]" * 99)
    value = io_safety.read_json(tmp_path / "a.json")
    for _ in range(99):
        (value,) = value
    assert value == [1, 2.5]


def test_no_file_has_a_nul_in_its_name(tmp_path):
    with pytest.raises(InputError, match="is no file's name"):
        io_safety.inside(tmp_path, "a\0b")
