"""A run's provenance.json and every checkpoint of it: damage is named, in whatever reads them."""

import json
import shutil

import pytest

from msi2he_jax import doctor
from msi2he_jax.errors import InputError
from msi2he_jax.inference import load_model
from msi2he_jax.training import checkpoint, loop, same_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_provenance):
    """Makes a run of two steps, of which both kinds of checkpoint are there."""
    from msi2he_jax.config import default_config
    from msi2he_jax.training import methods
    from msi2he_jax.training.state import create_train_state

    folder = tmp_path_factory.mktemp("trained") / "run"
    folder.mkdir()
    config = default_config()
    config.model.update({"name": "unet_ronneberger", "depth": 1, "features": 2, "norm": "none"})
    config.model.in_channels = 4
    config.discriminator.name = "none"
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "provenance.json").write_text(json.dumps(make_provenance(4)))
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    notes = {"best": 0.5, "stale": 0, "spent_s": {"train": 1.0}, "config": config.to_dict()}
    notes["provenance"] = same_run.provenance_digest(folder)
    with checkpoint.managers(folder) as managers:
        for kind in checkpoint.KINDS:
            checkpoint.save(managers[kind], state, notes)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def _edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _forget_digest(run):
    """Makes the run one of an earlier version, whose notes knew no provenance."""
    for kind in checkpoint.KINDS:
        step = run / "checkpoints" / kind / "0"
        saved = checkpoint.read_newest(step.parent)[0]
        notes = {name: value for name, value in saved.notes.items() if name != "provenance"}
        notes["sha256"] = checkpoint.digest(saved.arrays, notes)
        (step / "notes" / "metadata").write_text(json.dumps(notes))
        (step / "SHA256SUMS").unlink()


def _errors(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("kind", checkpoint.KINDS)
def test_doctor_finds_damage_in_either_checkpoint(run, kind, capsys):
    assert doctor.main([str(run)]) == 0
    (largest,) = [p for p in (run / "checkpoints" / kind).rglob("_METADATA")]
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    assert doctor.main([str(run)]) == 2
    (line,) = _errors(capsys)
    assert f"checkpoints/{kind}/0: is damaged" in line


def test_doctor_takes_a_run_without_one_of_them(run, capsys):
    shutil.rmtree(run / "checkpoints" / "best")
    assert doctor.main([str(run)]) == 0
    assert "holds no best checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["scaling"].update(scale=[4.0 * x for x in p["scaling"]["scale"]]),
        lambda p: p["peaks"].update(lower=[x - 1 for x in p["peaks"]["lower"]]),
        lambda p: p.update(simulated=False),
    ],
)
def test_a_changed_provenance_is_refused(run, change, capsys):
    assert load_model(run).warnings == ()
    _edit(run / "provenance.json", change)
    with pytest.raises(InputError, match=r"provenance\.json: differs from the one"):
        load_model(run)
    assert doctor.main([str(run)]) == 2
    assert len(_errors(capsys)) == 1


def test_a_run_of_an_earlier_version_is_read_with_a_warning(run, capsys):
    _forget_digest(run)
    unlisted, no_digest = load_model(run).warnings
    assert "has no SHA256SUMS" in unlisted and "hold no digest of it" in no_digest
    assert doctor.main([str(run)]) == 0
    assert capsys.readouterr().err.count("hold no digest of it") == 1


def test_a_step_that_is_passed_over_is_a_warning(run):
    newer = run / "checkpoints" / "best" / "3"
    shutil.copytree(run / "checkpoints" / "best" / "0", newer)
    next(newer.rglob("_METADATA")).write_text("{}")
    (warning,) = load_model(run).warnings
    assert "best/3: is damaged" in warning


@pytest.fixture
def small(config):
    config.discriminator.name, config.ema, config.model.norm = "none", 0.0, "none"
    config.train.update({"steps": 2, "eval_every": 2, "checkpoint_every": 2, "image_every": 2})
    return config


def test_resuming_keeps_and_checks_the_runs_own_provenance(small, data_dir, tmp_path):
    run = tmp_path / "run"
    loop.train_and_evaluate(small, run)
    before = (run / "provenance.json").read_bytes()
    _edit(data_dir / "provenance.json", lambda p: p.update(versions={"numpy": "3"}))
    small.train.steps = 4
    assert loop.train_and_evaluate(small, run).step == 4  # the same data, built anew
    assert (run / "provenance.json").read_bytes() == before
    assert len(same_run.provenance_digest(run)) == 64
    _edit(run / "provenance.json", lambda p: p.update(simulated=False))
    small.train.steps = 6
    with pytest.raises(InputError, match=r"provenance\.json: differs from the one"):
        loop.train_and_evaluate(small, run)


def test_data_scaled_otherwise_are_other_data(small, data_dir, tmp_path):
    loop.train_and_evaluate(small, tmp_path / "run")
    _edit(data_dir / "provenance.json", lambda p: p.update(scaling={"scale": [4.0]}))
    small.train.steps = 4
    with pytest.raises(InputError, match="scaling: these are not the data"):
        loop.train_and_evaluate(small, tmp_path / "run")
