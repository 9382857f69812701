import json
import pathlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msi2he_jax.config import default_config
from msi2he_jax.errors import InputError
from msi2he_jax.training import checkpoint, same_run
from msi2he_jax.training.state import Network, TrainState

SGD = optax.sgd(1.0)


def tiny_state(step: int) -> TrainState:
    """A state of a few numbers: checkpoints do not care what a network is."""
    zero = jnp.zeros((), jnp.int32)
    weights = {"a": jnp.full((64, 3), float(step)), "b": [jnp.arange(4) + step]}
    network = Network(weights, {"mean": jnp.ones(2)}, SGD.init(weights))
    return TrainState(jnp.int32(step), zero, zero, network, None, None)


def _save(run, *steps):
    with checkpoint.managers(run) as managers:
        for step in steps:
            checkpoint.save(managers["latest"], tiny_state(step), {"best": 0.5, "stale": 0})
    return run / "checkpoints" / "latest"


def test_round_trip_is_exact(tmp_path):
    folder = _save(tmp_path, 3, 6)
    saved, faults = checkpoint.read_newest(folder)
    assert (saved.step, saved.notes, faults) == (6, {"best": 0.5, "stale": 0}, [])
    state = checkpoint.fill(tiny_state(0), saved.arrays)
    np.testing.assert_array_equal(state.generator.params["a"], np.full((64, 3), 6.0))
    np.testing.assert_array_equal(state.generator.params["b"][0], np.arange(4) + 6)
    assert state.step.dtype == np.int32 and state.discriminator is None


def test_saving_a_step_twice_is_harmless(tmp_path):
    assert checkpoint.read_newest(_save(tmp_path, 3, 3))[0].step == 3


def test_only_the_last_two_are_kept(tmp_path):
    folder = _save(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


def test_a_stray_folder_is_passed_over_and_set_aside(tmp_path):
    folder = _save(tmp_path, 3)
    (folder / "99").mkdir()
    (folder / "notes").mkdir()
    saved, faults = checkpoint.read_newest(folder)
    assert saved.step == 3
    assert len(faults) == 1 and "99" in faults[0] and "\n" not in faults[0]
    checkpoint.set_aside(folder, saved.step)
    _save(tmp_path, 6)
    assert checkpoint.read_newest(folder)[0].step == 6


def _flip_a_bit(step: pathlib.Path):
    """Damages the largest file of a step, which holds the weights."""
    files = [path for path in (step / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_damage_is_found_and_the_older_step_taken(tmp_path):
    folder = _save(tmp_path, 3, 6)
    _flip_a_bit(folder / "6")
    saved, faults = checkpoint.read_newest(folder)
    assert saved.step == 3 and "damaged" in faults[0]
    _flip_a_bit(folder / "3")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        checkpoint.read_newest(folder)


def test_digest_sees_names_types_shapes_and_content():
    first = {"a": np.zeros((2, 3), np.float32)}
    others = [
        {"b": first["a"]},
        {"a": first["a"].astype(np.int32)},
        {"a": first["a"].reshape(3, 2)},
        {"a": first["a"] + np.float32(1e-30)},
    ]
    assert checkpoint.digest(first) == checkpoint.digest({"a": np.zeros((2, 3), np.float32)})
    assert len({checkpoint.digest(each) for each in [first, *others]}) == 5


def test_nothing_there_is_nothing(tmp_path):
    assert checkpoint.read_newest(tmp_path / "checkpoints" / "latest") == (None, [])


def test_another_architecture_is_named(tmp_path):
    saved, _ = checkpoint.read_newest(_save(tmp_path, 3))
    with pytest.raises(InputError, match=r"generator\.params\.a.*\[64, 3\].*\[64, 4\]"):
        checkpoint.fill({"a": jnp.zeros((64, 4))}, saved.arrays, "generator.params")


def test_another_configuration_is_refused_in_one_line(tmp_path):
    config = default_config()
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    config.train.steps += 1  # more of the same run
    same_run.check_same_run(tmp_path, config)
    config.optimizer.learning_rate = 0.5
    with pytest.raises(InputError, match=r"optimizer\.learning_rate: is 0\.0002 .* 0\.5 was"):
        same_run.check_same_run(tmp_path, config)


def test_restore_generator_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        checkpoint.restore_generator(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json"):
        checkpoint.restore_generator(tmp_path)
    config = default_config()
    config.model.in_channels = 4
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(InputError, match="holds no checkpoint"):
        checkpoint.restore_generator(tmp_path, "best")
    with pytest.raises(InputError, match="expected best or latest"):
        checkpoint.restore_generator(tmp_path, "newest")


def test_a_step_that_was_not_finished_is_none(tmp_path):
    latest = tmp_path / "checkpoints" / "latest"
    (latest / "100.orbax-checkpoint-tmp-1").mkdir(parents=True)
    assert not checkpoint.has_steps(tmp_path) and not checkpoint.has_steps(tmp_path, "best")
    (latest / "100").mkdir()
    assert checkpoint.has_steps(tmp_path)


def test_paths_in_an_error_keep_their_slashes(tmp_path):
    error = OSError(f"{tmp_path}/a/b: full")
    assert checkpoint._first_line(error) == f"{tmp_path}/a/b: full"
    assert checkpoint._first_line(error, tmp_path) == "a/b: full"
