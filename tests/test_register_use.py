"""What a registration is put to: pictures in the other frame, spectra of regions, --apply."""

import csv
import html
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from msi2he_jax import register, simulate
from msi2he_jax.interop.ome_tiff import read_ome_tiff
from msi2he_jax.registration import export, transforms
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks, write_landmarks

SLIDE_UM, MSI_UM = 12.5, 50.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two patients, whose true transforms bend."""
    place = tmp_path_factory.mktemp("use") / "cohort"
    flags = ["--sections=2", "--sections-per-patient=1", "--grid=32", "--seed=3"]
    assert simulate.main([f"--out={place}", *flags, f"--histology-um-per-px={SLIDE_UM}"]) == 0
    return place


@pytest.fixture(scope="module")
def name(cohort):
    with open(cohort / "manifest.csv") as file:
        return next(csv.DictReader(file))["sample_id"]


def _square(center_xy_px, half_px):
    x, y = center_xy_px
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return [[x + half_px * a, y + half_px * b] for a, b in corners]


@pytest.fixture(scope="module")
def annotations(cohort, name, tmp_path_factory):
    """A core, its rim, and an area off the tissue, in pixels of the slide."""
    points = read_landmarks(cohort / "landmarks" / f"{name}.csv").histology_yx_um
    middle = points.mean(axis=0)[::-1] / SLIDE_UM
    rings = [
        [_square(middle, 25)],
        [_square(middle, 40), _square(middle, 25)],
        [_square((-900, 0), 9)],
    ]
    names = [("core", "Tumor"), (None, "Stroma"), ("far", None)]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": coordinates},
            "properties": {"name": said, "classification": {"name": label} if label else None},
        }
        for coordinates, (said, label) in zip(rings, names)
    ]
    path = tmp_path_factory.mktemp("annotations") / f"{name}.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _register(cohort, *flags):
    return register.main([f"--manifest={cohort / 'manifest.csv'}", "--moving=pca", *flags])


@pytest.fixture(scope="module")
def given(cohort, name, annotations, tmp_path_factory):
    """The folder of one section, placed by the truth."""
    out = tmp_path_factory.mktemp("given") / "out"
    flags = ["--method=given", f"--init={cohort / 'truth'}", f"--annotations={annotations}"]
    flags += ["--ions=885.55,281.25", "--ion_ppm=50", f"--samples={name}"]
    assert _register(cohort, *flags, f"--out={out}") == 0
    return out / name


def test_a_given_transform_is_taken_as_it_is(cohort, given, name):
    found, truth = (
        export.read_transform(p / "transform.json") for p in (given, cohort / "truth" / name)
    )
    np.testing.assert_array_equal(found.transform.matrix, truth.transform.matrix)
    fields = (each.transform.displacement.disp_um for each in (found, truth))
    np.testing.assert_array_equal(*fields)
    assert found.grids["msi"].um_per_px == (MSI_UM, MSI_UM)
    assert found.scores["truth_tre_median_um"] == pytest.approx(0, abs=1e-6)
    assert (given / "msi_to_histology.mha").is_file()


def test_the_slide_lies_on_the_msi(cohort, given, name):
    """Each pixel drawn shows what the slide shows where the truth says that it lies."""
    drawn = read_ome_tiff(given / "histology_on_msi.ome.tiff")
    assert drawn.um_per_px == pytest.approx((SLIDE_UM, SLIDE_UM))
    truth = export.read_transform(given / "transform.json").transform
    where = transforms.pixel_centers(drawn.levels[0].shape[:2], SLIDE_UM)
    there = truth(where) / SLIDE_UM
    pixels = np.asarray(Image.open(cohort / "histology" / f"{name}.png").convert("RGB")).astype(int)
    inside = np.all((there > 1) & (there < np.array(pixels.shape[:2]) - 1), axis=-1)
    nearest = pixels[tuple(np.floor(there[inside]).astype(int).T)]
    assert np.abs(drawn.levels[0][inside].astype(int) - nearest).mean() < 6
    assert np.abs(255 - nearest).mean() > 20


def test_ions_lie_on_the_slide(given):
    ions = read_ome_tiff(given / "ions_on_histology.ome.tiff")
    assert ions.channel_names == ("m/z 885.5500", "m/z 281.2500")
    grid = export.read_transform(given / "transform.json").grids["histology"]
    assert ions.levels[0].shape == (*grid.shape, 2)
    assert ions.levels[0].dtype == np.float32 and ions.levels[0].max(axis=(0, 1)).min() > 0


def test_regions_have_their_spectra(given):
    with open(given / "regions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["region"], row["class"]) for row in rows] == [
        ("core", "Tumor"),
        ("region 2", "Stroma"),
        ("far", ""),
    ]
    masks = read_ome_tiff(given / "regions_on_msi.ome.tiff")
    assert masks.channel_names == ("core", "region 2", "far")
    assert masks.um_per_px == pytest.approx((MSI_UM, MSI_UM))
    counts = (masks.levels[0] == 255).sum(axis=(0, 1))
    assert [int(row["pixels"]) for row in rows] == counts.tolist()
    # the core is 50 x 50 slide pixels: 625 um a side, some 156 MSI pixels, however it is turned
    assert counts[0] == pytest.approx(156, rel=0.15) and counts[2] == 0
    assert float(rows[0]["area_mm2"]) == pytest.approx(counts[0] * 0.0025)
    assert not np.any(np.all(masks.levels[0] == 255, axis=-1))
    peaks = [column for column in rows[0] if column.startswith("m/z ")]
    assert len(peaks) > 5 and rows[2][peaks[0]] == ""
    core, rim = (np.array([float(row[peak]) for peak in peaks]) for row in rows[:2])
    assert core.min() >= 0 and 0 < core.sum() <= 1.001 and not np.allclose(core, rim, rtol=0.1)


def test_apply_moves_points_to_where_the_truth_has_them(cohort, given, name, tmp_path):
    landmarks = cohort / "landmarks" / f"{name}.csv"
    out = tmp_path / "p.csv"
    flags = [f"--apply={given}", f"--input={landmarks}", f"--out={out}"]
    assert register.main([*flags, "--to=histology"]) == 0
    points = read_landmarks(landmarks)
    held_out = points.use == "eval"
    moved = np.loadtxt(out, delimiter=",", skiprows=1, usecols=(3, 2))
    np.testing.assert_allclose(moved[held_out], points.histology_yx_um[held_out], atol=1e-2)
    assert register.main([*flags, "--to=msi", "--overwrite"]) == 0
    moved = np.loadtxt(out, delimiter=",", skiprows=1, usecols=(3, 2))
    np.testing.assert_allclose(moved[held_out], points.msi_yx_um[held_out], atol=1e-2)


def test_apply_says_the_size_first(given, cohort, name, tmp_path, capsys):
    slide = cohort / "histology" / f"{name}.png"
    flags = [f"--apply={given / 'msi_to_histology.tfm'}", f"--input={slide}", "--to=msi"]
    flags += [f"--input_um_per_px={SLIDE_UM}", f"--out={tmp_path / 'a.ome.tif'}"]
    assert register.main([*flags, "--out_um_per_px=25"]) == 0
    shape = read_ome_tiff(tmp_path / "a.ome.tif").levels[0].shape
    printed = capsys.readouterr().out
    size, origin = f"{shape[0]} x {shape[1]} px", "the outer corner of the MSI's pixel of least x"
    assert f"drawing {size} at 25 um" in printed
    assert f"drawn in the frame of the msi: {size} of 25 um, from {origin} and y" in printed
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert f"In the frame of the msi: begins at {origin}" in html.unescape(tiff.ome_metadata)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to=msi", "--out=o.csv"], "--input: is required"),
        (["--input=a.csv", "--out=o.csv"], "--to: is required"),
        (["--input=a.csv", "--to=msi", "--out=o.csv"], "a.csv: points: no such file"),
        (["--input=a.doc", "--to=msi", "--out=o.png"], "this kind of file is not read"),
        (["--input=a.png", "--to=msi", "--out=o.jpg"], "must end in .ome.tif"),
        (["--input=a.png", "--to=msi", "--out=o.png", "--input_um_per_px=-1"], "--input_um_per_px"),
        (["--input=b.png", "--to=msi", "--out=o.png"], "size (pass --input_um_per_px, in um)"),
    ],
)
def test_mistakes_with_apply_are_one_line(given, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.doc").write_bytes(bytes(200))
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    assert register.main([f"--apply={given}", *flags]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--method=given"], "--init: is required with --method=given"),
        (["--method=control-points", "--init=a.tfm"], "--init: goes with"),
        (["--method=given", "--init=a.tfm", "--deformable"], "--deformable: does not go with"),
        (["--deformable", "--stiffness=0"], "--stiffness"),
        (["--init=a.tfm"], "is one file for 2 sections"),
        (["--init=a.tfm", "--samples=p00_s0"], "a.tfm: transform: no such file"),
        (["--init=.", "--samples=p00_s0"], "holds nothing for p00_s0"),
        (["--annotations=a.geojson"], "is one file for 2 sections"),
        (["--ions=885.55,x"], "--ions: 'x' is no m/z"),
        (["--input=a.png"], "--input: goes with --apply"),
        (["--out_um_per_px=0"], "--out_um_per_px"),
    ],
)
def test_mistakes_are_one_line(cohort, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert _register(cohort, "--out=o", *flags) == 2
    message = capsys.readouterr().err.strip()
    assert said in message and len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def spoilt(cohort, tmp_path):
    """A manifest of both sections, the second one's landmarks as the test wants them."""
    with open(cohort / "manifest.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {key: str(cohort / row[key]) for key in ("imzml", "histology", "landmarks")}

    def write(change):
        points = read_landmarks(rows[1]["landmarks"])
        write_landmarks(tmp_path / "l.csv", change(points))
        changed = [rows[0], rows[1] | {"landmarks": str(tmp_path / "l.csv")}]
        with open(tmp_path / "manifest.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(changed)
        return tmp_path

    return write


def _replaced(points, keep=slice(None), **changes):
    parts = {"msi_yx_um": points.msi_yx_um, "histology_yx_um": points.histology_yx_um} | changes
    return Landmarks(
        points.name[keep],
        np.full(len(points), "fit")[keep],
        parts["msi_yx_um"][keep],
        parts["histology_yx_um"][keep],
    )


CHANGES = {
    "2 given, at least 3 are needed": lambda p: _replaced(p, slice(2)),
    "lie on one line": lambda p: _replaced(p, msi_yx_um=np.outer(np.arange(len(p)), (9.0, 4.0))),
    "is one in pixels or mm?": lambda p: _replaced(p, msi_yx_um=p.msi_yx_um / 50),
}


@pytest.mark.parametrize("said", list(CHANGES))
def test_landmarks_that_make_no_sense_end_it_or_are_skipped(spoilt, capsys, said):
    place = spoilt(CHANGES[said])
    flags = ["--method=control-points", "--on_error=skip", f"--out={place / 'o'}"]
    assert _register(place, *flags[::2]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message and "l.csv" in message and len(message.splitlines()) == 1
    assert not (place / "o").exists()
    assert _register(place, *flags) == 0
    out = capsys.readouterr().out
    summary = json.loads((place / "o" / "summary.json").read_text())
    assert [row["sample_id"] for row in summary["samples"]] == ["p00_s0"]
    assert summary["skipped"][0]["sample_id"] == "p01_s0"
    assert said in summary["skipped"][0]["why"]
    assert "skipped, see summary.json: p01_s0" in out
    assert "p00_s0: affine control points: leave-one-out error median" in out
    assert sorted(p.name for p in (place / "o").iterdir()) == [
        "p00_s0",
        "summary.csv",
        "summary.json",
    ]


def test_nothing_left_is_an_error_even_when_skipping(cohort, tmp_path, capsys):
    flags = ["--on_error=skip", "--ions=5000", f"--out={tmp_path / 'o'}", "--samples=p00_s0"]
    flags += ["--method=control-points"]
    assert _register(cohort, *flags) == 2
    assert "m/z 5000 is outside the file's" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_search_can_start_from_landmarks(cohort, name, tmp_path):
    flags = [f"--init={cohort / 'landmarks'}", f"--samples={name}", f"--out={tmp_path / 'o'}"]
    assert _register(cohort, *flags) == 0
    row = json.loads((tmp_path / "o" / "summary.json").read_text())["samples"][0]
    assert row["truth_tre_median_msi_px"] < 1.0 and row["method"] == "automatic"


@pytest.mark.slow
def test_a_section_is_bent_beyond_its_affine(cohort, name, tmp_path):
    """The true warp is not affine: bending comes closer than the best affine, and folds nowhere."""
    flags = ["--method=control-points", "--deformable", f"--samples={name}"]
    assert _register(cohort, *flags, f"--out={tmp_path / 'o'}") == 0
    row = json.loads((tmp_path / "o" / "summary.json").read_text())["samples"][0]
    assert row["det_min"] > 0 and row["inverse_consistency_um"] < 0.2 * MSI_UM
    found = export.read_transform(tmp_path / "o" / name / "transform.json").transform
    assert (found.displacement is None) == row["kept_affine"]
    points = read_landmarks(cohort / "landmarks" / f"{name}.csv").select("eval")
    moved = found(points.msi_yx_um)
    errors = np.linalg.norm(moved - points.histology_yx_um, axis=1)
    assert row["tre_median_um"] == pytest.approx(np.median(errors))
    assert np.median(errors) < MSI_UM
