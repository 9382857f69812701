"""The preprocess verb: on simulated and on real files, in both presets, and on what is wrong."""

import json

import numpy as np
import pytest

from msi2he_jax import locking, preprocess, simulate
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.msi_arrays import msi_arrays
from msi2he_jax.data.provenance import read_provenance
from msi2he_jax.msi.images import apply_scale
from msi2he_jax.msi.imzml import open_imzml

HEADER = "sample_id,group_id,imzml,histology,histology_um_per_px,msi_um_per_px,landmarks,split"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=4", "--grid=16", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5"]) == 0
    return folder / "manifest.csv"


def _run(manifest, out, *flags):
    return preprocess.main([f"--manifest={manifest}", f"--out={out}", *flags])


def _record(out):
    return json.loads((out / "provenance.json").read_text())


def test_same_input_same_content_with_any_number_of_workers(manifest, tmp_path):
    assert _run(manifest, tmp_path / "a", "--peaks=8") == 0
    assert _run(manifest, tmp_path / "b", "--peaks=8", "--workers=2") == 0
    a, b = _record(tmp_path / "a"), _record(tmp_path / "b")
    assert a.pop("shards") and b.pop("shards")
    assert a == b
    assert a["simulated"] is True and a["recipe"]["preset"] == "recommended"
    assert len(a["peaks"]["mz"]) == len(a["scaling"]["scale"]) == 8


def test_provenance_lists_samples_in_the_manifests_order(manifest, tmp_path):
    """Whatever split each is of: here the first row is of the last split that is made."""
    header, *rows = manifest.read_text().splitlines()
    names = header.split(",")
    lines = [header]
    for row, split in zip(rows, ("test", "train", "validation", "train"), strict=True):
        cells = row.split(",")
        cells[names.index("split")] = split
        cells[names.index("group_id")] = cells[names.index("sample_id")]
        lines.append(",".join(cells))
    path = manifest.parent / "ordered.csv"
    path.write_text("\n".join(lines))
    assert _run(path, tmp_path / "a", "--peaks=8") == 0
    listed = [sample["sample_id"] for sample in _record(tmp_path / "a")["samples"]]
    assert listed == [row.split(",")[names.index("sample_id")] for row in rows]


def test_summary(manifest, tmp_path, capsys):
    assert _run(manifest, tmp_path / "a", "--peaks=8") == 0
    printed = capsys.readouterr().out
    assert "8 peaks" in printed and "25 um/px" in printed and "leave-one-out" in printed


def test_one_patient_cannot_be_split(manifest, tmp_path, capsys):
    header, *rows = manifest.read_text().splitlines()
    column, group = header.split(",").index("split"), header.split(",").index("group_id")
    lines = [header]
    for cells in (row.split(",") for row in rows):
        cells[column], cells[group] = "", "one"
        lines.append(",".join(cells))
    path = manifest.parent / "one.csv"
    path.write_text("\n".join(lines))
    assert _run(path, tmp_path / "a", "--peaks=8") == 0
    assert "warning: nothing for validation and test" in capsys.readouterr().err


def test_paper_preset(manifest, tmp_path, capsys):
    assert _run(manifest, tmp_path / "a", "--preset=paper", "--padding=black", "--peaks=8") == 0
    record = _record(tmp_path / "a")
    assert (record["axis"]["kind"], record["axis"]["step"]) == ("fixed_da", 0.01)
    assert record["rebin"]["method"] is None and record["normalization"] == "none"
    # Centroids are summed: interpolated, windows would reach from peak to peak, 4 % of the m/z.
    peaks = {name: np.array(record["peaks"][name]) for name in ("mz", "lower", "upper")}
    assert ((peaks["upper"] - peaks["lower"]) / peaks["mz"]).max() < 1e-3
    assert record["pad_value"] == 0 and record["scaling"]["statistics"] == "all"
    arrays = load_arrays(tmp_path / "a", "train")
    assert max(arrays.msi.shape[1:3]) == 256
    assert "centroid spectra were summed into bins, not interpolated" in capsys.readouterr().err


def test_options(manifest, tmp_path):
    assert _run(manifest, tmp_path / "a", "--peaks=3") == 0
    tallest = _record(tmp_path / "a")["peaks"]["mz"]
    flags = [f"--exclude_mz={tallest[0]}", "--peaks=3", "--target_um_per_px=40", "--seed=4"]
    assert _run(manifest, tmp_path / "b", *flags, "--mz_min=150", "--mz_max=880.5") == 0
    record = _record(tmp_path / "b")
    assert tallest[0] not in np.round(record["peaks"]["mz"], 6)
    assert record["recipe"]["exclude_mz"] == pytest.approx([tallest[0]])
    assert record["axis"]["mz_min"] == 150 and record["grid"]["target_um_per_px"] == 40
    assert load_arrays(tmp_path / "b", "train").um_per_px[0] == 40


# Real files: no slide belongs to them, so one of another study stands in, with landmarks made up.


def _real_manifest(folder, sample_data, names, msi_um):
    folder_of_slides = sample_data / "he_rcc_pig_desi_study"
    slides = [folder_of_slides / f"rcc-{name}.png" for name in ("UH9812_03", "UH0505_12")]
    side = msi_um * (3 if "tiny" in names[0] else 96)
    corners = [(0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9), (0.5, 0.4)]
    lines = ["name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um"]
    lines += [
        f"p{i},{'eval' if i == 4 else 'fit'},{5500 * (1 - x) + 800},{4600 * y + 500},"
        f"{x * side},{y * side}"
        for i, (x, y) in enumerate(corners)
    ]
    (folder / "points.csv").write_text("\n".join(lines))
    rows = [
        f"s{i},p{i},{sample_data / name}.imzML,{slides[i]},10,{msi_um},points.csv,{split}"
        for i, (name, split) in enumerate(zip(names, ("train", "test")))
    ]
    path = folder / "manifest.csv"
    path.write_text("\n".join([HEADER, *rows]))
    return path


REAL = {
    "desi_lung": (
        ["desi_lung_mrm/lung_crop96_continuous", "desi_lung_mrm/lung_crop96_processed"],
        50,
        6,
    ),
    "maldi_brain": (["maldi_mouse_brain/brain_crop96_continuous"], 50, 3),
    "tiny": (["imzml_tiny/Example_Continuous", "imzml_tiny/Example_Processed"], 1600, 50),
}


@pytest.mark.parametrize("preset", ["recommended", "paper"])
@pytest.mark.parametrize("kind", REAL)
def test_real_files(sample_data, tmp_path, kind, preset):
    """Made into pairs; and the first one, taken as new, gives the training arrays again."""
    names, msi_um, peaks = REAL[kind]
    manifest = _real_manifest(tmp_path, sample_data, names, msi_um)
    out = tmp_path / "out"
    assert _run(manifest, out, f"--preset={preset}") == 0
    provenance = read_provenance(out)
    assert len(provenance["peaks"]["mz"]) == peaks and provenance["simulated"] is False
    assert provenance["counts"]["train"] == 1 and provenance["counts"]["test"] == len(names) - 1
    arrays = load_arrays(out, "train")
    assert arrays.msi.max() == 1 and (arrays.msi.max(axis=(0, 1, 2)) > 0).all()
    assert 0.05 < arrays.tissue_mask.mean() < 0.9
    sample = read_manifest(manifest)[0]
    new = msi_arrays(open_imzml(sample.imzml), provenance, um_per_px=sample.msi_um_per_px)
    scaling = provenance["scaling"]
    scaled = apply_scale(new.msi, np.array(scaling["scale"]), scaling["transform"])
    np.testing.assert_array_equal(arrays.msi[0], scaled)


def test_real_channels_keep_their_intensities(sample_data, tmp_path):
    """Each of the six MRM channels becomes one image, with the intensities the file holds."""
    names, msi_um, _ = REAL["desi_lung"]
    manifest = _real_manifest(tmp_path, sample_data, names, msi_um)
    assert _run(manifest, tmp_path / "out", "--target_um_per_px=50") == 0
    provenance = read_provenance(tmp_path / "out")
    assert provenance["spectra"]["discrete"] is True and provenance["normalization"] == "none"
    imzml = open_imzml(read_manifest(manifest)[0].imzml)
    found = msi_arrays(imzml, provenance, um_per_px=50).msi
    for index in (0, 4000, 9000):
        np.testing.assert_allclose(found[tuple(imzml.coordinates[index])], imzml.spectrum(index)[1])


def test_kinds_are_not_mixed_unless_forced(sample_data, tmp_path, capsys):
    names = ["desi_lung_mrm/lung_crop96_continuous", "maldi_mouse_brain/brain_crop96_continuous"]
    manifest = _real_manifest(tmp_path, sample_data, names, 50)
    assert _run(manifest, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "m/z ranges do not overlap" in message and "--force" in message
    assert len(message.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--manifest: is required"),
        (["--manifest=m.csv"], "--out: is required"),
        (["--manifest=absent.csv", "--out=o"], "absent.csv: manifest: no such file"),
        (
            ["--manifest=m.csv", "--out=o", "--peaks=0"],
            "--peaks: is 0, must be between 1 and 10000",
        ),
        (["--manifest=m.csv", "--out=o", "--target_um_per_px=-1"], "--target_um_per_px: is -1"),
        (["--manifest=m.csv", "--out=o", "--preset=papers"], "should be one of"),
        (["--manifest=m.csv", "--out=o", "--peeks=3"], "did you mean --peaks?"),
        (["--manifest=m.csv", "--out=o", "--exclude_mz=a,b"], "--exclude_mz: 'a,b' are not m/z"),
        (["--manifest=m.csv", "--out=o", "--mz_min=9", "--mz_max=9"], "--mz_min: is 9, not below"),
        (["--manifest=m.csv", "--out=o"], "m.csv: holds no samples"),
        (["--manifest=m.csv", "--out=full"], "full: is not empty"),
        (["m.csv"], "m.csv: is not a flag"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, flags, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    rows = "\n"
    if "--out=full" in flags:
        rows = "\ns,p,full/x,full/x,1,1,,\n"
    (tmp_path / "m.csv").write_text(HEADER + rows)
    before = sorted(tmp_path.rglob("*"))
    assert preprocess.main(flags) == 2
    message = capsys.readouterr().err
    assert expected in message and len(message.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_sample_stops_or_is_left_out(manifest, tmp_path, capsys):
    rows = manifest.read_text().splitlines()
    landmarks = rows[0].split(",").index("landmarks")
    cells = rows[1].split(",")
    cells[landmarks] = ""
    path = manifest.parent / "without.csv"
    path.write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]))
    assert _run(path, tmp_path / "a") == 2
    assert "landmarks: none are given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert _run(path, tmp_path / "a", "--on_error=skip", "--peaks=8") == 0
    record = _record(tmp_path / "a")
    assert [s["sample_id"] for s in record["skipped"]] == [cells[0]]
    assert sum(record["counts"].values()) == 3
    assert "left out" in capsys.readouterr().err


def test_a_second_one_is_refused(manifest, tmp_path, capsys):
    with locking.held(tmp_path / "out", "preprocess"):
        assert _run(manifest, tmp_path / "out") == 2
    assert "another preprocess is at work there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_odd_about_a_slide_is_said_by_every_verb(manifest, tmp_path, capsys):
    import tifffile
    from PIL import Image

    from msi2he_jax import doctor, register

    header, first, *rows = manifest.read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    slide = manifest.parent / "odd.tif"
    pixels = np.asarray(Image.open(manifest.parent / cells["histology"]))
    with tifffile.TiffWriter(slide) as file:
        for page in (pixels, np.zeros((5, 30, 3), np.uint8)):
            file.write(page, photometric="rgb", metadata=None)
    path = manifest.parent / "odd.csv"
    cells["histology"] = slide.name
    path.write_text("\n".join([header, ",".join(cells.values()), *rows]))
    said = "page 2 another image, 30 x 5 px: the first is taken as the slide"
    assert doctor.main([str(slide)]) == 0
    assert said in capsys.readouterr().err
    assert _run(path, tmp_path / "a", "--peaks=8") == 0
    assert f"warning: {cells['sample_id']}: the first page is" in capsys.readouterr().err
    flags = ["--moving=pca", "--method=control-points", f"--samples={cells['sample_id']}"]
    assert register.main([f"--manifest={path}", f"--out={tmp_path / 'r'}", *flags]) == 0
    assert said in capsys.readouterr().err


def test_a_slide_without_tissue_is_refused_as_register_does(manifest, tmp_path, capsys):
    from PIL import Image

    header, first, *rows = manifest.read_text().splitlines()
    cells = first.split(",")
    Image.new("RGB", (64, 64), (240, 240, 240)).save(manifest.parent / "glass.png")
    cells[header.split(",").index("histology")] = "glass.png"
    path = manifest.parent / "glass.csv"
    path.write_text("\n".join([header, ",".join(cells), *rows]))
    assert _run(path, tmp_path / "a", "--peaks=8") == 2
    message = capsys.readouterr().err
    assert "glass.png" in message and "no stained tissue is found" in message
    assert not (tmp_path / "a").exists()
    assert _run(path, tmp_path / "a", "--peaks=8", "--on_error=skip") == 0
    assert "left out" in capsys.readouterr().err


def test_what_is_odd_about_a_file_is_printed_once_and_kept(manifest, tmp_path, capsys):
    header, first, *rows = manifest.read_text().splitlines()
    path = manifest.parent / "odd.csv"
    cells, columns = first.split(","), header.split(",")
    cells[columns.index("msi_um_per_px")] = "55"
    path.write_text("\n".join([header, ",".join(cells), *rows]))
    assert _run(path, tmp_path / "a", "--peaks=5") == 0
    name = cells[columns.index("sample_id")]
    said = "the pixel size given is 55 x 55 um (x, y), the file says 50 x 50 um"
    assert capsys.readouterr().err.count(f"warning: {name}: {said}") == 1
    (record,) = [s for s in _record(tmp_path / "a")["samples"] if s["sample_id"] == name]
    assert sum(said in each for each in record["warnings"]) == 1
