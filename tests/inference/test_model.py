import json

import numpy as np
import pytest

from msi2he_jax import config as configs
from msi2he_jax.data.provenance import FORMAT
from msi2he_jax.errors import InputError
from msi2he_jax.inference import load_model, synthesize_tiled
from msi2he_jax.training import checkpoint, methods
from msi2he_jax.training.state import create_train_state

CHANNELS = 4


def _config():
    config = configs.default_config()
    config.model.name, config.model.depth = "unet_ronneberger", 2
    config.model.features, config.model.in_channels = 4, CHANNELS
    config.model.norm = "batch"
    config.discriminator.name = "none"
    config.test.norm_at_test = "running"
    return config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, make_provenance):
    """A run of a tiny U-Net as it stands before the first step."""
    run_dir = tmp_path_factory.mktemp("run")
    config = _config()
    (run_dir / "config.json").write_text(json.dumps(config.to_dict()))
    (run_dir / "provenance.json").write_text(json.dumps(make_provenance(CHANNELS)))
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    with checkpoint.managers(run_dir) as managers:
        checkpoint.save(managers["best"], state, {})
    return run_dir


def _msi(batch, side=8):
    return np.random.default_rng(0).random((batch, side, side, CHANNELS), dtype=np.float32)


@pytest.mark.parametrize("norm", ["batch", "running"])
@pytest.mark.parametrize("dropout", [False, True])
def test_images_do_not_influence_each_other(run_dir, norm, dropout):
    model = load_model(run_dir, norm=norm, dropout=dropout)
    msi = _msi(3)
    together = np.asarray(model.apply(msi))
    alone = np.concatenate([model.apply(one[None]) for one in msi])
    assert together.shape == (3, 8, 8, 3) and together.dtype == np.float32
    assert np.abs(together).max() <= 1 and together.std() > 1e-4
    assert np.allclose(together, alone, atol=1e-5)


def test_what_the_run_says_about_testing_is_followed_unless_told_otherwise(run_dir):
    model = load_model(run_dir)
    assert (model.norm, model.dropout, model.step, model.channels) == ("running", False, 0, 4)
    assert model.multiple_px == 4
    assert model.provenance["format"] == FORMAT
    other = load_model(run_dir, norm="batch")
    assert np.abs(np.asarray(model.apply(_msi(1))) - np.asarray(other.apply(_msi(1)))).max() > 1e-4


def test_a_model_goes_through_tiles(run_dir):
    model = load_model(run_dir)
    image = synthesize_tiled(model.apply, _msi(1, 21)[0], tile_px=12, overlap_px=4)
    assert image.shape == (21, 21, 3) and np.abs(image).max() <= 1


def test_other_channels_are_refused(run_dir):
    with pytest.raises(InputError, match=r"\[B, H, W, 4\]"):
        load_model(run_dir).apply(np.zeros((1, 8, 8, 5), np.float32))


def test_what_is_no_run_is_refused(run_dir, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="checkpoint"):
        load_model(run_dir, "latest")
    with pytest.raises(InputError, match="norm"):
        load_model(run_dir, norm="instance")


def test_a_peak_list_of_another_run_is_refused(run_dir, tmp_path):
    import shutil

    copy = shutil.copytree(run_dir, tmp_path / "copy")
    provenance = json.loads((copy / "provenance.json").read_text())
    provenance["peaks"]["mz"].append(2.0)
    (copy / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(InputError, match="5 peaks"):
        load_model(copy)
