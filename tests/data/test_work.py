"""Finished work: what is read is what was made; what is stale or damaged is made again."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msi2he_jax.data import work
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.errors import InputError

SAMPLES = [Sample(f"s{i}", "p", Path(f"{i}.imzML"), Path("a.png")) for i in range(4)]


def double(sample, value=None):
    if value == "bad":
        raise InputError(sample.imzml, "spectrum 3", "is damaged")
    if value == "gone":
        open(sample.imzml / "gone").close()
    return {"name": sample.sample_id, "twice": np.array([value, value])}


def run(folder, units, function=double, **options):
    """Runs units here; returns those that went well, the faults, and how many were found."""
    faults, found = [], []
    options |= {"on_fault": lambda sample, error: faults.append((sample.sample_id, str(error)))}
    options |= {"on_found": lambda stage, done, count: found.append((stage, done, count))}
    options = {"mapper": _in_order} | options
    return list(work.each(function, units, folder=folder, **options)), faults, found


def _in_order(function, items):
    yield from map(function, items)


def units_of(*values):
    return [
        work.make_unit("sum", sample, ["content"], value=value)
        for sample, value in zip(SAMPLES, values, strict=False)
    ]


def test_results_come_back_and_are_found_again(tmp_path):
    finished, _, found = run(tmp_path, units_of(1.5, 2.5))
    assert found == [("sum", 0, 2)]
    assert [done.result()["twice"].tolist() for done in finished] == [[1.5, 1.5], [2.5, 2.5]]
    assert [done.unit.sample.sample_id for done in finished] == ["s0", "s1"]

    def never(function, items):
        assert not items
        yield from ()

    again, _, found = run(tmp_path, units_of(1.5, 2.5), mapper=never)
    assert found == [("sum", 2, 2)]
    assert again[1].result()["name"] == "s1"


RESULTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(RESULTS)
@example((float("nan"), [-float("inf")], {"a": float("inf")}))
def test_any_plain_result_survives(tmp_path_factory, result):
    folder = tmp_path_factory.mktemp("work")
    unit = work.make_unit("any", SAMPLES[0], [])
    assert work.perform(lambda sample: result, folder, unit) is None
    (path,) = folder.glob("*.json")
    assert repr(work.load(path)) == repr(result)


def test_arrays_keep_type_and_bits(tmp_path):
    arrays = (np.array([True, False]), np.float32([[math.pi]]), np.zeros((0, 3), np.uint8))
    finished, _, _ = run(tmp_path, units_of(1), lambda sample, value: {"deep": [arrays]})
    (found,) = finished[0].result()["deep"]
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def test_what_decides_a_result_decides_its_key(monkeypatch):
    sample, recipe = SAMPLES[0], Recipe()

    def key(stage="sum", sample=sample, content=("a",), **arguments):
        return work.make_unit(stage, sample, content, **{"recipe": recipe} | arguments).key

    same = [
        key(),
        key(sample=dataclasses.replace(sample, imzml=Path("moved.imzML"), line=9, split="test")),
    ]
    assert len(set(same)) == 1
    other = [
        key(stage="pair"),
        key(content=("b",)),
        key(sample=dataclasses.replace(sample, msi_roi=(0, 0, 1, 1))),
        key(sample=dataclasses.replace(sample, sample_id="t")),
        key(recipe=dataclasses.replace(recipe, exclude_mz=(100.0,))),
        key(array=np.zeros(2)),
        key(array=np.ones(2)),
        key(array=np.ones(2, np.float32)),
    ]
    monkeypatch.setattr(work, "software", lambda: {"msi2he_jax": "9.9"})
    assert len({*same, *other, key()}) == len(other) + 2


def _cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def _flip(path):
    path.write_bytes(path.read_bytes()[:-40] + b"\xff" + path.read_bytes()[-39:])


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("damage", [_cut, _flip, os.remove, lambda path: path.write_text("{}")])
def test_what_is_damaged_is_made_again(tmp_path, suffix, damage):
    (first, second), _, _ = run(tmp_path, units_of(1, 2))
    damage(first.path.with_suffix(suffix))
    with pytest.raises(InputError, match=r"differs from its SHA-256 or is gone \(run the same"):
        first.result()
    calls = []

    def counted(sample, value):
        calls.append(sample.sample_id)
        return double(sample, value)

    again, _, found = run(tmp_path, units_of(1, 2), counted)
    assert calls == ["s0"] and found == [("sum", 1, 2)]
    assert again[0].result()["twice"].tolist() == [1, 1]
    assert second.result()["twice"].tolist() == [2, 2]


def test_a_faulty_sample_is_told_of_once_and_passed_over(tmp_path):
    units = [
        work.make_unit("sum", SAMPLES[i], [], value=value)
        for i, value in ((0, 1), (1, "bad"), (1, "bad"), (1, 5), (2, "gone"), (3, 2))
    ]
    finished, faults, _ = run(tmp_path, units)
    assert [done.unit.sample.sample_id for done in finished] == ["s0", "s1", "s3"]
    assert faults == [
        ("s1", "1.imzML: spectrum 3: is damaged"),
        ("s2", f"{Path('2.imzML') / 'gone'}: No such file or directory"),
    ]
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_result_that_cannot_be_written_is_no_fault_of_the_sample(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.sum-s0-\w+.npz: cannot be written"):
        work.perform(double, tmp_path / "file", units_of(1)[0])


def test_the_folder_goes_when_all_is_well_and_stays_when_not(tmp_path):
    out, folder = tmp_path / "deep" / "pairs", tmp_path / "deep" / "pairs.work"
    with work.work_folder(out) as found:
        assert found == folder and folder.is_dir()
        run(folder, units_of(1))
    assert not folder.exists()
    with pytest.raises(KeyError), work.work_folder(out):
        raise KeyError("nothing was finished")
    assert not folder.exists()
    with pytest.raises(KeyError), work.work_folder(out):
        run(folder, units_of(1))
        raise KeyError("after one unit")
    assert work.count_finished(folder) == 1


def test_two_runs_do_not_share_a_folder(tmp_path):
    code = (
        "import sys; from msi2he_jax.data import work\n"
        "with work.work_folder(sys.argv[1]): print('here', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pairs")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "here\n"
        expected = r"pairs: another preprocess is at work there, process .* \(wait for it, or name"
        with pytest.raises(InputError, match=expected), work.work_folder(tmp_path / "pairs"):
            pass
        other.kill()
    with work.work_folder(tmp_path / "pairs"):
        pass


def test_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    expected = r"pairs: cannot be written: File exists"
    with pytest.raises(InputError, match=expected), work.work_folder(tmp_path / "file" / "pairs"):
        pass
    (tmp_path / "pairs.work").write_text("")
    expected = r"pairs\.work: cannot be written: File exists"
    with pytest.raises(InputError, match=expected), work.work_folder(tmp_path / "pairs"):
        pass


def test_software_names_every_version(monkeypatch):
    found = work.software()
    assert {"msi2he_jax", "python", "numpy", "msi2he_jax sources"} <= set(found)
    json.dumps(found)
