import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.data import loader
from msi2he_jax.errors import InputError
from msi2he_jax.metrics import evaluation
from msi2he_jax.training import checkpoint, loop
from msi2he_jax.training.evaluation import LOWER_IS_BETTER, make_evaluator
from msi2he_jax.training.interrupt import stop_requests


@pytest.fixture
def unet(config):
    """Without a discriminator and an average: quick to compile."""
    config.discriminator.name = "none"
    config.ema = 0.0
    config.model.norm = "none"
    return config


def _lines(run, split):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


def _weights(run):
    return checkpoint.read_newest(run / "checkpoints" / "latest")[0]


def test_resuming_equals_never_having_stopped(config, tmp_path):
    """pix2pix with dropout, augmentation, batch statistics and an average: equal bit for bit."""
    whole = loop.train_and_evaluate(config, tmp_path / "whole")
    config.train.steps = 5  # no multiple of anything
    loop.train_and_evaluate(config, tmp_path / "parts")
    config.train.steps = 8
    parts = loop.train_and_evaluate(config, tmp_path / "parts")
    assert (whole.reason, parts.reason, parts.step) == ("finished", "finished", 8)
    first, second = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert first.step == second.step == 8
    assert checkpoint.digest(first.arrays) == checkpoint.digest(second.arrays)
    assert [line["step"] for line in _lines(tmp_path / "parts", "train")] == [2, 4, 5, 6, 8]
    restored = checkpoint.restore_generator(tmp_path / "parts", "latest")
    kernel = jax.tree.leaves(restored.params)[0]
    names = [name for name in first.arrays if name.startswith("average.params")]
    assert any(np.array_equal(kernel, first.arrays[name]) for name in names)


def test_a_run_s_folder(unet, tmp_path):
    outcome = loop.train_and_evaluate(unet, tmp_path / "run")
    run = tmp_path / "run"
    saved = json.loads((run / "config.json").read_text())
    assert saved["model"]["in_channels"] == 4
    assert json.loads((run / "provenance.json").read_text()) == {"simulated": True}
    assert [path.name for path in (run / "images").iterdir()] == ["step_00000008.png"]
    scores = _lines(run, "validation")
    assert [line["step"] for line in scores] == [4, 8]
    names = {*evaluation.PAPER_NAMES, *evaluation.TISSUE_NAMES} - {"ms_ssim"}
    assert names <= set(scores[0])
    values = [line[unet.train.best_metric] for line in scores]
    assert outcome.best == (min if unet.train.best_metric in LOWER_IS_BETTER else max)(values)
    assert _lines(run, "train")[0]["images_per_s"] > 0
    (compiled,) = _lines(run, "compile")
    assert outcome.compile_s > 0 and min(compiled["planned_gib"], compiled["xla_gflop"]) > 0
    assert 0 < outcome.outside_share < 1
    assert _lines(run, "train")[-1]["outside_share"] == outcome.outside_share
    best = checkpoint.restore_generator(run, "best")
    assert best.step in (4, 8) and best.config.name == "tiny"
    arrays = checkpoint.read_newest(run / "checkpoints" / "best")[0].arrays
    assert not [name for name in arrays if "optimizer" in name]


def test_learning_a_mixture_of_channels(unet, tmp_path):
    often = dict.fromkeys(("eval_every", "checkpoint_every", "image_every"), 120)
    unet.train.update({"steps": 120, "steps_per_call": 20, **often})
    unet.optimizer.learning_rate, unet.model.dropout, unet.model.features = 1e-2, 0.0, 8
    loop.train_and_evaluate(unet, tmp_path / "run")
    losses = [line["reconstruction"] for line in _lines(tmp_path / "run", "train")]
    assert losses[-1] < 0.5 * losses[0]


def test_a_finished_run_says_so(unet, tmp_path):
    unet.train.steps = 2
    loop.train_and_evaluate(unet, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert loop.train_and_evaluate(unet, tmp_path / "run").reason == "already finished"
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_beginning_from_elsewhere(unet, tmp_path):
    """Only a new run begins from another model; a resumed one goes on from its own state."""
    unet.train.update({"steps": 2, "checkpoint_every": 2})
    unet.optimizer.learning_rate = 1e-12
    calls = []

    def begin(state, graphs, config):
        assert config.model.in_channels and graphs.generator is not None
        params = jax.tree.map(lambda x: jnp.full_like(x, 0.125), state.generator.params)
        calls.append(1)
        network = dataclasses.replace(state.generator, params=params)
        return dataclasses.replace(state, generator=network, average=None)

    unet.ema = 0.0
    loop.train_and_evaluate(unet, tmp_path / "run", begin=begin)
    kept = checkpoint.restore_generator(tmp_path / "run", "latest").params
    for leaf in jax.tree.leaves(kept):
        np.testing.assert_allclose(leaf, 0.125, atol=1e-6)
    unet.train.steps = 4
    loop.train_and_evaluate(unet, tmp_path / "run", begin=begin)
    assert calls == [1]


def test_patience(unet, tmp_path):
    unet.optimizer.learning_rate = 1e-12  # nothing will improve
    unet.train.update({"eval_every": 2, "patience": 2, "checkpoint_every": 100})
    outcome = loop.train_and_evaluate(unet, tmp_path / "run")
    assert outcome.reason == "no better score" and outcome.step < 8
    assert loop.train_and_evaluate(unet, tmp_path / "run").reason == "already finished"


def test_patience_counts_from_where_the_rate_falls(unet, tmp_path):
    """8 steps are 3 epochs of 3: the rate falls from the second epoch, step 3, on."""
    unet.optimizer.update({"learning_rate": 1e-12, "schedule": "linear", "decay_from": 0.67})
    unet.train.update({"eval_every": 1, "patience": 2, "checkpoint_every": 100, "image_every": 100})
    outcome = loop.train_and_evaluate(unet, tmp_path / "run")
    assert (outcome.reason, outcome.step) == ("no better score", 5)


def test_validation_scores_the_averaged_generator(config, tmp_path):
    """By a rate at which the average lags far behind: the score kept is that of the average."""
    config.optimizer.learning_rate, config.ema, config.model.dropout = 0.05, 0.9, 0.0
    config.train.update({"steps": 4, "eval_every": 4})
    outcome = loop.train_and_evaluate(config, tmp_path / "run")
    found = checkpoint.restore_generator(tmp_path / "run", "best")
    arrays = loader.load_arrays.splits["validation"].device_dict()
    evaluate = make_evaluator(found.config)
    (line,) = _lines(tmp_path / "run", "validation")
    saved = _weights(tmp_path / "run").arrays
    scores = {}
    for kind in ("average", "generator"):
        leaves = [saved[name] for name in saved if name.startswith(f"{kind}.params")]
        params = jax.tree.unflatten(jax.tree.structure(found.params), leaves)
        stats = [saved[name] for name in saved if name.startswith(f"{kind}.stats")]
        stats = jax.tree.unflatten(jax.tree.structure(found.stats), stats)
        scores[kind] = float(evaluate(params, stats, arrays)[0]["mae_masked"].mean())
    assert abs(scores["average"] - scores["generator"]) > 2e-4
    assert line["mae_masked"] == pytest.approx(scores["average"], abs=1e-5)
    assert outcome.best == pytest.approx(line[config.train.best_metric])


@pytest.mark.parametrize("name", ["mae_masked", "mi_corrected_nats", "stain_h_correlation"])
def test_the_best_checkpoint_is_the_best_by_the_score_that_chooses(unet, tmp_path, name):
    unet.train.update({"best_metric": name, "eval_every": 2, "checkpoint_every": 8})
    unet.optimizer.learning_rate = 0.05
    outcome = loop.train_and_evaluate(unet, tmp_path / "run")
    lines = _lines(tmp_path / "run", "validation")
    best = (min if name in LOWER_IS_BETTER else max)(lines, key=lambda line: line[name])
    assert outcome.best == best[name]
    assert checkpoint.restore_generator(tmp_path / "run", "best").step == best["step"]


@pytest.mark.usefixtures("heeding_hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_stops(unet, tmp_path, number):
    def progress(step, values):
        if step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)  # Ignored, perhaps, where the tests run in the background.
    with stop_requests() as stop:
        report = loop.Report(progress=progress)
        outcome = loop.train_and_evaluate(unet, tmp_path / "run", report=report, stop=stop)
    assert (outcome.reason, outcome.signal, outcome.step) == ("signal", number, 2)
    assert _weights(tmp_path / "run").step == 2
    assert signal.getsignal(number) == before


def test_a_second_one_in_the_same_folder_is_refused(unet, tmp_path):
    """In the middle of the first, which goes on as if nothing had been."""
    said = []

    def progress(step, values):
        if not said:
            with pytest.raises(InputError) as caught:
                loop.train_and_evaluate(unet, tmp_path / "run")
            said.append(str(caught.value))

    outcome = loop.train_and_evaluate(unet, tmp_path / "run", report=loop.Report(progress=progress))
    assert outcome.reason == "finished" and _weights(tmp_path / "run").step == unet.train.steps
    assert "run: another train is at work there, process" in said[0]
    assert not [path.name for path in (tmp_path / "run").rglob("*lock*")]


def test_losses_that_stay_infinite_end_the_run(unet, data_dir, tmp_path):
    for arrays in loader.load_arrays.splits.values():
        arrays.msi[:] = np.nan
    unet.train.update({"steps": 40, "steps_per_call": 10})
    outcome = loop.train_and_evaluate(unet, tmp_path / "run")
    assert outcome.reason == "not finite" and outcome.step < 40
    saved = _weights(tmp_path / "run")
    assert all(np.isfinite(array).all() for array in saved.arrays.values())
    names = loader.load_arrays.splits["train"].sample_ids
    with np.load(tmp_path / "run" / "not_finite.npz") as dumped:
        assert dumped["step"] == outcome.step and np.isnan(dumped["msi"]).all()
        assert dumped["sample_ids"].tolist() == [names[index] for index in dumped["index"]]
    assert len(_lines(tmp_path / "run", "skipped")) == outcome.step


def test_one_poisoned_sample_is_skipped_named_and_counted(unet, tmp_path):
    """The run is the one without its updates: finite to the end, and told of by name."""
    arrays, notes = loader.load_arrays.splits["train"], []
    arrays.msi[3, 5, 5, 0] = np.nan
    unet.train.update({"steps": 60, "steps_per_call": 6})
    unet.data.augment = "none"
    report = loop.Report(note=notes.append)
    outcome = loop.train_and_evaluate(unet, tmp_path / "run", report=report)
    assert (outcome.reason, outcome.step) == ("finished", 60)
    lines = _lines(tmp_path / "run", "skipped")
    # Once an epoch of three batches; which step of it, the order of the epoch decides.
    assert [(line["step"] - 1) // 3 for line in lines] == list(range(20))
    assert all(arrays.sample_ids[3] in line["samples"] for line in lines)
    said = [note for note in notes if "is not finite, skipped: " in note]
    assert len(said) == loop.MOST_SKIPPED and said[0].startswith(f"step {lines[0]['step']}: ")
    saved = _weights(tmp_path / "run")
    assert all(np.isfinite(array).all() for array in saved.arrays.values())
    assert saved.arrays["skipped"] == 20 and saved.arrays["skipped_in_a_row"] <= 1
    assert not (tmp_path / "run" / "not_finite.npz").exists()


def test_empty_validation_split_is_said(unet, tmp_path):
    del loader.load_arrays.splits["validation"]
    unet.train.steps = 2
    notes = []
    loop.train_and_evaluate(unet, tmp_path / "run", report=loop.Report(note=notes.append))
    assert any("validation split is empty" in note for note in notes)


def test_absent_data_name_the_commands(unet, tmp_path):
    unet.data.dir = str(tmp_path / "nothing")
    with pytest.raises(InputError) as caught:
        loop.train_and_evaluate(unet, tmp_path / "run")
    own = f"msi2he preprocess --manifest=YOUR_MANIFEST.csv --out={unet.data.dir}"
    assert 0 < str(caught.value).index(own) < str(caught.value).index("msi2he simulate --out=")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "in_channels", 7, "the data in .* have 4"),
        ("discriminator", "n_layers", 4, "too many for images of 16 px .*n_layers=2"),
    ],
)
def test_what_only_the_data_tell(config, tmp_path, section, key, value, words):
    config[section][key] = value
    with pytest.raises(InputError, match=words):
        loop.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_continuing_with_another_recipe_is_refused(unet, tmp_path):
    unet.train.steps = 2
    loop.train_and_evaluate(unet, tmp_path / "run")
    unet.loss.reconstruction = "mse"
    with pytest.raises(InputError, match=r"loss\.reconstruction"):
        loop.train_and_evaluate(unet, tmp_path / "run")


def test_the_loop_stays_short():
    import inspect

    assert len(inspect.getsource(loop.train_and_evaluate).splitlines()) <= 60
