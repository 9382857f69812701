import os
import pathlib
import signal

import pytest

from msi2he_jax import train
from msi2he_jax.config import load_config

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
SMOKE = f"--config={CONFIGS / 'smoke.py'}"


@pytest.fixture
def outcome(monkeypatch):
    """Replaces the loop; returns what it was called with, and lets a test choose how it ends."""
    from msi2he_jax.training import loop, parallel

    seen = {"outcome": loop.Outcome(300, "finished", 0.5)}

    def train_and_evaluate(config, workdir, **_):
        seen.update(config=config, workdir=workdir)
        return seen["outcome"]

    monkeypatch.setattr(loop, "train_and_evaluate", train_and_evaluate)
    monkeypatch.setattr(parallel, "use_compilation_cache", lambda: None)
    return seen


def test_overrides_reach_the_loop(outcome, capsys):
    words = ["--config.train.steps=7", "--config.optimizer.learning_rate", "3", "--workdir=here"]
    words += ["--noconfig.discriminator.conditional", "--config.test.dropout_at_test"]
    assert train.main([SMOKE, *words]) == 0
    config = outcome["config"]
    assert config.train.steps == 7 and config.optimizer.learning_rate == 3.0
    assert config.discriminator.conditional is False and config.test.dropout_at_test is True
    assert outcome["workdir"] == "here"
    assert "here: finished at step 300" in capsys.readouterr().out


def test_workdir_is_named_after_the_configuration(outcome):
    assert train.main([f"{SMOKE}:unet"]) == 0
    assert outcome["workdir"] == "runs/smoke_unet"


def test_deterministic_operations_are_asked_for(outcome, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    assert train.main([SMOKE]) == 0
    assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
    assert train.main([SMOKE, "--deterministic"]) == 0
    words = os.environ["XLA_FLAGS"].split()
    assert words == ["--xla_force_host_platform_device_count=2", "--xla_gpu_deterministic_ops=true"]


@pytest.mark.parametrize(
    ("reason", "number", "code"),
    [
        ("already finished", None, 0),
        ("no better score", None, 0),
        ("not finite", None, 3),
        ("signal", signal.SIGTERM, 75),
        ("signal", signal.SIGHUP, 129),
        ("signal", signal.SIGINT, 130),
    ],
)
def test_exit_codes(outcome, capsys, reason, number, code):
    from msi2he_jax.training.loop import Outcome

    outcome["outcome"] = Outcome(5, reason, None, signal=number)
    assert train.main([SMOKE]) == code
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--config: is required"),
        (["--config=nowhere.py"], "nowhere.py: --config: no such file"),
        ([f"{SMOKE}:big"], "expected pix2pix or unet"),
        ([SMOKE, "--config.train.stepz=3"], "did you mean train.steps?"),
        ([SMOKE, "--config.steps=3"], "did you mean train.steps?"),
        ([SMOKE, "--config.train.steps=many"], "is 'many', expected a whole number"),
        ([SMOKE, "--config.train.steps=2.5"], "is '2.5', expected a whole number"),
        ([SMOKE, "--config.ema=big"], "expected a number"),
        ([SMOKE, "--config.discriminator.conditional=maybe"], "expected true or false"),
        ([SMOKE, "--config.train.batch_size=0"], "train.batch_size: is 0"),
        ([SMOKE, "--config.train=3"], "is a section (its keys are"),
        ([SMOKE, "--workdri=x"], "did you mean --workdir?"),
        ([SMOKE, "extra"], "extra: is not a flag"),
        ([SMOKE, "--config.data.dir=/nowhere/pairs"], "msi2he simulate"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert expected in error
    assert not list(tmp_path.iterdir())


def test_help_tells_of_every_key(capsys):
    assert train.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for words in ("--workdir", "--config.optimizer.learning_rate=0.0002", "lsgan", "FILE.json"):
        assert words in printed


def test_override_keeps_the_configuration_it_was_given():
    config = load_config(CONFIGS / "smoke.py")
    changed = train.override(config, "train.steps", "9")
    assert changed.train.steps == 9 and config.train.steps == 150
