"""The verb, on a stand-in model and data set; the real ones are in e2e."""

import csv
import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from msi2he_jax import evaluate, locking
from msi2he_jax.config import default_config, load_config
from msi2he_jax.data import loader
from msi2he_jax.data import provenance as provenance_module
from msi2he_jax.data.recipe import PAD_VALUES, make_recipe
from msi2he_jax.errors import InputError
from msi2he_jax.inference import model as model_module
from msi2he_jax.json_schema import check_json
from msi2he_jax.metrics import baselines
from msi2he_jax.metrics.results_schema import RESULTS

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
PROVENANCE = {
    "simulated": True,
    "pad_value": 255,
    "peaks": [{"mz": 100.0}, {"mz": 200.0}, {"mz": 300.0}],
    "scaling": {"scale": [1.0, 1.0, 1.0], "transform": "sqrt"},
}


@dataclasses.dataclass
class StandIn:
    """Paints the first three channels; with batch statistics a little darker."""

    config: ConfigDict
    run_dir: pathlib.Path
    which: str = "best"
    norm: str = "running"
    step: int = 12
    dropout: bool = False
    provenance: dict = dataclasses.field(default_factory=lambda: PROVENANCE)
    warnings: tuple = ()

    def synthesize(self, msi):
        return model_module.Model.synthesize(self, msi)

    def apply(self, msi):
        assert len(msi) <= 2, "more than batch_size images at once"
        return msi * 2.0 - (1.0 if self.norm == "running" else 1.1)


def _arrays(count, seed):
    random = np.random.default_rng(seed)
    msi = random.random((count, 16, 16, 3), dtype=np.float32)
    mask = np.zeros((count, 16, 16), bool)
    mask[:, 2:14, 2:14] = True
    arrays = types.SimpleNamespace(
        msi=msi,
        histology=np.uint8(msi * 255),
        tissue_mask=mask,
        valid_mask=np.ones_like(mask),
        inside=np.ones_like(mask),
        sample_ids=tuple(f"{seed}-{i}" for i in range(count)),
        group_ids=tuple(f"p{i // 2}" for i in range(count)),
    )
    return type("A", (types.SimpleNamespace,), {"__len__": lambda self: len(self.msi)})(
        **vars(arrays)
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run and a data folder; only their readers are replaced."""
    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    data.mkdir()
    config = default_config()
    config.data.dir = str(data)

    def load_model(folder, which="best", *, norm=None, dropout=None):
        return StandIn(config, folder, which, norm or "running", dropout=bool(dropout))

    def load_arrays(folder, split):
        if split == "validation":
            raise InputError(folder, split, "holds no example", "choose another split")
        return _arrays(3, {"train": 1, "test": 2}[split])

    monkeypatch.setattr(model_module, "load_model", load_model)
    monkeypatch.setattr(loader, "load_arrays", load_arrays)
    monkeypatch.setattr(provenance_module, "read_provenance", lambda folder: dict(PROVENANCE))
    return tmp_path


def _run(place, *more):
    return evaluate.main([f"--run={place / 'run'}", "--batch_size=2", "--tile_px=8", *more])


def test_writes_results_and_prints_the_papers_table(place, capsys):
    assert _run(place) == 0
    printed = capsys.readouterr().out
    for word in ("0.429", "0.949", "not comparable", "nearest training patch", "U-Net"):
        assert word in printed
    results = json.loads((place / "run" / "results.json").read_text())
    check_json("results.json", results, RESULTS)
    assert results["simulated"] is True and results["norm_at_test"] == "running"
    assert results["checkpoint"] == {"which": "best", "step": 12}
    test = results["test"]
    assert test["paper"]["ssim"]["mean"] > 0.999
    assert test["paper"]["ssim"]["mean"] > test["null"]["mean_training_image"]["ssim"]["mean"]
    # A straight line is all there is to learn here, and the table shows that it was learnt.
    assert all(test["null"][name]["r2"]["mean"] > 0.99 for name in baselines.LINEAR)
    assert all(f"baseline: {name.replace('_', ' ')}" in printed for name in baselines.LINEAR)
    assert set(test["alternatives"]) == {"norm_at_test=batch", "dropout_at_test=true"}
    assert results["run"] == "run" and results["padding"] == "white"
    assert results["paper_row"] is None and "not the paper's recipe" in printed
    other = test["alternatives"]["norm_at_test=batch"]["paper"]
    assert other["mae"]["mean"] > test["paper"]["mae"]["mean"]
    rows = list(csv.DictReader((place / "run" / "results.csv").read_text().splitlines()))
    assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in test["per_sample"]]
    assert float(rows[0]["ssim"]) == test["per_sample"][0]["ssim"]


def test_a_second_one_is_refused(place, capsys):
    with locking.held(place / "run", "evaluate", inside=True):
        assert _run(place) == 2
    assert "run: another evaluate is at work there" in capsys.readouterr().err
    assert not list((place / "run").iterdir())


def test_another_split_is_added(place, capsys):
    assert _run(place) == 0
    assert _run(place, "--split=train") == 0
    results = json.loads((place / "run" / "results.json").read_text())
    assert results["test"]["samples"] == results["train"]["samples"] == 3
    # A training image is its own nearest one.
    np.testing.assert_allclose(results["train"]["memorisation"]["real_to_training_rms"]["mean"], 0)
    rows = list(csv.DictReader((place / "run" / "results.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == {"train", "test"}


@pytest.mark.parametrize("damage", ["{half", "[]", "words", "block"])
def test_damaged_earlier_results_are_replaced(place, damage):
    path = place / "run" / "results.json"
    if damage in ("words", "block"):
        assert _run(place, "--split=train") == 0
        found = json.loads(path.read_text())
        found["train"]["per_sample" if damage == "block" else "words"] = 7
        path.write_text(json.dumps(found))
    else:
        path.write_text(damage)
    assert _run(place) == 0
    found = json.loads(path.read_text())
    assert "test" in found and "train" not in found


def _one_line(capsys) -> str:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--split=validation"], "holds no example"),
        (["--data=/no/such/folder"], "--data"),
        (["--batch_size=0"], "--batch_size"),
        (["--split=tset"], "split"),
        (["--wich=best"], "did you mean --which"),
        (["word"], "is not a flag"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(place, capsys, more, word):
    assert _run(place, *more) == 2
    assert word in _one_line(capsys)
    assert not list((place / "run").iterdir())


def test_run_is_required_and_must_exist(tmp_path, capsys):
    assert evaluate.main([]) == 2
    assert "--run" in _one_line(capsys)
    assert evaluate.main([f"--run={tmp_path / 'absent'}"]) == 2
    assert "no such folder" in _one_line(capsys)


def test_run_without_checkpoint_is_one_line(tmp_path, capsys):
    assert evaluate.main([f"--run={tmp_path}"]) == 2
    _one_line(capsys)


@pytest.mark.parametrize("key", ["peaks", "scaling"])
def test_data_made_otherwise_are_refused(place, capsys, monkeypatch, key):
    other = dict(PROVENANCE, **{key: "something else"})
    monkeypatch.setattr(provenance_module, "read_provenance", lambda folder: other)
    assert _run(place) == 2
    assert key in _one_line(capsys)


def test_data_padded_otherwise_than_the_run_are_refused(place, capsys, monkeypatch):
    """Both by what the run was trained on and by what its configuration asks for."""
    black = dict(PROVENANCE, pad_value=0)
    monkeypatch.setattr(provenance_module, "read_provenance", lambda folder: black)
    assert _run(place) == 2
    line = _one_line(capsys)
    assert "data.padding: is white, but preprocess padded these data black" in line
    assert not list((place / "run").iterdir())


def _paper_case(kind, padding):
    config = load_config(CONFIGS / {"U-Net": "unet.py", "pix2pix": "pix2pix.py"}[kind])
    config.data.dir, config.seed, config.model.in_channels = "/somewhere", 3, 50
    recipe = dataclasses.asdict(make_recipe("paper", padding=padding))
    return config, {"recipe": recipe, "pad_value": PAD_VALUES[padding]}


@pytest.mark.parametrize("padding", ["white", "black"])
@pytest.mark.parametrize("kind", ["U-Net", "pix2pix"])
def test_the_papers_own_recipe_stands_in_its_row(kind, padding):
    config, provenance = _paper_case(kind, padding)
    row = "U-Net" if kind == "U-Net" else f"pix2pix, {padding} padding"
    found = evaluate.paper_place(config, provenance, kind, padding)
    assert found == (row, "the paper's recipe")
    config.model.features, config.train.epochs, config.train.steps = 4, 0, 2
    provenance["recipe"]["peaks"] = 8
    place, words = evaluate.paper_place(config, provenance, kind, padding)
    assert place == row
    for word in ("peaks 8 (published: 50)", "model.features 4 (published: 64)", "train.steps 2"):
        assert word in words


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer.learning_rate": 1e-3},
        {"ema": 0.99},
        {"data.augment": "dihedral"},
        {"augmentation.jitter": 0.5},
        {"model.norm": "instance"},
        {"train.batch_size": 4},
        {"init_from": "weights.pth"},
    ],
)
def test_another_recipe_stands_in_no_row(change):
    config, provenance = _paper_case("pix2pix", "white")
    config.update_from_flattened_dict(change)
    row, words = evaluate.paper_place(config, provenance, "pix2pix", "white")
    assert row is None and next(iter(change)) in words


@pytest.mark.parametrize("change", [{"normalization": "tic"}, {"statistics": "train"}, None])
def test_other_data_stand_in_no_row(change):
    config, provenance = _paper_case("pix2pix", "white")
    provenance["recipe"] = change and provenance["recipe"] | change
    if change is None:  # preprocess before it wrote its recipe down
        del provenance["recipe"]
    row, words = evaluate.paper_place(config, provenance, "pix2pix", "white")
    assert row is None and (change is None or next(iter(change)) in words)
