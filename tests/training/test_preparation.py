"""What configuration and data make together: sizes, epochs, and runs with every option."""

import json
import pathlib

import numpy as np
import pytest

from msi2he_jax.data import loader
from msi2he_jax.errors import InputError
from msi2he_jax.training import checkpoint, loop, preparation

OPTIONS = {
    "augmentation.rotation_deg": 10.0,
    "augmentation.elastic_px": 1.0,
    "augmentation.elastic_cell_px": 8.0,
    "augmentation.channel_gain": 0.2,
    "augmentation.noise_additive": 0.05,
    "discriminator.norm": "instance",
    "loss.gan": "wgangp",
    "flow.enabled": True,
    "flow.features": 2,
    "flow.depth": 2,
}


def _arrays(config):
    return loader.load_arrays(config.data.dir, "train")


def test_resuming_with_every_option_equals_never_having_stopped(config, tmp_path):
    """Warps, penalties and the flow with its optimiser: bit for bit."""
    config.update_from_flattened_dict(OPTIONS)
    config.train.update({"steps": 4, "eval_every": 4, "image_every": 4})
    loop.train_and_evaluate(config, tmp_path / "whole")
    config.train.steps = 2
    loop.train_and_evaluate(config, tmp_path / "parts")
    config.train.steps = 4
    loop.train_and_evaluate(config, tmp_path / "parts")
    first, second = (
        checkpoint.read_newest(tmp_path / name / "checkpoints" / "latest")[0].arrays
        for name in ("whole", "parts")
    )
    assert checkpoint.digest(first) == checkpoint.digest(second)
    assert any(name.startswith("flow.params") for name in first)
    assert any(name.startswith("flow.optimizer") for name in first)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["split"] == "train"][-1]
    assert last["flow_px"] >= 0
    best = checkpoint.read_newest(tmp_path / "whole" / "checkpoints" / "best")[0].arrays
    assert not [name for name in best if name.startswith(("flow", "discriminator"))]
    checkpoint.restore_generator(tmp_path / "whole", "best")
    assert (tmp_path / "whole" / "images" / "step_00000004.png").is_file()


def test_epochs_decide_the_steps(config, tmp_path):
    config.train.epochs, config.train.batch_size = 5, 4  # 6 pairs: one batch is an epoch
    assert preparation.complete_config(config, _arrays(config)).train.steps == 5
    config.train.batch_size = 2
    done = preparation.complete_config(config, _arrays(config))
    assert done.train.steps == 15 and config.train.steps == 8
    assert preparation.complete_config(done, _arrays(config)).train.steps == 15
    config.train.epochs, config.discriminator.name, config.model.norm = 1, "none", "none"
    totals = []
    outcome = loop.train_and_evaluate(
        config, tmp_path / "run", report=loop.Report(total=totals.append)
    )
    assert (outcome.step, outcome.steps, totals) == (3, 3, [3])
    config.train.epochs = 2
    assert loop.train_and_evaluate(config, tmp_path / "run").step == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"discriminator.scales": 3}, r"n_layers: is 1.* 16 px at 3 scales .*n_layers=0"),
        ({"loss.pyramid_levels": 6}, r"loss\.pyramid_levels: is 6, too many for images of 16 px"),
        ({"loss.pyramid_levels": 5, "data.crop_px": 8}, r"images of 8 px"),
    ],
)
def test_images_too_small(config, options, words):
    config.update_from_flattened_dict(options)
    with pytest.raises(InputError, match=words):
        preparation.complete_config(config, _arrays(config))


@pytest.mark.parametrize(("asked", "number"), [("black", 255), ("white", 0)])
def test_another_padding_than_the_data_have_is_refused(stored, monkeypatch, asked, number):
    """In one line that names both, and before a device is touched."""

    def touched(*_):
        raise AssertionError("a device was touched")

    path = pathlib.Path(stored.data.dir) / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_value": number}))
    monkeypatch.setattr(preparation, "memory_for_data", touched)
    stored.data.padding = asked
    other = "white" if asked == "black" else "black"
    with pytest.raises(InputError, match=f"is {asked}, but preprocess padded these data {other}"):
        preparation.open_data(stored, print)
    stored.data.padding = other
    with pytest.raises(AssertionError, match="touched"):
        preparation.open_data(stored, print)


@pytest.mark.parametrize("number", [255, 0])
def test_what_the_loader_adds_has_the_padding_of_the_data(stored, number):
    path = pathlib.Path(stored.data.dir) / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_value": number}))
    path.with_name("SHA256SUMS").unlink()  # of the provenance as it was
    stored.model.depth = 5  # a multiple of 32 px; the pairs have 16
    for loading in ("device", "stream"):
        stored.data.loader = loading
        data, validation = preparation.open_data(stored, lambda line: None)
        assert data.pad_value == validation.pad_value == number
        first = data.histology[0] if loading == "device" else data.example(0)["histology"]
        assert (first[16:] == number).all() and (first[:, 16:] == number).all()
        assert (validation.histology[:, 16:] == number).all()


@pytest.mark.parametrize(
    ("augment", "turned"), [("none", ()), ("mirror", ("x",)), ("flip", ("x", "y"))]
)
def test_what_augmentation_turns(config, augment, turned):
    config.data.augment, config.train.batch_size = augment, 32
    arrays = {k: np.repeat(v[:1], 6, axis=0) for k, v in _arrays(config).device_dict().items()}
    images = np.asarray(preparation.sampler(config)(arrays, 0, 0)["msi"])
    forms = {"": arrays["msi"][0], "x": arrays["msi"][0][:, ::-1], "y": arrays["msi"][0][::-1]}
    forms["xy"] = forms["x"][::-1]
    seen = {name for name, form in forms.items() if (images == form).all((1, 2, 3)).any()}
    assert seen == {"", *turned, *(["xy"] if len(turned) == 2 else [])}


def test_ms_ssim_may_choose_only_where_it_fits(config):
    config.train.best_metric = "ms_ssim"
    with pytest.raises(InputError, match="best_metric: is ms_ssim, which needs images of 176 px"):
        preparation.complete_config(config, _arrays(config))
