"""Pairs without landmarks: aligned automatically or as registered, and refused where in doubt."""

import json

import numpy as np
import pytest

from msi2he_jax import preprocess, simulate
from msi2he_jax.coregistration import training_pairs
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.errors import InputError
from msi2he_jax.registration.automatic import AffineResult
from msi2he_jax.registration.export import TransformRecord, read_transform, write_transform
from msi2he_jax.registration.verdict import DOUBTFUL, NOT_REGISTRABLE, RELIABLE, Verdict


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=3", "--grid=32", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5"]) == 0
    return folder


@pytest.fixture(scope="module")
def without_landmarks(cohort):
    header, *rows = (cohort / "manifest.csv").read_text().splitlines()
    column = header.split(",").index("landmarks")
    lines = [
        [cell for n, cell in enumerate(row.split(",")) if n != column] for row in (header, *rows)
    ]
    path = cohort / "bare.csv"
    path.write_text("\n".join(",".join(cells) for cells in lines))
    return path


def _truth(cohort, sample):
    return read_transform(cohort / "truth" / sample.sample_id / "transform.json").transform


def _error_um(found, truth):
    points = np.stack(np.meshgrid([400.0, 800.0, 1200.0], [400.0, 800.0, 1200.0]), -1).reshape(
        -1, 2
    )
    return np.median(np.linalg.norm(found(points) - truth(points), axis=1))


def test_automatic_alignment_finds_the_truth(cohort):
    sample = read_manifest(cohort / "manifest.csv")[0]
    found = training_pairs.align_automatically(sample)
    assert _error_um(found.transform, _truth(cohort, sample)) < 100  # 2 MSI px of 50 um
    assert found.scores["landmark_median_um"] < 100 and found.scores["verdict"] == RELIABLE


@pytest.mark.parametrize("word", [DOUBTFUL, NOT_REGISTRABLE])
def test_what_is_not_reliable_is_refused(cohort, monkeypatch, word):
    def register_cohort(*_, **__):
        return [AffineResult(np.eye(3), 1.0, [])]

    where = "msi2he_jax.coregistration.coregister"
    monkeypatch.setattr(f"{where}.register_cohort", register_cohort)
    monkeypatch.setattr(f"{where}.verdict_of", lambda _: Verdict(word, "it drifts", 0.1))
    with pytest.raises(InputError, match=f"--align: {word}: it drifts"):
        training_pairs.align_automatically(read_manifest(cohort / "manifest.csv")[0])


def test_as_registered(cohort, without_landmarks, tmp_path, capsys):
    """Transforms with a displacement move the slide as they would move points."""
    for sample in read_manifest(without_landmarks):
        (tmp_path / "found" / sample.sample_id).mkdir(parents=True)
        truth = _truth(cohort, sample)
        kept = TransformRecord(truth, method="mine")
        write_transform(tmp_path / "found" / sample.sample_id, kept)
    words = [f"--manifest={without_landmarks}", "--peaks=8", f"--out={tmp_path / 'out'}"]
    assert preprocess.main([*words, f"--align={tmp_path / 'found'}"]) == 0
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert {s["alignment"]["method"] for s in record["samples"]} == {"given (mine)"}
    for split in ("train", "test"):
        for example in read_split(tmp_path / "out", split):
            on_tissue = example["tissue_mask"] & example["msi_mask"]
            assert on_tissue.sum() > 0.5 * example["msi_mask"].sum()
    lost = next(s["sample_id"] for s in record["samples"] if s["split"] == "test")
    (tmp_path / "found" / lost / "transform.json").unlink()
    words[-1] = f"--out={tmp_path / 'two'}"
    assert preprocess.main([*words, f"--align={tmp_path / 'found'}"]) == 2
    assert "transform.json: no such file" in capsys.readouterr().err
    assert preprocess.main([*words, f"--align={tmp_path / 'found'}", "--on_error=skip"]) == 0
    assert f"warning: {lost}: left out: " in capsys.readouterr().err


def test_landmarks_are_asked_for(without_landmarks, tmp_path, capsys):
    words = [f"--manifest={without_landmarks}", f"--out={tmp_path / 'out'}"]
    assert preprocess.main(words) == 2
    error = capsys.readouterr().err
    assert "landmarks: none are given" in error and "or pass --align=auto" in error
    assert preprocess.main([*words, "--align=nowhere"]) == 2
    assert "nowhere: --align: no such folder" in capsys.readouterr().err
