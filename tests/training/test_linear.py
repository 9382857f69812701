"""Linear models go through the loop as any other; networks begin at them."""

import json

import jax
import numpy as np
import pytest

from msi2he_jax.data import loader
from msi2he_jax.metrics import baselines, nulls
from msi2he_jax.metrics.evaluation import unit_float
from msi2he_jax.training import checkpoint, loop, preparation
from msi2he_jax.training.methods import make_method
from msi2he_jax.training.methods.initial import fit_training_split


@pytest.fixture
def linear(config):
    config.model.update({"name": "linear", "start": "ridge", "norm": "none", "dropout": 0.0})
    config.discriminator.name = "none"
    config.train.steps = 1
    return config


@pytest.fixture
def started(config):
    """A network on ridge, with all that a state can hold."""
    config.model.start = "ridge"
    return config


def _image(run, which, msi):
    restored = checkpoint.restore_generator(run, which)
    synthesize = make_method(restored.config).synthesize
    image = synthesize(restored.params, restored.stats, msi, norm="running", dropout_key=None)
    return np.asarray(image), restored


def _baseline(config, name):
    train, test = (loader.load_arrays(config.data.dir, split) for split in ("train", "validation"))
    known = nulls.Training(train.msi, unit_float(train.histology), train.tissue_mask)
    found = baselines.linear_predictions(known, train.group_ids, train.inside, test.msi)
    return test.msi, 2.0 * found[name] - 1.0


@pytest.mark.parametrize("start", ("ridge", "pls"))
def test_a_linear_run_is_the_baseline(linear, tmp_path, start):
    linear.model.start = start
    notes = []
    report = loop.Report(note=notes.append)
    outcome = loop.train_and_evaluate(linear, tmp_path / "run", report=report)
    assert outcome.reason == "finished" and outcome.step == 1
    assert any("chosen by training patients left out in turn" in note for note in notes)
    msi, expected = _baseline(linear, f"{start}_3x3")
    for which in ("best", "latest"):
        image, _ = _image(tmp_path / "run", which, msi)
        np.testing.assert_allclose(image, expected, atol=1e-4)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    scores = [line for line in map(json.loads, lines) if line["split"] == "validation"]
    assert scores[0]["r2"] > 0.99  # the image is a mixture of the channels


def test_a_linear_run_is_resumed(linear, tmp_path):
    loop.train_and_evaluate(linear, tmp_path / "run")
    before = checkpoint.read_newest(tmp_path / "run" / "checkpoints" / "latest")[0]
    again = loop.train_and_evaluate(linear, tmp_path / "run")
    after = checkpoint.read_newest(tmp_path / "run" / "checkpoints" / "latest")[0]
    assert again.reason == "already finished"
    assert checkpoint.digest(before.arrays) == checkpoint.digest(after.arrays)


def test_what_is_streamed_is_fitted_alike(stored):
    stored.model.update({"name": "linear", "start": "ridge"})
    memory, _ = preparation.open_data(stored, lambda line: None)
    stored.data.loader = "stream"
    streamed, _ = preparation.open_data(stored, lambda line: None)
    assert hasattr(memory, "msi") and not hasattr(streamed, "msi")
    one, other = (fit_training_split(stored, data) for data in (memory, streamed))
    np.testing.assert_array_equal(one.kernel, other.kernel)
    np.testing.assert_array_equal(one.bias, other.bias)


def test_a_network_begins_at_ridge_and_keeps_it(started, tmp_path):
    """At step 0 it is ridge; later it is ridge, unchanged, and what it learnt beside it."""
    started.optimizer.learning_rate = 0.3  # so that no later step is better
    loop.train_and_evaluate(started, tmp_path / "run")
    msi, expected = _baseline(started, "ridge_3x3")
    image, first = _image(tmp_path / "run", "best", msi)
    assert first.step == 0
    np.testing.assert_allclose(image, expected, atol=1e-4)
    image, last = _image(tmp_path / "run", "latest", msi)
    assert last.step == 8 and np.abs(image - expected).max() > 1e-2
    for one, other in zip(
        jax.tree.leaves(first.stats["line"]), jax.tree.leaves(last.stats["line"])
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_resuming_a_started_network_equals_never_having_stopped(started, tmp_path):
    loop.train_and_evaluate(started, tmp_path / "whole")
    started.train.steps = 5
    loop.train_and_evaluate(started, tmp_path / "parts")
    started.train.steps = 8
    loop.train_and_evaluate(started, tmp_path / "parts")
    whole, parts = (
        checkpoint.read_newest(tmp_path / name / "checkpoints" / "latest")[0]
        for name in ("whole", "parts")
    )
    assert checkpoint.digest(whole.arrays) == checkpoint.digest(parts.arrays)
