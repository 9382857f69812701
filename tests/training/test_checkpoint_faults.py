"""What is damaged is named; what cannot be written is said in one line, and the old one stays."""

import json
import logging
import sys
import types

import jax.numpy as jnp
import optax
import pytest

from msi2he_jax.config import default_config
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import HASHES
from msi2he_jax.training import checkpoint, same_run
from msi2he_jax.training.state import Network, TrainState

SGD = optax.sgd(1.0)


def tiny_state(step: int) -> TrainState:
    """A state of a few numbers: checkpoints do not care what a network is."""
    zero, weights = jnp.zeros((), jnp.int32), {"a": jnp.full((64, 3), float(step))}
    return TrainState(
        jnp.int32(step), zero, zero, Network(weights, {}, SGD.init(weights)), None, None
    )


def save(run, *steps):
    with checkpoint.managers(run) as managers:
        for step in steps:
            checkpoint.save(managers["latest"], tiny_state(step), {"best": 0.5})
    return run / "checkpoints" / "latest"


def test_each_step_has_its_list_of_hashes(tmp_path):
    folder = save(tmp_path, 3, 6)
    assert all((folder / name / HASHES).is_file() for name in ("3", "6"))
    listed = (folder / "6" / HASHES).read_text()
    assert "notes/metadata" in listed and "state/" in listed


def test_a_step_without_a_list_is_checked_by_its_content(tmp_path):
    """As where the process was killed before it could list the files."""
    folder = save(tmp_path, 3)
    (folder / "3" / HASHES).unlink()
    assert checkpoint.read_newest(folder)[0].step == 3
    notes = folder / "3" / "notes" / "metadata"
    notes.write_text(notes.read_text().replace("0.5", "0.7"))
    with pytest.raises(InputError, match="does not match its SHA-256"):
        checkpoint.read_newest(folder)


def test_notes_may_change_while_they_are_written(tmp_path):
    notes = {"spent_s": {"train": 1.0}}
    with checkpoint.managers(tmp_path) as managers:
        checkpoint.save(managers["latest"], tiny_state(1), notes)
        notes["spent_s"]["train"] = 2.0
    saved, _ = checkpoint.read_newest(tmp_path / "checkpoints" / "latest")
    assert saved.notes == {"spent_s": {"train": 1.0}}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), InputError("a", "", "b")]
)
def test_a_save_that_fails_is_one_line(tmp_path, monkeypatch, error):
    folder = save(tmp_path, 3)

    def fail(*_):
        raise error

    expected = "a checkpoint could not be written" if isinstance(error, OSError) else "^a: b$"
    with pytest.raises(InputError, match=expected), checkpoint.managers(tmp_path) as managers:
        monkeypatch.setattr(managers["latest"], "wait_until_finished", fail)
        checkpoint.save(managers["latest"], tiny_state(6), {})
    assert checkpoint.read_newest(folder)[0].step == 3


def test_remarks_about_a_failed_save_are_left_out(tmp_path, monkeypatch):
    save(tmp_path, 1)
    ours = checkpoint._not_of_a_save
    record = logging.LogRecord("absl", 40, "site-packages/orbax/x.py", 1, "m", (), None)
    assert not ours(record)
    full = ValueError("RESOURCE_EXHAUSTED: full")
    record = logging.LogRecord("asyncio", 40, "a.py", 1, "m", (), (ValueError, full, None))
    assert not ours(record)
    assert ours(logging.LogRecord("absl", 40, "a.py", 1, "m", (), None))
    said = []
    monkeypatch.setattr(sys, "__unraisablehook__", said.append)
    for words in ("Event loop is closed", "a fault"):
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(words)))
    assert [str(each.exc_value) for each in said] == ["a fault"]


def test_a_list_of_another_length_is_damage(tmp_path):
    """What the notes say must be a mapping with the digest in it."""
    folder = save(tmp_path, 3)
    (folder / "3" / HASHES).unlink()
    (folder / "3" / "notes" / "metadata").write_text("{}")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        checkpoint.read_newest(folder)


def test_set_aside_never_overwrites(tmp_path):
    for name in ("7", "unreadable-7", "unreadable-7-", "not-a-step", "007"):
        (tmp_path / name).mkdir()
    (tmp_path / "9").touch()
    checkpoint.set_aside(tmp_path, 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"unreadable-7", "unreadable-7-", "unreadable-7--", "not-a-step", "007", "9"}


def test_set_aside_where_nothing_is(tmp_path):
    checkpoint.set_aside(tmp_path / "absent", 3)
    assert not (tmp_path / "absent").exists()


def test_other_data_are_refused(tmp_path):
    config = default_config()
    config.data.dir = str(tmp_path / "data")
    for name, content in (("run", "a"), ("data", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps({"content_sha256": content}))
    (tmp_path / "run" / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(InputError, match="not the data of the run that is there"):
        same_run.check_same_run(tmp_path / "run", config)
    (tmp_path / "data" / "provenance.json").write_text(json.dumps({"content_sha256": "a"}))
    same_run.check_same_run(tmp_path / "run", config)


def test_another_width_is_named(tmp_path):
    config = default_config()
    config.model.in_channels = 4
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    made_with = config.to_dict()
    made_with["model"]["features"] = 16
    made_with["train"]["steps"] = 3  # Which may differ.
    with checkpoint.managers(tmp_path) as managers:
        checkpoint.save(managers["best"], tiny_state(1), {"config": made_with})
    with pytest.raises(InputError, match=r"features: is 64, the checkpoint was made with 16"):
        checkpoint.restore_generator(tmp_path)


def test_what_may_differ_from_what_a_checkpoint_was_made_with(tmp_path):
    """Its place, its length; one that does not say is taken at its word."""
    config = default_config()
    config.model.in_channels = 4
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    made_with = config.to_dict()
    made_with["train"]["steps"] = 3
    with checkpoint.managers(tmp_path) as managers:
        checkpoint.save(managers["best"], tiny_state(1), {"config": made_with})
        checkpoint.save(managers["latest"], tiny_state(1), {})
    for which in ("best", "latest"):
        with pytest.raises(InputError, match=r"the checkpoint has nothing, the configuration asks"):
            checkpoint.restore_generator(tmp_path, which)


@pytest.mark.parametrize(("error", "line"), [(ValueError(), "ValueError"), (OSError("a\nb"), "a")])
def test_first_line(error, line):
    assert checkpoint._first_line(error) == line
