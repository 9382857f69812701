"""The whole line on a tiny simulated cohort: every verb, as a user calls it. Never skipped."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest

from msi2he_jax import (
    doctor,
    evaluate,
    preprocess,
    register,
    report,
    simulate,
    synthesize,
)

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
TINY = [
    "--config.model.features=4",
    "--config.train.steps=6",
    "--config.train.steps_per_call=3",
    "--config.train.eval_every=3",
    "--config.train.checkpoint_every=3",
    "--config.train.batch_size=2",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a cohort, its data set and a pix2pix run of six steps."""
    place = tmp_path_factory.mktemp("line")
    cohort = ["--sections=6", "--grid=16", "--histology-um-per-px=12.5", "--seed=1"]
    assert simulate.main([f"--out={place / 'cohort'}", *cohort]) == 0
    manifest = f"--manifest={place / 'cohort' / 'manifest.csv'}"
    assert preprocess.main([manifest, f"--out={place / 'pairs'}", "--peaks=12"]) == 0
    _train(place, "pix2pix", "--config.model.depth=5", "--config.discriminator.features=4")
    return place


def _train(place, name, *more):
    """Trains as the card says: `python -m msi2he_jax.train --config=FILE --workdir=DIR`."""
    command = [sys.executable, "-m", "msi2he_jax.train"]
    flags = [f"--config={CONFIGS / 'smoke.py'}:{name}", f"--workdir={place / name}"]
    flags += [f"--config.data.dir={place / 'pairs'}", *TINY, *more]
    subprocess.run([*command, *flags], check=True, timeout=150)


def test_data_set_is_checked_and_described(place, capsys):
    provenance = json.loads((place / "pairs" / "provenance.json").read_text())
    assert provenance["simulated"] is True
    assert doctor.main([str(place / "pairs")]) == 0
    assert "data set" in capsys.readouterr().out


def test_doctor_accepts_what_simulate_wrote(place):
    cohort = place / "cohort"
    files = [*cohort.rglob("*.imzML"), *(cohort / "landmarks").iterdir()]
    assert len(files) == 12
    assert doctor.main([str(cohort / "manifest.csv"), *map(str, files)]) == 0


def test_run_folder_is_complete(place):
    run = place / "pix2pix"
    for name in ("config.json", "provenance.json", "metrics.jsonl", "checkpoints", "events"):
        assert (run / name).exists(), name
    assert list((run / "images").glob("*.png"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(line.get("step", 0) for line in lines) == 6


def test_evaluate_scores_the_test_split_and_its_nulls(place, capsys):
    assert evaluate.main([f"--run={place / 'pix2pix'}", f"--data={place / 'pairs'}"]) == 0
    printed = capsys.readouterr().out
    assert "0.949" in printed and "not comparable" in printed
    results = json.loads((place / "pix2pix" / "results.json").read_text())
    test = results["test"] if "test" in results else results["splits"]["test"]
    for block, name in [("paper", "ssim"), ("paper", "mi_nats"), ("tissue", "ssim_masked")]:
        score = test[block][name]
        assert score["low"] <= score["mean"] <= score["high"]
    assert {"mean_training_image", "nearest_training_patch"} <= set(test["null"])
    rows = list(csv.DictReader((place / "pix2pix" / "results.csv").open()))
    assert {row["sample_id"] for row in rows} == {row["sample_id"] for row in test["per_sample"]}


def test_synthesize_shards_and_a_new_imzml(place):
    run = f"--run={place / 'pix2pix'}"
    assert synthesize.main([run, f"--data={place / 'pairs'}", f"--out={place / 'a'}"]) == 0
    imzml = sorted((place / "cohort").rglob("*.imzML"))[0]
    assert synthesize.main([run, f"--imzml={imzml}", f"--out={place / 'b'}"]) == 0
    for folder in ("a", "b"):
        assert list((place / folder).glob("*SYNTHETIC*.png"))
        assert list((place / folder).glob("*SYNTHETIC*.ome.tif*"))


def test_register_scores_against_landmarks_and_truth(place):
    flags = [f"--manifest={place / 'cohort' / 'manifest.csv'}", f"--run={place / 'pix2pix'}"]
    out = place / "registration"
    assert register.main([*flags, "--moving=synthetic", f"--out={out}"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["samples"]
    for transform in out.glob("*/transform.json"):
        assert json.loads(transform.read_text())["axes"] == "xy"
        assert (transform.parent / "msi_to_histology.tfm").exists()
        assert (transform.parent / "overlay_checkerboard.png").exists()


def test_report_is_one_page_that_says_simulated(place):
    page = place / "report.html"
    assert report.main([f"--run={place / 'pix2pix'}", f"--out={page}"]) == 0
    text = page.read_text()
    assert "simulated" in text.lower()
    assert "http://" not in text.replace("http://www.w3.org", "")


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
    assert verb.main(argv) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
