"""The verb, through its files: read back independently of the code that wrote them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pyimzml.ImzMLParser import ImzMLParser

from msi2he_jax import locking, simulate

SMALL = ["--sections=3", "--grid=24", "--histology-um-per-px=12.5"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulate") / "cohort"
    assert simulate.main([f"--out={out}", *SMALL]) == 0
    return out


def _rows(cohort):
    with open(cohort / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def _files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_manifest_names_files_that_exist(cohort):
    rows = _rows(cohort)
    assert [row["sample_id"] for row in rows] == ["p00_s0", "p00_s1", "p01_s0"]
    assert [row["group_id"] for row in rows] == ["p00", "p00", "p01"]
    assert list(rows[0]) == [
        *("sample_id", "group_id", "imzml", "msi_roi", "histology", "histology_roi"),
        *("histology_um_per_px", "msi_um_per_px", "msi_um_per_px_y", "section"),
        *("landmarks", "split", "view"),
    ]
    for row in rows:
        assert row["section"] == "same" and row["split"] == row["view"] == ""
        assert row["histology_um_per_px"] == "12.5" and row["msi_um_per_px"] == "50"
        for column in ("imzml", "histology", "landmarks"):
            assert (cohort / row[column]).is_file()


def _truth_map(folder, xy):
    """transform.json as DESIGN defines it: (x, y, 1) um, plus a bilinear field."""
    from scipy.interpolate import RegularGridInterpolator

    transform = json.loads((folder / "transform.json").read_text())
    assert transform["from"] == "msi" and transform["axes"] == "xy"
    with np.load(folder / transform["displacement"]) as field:
        assert field["disp_um"].shape == (len(field["y_um"]), len(field["x_um"]), 2)
        bend = RegularGridInterpolator((field["y_um"], field["x_um"]), field["disp_um"])
    matrix = np.array(transform["matrix"])
    return xy @ matrix[:2, :2].T + matrix[:2, 2] + bend(xy[:, ::-1])


def test_truth_maps_landmarks_as_the_files_say(cohort):
    for row in _rows(cohort):
        with open(cohort / row["landmarks"], newline="") as file:
            points = [p for p in csv.DictReader(file) if p["use"] == "eval"]
        assert len(points) == 8
        msi = np.array([[float(p["msi_x_um"]), float(p["msi_y_um"])] for p in points])
        slide = np.array([[float(p["histology_x_um"]), float(p["histology_y_um"])] for p in points])
        # The CSV holds 0.1 nm.
        assert np.abs(_truth_map(cohort / "truth" / row["sample_id"], msi) - slide).max() < 1e-3


def test_positions_start_at_the_first_measured_pixel(cohort):
    """Where pyimzML says a pixel lies, the truth finds the tissue that its ions come from."""
    for row in _rows(cohort):
        with ImzMLParser(str(cohort / row["imzml"])) as parser:
            xy = np.array(parser.coordinates)[:, :2]
            seen = np.array([_lipid_signal(*parser.getspectrum(i)) for i in range(len(xy))])
        assert (xy.min(axis=0) > 1).any()
        centers_um = (xy - xy.min(axis=0) + 0.5) * 50.0
        landed = _truth_map(cohort / "truth" / row["sample_id"], centers_um) / 12.5
        labels = np.array(Image.open(cohort / "truth" / row["sample_id"] / "compartments.png"))
        index = np.clip(np.floor(landed).astype(int), 0, np.array(labels.shape)[::-1] - 1)
        tissue = labels[index[:, 1], index[:, 0]] > 0
        seen = seen > np.sort(seen)[-tissue.sum()]
        assert 2 * (tissue & seen).sum() / (tissue.sum() + seen.sum()) > 0.85


def _lipid_signal(mz, intensity):
    return np.log1p(intensity[mz > 500].sum())


def test_same_seed_same_bytes_other_seed_others(cohort, tmp_path):
    assert simulate.main([f"--out={tmp_path / 'again'}", *SMALL]) == 0
    assert _files(tmp_path / "again") == _files(cohort)
    assert simulate.main([f"--out={tmp_path / 'other'}", *SMALL, "--seed=1"]) == 0
    other, first = _files(tmp_path / "other"), _files(cohort)
    assert not any(other[name] == first[name] for name in first if name.suffix in {".ibd", ".png"})


def test_hardness_is_applied_and_recorded(cohort, tmp_path):
    assert simulate.main([f"--out={tmp_path / 'none'}", *SMALL, "--hardness=none"]) == 0
    assert _files(tmp_path / "none") == _files(cohort)
    flags = ["--hardness=hard,crop=0,two_pieces=0", "--seed=4"]
    assert simulate.main([f"--out={tmp_path / 'hard'}", *SMALL, *flags]) == 0
    facts = json.loads((tmp_path / "hard/cohort.json").read_text())
    assert facts["parameters"]["hardness"]["warp"] == 0.5
    levels = [section["hardness"] for section in facts["sections"].values()]
    assert all(0.25 <= level["warp"] <= 0.5 and "crop" not in level for level in levels)
    assert len({level["warp"] for level in levels}) == 3
    assert {"salt", "coating"} <= {ion["family"] for ion in facts["ions"]}
    row = _rows(tmp_path / "hard")[0]
    with ImzMLParser(str(tmp_path / "hard" / row["imzml"])) as parser:
        assert len(parser.coordinates) == facts["sections"][row["sample_id"]]["spectra"]


def test_cohort_says_what_it_is(cohort):
    facts = json.loads((cohort / "cohort.json").read_text())
    assert facts["simulated"] is True and "no measurement" in facts["words"]
    assert facts["parameters"]["seed"] == 0
    assert set(facts["sections"]) == {"p00_s0", "p00_s1", "p01_s0"}
    assert [s["truth"]["mirrored"] for s in facts["sections"].values()].count(True) == 1
    assert {"numpy", "scipy", "msi2he_jax"} <= set(facts["versions"])
    assert str(cohort) not in (cohort / "cohort.json").read_text()


def test_centroid_ome_tiff_and_two_pixel_sizes(tmp_path):
    import tifffile

    out = tmp_path / "cohort"
    more = ["--spectra=centroid", "--format=ome.tiff", "--msi-um-per-px-y=75", "--warp-um=0"]
    assert simulate.main([f"--out={out}", "--sections=1", "--grid=24", *more]) == 0
    row = _rows(out)[0]
    assert row["msi_um_per_px_y"] == "75"
    with ImzMLParser(str(out / row["imzml"])) as parser:
        assert parser.spectrum_mode == "centroid" and parser.imzmldict["pixel size y"] == 75.0
    with tifffile.TiffFile(out / row["histology"]) as tiff:
        assert 'PhysicalSizeX="6.25"' in tiff.ome_metadata
        assert tiff.asarray().dtype == np.uint8
    transform = json.loads((out / "truth" / "p00_s0" / "transform.json").read_text())
    assert transform["displacement"] is None
    assert not (out / "truth" / "p00_s0" / "displacement.npz").exists()


def test_over_real_pictures(cohort, tmp_path):
    out = tmp_path / "over"
    flags = [f"--histology-dir={cohort / 'histology'}", "--sections=2", "--grid=16"]
    assert simulate.main([f"--out={out}", "--histology-um-per-px=12.5", *flags]) == 0
    facts = json.loads((out / "cohort.json").read_text())
    assert facts["simulated"] is True and "real H&E" in facts["words"]
    assert {s["source"] for s in facts["sections"].values()} == {"p00_s0.png", "p00_s1.png"}


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--sections=0"], "--sections"),
        (["--grid=4"], "--grid"),
        (["--grid=4000"], "million pixels"),
        (["--msi-um-per-px-y=1000"], "no room"),
        (["--warp-um=5000"], "--warp-um"),
        (["--histology-dir=absent"], "no such folder"),
        (["--histology-dir=."], "no image"),
        (["--spectra=both"], "spectra"),
        (["--hardness=hrad"], "did you mean hard?"),
        (["--hardness=pen=2"], "not a level in [0, 1]"),
        (["extra"], "extra"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(argv, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert simulate.main([f"--out={tmp_path / 'x'}", *argv]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and word in error
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_kept_unless_overwritten(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    tiny = ["--sections=1", "--grid=16", "--histology-um-per-px=12.5"]
    assert simulate.main([f"--out={tmp_path}", *tiny]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"
    out = tmp_path / "cohort"
    assert simulate.main([f"--out={out}", *tiny]) == 0
    assert simulate.main([f"--out={out}", *tiny, "--overwrite"]) == 0
    assert (out / "manifest.csv").is_file()


def test_a_second_one_is_refused(tmp_path, capsys):
    with locking.held(tmp_path / "out", "simulate"):
        assert simulate.main([f"--out={tmp_path / 'out'}", *SMALL]) == 2
    assert "another simulate is at work there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
