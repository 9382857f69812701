"""The stream gives the batches that the loader draws from memory, on any number of processes."""

import functools

import jax
import numpy as np
import pytest

from msi2he_jax.data import streaming
from msi2he_jax.data.augmentation import Augmentation
from msi2he_jax.data.builder import write_dataset
from msi2he_jax.data.loader import load_arrays, sample_batch, vary_batch
from msi2he_jax.errors import InputError

B, SEED = 4, 5
OPTIONS = {
    "crop_px": 6,
    "flip": True,
    "rotate": True,
    "augmentation": Augmentation(rotation_deg=20.0, elastic_px=1.0, channel_gain=0.2),
}


@pytest.fixture
def folder(tmp_path, make_example, provenance):
    shapes = [(10, 12), (13, 7), (8, 8), (9, 9), (12, 12), (7, 10)]
    examples = [make_example(number, *shape) for number, shape in enumerate(shapes)]
    write_dataset(tmp_path / "d", {"train": lambda: examples}, provenance)
    return tmp_path / "d"


@pytest.fixture
def both(folder):
    """The split in memory and on the disk."""
    return load_arrays(folder, "train", multiple_of=8), streaming.open_stored(
        folder, "train", multiple_of=8
    )


def _stream(stored, **options):
    return streaming.Stream(stored, seed=SEED, batch_size=B, **options)


def test_what_one_pass_finds_is_what_the_arrays_have(both):
    arrays, stored = both
    for name in ("grid", "channels", "sample_ids", "group_ids", "pad_value"):
        assert getattr(arrays, name) == getattr(stored, name)
    np.testing.assert_array_equal(arrays.extent_px, stored.extent_px)
    np.testing.assert_allclose(arrays.tissue_fraction, stored.tissue_fraction, rtol=1e-12)


def test_pairs_are_those_in_memory(both):
    arrays, stored = both
    held = arrays.device_dict()
    for index in range(len(stored)):
        for name, value in stored.example(index).items():
            np.testing.assert_array_equal(value, held[name][index])


def test_batches_are_those_drawn_from_memory(both):
    """To the bit, over several epochs."""
    arrays, stored = both
    held = jax.device_put(arrays.device_dict())
    draw = jax.jit(functools.partial(sample_batch, seed=SEED, batch_size=B, **OPTIONS))
    vary = jax.jit(functools.partial(vary_batch, seed=SEED, **OPTIONS))
    stream = _stream(stored)
    for step in range(7):
        expected, found = draw(held, step=step), vary(stream.batch(step))
        assert expected.keys() == found.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_any_step_can_be_the_first(both):
    stored = both[1]
    one = _stream(stored)
    through = [one.batch(step) for step in range(5)]
    resumed = _stream(stored)
    for step in (3, 4, 1):
        for name, value in resumed.batch(step).items():
            np.testing.assert_array_equal(value, through[step][name])


def test_processes_read_their_own_rows(both):
    stored = both[1]
    parts = [_stream(stored, rows=slice(k, k + 2)) for k in (0, 2)]
    whole = _stream(stored)
    for step in range(3):
        found = [part.batch(step) for part in parts]
        for name, value in whole.batch(step).items():
            np.testing.assert_array_equal(np.concatenate([f[name] for f in found]), value)


def test_a_type_for_the_device(both):
    arrays, stored = both
    kind = jax.numpy.bfloat16
    found = stored.example(2, kind)["msi"]
    assert found.dtype == kind
    np.testing.assert_array_equal(found, arrays.device_dict(kind)["msi"][2])


def test_faults_are_those_of_loading(folder, tmp_path):
    with pytest.raises(InputError, match="validation: holds no example"):
        streaming.open_stored(folder, "validation")
    shard = next(folder.glob("*.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match="differs from its SHA-256"):
        streaming.open_stored(folder, "train")
