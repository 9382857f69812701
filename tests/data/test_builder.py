"""Shards: what is read is what was written; nothing half written, damaged or foreign is read."""

import json
import sys

import numpy as np
import pytest

from msi2he_jax.data import work
from msi2he_jax.data.builder import read_split, write_dataset
from msi2he_jax.data.provenance import content_digest
from msi2he_jax.errors import InputError


@pytest.fixture
def written(tmp_path, make_example, provenance):
    examples = {
        "train": [make_example(i, 10 + i, 12) for i in range(12)],
        "test": [make_example(20), make_example(21, 3, 5)],
    }
    write_dataset(tmp_path / "d", {k: lambda v=v: v for k, v in examples.items()}, provenance)
    return tmp_path / "d", examples


def test_round_trip(written):
    folder, examples = written
    for split, expected in examples.items():
        found = read_split(folder, split)
        assert [e["sample_id"] for e in found] == [e["sample_id"] for e in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            assert content_digest(one) == content_digest(other)
            np.testing.assert_array_equal(one["msi"], other["msi"])
            assert one["msi_mask"].dtype == bool and one["msi_to_histology"].dtype == np.float64
    assert read_split(folder, "validation") == []
    assert "tensorflow" not in sys.modules


def test_provenance_holds_counts_hashes_and_what_came_late(tmp_path, make_example, provenance):
    def examples():
        yield make_example(1)
        provenance["late"] = "yes"

    write_dataset(
        tmp_path / "d", {"train": examples}, provenance, finish=lambda: provenance.update(last=1)
    )
    record = json.loads((tmp_path / "d" / "provenance.json").read_text())
    assert record["counts"] == {"train": 1, "validation": 0, "test": 0}
    assert (record["late"], record["last"]) == ("yes", 1)
    assert len(record["shards"]) == 1 and len(record["content_sha256"]) == 64
    assert {p.name for p in tmp_path.iterdir()} == {"d"}


def test_content_hash_depends_on_content_only(tmp_path, make_example, provenance):
    digests = []
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        record = dict(provenance)
        write_dataset(tmp_path / name, {"train": lambda n=number: [make_example(n)]}, record)
        digests.append(record["content_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_an_error_leaves_nothing(tmp_path, make_example, provenance):
    def examples():
        yield make_example(1)
        raise InputError("b.imzML", "spectrum 7", "is damaged")

    with pytest.raises(InputError, match=r"b\.imzML: spectrum 7: is damaged"):
        write_dataset(tmp_path / "d", {"train": examples}, provenance)
    with pytest.raises(InputError, match="would hold no example"):
        write_dataset(tmp_path / "d", {"train": list}, provenance)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_told(written, make_example, provenance):
    folder, _ = written
    examples = {"train": lambda: [make_example(5)]}
    with pytest.raises(InputError, match="is not empty"):
        write_dataset(folder, examples, provenance)
    assert len(read_split(folder, "train")) == 12
    write_dataset(folder, examples, provenance, overwrite=True)
    assert len(read_split(folder, "train")) == 1 and read_split(folder, "test") == []


def test_a_neighbour_s_build_is_left_alone(tmp_path, make_example, provenance):
    """`d` is built while `d.v2` is: the staging of one is not taken for the other's."""

    def examples():
        yield make_example(2)
        with work.work_folder(tmp_path / "d"):
            write_dataset(tmp_path / "d", {"train": lambda: [make_example(1)]}, provenance)
        yield make_example(3)

    with work.work_folder(tmp_path / "d.v2"):
        write_dataset(tmp_path / "d.v2", {"train": examples}, provenance)
    assert {path.name for path in tmp_path.iterdir()} == {"d", "d.v2"}
    assert len(read_split(tmp_path / "d.v2", "train")) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_damaged_shards_are_found(written, damage):
    folder, _ = written
    (shard,) = folder.glob("*-train.array_record*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        shard.unlink()
    else:
        shard.write_bytes({"flip": data, "cut": data[:-1], "empty": b""}[damage])
    with pytest.raises(InputError) as caught:
        read_split(folder, "train")
    assert shard.name in str(caught.value)
    assert len(read_split(folder, "test")) == 2


def test_a_lowered_count_is_found(written):
    folder, _ = written
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        if split["name"] == "train":
            split["shardLengths"] = ["11"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"dataset_info\.json: differs from its SHA-256"):
        read_split(folder, "train")
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="holds 11 examples of train"):
        read_split(folder, "train")


def test_class_names_are_not_imported(written, tmp_path, monkeypatch):
    folder, _ = written
    (tmp_path / "evilmod.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    features = json.loads((folder / "features.json").read_text())
    features["featuresDict"]["features"]["msi"]["pythonClassName"] = "evilmod.X"
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match=r'pythonClassName: "evilmod\.X" is not allowed'):
        read_split(folder, "train")
    assert "evilmod" not in sys.modules


def test_folders_that_are_no_data_set(tmp_path, written):
    folder, _ = written
    with pytest.raises(InputError, match="no such folder"):
        read_split(tmp_path / "absent", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no provenance\.json"):
        read_split(tmp_path / "empty", "train")
    with pytest.raises(InputError, match="is 'tests'"):
        read_split(folder, "tests")
    (folder / "provenance.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="format: is not"):
        read_split(folder, "train")
    (folder / "provenance.json").write_text('{"format": "msi2he_jax pairs 1"}')
    with pytest.raises(InputError, match=r"provenance\.json: axis: is missing"):
        read_split(folder, "train")
