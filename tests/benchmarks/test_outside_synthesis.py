"""Synthesis on outside sections: patients stay apart, ideas are what they say, rows add up."""

import json
import types

import numpy as np
import pytest

from benchmarks import outside_lines
from benchmarks import outside_synthesis as bench
from benchmarks import outside_synthesis_page as page
from benchmarks.harness import RESULTS
from msi2he_jax.config import differences, load_config
from msi2he_jax.io_safety import read_json
from msi2he_jax.metrics import baselines, nulls

GROUPS = [f"p{n}" for n in range(8)]


def test_each_patient_is_tested_once_and_never_taught_with():
    splits = [bench.split_of(GROUPS, fold) for fold in range(bench.FOLDS)]
    tested = [group for split in splits for group in GROUPS if split[group] == "test"]
    assert sorted(tested) == GROUPS
    for split in splits:
        assert sorted(split.values()) == ["test"] * 2 + ["train"] * 5 + ["validation"]


def test_every_idea_is_a_valid_configuration_of_its_own(tmp_path):
    made = [bench.configuration(idea, tmp_path, 1) for idea in bench.IDEAS]
    base = made[0]
    assert bench.IDEAS[0].name == bench.BEGUN and base.model.start == "ridge"
    for idea, config in zip(bench.IDEAS, made, strict=True):
        assert config.seed == 1 and config.data.dir == str(tmp_path)
        assert set(differences(base, config)) == set(idea.changes)
    names = [each.name for each in (*bench.IDEAS, *bench.LINES)]
    assert len({bench._file_name(name) for name in names}) == len(names) >= 8 + 8
    assert load_config("unet:fair").discriminator.name == "none"


def _arrays(count, seed):
    random = np.random.default_rng(seed)
    msi = random.random((count, 10, 9, 4), dtype=np.float32)
    image = np.clip(msi @ random.dirichlet(np.ones(4), 3).T, 0, 1)
    mask = random.random(msi.shape[:3]) < 0.5
    return types.SimpleNamespace(
        msi=msi,
        histology=np.uint8(np.round(255 * image)),
        tissue_mask=mask,
        valid_mask=mask | True,
        inside=mask | True,
        group_ids=tuple(f"p{n // 2}" for n in range(count)),
    )


@pytest.mark.parametrize("line", [each for each in bench.LINES if each.neighbours_px < 15])
def test_every_line_gives_images(line):
    images = outside_lines.linear_images(line, _arrays(6, 0), _arrays(2, 1))
    assert images.shape == (2, 10, 9, 3) and images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


def test_the_plain_lines_are_the_baselines_of_evaluate():
    train, test = _arrays(6, 0), _arrays(2, 1)
    known = nulls.Training(train.msi, train.histology / np.float32(255), train.tissue_mask)
    expected = baselines.linear_predictions(known, train.group_ids, train.inside, test.msi)
    named = {"ridge, 3x3": "ridge_3x3", "PLS, 3x3": "pls_3x3", "PLS, pixel alone": "pls"}
    for line in bench.LINES:
        if line.name in named:
            found = outside_lines.linear_images(line, train, test)
            np.testing.assert_allclose(found, expected[named[line.name]], atol=1e-5)


def _run(idea, fold, seed, value):
    scores = dict.fromkeys(bench.METRICS, value)
    samples = [{"sample_id": "a", "group_id": "p"} | scores]
    return {"idea": idea, "fold": fold, "seed": seed, "best_step": 20, "samples": samples}


def test_rows_have_mean_spread_and_what_no_screening_saw():
    runs = [_run("x", fold, seed, fold + 0.1 * seed) for fold in range(2) for seed in range(3)]
    (row,) = bench.summary(runs)
    assert (row["folds"], row["seeds"], row["best_step"]) == (2, 3, 20)
    assert row["r2"]["mean"] == pytest.approx(0.6)
    assert row["r2"]["spread"] == pytest.approx(0.2)
    assert row["r2"]["unseen"] == pytest.approx(1.1)
    text = page.table([row], unseen=True)
    assert "| x | 0.600 ± 0.100 [1.100] |" in text and text.endswith("| 20 |")
    assert page.row_words(row).startswith("x (2 folds): r2 0.600")
    assert "fold 1, seed 2" in page.row_words(runs[-1])

    alone = bench.summary([_run("y", 0, 0, 0.5)])
    assert "| y | 0.500 |" in page.table(alone, unseen=True)


def test_points_of_the_true_map_become_landmarks(tmp_path):
    cohort = tmp_path / "cohort"
    (cohort / "truth").mkdir(parents=True)
    at = np.arange(0, 900, 100.0)
    x, y = np.meshgrid(at, at)
    truth = {
        "tissue_msi": np.ones((4, 5)),
        "measured": np.ones((4, 5), bool),
        "msi_um": 80,
        "fwd_x_um": at,
        "fwd_y_um": at,
        "fwd_he_um": np.stack([2 * x + 10, y - 5], axis=-1),
    }
    np.savez(cohort / "truth" / "s.npz", **truth)
    lines = bench.true_landmarks(cohort, "s", tmp_path).read_text().splitlines()
    assert len(lines) == 1 + 20 and lines[0].startswith("name,use,")
    points = np.array([[float(word) for word in line.split(",")[2:]] for line in lines[1:]])
    np.testing.assert_allclose(points[:, 0], 2 * points[:, 2] + 10)
    np.testing.assert_allclose(points[:, 1], points[:, 3] - 5)


def test_what_is_done_is_collected_in_the_order_of_the_lists(tmp_path):
    last, first = bench.LINES[-1].name, bench.LINES[0].name
    folders = {
        "fold_0/lines/b.json": _run(first, 0, 0, 0.1),
        "fold_0/lines/a.json": _run(last, 0, 0, 0.1),
        "fold_0_oracle/lines/a.json": _run(f"oracle: {first}", 0, 0, 0.2),
        "runs/x/fold_0_seed_0/scores.json": _run(bench.BEGUN, 0, 0, 0.3),
        "runs/x/averaged_0/scores.json": _run(f"{bench.BEGUN}, mean of 3 seeds", 0, 0, 0.3),
    }
    for name, run in folders.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(run))
    names = [run["idea"] for run in bench.collected(tmp_path)]
    oracle, mean = f"oracle: {first}", f"{bench.BEGUN}, mean of 3 seeds"
    assert names == [oracle, first, last, bench.BEGUN, mean]


def test_the_page_holds_what_was_measured(tmp_path):
    """The tables of docs/results.md are those of the record, which is in the repository."""
    record = read_json(RESULTS / "outside-synthesis.json")
    assert record["simulated"] is True
    copy = tmp_path / "results.md"
    copy.write_text(page.PAGE.read_text())
    page.write_page(copy, record)
    assert copy.read_text() == page.PAGE.read_text()
    first = [run for run in record["runs"] if run["fold"] == run["seed"] == 0]
    assert bench.summary(first) == record["first_fold"]
