"""The whole line on a tiny simulated cohort: every verb, as a user calls it. Never skipped."""

import contextlib
import csv
import io
import json
import pathlib
import subprocess
import sys

import pytest

from msi2he_jax import (
    doctor,
    evaluate,
    export,
    preprocess,
    progress,
    register,
    report,
    simulate,
    synthesize,
    train,
)
from msi2he_jax.interop.bundle_reading import read_bundle

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
TINY = [
    "--config.model.features=4",
    "--config.train.steps=6",
    "--config.train.steps_per_call=3",
    "--config.train.eval_every=3",
    "--config.train.checkpoint_every=3",
    "--config.train.batch_size=2",
]


@pytest.fixture(scope="module", autouse=True)
def at_once():
    """Nothing is too quick to be told on stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SILENT_S", 0.0)
        patch.setattr(progress, "LINE_S", 0.0)
        yield


@contextlib.contextmanager
def _printed():
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        yield out, err


@pytest.fixture(scope="module")
def place(tmp_path_factory, at_once):
    """A folder with a cohort, its data set and a pix2pix run of six steps."""
    place = tmp_path_factory.mktemp("line")
    cohort = ["--sections=6", "--grid=16", "--histology-um-per-px=12.5", "--seed=1"]
    with _printed() as (printed, told):
        assert simulate.main([f"--out={place / 'cohort'}", *cohort]) == 0
    assert "section 3 of 6, " in told.getvalue()
    assert "     6 imzml/SAMPLE.ibd\n" in printed.getvalue()
    assert "     1 manifest.csv\n" in printed.getvalue()
    manifest = f"--manifest={place / 'cohort' / 'manifest.csv'}"
    with _printed() as (printed, told):
        assert preprocess.main([manifest, f"--out={place / 'pairs'}", "--peaks=12"]) == 0
    for stage in ("checking files: part 6 of 6", "summing spectra: part", "making pairs: part"):
        assert stage in told.getvalue()
    assert "     1 provenance.json\n" in printed.getvalue()
    _train(place, "pix2pix", "--config.model.depth=5", "--config.discriminator.features=4")
    return place


def _train(place, name, *more):
    """Trains as the card says: `python -m msi2he_jax.train --config=FILE --workdir=DIR`."""
    command = [sys.executable, "-m", "msi2he_jax.train"]
    flags = [f"--config={CONFIGS / 'smoke.py'}:{name}", f"--workdir={place / name}"]
    flags += [f"--config.data.dir={place / 'pairs'}", *TINY, *more]
    told = subprocess.run(
        [*command, *flags], check=True, timeout=150, capture_output=True, text=True
    )
    assert "1 config.json\n" in told.stdout and "1 checkpoints/best/" in told.stdout
    assert "\r" not in told.stderr  # which is a log here


def test_data_set_is_checked_and_described(place, capsys):
    provenance = json.loads((place / "pairs" / "provenance.json").read_text())
    assert provenance["simulated"] is True
    assert doctor.main([str(place / "pairs")]) == 0
    assert "data set" in capsys.readouterr().out


def test_doctor_accepts_what_simulate_wrote(place, capsys):
    cohort = place / "cohort"
    files = [*cohort.rglob("*.imzML"), *(cohort / "landmarks").iterdir()]
    assert len(files) == 12
    assert doctor.main([str(cohort / "manifest.csv"), *map(str, files)]) == 0
    assert "file 13 of 13, " in capsys.readouterr().err


def test_run_folder_is_complete(place):
    run = place / "pix2pix"
    for name in ("config.json", "provenance.json", "metrics.jsonl", "checkpoints", "events"):
        assert (run / name).exists(), name
    assert list((run / "images").glob("*.png"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(line.get("step", 0) for line in lines) == 6


def test_evaluate_scores_the_test_split_and_its_nulls(place, capsys):
    assert evaluate.main([f"--run={place / 'pix2pix'}", f"--data={place / 'pairs'}"]) == 0
    printed, told = capsys.readouterr()
    assert "0.949" in printed and "not comparable" in printed
    assert printed.splitlines()[-2:] == ["     1 results.csv", "     1 results.json"]
    assert "synthesising: image 1 of" in told and "scoring: set of images 2 of" in told
    results = json.loads((place / "pix2pix" / "results.json").read_text())
    test = results["test"] if "test" in results else results["splits"]["test"]
    for block, name in [("paper", "ssim"), ("paper", "mi_nats"), ("tissue", "ssim_masked")]:
        score = test[block][name]
        assert score["mean"] is not None
        assert score["low"] is score["high"] is None  # the sections of one patient
    assert {"mean_training_image", "nearest_training_patch"} <= set(test["null"])
    rows = list(csv.DictReader((place / "pix2pix" / "results.csv").read_text().splitlines()))
    assert {row["sample_id"] for row in rows} == {row["sample_id"] for row in test["per_sample"]}


def test_synthesize_shards_and_a_new_imzml(place, capsys):
    run = f"--run={place / 'pix2pix'}"
    assert synthesize.main([run, f"--data={place / 'pairs'}", f"--out={place / 'a'}"]) == 0
    printed, told = capsys.readouterr()
    kinds = [f"     2 SAMPLE_SYNTHETIC.{end}" for end in ("json", "ome.tiff", "png")]
    assert printed.splitlines() == [str(place / "a"), *kinds]
    assert "section 2 of 2, " in told
    imzml = sorted((place / "cohort").rglob("*.imzML"))[0]
    assert synthesize.main([run, f"--imzml={imzml}", f"--out={place / 'b'}"]) == 0
    for folder in ("a", "b"):
        assert list((place / folder).glob("*SYNTHETIC*.png"))
        assert list((place / folder).glob("*SYNTHETIC*.ome.tif*"))


def test_register_scores_against_landmarks_and_truth(place, capsys):
    flags = [f"--manifest={place / 'cohort' / 'manifest.csv'}", f"--run={place / 'pix2pix'}"]
    out = place / "registration"
    assert register.main([*flags, "--moving=synthetic", f"--out={out}"]) == 0
    printed, told = capsys.readouterr()
    assert "section 2 of 2, " in told
    for kind in ("moving_SYNTHETIC.png", "transform.json", "histology_on_msi.ome.tiff"):
        assert f"     2 SAMPLE/{kind}\n" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["samples"]
    for transform in out.glob("*/transform.json"):
        assert json.loads(transform.read_text())["axes"] == "xy"
        assert (transform.parent / "msi_to_histology.tfm").exists()
        assert (transform.parent / "overlay_checkerboard.png").exists()


def test_report_is_one_page_that_says_simulated(place, capsys):
    page = place / "report.html"
    assert report.main([f"--run={place / 'pix2pix'}", f"--out={page}"]) == 0
    assert "sample 2 of 2, " in capsys.readouterr().err
    text = page.read_text()
    assert "simulated" in text.lower()
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_linear_model_goes_the_whole_line(place, capsys):
    """Trained at once, scored like the baseline that it is, exported, registered by."""
    run = place / "linear"
    flags = [f"--workdir={run}", f"--config.data.dir={place / 'pairs'}"]
    assert train.main([f"--config={CONFIGS / 'linear.py'}", *flags]) == 0
    assert "chosen by training patients left out in turn" in capsys.readouterr().err
    assert evaluate.main([f"--run={run}"]) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["model"] == "linear" and results["paper_row"] is None
    scores, baseline = results["test"]["tissue"], results["test"]["null"]["ridge_3x3"]
    for name in ("r2_masked", "mi_corrected_nats", "stain_h_correlation"):
        assert scores[name]["mean"] == pytest.approx(baseline[name]["mean"], abs=1e-3)
    assert export.main([f"--run={run}", f"--out={place / 'linear.zip'}", "--height_px=16"]) == 0
    assert callable(read_bundle(place / "linear.zip")[0])
    manifest, out = f"--manifest={place / 'cohort' / 'manifest.csv'}", place / "by_linear"
    assert register.main([manifest, f"--run={run}", "--moving=synthetic", f"--out={out}"]) == 0
    assert len(json.loads((out / "summary.json").read_text())["samples"]) == 2


def test_unet_goes_through_the_same_loop(place):
    _train(place, "unet")
    assert evaluate.main([f"--run={place / 'unet'}", f"--data={place / 'pairs'}"]) == 0


@pytest.mark.parametrize(
    ("verb", "argv"),
    [
        (simulate, ["--out=/proc/none/x"]),
        (preprocess, ["--manifest=absent.csv", "--out=x"]),
        (evaluate, ["--run=absent"]),
        (synthesize, ["--run=absent", "--data=absent", "--out=x"]),
        (register, ["--manifest=absent.csv", "--moving=pca", "--out=x"]),
        (report, ["--run=absent", "--out=x.html"]),
        (doctor, ["absent.imzML"]),
    ],
)
def test_a_wrong_path_is_one_line(verb, argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "SILENT_S", 60.0)
    assert verb.main(argv) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
