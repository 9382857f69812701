"""The verb on a tiny simulated cohort: what it finds, what it writes, what it refuses."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from msi2he_jax import config as configs
from msi2he_jax import locking, preprocess, register, simulate
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.errors import InputError
from msi2he_jax.json_schema import check_json
from msi2he_jax.registration import transforms
from msi2he_jax.registration.export import read_transform
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks, write_landmarks
from msi2he_jax.registration.summary_schema import SUMMARY
from msi2he_jax.registration.verdict import DOUBTFUL, RELIABLE, Verdict
from msi2he_jax.training import checkpoint, methods, preparation
from msi2he_jax.training.run import prepare_folder
from msi2he_jax.training.state import create_train_state


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with cohort/ of three patients, one mirrored."""
    place = tmp_path_factory.mktemp("register")
    cohort = ["--sections=3", "--sections-per-patient=1", "--grid=32", "--seed=3"]
    cohort += ["--histology-um-per-px=12.5"]
    assert simulate.main([f"--out={place / 'cohort'}", *cohort]) == 0
    return place


@pytest.fixture(scope="module")
def run(place):
    """The folder of an untrained network, made for the cohort."""
    manifest = f"--manifest={place / 'cohort' / 'manifest.csv'}"
    assert preprocess.main([manifest, f"--out={place / 'pairs'}", "--peaks=5"]) == 0
    config = configs.default_config()
    config.data.dir = str(place / "pairs")
    config.discriminator.name = "none"
    config.model.name, config.model.depth, config.model.features = "unet_ronneberger", 1, 4
    config = preparation.complete_config(config, load_arrays(place / "pairs", "train"))
    prepare_folder(place / "run", config)
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    with checkpoint.managers(place / "run") as managers:
        checkpoint.save(managers["best"], state, {})
    return place / "run"


def _flags(place, *more):
    return [f"--manifest={place / 'cohort' / 'manifest.csv'}", *more]


@pytest.fixture(scope="module")
def out(place):
    """All sections, registered by their PCA views."""
    assert register.main(_flags(place, "--moving=pca", f"--out={place / 'out'}")) == 0
    return place / "out"


def test_views_are_registered_at_any_angle_and_mirroring(out):
    summary = json.loads((out / "summary.json").read_text())
    check_json(out / "summary.json", summary, SUMMARY)
    assert summary["success_rate"] == 1.0
    assert summary["median"]["truth_tre_median_msi_px"] < 1.0
    assert summary["median"]["initial_truth_tre_median_um"] > 200
    assert {sample["mirrored"] for sample in summary["samples"]} == {False, True}
    assert any("the landmarks mirror the section" in each for each in summary["warnings"])
    for sample in summary["samples"]:
        assert sample["success"] is True
        assert sample["truth_tre_median_msi_px"] < 1.0
        assert sample["robustness"] >= 0.5
        assert sample["tissue_dice"] > 0.8
        assert sample["control_points_tre_median_um"] is not None


@pytest.mark.slow
def test_all_ions_move_where_no_run_is_named(place, tmp_path):
    assert register.main(_flags(place, f"--out={tmp_path / 'ions'}")) == 0
    summary = json.loads((tmp_path / "ions" / "summary.json").read_text())
    check_json(tmp_path / "ions" / "summary.json", summary, SUMMARY)
    assert (summary["moving"], summary["success_rate"]) == ("ions", 1.0)
    for sample in summary["samples"]:
        assert sample["truth_tre_median_msi_px"] < 0.5
        assert sample["gap"] > 0.06 and sample["verdict"] == "reliable"
        path = tmp_path / "ions" / sample["sample_id"] / "transform.json"
        content = json.loads(path.read_text())
        assert (content["verdict"], content["reason"]) == ("reliable", "")
        found = read_transform(path)
        assert found.method == "automatic explained of ions"


@pytest.mark.parametrize(("word", "code"), [(RELIABLE, 0), (DOUBTFUL, 3)])
def test_a_verdict_that_is_asked_for_decides_the_exit_code(
    place, out, tmp_path, monkeypatch, capsys, word, code
):
    """All is written all the same."""
    name = json.loads((out / "summary.json").read_text())["samples"][0]["sample_id"]
    monkeypatch.setattr(
        "msi2he_jax.coregistration.coregister.verdict_of", lambda _: Verdict(word, "", 0.5)
    )
    start = [f"--init={out}", "--method=given", "--moving=pca", f"--samples={name}"]
    words = [*start, f"--out={tmp_path / 'out'}", "--require=reliable"]
    assert register.main(_flags(place, *words)) == code
    assert (tmp_path / "out" / name / "transform.json").is_file()
    assert f"verdict: 1 {word}" in capsys.readouterr().out


def test_errors_written_are_those_of_the_transform_written(place, out):
    name = json.loads((out / "summary.json").read_text())["samples"][0]["sample_id"]
    found = read_transform(out / name / "transform.json")
    points = read_landmarks(place / "cohort" / "landmarks" / f"{name}.csv").select("eval")
    moved = transforms.apply_affine(found.transform.matrix, points.msi_yx_um)
    errors = np.linalg.norm(moved - points.histology_yx_um, axis=1)
    with open(out / name / "tre.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["use"] for row in rows} == {"eval", "fit", "truth"}
    written = [float(row["tre_um"]) for row in rows if row["use"] == "eval"]
    np.testing.assert_allclose(written, errors, atol=1e-3)
    assert found.scores["tre_median_um"] == pytest.approx(np.median(errors))


def test_every_section_gets_its_files(out):
    with open(out / "summary.csv") as file:
        names = [row["sample_id"] for row in csv.DictReader(file)]
    assert len(names) == 3
    expected = {"transform.json", "msi_to_histology.tfm", "histology_to_msi.tfm", "tre.csv"}
    expected |= {"moving.png", "overlay_checkerboard.png", "overlay_contour.png", "ngff.json"}
    expected |= {"elastix_msi_to_histology.txt", "elastix_histology_to_msi.txt"}
    expected |= {"histology_on_msi.ome.tiff", "uncertainty_um.npy", "uncertainty_um.png"}
    for name in names:
        assert {path.name for path in (out / name).iterdir()} == expected


def test_uncertainty_is_on_the_moving_grid_and_in_the_table(out):
    for row in json.loads((out / "summary.json").read_text())["samples"]:
        spread = np.load(out / row["sample_id"] / "uncertainty_um.npy")
        with Image.open(out / row["sample_id"] / "moving.png") as picture:
            assert spread.shape == picture.size[::-1]
        assert row["uncertainty_median_um"] == pytest.approx(np.nanmedian(spread), rel=1e-5)
        assert 0 <= row["undetermined_share"] < 0.5
        assert row["folding_fraction"] == 0 and row["failed"] is False


def test_control_points_are_the_least_squares_fit(place, capsys):
    target = place / "points"
    flags = ["--moving=pca", "--method=control-points", f"--out={target}"]
    assert register.main(_flags(place, *flags)) == 0
    assert "control points" in capsys.readouterr().out
    for sample in json.loads((target / "summary.json").read_text())["samples"]:
        assert sample["tre_median_um"] == sample["control_points_tre_median_um"]
        assert sample["method"] == "control-points"


def test_eval_landmarks_and_truth_never_move_the_result(place, out, tmp_path):
    """The same section with held-out landmarks and truth spoilt gets the same transform."""
    manifest = place / "cohort" / "manifest.csv"
    with open(manifest) as file:
        row = next(csv.DictReader(file))
    points = read_landmarks(place / "cohort" / row["landmarks"])
    spoilt = np.where((points.use == "eval")[:, None], 0.0, points.histology_yx_um)
    write_landmarks(
        tmp_path / "l.csv", Landmarks(points.name, points.use, points.msi_yx_um, spoilt)
    )
    row |= {name: str(manifest.parent / row[name]) for name in ("imzml", "histology")}
    row["landmarks"] = "l.csv"
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    flags = [f"--manifest={tmp_path / 'manifest.csv'}", "--moving=pca", f"--out={tmp_path / 'o'}"]
    assert register.main(flags) == 0
    name = row["sample_id"]
    before = read_transform(out / name / "transform.json").transform.matrix
    np.testing.assert_array_equal(
        read_transform(tmp_path / "o" / name / "transform.json").transform.matrix, before
    )
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert summary["samples"][0]["success"] is False
    assert summary["samples"][0]["truth_tre_median_um"] is None


def test_an_ion_can_move(place):
    target = place / "ion"
    flags = ["--moving=ion:885.55", "--ion_ppm=20", "--samples=p01_s0", f"--out={target}"]
    assert register.main(_flags(place, *flags)) == 0
    assert json.loads((target / "summary.json").read_text())["moving"] == "ion:885.55"


def _stop_at(monkeypatch, last, error):
    """Lets the registration number `last` raise; returns the names of those that were begun."""
    real, names = register._register_one, []

    def call(values, folder, sample, model):
        names.append(sample.sample_id)
        if len(names) == last:
            (folder / "half").touch()
            raise error
        return real(values, folder, sample, model)

    monkeypatch.setattr(register, "_register_one", call)
    return names


def test_a_run_that_was_stopped_goes_on(place, out, tmp_path, monkeypatch, capsys):
    """With the same result; sections of other options are not taken for those asked for."""
    flags = _flags(place, "--moving=pca", f"--out={tmp_path / 'o'}")
    with monkeypatch.context() as patch:
        _stop_at(patch, 3, KeyboardInterrupt())
        assert register.main(flags) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"error: stopped by Ctrl-C; 2 finished sections are kept in {tmp_path / 'o.work'}, the "
        "same command continues"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["o.work"]
    with monkeypatch.context() as patch:
        begun = _stop_at(patch, 1, InputError("x", "", "is damaged", "mend it"))
        assert register.main([*flags, "--seed=1"]) == 2
        assert begun == ["p00_s0"]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: x: is damaged (mend it; 1 finished sections are kept in ")
    begun = _stop_at(monkeypatch, 9, None)
    assert register.main(flags) == 0
    assert begun == ["p00_s0", "p02_s0"]
    assert "continued an earlier run: 1 of 3 sections were already" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["o"]
    names = [{path.relative_to(at) for path in at.rglob("*")} for at in (out, tmp_path / "o")]
    assert names[0] == names[1]
    rows = [
        json.loads((at / "summary.json").read_text())["samples"] for at in (out, tmp_path / "o")
    ]
    for row in [*rows[0], *rows[1]]:
        del row["seconds"]
    assert rows[0] == rows[1]


def test_a_damaged_or_changed_section_is_made_again(place, tmp_path, monkeypatch):
    flags = _flags(place, "--moving=pca", f"--out={tmp_path / 'o'}", "--method=control-points")
    with monkeypatch.context() as patch:
        _stop_at(patch, 3, KeyboardInterrupt())
        assert register.main(flags) == 130
    (tmp_path / "o.work" / "sections" / "p00_s0" / "tre.csv").write_text("")
    landmarks = place / "cohort" / "landmarks" / "p01_s0.csv"
    before = landmarks.read_text()
    landmarks.write_text(before + "\n")
    begun = _stop_at(monkeypatch, 9, None)
    assert register.main(flags) == 0
    landmarks.write_text(before)
    assert begun == ["p00_s0", "p01_s0", "p02_s0"]


def test_a_second_one_is_refused(place, tmp_path, capsys):
    with locking.held(tmp_path / "o", "register"):
        assert register.main(_flags(place, "--moving=pca", f"--out={tmp_path / 'o'}")) == 2
    assert "another register is at work there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_training_patient_is_skipped_by_name(place, run, tmp_path, capsys):
    flags = _flags(place, f"--run={run}", "--split=all", f"--out={tmp_path / 'o'}")
    assert register.main(flags) == 2
    assert not list(tmp_path.iterdir())
    assert register.main([*flags, "--on_error=skip"]) == 0
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert [each["sample_id"] for each in summary["skipped"]] == [_trained_on(run)]
    assert "was trained on" in summary["skipped"][0]["why"]
    assert len(summary["samples"]) == 2
    assert f"skipped, see summary.json: {_trained_on(run)}" in capsys.readouterr().out
    only = [*flags, f"--samples={_trained_on(run)}", "--on_error=skip", "--overwrite"]
    assert register.main(only) == 2


def test_synthetic_takes_the_test_split_and_is_marked(place, run):
    target = place / "synthetic"
    assert register.main(_flags(place, f"--run={run}", f"--out={target}")) == 0
    summary = json.loads((target / "summary.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    test = [s["sample_id"] for s in provenance["samples"] if s["split"] == "test"]
    assert [sample["sample_id"] for sample in summary["samples"]] == test
    assert summary["checkpoint"]["which"] == "best"
    assert summary["simulated"] is True
    assert 0 <= summary["samples"][0]["tissue_dice"] <= 1
    image = Image.open(target / test[0] / "moving_SYNTHETIC.png")
    assert "SYNTHETIC" in image.text["Title"]


def _trained_on(run):
    provenance = json.loads((run / "provenance.json").read_text())
    return next(s["sample_id"] for s in provenance["samples"] if s["split"] == "train")


def test_a_training_patient_is_refused_and_force_is_recorded(place, run, capsys):
    name = _trained_on(run)
    flags = _flags(place, f"--run={run}", f"--samples={name}", f"--out={place / 'forced'}")
    assert register.main(flags) == 2
    assert "was trained on" in capsys.readouterr().err
    assert not (place / "forced").exists()
    assert register.main([*flags, "--force"]) == 0
    assert json.loads((place / "forced" / "summary.json").read_text())["forced"] is True


def test_a_training_file_under_another_name_is_refused(place, run, tmp_path, capsys):
    name = _trained_on(run)
    cohort = place / "cohort"
    (tmp_path / "manifest.csv").write_text(
        "sample_id,group_id,imzml,histology,histology_um_per_px\n"
        f"new,new,{cohort}/imzml/{name}.imzML,{cohort}/histology/{name}.png,12.5\n"
    )
    flags = [f"--manifest={tmp_path / 'manifest.csv'}", f"--run={run}", "--split=all"]
    assert register.main([*flags, f"--out={tmp_path / 'o'}"]) == 2
    assert "was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--moving=pca"], "--out: is required"),
        (["--moving=synthetic", "--out=x"], "--run: is required"),
        (["--moving=pcaa", "--out=x"], "--moving: is 'pcaa'"),
        (["--moving=ion:abc", "--out=x"], "--moving: is 'ion:abc'"),
        (["--moving=ion:5000", "--out=x"], "is outside the file's"),
        (["--moving=pca", "--out=x", "--samples=nobody"], "'nobody' is not in"),
        (["--moving=pca", "--out=x", "--split=test"], "no section is in the test split"),
        (["--moving=synthetic", "--run=absent", "--out=x"], "absent"),
        (["--moving=pca", "--out=x", "--ion_ppm=-1"], "--ion_ppm"),
        (["--out=x", "--scale_sd=-1"], "--scale_sd"),
        (["--moving=pca", "--out=x", "--scale_sd=0.1"], "--scale_sd: goes with --metric=explained"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(place, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert register.main(_flags(place, *flags)) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_slide_without_tissue_is_named(place, tmp_path, capsys):
    with open(place / "cohort" / "manifest.csv") as file:
        row = next(csv.DictReader(file))
    Image.new("RGB", (64, 64), (240, 240, 240)).save(tmp_path / "glass.png")
    (tmp_path / "manifest.csv").write_text(
        "sample_id,imzml,histology,histology_um_per_px\n"
        f"a,{place / 'cohort' / row['imzml']},glass.png,12.5\n"
    )
    flags = [f"--manifest={tmp_path / 'manifest.csv'}", "--moving=pca", f"--out={tmp_path / 'o'}"]
    assert register.main(flags) == 2
    message = capsys.readouterr().err
    assert "glass.png" in message and "tissue" in message
    assert register.main([*flags, "--method=control-points"]) == 2
    assert "no stained tissue is found" in capsys.readouterr().err
