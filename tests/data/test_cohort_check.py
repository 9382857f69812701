"""What doctor says of a manifest: all that preprocess would, of every row, in one run."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pyimzml.ImzMLWriter import ImzMLWriter

from msi2he_jax import preprocess
from msi2he_jax.data import cohort_check
from msi2he_jax.data.cohort_check import check_cohort
from msi2he_jax.data.copies import content_keys
from msi2he_jax.errors import InputError


@pytest.fixture
def change(cohort, tmp_path):
    """Writes the cohort's manifest with changed cells: change({sample_id: {column: cell}})."""
    with open(cohort) as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row.update({c: str(cohort.parent / row[c]) for c in ("imzml", "histology", "landmarks")})

    def write(changes=(), keep=6):
        path, known = tmp_path / "manifest.csv", dict(changes)
        with open(path, "w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows(row | known.get(row["sample_id"], {}) for row in rows[:keep])
        return path

    return write


def _by_name(found):
    return {row.sample_id: row for row in found.rows}


def _refused(path, out, capsys):
    """What preprocess says, without the name of the file it concerns."""
    assert preprocess.main([f"--manifest={path}", f"--out={out}", "--peaks=5"]) == 2
    return capsys.readouterr().err.strip().removeprefix("error: ")


def test_a_sound_cohort_has_no_fault(change):
    found = check_cohort(change())
    assert [row.state for row in found.rows].count("fault") == 0 and not found.faults
    first = found.rows[0]
    assert (first.sample_id, first.line, first.group_id) == ("p00_s0", 2, "p00")
    assert (first.msi_um_per_px, first.histology_um_per_px) == ([50.0, 50.0], 12.5)
    assert (first.spectra, first.fit, first.eval) == ("profile, negative", 8, 8)
    assert 100 < first.pixels < 24 * 24 and first.mz_range[0] < first.mz_range[1]
    assert {row.split for row in found.rows} == {"train", "validation", "test"}


def test_faults_of_a_row_do_not_hide_the_others(change, cohort, tmp_path):
    """Damage, absence and nonsense in five rows; each is named, and what is sound is still read."""
    (tmp_path / "no_slide.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    damaged = tmp_path / "damaged.imzML"
    shutil.copy(cohort.parent / "imzml/p01_s0.imzML", damaged)
    (tmp_path / "damaged.ibd").write_bytes(
        (cohort.parent / "imzml/p01_s0.ibd").read_bytes()[:-4000]
    )
    (tmp_path / "two.csv").write_text(
        "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\na,fit,1,2,3,4\nb,fit,5,6,7,9\n"
    )
    path = change(
        {
            "p00_s0": {"histology": "no_slide.png"},
            "p00_s1": {"landmarks": "absent.csv", "histology_um_per_px": ""},
            "p01_s0": {"imzml": "damaged.imzML", "landmarks": "two.csv"},
            "p01_s1": {"msi_roi": "0,0,99,99"},
            "p02_s0": {"histology_um_per_px": "0,5"},
        }
    )
    rows = _by_name(check_cohort(path))
    assert [row.state for row in rows.values()][:5] == ["fault"] * 5
    assert len(rows["p00_s0"].faults) == 1 and "no_slide.png" in rows["p00_s0"].faults[0]
    assert rows["p00_s0"].fit == 8 and rows["p00_s0"].mz_range
    absent, size = rows["p00_s1"].faults
    assert "1 not found: absent.csv (line 3)" in absent and "pixel size" in size
    assert rows["p00_s1"].histology_um_per_px is None and rows["p00_s1"].pixels
    points, ibd = rows["p01_s0"].faults
    assert "2 given, at least 3 are needed" in points and "damaged.i" in ibd
    assert (rows["p01_s0"].fit, rows["p01_s0"].eval, rows["p01_s0"].mz_range) == (2, 0, None)
    assert "is not inside" in rows["p01_s1"].faults[0]
    assert "decimal points" in rows["p02_s0"].faults[0] and rows["p02_s0"].group_id is None
    assert rows["p02_s1"].state != "fault"


@pytest.mark.parametrize(
    "changes",
    [
        {"p00_s0": {"histology_um_per_px": ""}},
        {"p00_s0": {"msi_um_per_px": "50000"}},
        {"p00_s0": {"histology_roi": "0,0,3000,3000"}},
        {"p00_s0": {"histology_roi": "0,0,8,8", "histology_um_per_px": "12.5"}},
    ],
)
def test_the_words_are_those_of_preprocess(change, tmp_path, capsys, changes):
    path = change(changes, keep=1)
    (row,) = check_cohort(path).rows
    said = _refused(path, tmp_path / "out", capsys)
    assert said in row.faults


def test_the_warnings_are_those_of_preprocess(change, tmp_path):
    odd = {
        "p00_s0": {"msi_um_per_px": "45"},
        "p00_s1": {"msi_um_per_px": "16", "msi_roi": "1,2,14,15"},
    }
    path, out = change(odd, keep=2), tmp_path / "out"
    found = check_cohort(path)
    assert preprocess.main([f"--manifest={path}", f"--out={out}", "--peaks=5"]) == 0
    record = json.loads((out / "provenance.json").read_text())
    said = {each["sample_id"]: each["warnings"] for each in record["samples"]}
    assert {row.sample_id: sorted(row.warnings) for row in found.rows} == {
        name: sorted(each) for name, each in said.items()
    }
    assert all(said.values()) and set(record["warnings"]) <= set(found.warnings)


def _parted(rows):
    return {name: {"group_id": name, "split": split} for name, split in rows.items()}


def test_copies_under_other_names_are_found_without_reading_all(
    change, cohort, tmp_path, capsys, monkeypatch
):
    for suffix in (".imzML", ".ibd"):
        shutil.copy(cohort.parent / f"imzml/p00_s0{suffix}", tmp_path / f"copy{suffix}")
    splits = _parted({"p00_s0": "train", "p00_s1": "test"})
    path = change(splits | {"p00_s1": splits["p00_s1"] | {"imzml": "copy.imzML"}}, keep=2)
    hashed = []
    whole = cohort_check.content_keys.__globals__["sha256"]
    monkeypatch.setattr(
        "msi2he_jax.data.copies.sha256", lambda each: hashed.append(each.name) or whole(each)
    )
    found = check_cohort(path)
    assert sorted(hashed) == ["copy.ibd", "p00_s0.ibd"]
    said = _refused(path, tmp_path / "out", capsys)
    assert "hold the same spectra" in said and said in found.faults


def test_the_train_split_may_not_be_empty(change, tmp_path, capsys):
    path = change(_parted({"p00_s0": "test", "p00_s1": "test"}), keep=2)
    assert "the train split is empty" in check_cohort(path).faults[0]
    assert _refused(path, tmp_path / "out", capsys) in check_cohort(path).faults


def test_a_patient_in_two_splits_is_a_fault(change):
    path = change({"p00_s0": {"split": "train"}, "p00_s1": {"split": "test"}}, keep=2)
    found = check_cohort(path)
    assert "share a patient or measured area" in found.faults[0]
    assert [row.split for row in found.rows] == [None, None]


def test_mixtures_are_faults_even_where_no_pixel_size_is_known(change, tmp_path):
    """The sizes are one fault a row, the ranges that do not meet one of the cohort."""
    for name, low in (("low", 500.0), ("high", 4000.0)):
        with ImzMLWriter(str(tmp_path / f"{name}.imzML"), spec_type="centroid") as writer:
            for x in range(1, 5):
                writer.addSpectrum(low + np.arange(30.0), np.ones(30), (x, 1, 1))
    rows = {"p00_s0": "low.imzML", "p00_s1": "high.imzML"}
    path = change({n: {"imzml": f, "msi_um_per_px": ""} for n, f in rows.items()}, keep=2)
    found = check_cohort(path)
    assert any("m/z ranges do not overlap" in said for said in found.faults)
    assert all(any("pixel size" in said for said in row.faults) for row in found.rows)
    assert [row.msi_um_per_px for row in found.rows] == [None, None]


def test_landmarks_that_lie_elsewhere_and_none_at_all(change, cohort, tmp_path):
    moved = (cohort.parent / "landmarks/p00_s0.csv").read_text().splitlines()
    cells = [line.split(",") for line in moved[1:]]
    far = [",".join([*c[:2], str(float(c[2]) + 1e5), *c[3:]]) for c in cells]
    (tmp_path / "far.csv").write_text("\n".join([moved[0], *far]))
    path = change({"p00_s0": {"landmarks": "far.csv"}, "p00_s1": {"landmarks": ""}}, keep=3)
    found = check_cohort(path)
    assert "place the MSI of p00_s0 outside its slide" in found.rows[0].faults[0]
    assert found.rows[1].fit is None and not found.rows[1].faults
    assert "no landmarks for p00_s1: they cannot be training pairs" in found.warnings


def test_a_slide_without_tissue_and_a_whole_reading(change, cohort, tmp_path):
    Image.fromarray(np.full((200, 200, 3), 245, np.uint8)).save(tmp_path / "glass.png")
    ibd = bytearray((cohort.parent / "imzml/p00_s1.ibd").read_bytes())
    ibd[-1] ^= 1
    (tmp_path / "changed.ibd").write_bytes(ibd)
    shutil.copy(cohort.parent / "imzml/p00_s1.imzML", tmp_path / "changed.imzML")
    rows = {"p00_s0": {"histology": "glass.png"}, "p00_s1": {"imzml": "changed.imzML"}}
    path = change(rows, keep=2)
    found = check_cohort(path)
    assert any("no stained tissue" in said for said in found.rows[0].faults)
    assert not found.rows[1].faults
    (said,) = check_cohort(path, checksum=True).rows[1].faults
    assert "the file is damaged" in said


def test_a_table_that_cannot_be_read_is_one_error(tmp_path):
    (tmp_path / "m.csv").write_text("sample_id,imzml\na,b\n")
    with pytest.raises(InputError, match="lacks histology"):
        check_cohort(tmp_path / "m.csv")


def test_files_are_told_apart_by_size_pieces_and_content(tmp_path):
    big = bytearray(np.random.default_rng(0).bytes(1 << 20))
    contents = {"a": big, "b": big, "c": big[:-1], "d": big.copy(), "e": big.copy()}
    contents["d"][0] ^= 1  # In a piece that is looked at.
    contents["e"][100_000] ^= 1  # Between two of them.
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    keys = content_keys([tmp_path / name for name in contents])
    assert keys[tmp_path / "a"] == keys[tmp_path / "b"]
    assert len(set(keys.values())) == 4


def test_states():
    row = cohort_check.CheckedRow("s", 2)
    assert row.state == "ok"
    assert dataclasses.replace(row, warnings=["x"]).state == "warning"
    assert dataclasses.replace(row, warnings=["x"], faults=["y"]).state == "fault"
