"""The loader: padded arrays scaled by provenance, and batches that are a function of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.data.builder import write_dataset
from msi2he_jax.data.loader import load_arrays, permutation, sample_batch
from msi2he_jax.errors import InputError

_draw = jax.jit(sample_batch, static_argnames=("seed", "batch_size", "crop_px", "flip", "rotate"))


@pytest.fixture
def folder(tmp_path, make_example, provenance):
    examples = [make_example(0, 10, 12), make_example(1, 13, 7), make_example(2, 8, 8)]
    write_dataset(tmp_path / "d", {"train": lambda: examples}, provenance)
    return tmp_path / "d", examples


def test_arrays_are_padded_and_scaled(folder, provenance):
    path, examples = folder
    scale = np.array(provenance["scaling"]["scale"])
    assert len(set(scale)) == len(scale) == 4
    arrays = load_arrays(path, "train", multiple_of=8)
    assert arrays.msi.shape == (3, 16, 16, 4) and len(arrays) == 3
    assert arrays.sample_ids == ("s0", "s1", "s2") and arrays.group_ids == ("g0", "g1", "g2")
    np.testing.assert_array_equal(arrays.extent_px, [[10, 12], [13, 7], [8, 8]])
    for i, example in enumerate(examples):
        height, width = example["msi"].shape[:2]
        scaled = np.sqrt(np.clip(example["msi"] / scale, 0, 1))
        np.testing.assert_allclose(arrays.msi[i, :height, :width], scaled, rtol=1e-6)
        np.testing.assert_array_equal(arrays.histology[i, :height, :width], example["histology"])
        both = example["msi_mask"] & example["tissue_mask"]
        np.testing.assert_array_equal(arrays.tissue_mask[i, :height, :width], both)
        np.testing.assert_array_equal(arrays.valid_mask[i, :height, :width], example["msi_mask"])
        outside = np.ones((16, 16), bool)
        outside[:height, :width] = False
        assert (arrays.msi[i][outside] == 0).all() and (arrays.histology[i][outside] == 255).all()
        assert not arrays.valid_mask[i][outside].any()
        assert arrays.um_per_px[i] == np.float32(example["um_per_px"])
    assert load_arrays(path, "train").msi.shape == (3, 13, 12, 4)


def test_an_empty_split_is_an_error(folder):
    with pytest.raises(InputError, match="validation: holds no example"):
        load_arrays(folder[0], "validation")


def _coded(count=5, size=6):
    """Arrays whose every value tells example, row and column, so that any mix-up shows."""
    code = np.arange(count * size * size, dtype=np.float32).reshape(count, size, size)
    return {
        "msi": jnp.asarray(code[..., None] / code.size),
        "histology": jnp.asarray(np.repeat(code[..., None] % 256, 3, -1).astype(np.uint8)),
        "tissue_mask": jnp.asarray(code % 2 == 0),
        "valid_mask": jnp.asarray(code % 3 == 0),
        "extent_px": jnp.full((count, 2), size, jnp.int32),
    }


def _codes(batch, arrays):
    return np.rint(np.asarray(batch["msi"][..., 0]) * arrays["msi"].size).astype(int)


def test_batches_run_through_permutations():
    arrays = _coded()
    drawn = np.concatenate([_draw(arrays, step=s, seed=7, batch_size=3)["index"] for s in range(5)])
    expected = np.concatenate([permutation(7, epoch, 5) for epoch in range(3)])
    np.testing.assert_array_equal(drawn, expected)
    assert sorted(expected[:5]) == list(range(5))


def test_a_batch_larger_than_the_data():
    batch = _draw(_coded(count=2), step=3, seed=0, batch_size=7)
    expected = np.concatenate([permutation(0, epoch, 2) for epoch in range(10, 14)])[1:8]
    np.testing.assert_array_equal(batch["index"], expected)


def test_whole_images_unchanged_without_augmentation():
    arrays = _coded()
    batch = _draw(arrays, step=1, seed=0, batch_size=2)
    index = np.asarray(batch["index"])
    np.testing.assert_array_equal(batch["msi"], arrays["msi"][index])
    np.testing.assert_array_equal(batch["tissue_mask"], arrays["tissue_mask"][index])
    expected = np.asarray(arrays["histology"][index], np.float32) / 127.5 - 1
    np.testing.assert_allclose(batch["image"], expected, atol=1e-6)


@pytest.mark.parametrize(("flip", "rotate"), [(True, False), (False, True), (True, True)])
def test_all_arrays_turn_alike_and_all_turns_occur(flip, rotate):
    arrays = _coded(count=1)
    options = {"seed": 3, "batch_size": 64, "flip": flip, "rotate": rotate}
    batch = jax.jit(lambda s: _draw(arrays, step=s, **options))(0)
    codes = _codes(batch, arrays)
    np.testing.assert_array_equal(batch["tissue_mask"], codes % 2 == 0)
    np.testing.assert_array_equal(batch["valid_mask"], codes % 3 == 0)
    np.testing.assert_allclose((batch["image"][..., 0] + 1) * 127.5, codes % 256, atol=1e-3)
    plain = np.arange(36).reshape(6, 6)
    turns = [np.rot90(plain, k) for k in (range(4) if rotate else [0])]
    if flip:
        turns = [t[::a, ::b] for t in turns for a in (1, -1) for b in (1, -1)]
    assert {c.tobytes() for c in codes} == {np.ascontiguousarray(t).tobytes() for t in turns}


def test_crops_lie_in_each_examples_own_extent():
    arrays = _coded(count=2, size=8)
    arrays["extent_px"] = jnp.array([[8, 5], [3, 8]], jnp.int32)
    batch = _draw(arrays, step=0, seed=0, batch_size=64, crop_px=4)
    assert batch["msi"].shape == (64, 4, 4, 1)
    corner = _codes(batch, arrays)[:, 0, 0] % 64
    rows, columns, index = corner // 8, corner % 8, np.asarray(batch["index"])
    assert set(rows[index == 0]) == {0, 1, 2, 3, 4} and set(columns[index == 0]) == {0, 1}
    assert set(rows[index == 1]) == {0} and set(columns[index == 1]) == {0, 1, 2, 3, 4}


def test_a_step_is_the_same_in_a_scan_and_alone():
    arrays = _coded()
    options = {"seed": 1, "batch_size": 2, "crop_px": 4, "flip": True, "rotate": True}
    draw = lambda _, step: (None, _draw(arrays, step=step, **options)["msi"])  # noqa: E731
    scanned = jax.jit(lambda: jax.lax.scan(draw, None, jnp.arange(6))[1])()
    for step in (0, 5):
        alone = _draw(arrays, step=step, **options)["msi"]
        np.testing.assert_array_equal(scanned[step], alone)
    assert not np.array_equal(scanned[0], scanned[1])


def test_stored_types():
    arrays = _coded()
    arrays["msi"] = (arrays["msi"] * 65535).astype(jnp.uint16)
    batch = _draw(arrays, step=0, seed=0, batch_size=2)
    assert batch["msi"].dtype == jnp.float32 and 0 <= batch["msi"].min() <= batch["msi"].max() <= 1
    arrays["msi"] = _coded()["msi"].astype(jnp.bfloat16)
    assert _draw(arrays, step=0, seed=0, batch_size=2)["msi"].dtype == jnp.bfloat16
