"""A run learns the same from memory and from the disk, and says which it does and why."""

import jax
import numpy as np
import pytest

from msi2he_jax.training import checkpoint, evaluation, loop, methods, preparation, state
from tests.training.conftest import CHANNELS, tiny_arrays


def _run(config, folder, **keys):
    notes = []
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(keys)
    report = loop.Report(note=notes.append)
    loop.train_and_evaluate(config, folder, report=report)
    saved = checkpoint.read_newest(folder / "checkpoints" / "latest")[0]
    return checkpoint.digest(saved.arrays), notes


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_streamed_run_is_the_one_from_memory(stored, tmp_path, mode):
    """Bit for bit, also when it stopped in the middle and went on."""
    stored.parallel = mode
    memory, notes = _run(stored, tmp_path / "memory")
    assert "kept on the device" in notes[0]
    keys = {"data.loader": "stream"}
    whole, notes = _run(stored, tmp_path / "whole", **keys)
    assert "streamed from their shards: data.loader says so" in notes[0]
    _run(stored, tmp_path / "parts", **keys, **{"train.steps": 5})
    parts, _ = _run(stored, tmp_path / "parts", **keys)
    assert memory == whole == parts


def test_auto_goes_by_size_and_says_so(stored, monkeypatch):
    """Streamed where the pairs, not the shards, would not fit into half of the memory."""
    said = []
    data, _ = preparation.open_data(stored, said.append)
    assert hasattr(data, "msi") and "kept on the device" in said[-1]
    size = preparation._bytes_in_memory(data)
    monkeypatch.setattr(preparation, "memory_for_data", lambda: size)
    assert hasattr(preparation.open_data(stored, said.append)[0], "msi")
    monkeypatch.setattr(preparation, "memory_for_data", lambda: size - 1)
    data, validation = preparation.open_data(stored, said.append)
    assert not hasattr(data, "msi") and hasattr(validation, "msi")
    assert "they take" in said[-1] and "GiB of memory" in said[-1]


def test_half_of_a_memory_is_for_data(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 1000}

    monkeypatch.setattr(preparation.jax, "local_devices", lambda: [Device()])
    assert preparation.memory_for_data() == 500


def test_a_split_on_the_host_scores_as_one_on_the_device(config):
    """In parts, with dropout: the numbers of the examples are those of the whole."""
    config.model.update({"in_channels": CHANNELS, "name": "unet_pix2pix", "depth": 6})
    config.test.dropout_at_test = True
    held = tiny_arrays(5, 0).device_dict()
    begin = methods.make_method(config).init()
    evaluate = evaluation.make_evaluator(config)
    whole = evaluate(*state.inference_arrays(begin), held)
    parts = evaluation.in_parts(evaluate, 2)(*state.inference_arrays(begin), held)
    jax.tree.map(np.testing.assert_array_equal, parts, jax.device_get(whole))
