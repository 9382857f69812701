"""The export verb over a tiny run, each format read back."""

import json
import zipfile

import numpy as np
import pytest

from msi2he_jax import config as configs
from msi2he_jax import export
from msi2he_jax.inference import load_model
from msi2he_jax.interop.bundle_reading import read_bundle
from msi2he_jax.interop.torch_checkpoint import begin_from
from msi2he_jax.training import checkpoint, methods
from msi2he_jax.training.state import build_graphs, create_train_state

CHANNELS = 3


def _config():
    config = configs.default_config()
    config.model.update({"depth": 5, "features": 2, "in_channels": CHANNELS})
    config.discriminator.update({"features": 2, "n_layers": 1})
    return config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, make_provenance):
    """A run of a tiny pix2pix as it stands before the first step."""
    run_dir = tmp_path_factory.mktemp("run")
    config = _config()
    (run_dir / "config.json").write_text(json.dumps(config.to_dict()))
    (run_dir / "provenance.json").write_text(json.dumps(make_provenance(CHANNELS)))
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    with checkpoint.managers(run_dir) as managers:
        checkpoint.save(managers["best"], state, {}, for_inference=True)
        checkpoint.save(managers["latest"], state, {})
    return run_dir


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_a_bundle_draws_what_the_run_draws(run_dir, tmp_path, norm):
    words = [f"--run={run_dir}", f"--out={tmp_path / 'g.zip'}", f"--norm={norm}"]
    assert export.main([*words, "--height_px=40", "--width_px=24"]) == 0
    draw, sheet = read_bundle(tmp_path / "g.zip")
    assert sheet["input"]["shape"] == ["b", 40, 24, CHANNELS] and sheet["norm"] == norm
    msi = np.random.default_rng(0).random((3, 40, 24, CHANNELS), np.float32)
    expected = load_model(run_dir, norm=norm).apply(msi)
    np.testing.assert_allclose(draw(msi), expected, atol=1e-5)
    with zipfile.ZipFile(tmp_path / "g.zip") as archive:
        kept = json.loads(archive.read("provenance.json"))
    assert kept == json.loads((run_dir / "provenance.json").read_text())


def test_torch_weights_come_back(run_dir, tmp_path, capsys):
    words = [f"--run={run_dir}", f"--out={tmp_path / 'pth'}", "--format=torch"]
    assert export.main(words) == 0
    assert [p.name for p in (tmp_path / "pth").iterdir()] == ["latest_net_G.pth"]
    assert export.main([*words, "--which=latest"]) == 0
    assert "latest_net_D.pth: 9 arrays" in capsys.readouterr().out
    config = _config()
    saved = checkpoint.read_newest(run_dir / "checkpoints" / "latest")[0]
    config.seed = 9
    fresh = create_train_state(config, *methods.build_optimizers(config, 1))
    begun = begin_from(fresh, build_graphs(config), config, source=tmp_path / "pth")
    for part in ("generator", "discriminator"):
        for section in ("params", "stats"):
            state = getattr(getattr(begun, part), section)
            filled = checkpoint.fill(state, saved.arrays, f"{part}.{section}")
            found = checkpoint._named(state)
            for name, array in checkpoint._named(filled).items():
                np.testing.assert_array_equal(found[name], array)


@pytest.mark.interop
def test_onnx_draws_the_same(run_dir, tmp_path, capsys, real_library):
    real_library("jax2onnx")
    words = [f"--run={run_dir}", f"--out={tmp_path / 'g.onnx'}", "--format=onnx"]
    assert export.main([*words, "--height_px=64", "--width_px=32"]) == 0
    assert float(capsys.readouterr().out.split("within ")[1]) < 1e-4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out=x"], "--run: is required"),
        (["--run=nowhere", "--out=x"], "nowhere: --run: no such folder"),
        (["--run=RUN", "--out=."], ".: --out: is a folder (name a file)"),
        (["--run=RUN", "--out=x", "--height_px=0"], "--height_px"),
        (["--run=RUN", "--out=x", "--format=pb"], "--format"),
    ],
)
def test_a_mistake_is_one_line(run_dir, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    assert export.main([word.replace("RUN", str(run_dir)) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not list(tmp_path.iterdir())
