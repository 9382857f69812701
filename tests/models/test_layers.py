"""Normalisation with PyTorch's semantics, dropout, initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.models import layers


def _norm(channels=3, **options):
    return layers.BatchNorm(channels, rngs=nnx.Rngs(0), **options)


def _images(seed=0, mean=0.0, std=1.0, shape=(2, 3, 5, 3)):
    values = np.random.default_rng(seed).normal(mean, std, shape)
    return jnp.asarray(values, jnp.float32)


def test_batch_norm_normalises_biased_and_tracks_unbiased():
    norm, x = _norm(), _images(mean=2.0)
    y = norm(x, train=True, norm="batch")
    flat = np.asarray(x, np.float64).reshape(-1, 3)
    want = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    want = want * np.asarray(norm.scale) + np.asarray(norm.bias)
    np.testing.assert_allclose(np.reshape(y, (-1, 3)), want, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)


def test_variance_survives_a_large_mean():
    norm, x = _norm(), _images(mean=100.0, std=0.01, shape=(4, 16, 16, 3))
    norm(x, train=True, norm="batch")
    tracked = (np.asarray(norm.var[...]) - 0.9) / 0.1
    true = np.asarray(x, np.float64).reshape(-1, 3).var(0, ddof=1)
    np.testing.assert_allclose(tracked, true, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("train,mode", ((False, "batch"), (False, "running"), (True, "running")))
def test_statistics_change_only_in_training_on_batch_statistics(train, mode):
    norm = _norm()
    norm(_images(), train=train, norm=mode)
    assert (norm.mean[...] == 0).all() and (norm.var[...] == 1).all()


def test_running_mode_uses_the_tracked_statistics():
    norm, x = _norm(), _images(mean=5.0)
    y = norm(x, train=False, norm="running")
    np.testing.assert_allclose(
        y, np.asarray(x) / np.sqrt(1 + 1e-5) * np.asarray(norm.scale), rtol=1e-5
    )


def test_synchronised_moments_are_those_of_the_whole_batch():
    x = _images(shape=(6, 3, 4, 3)) + jnp.arange(6.0)[:, None, None, None]
    whole, shared = _norm(), _norm(axis_name="devices")
    want = whole(x, train=True, norm="batch")
    graphdef, state = nnx.split(shared)

    def on_one_device(part):
        norm = nnx.merge(graphdef, state, copy=True)
        return norm(part, train=True, norm="batch"), (norm.mean[...], norm.var[...])

    parts = x.reshape(3, 2, 3, 4, 3)
    got, (mean, var) = jax.vmap(on_one_device, axis_name="devices")(parts)
    np.testing.assert_allclose(got.reshape(x.shape), want, atol=1e-5)
    np.testing.assert_allclose(mean, np.tile(whole.mean[...], (3, 1)), rtol=1e-5)
    np.testing.assert_allclose(var, np.tile(whole.var[...], (3, 1)), rtol=1e-5)


def test_bfloat16_keeps_float32_statistics():
    norm = _norm(dtype="bfloat16")
    y = norm(_images(mean=3.0).astype(jnp.bfloat16), train=True, norm="batch")
    assert y.dtype == jnp.bfloat16
    assert norm.mean[...].dtype == norm.var[...].dtype == norm.scale[...].dtype == jnp.float32


def test_one_value_per_channel_stays_finite():
    norm = _norm()
    y = norm(_images(shape=(1, 1, 1, 3)), train=True, norm="batch")
    assert np.isfinite(y).all() and np.isfinite(norm.var[...]).all()


def test_instance_norm_is_per_image_and_channel():
    x = _images(mean=4.0) * jnp.array([1.0, 7.0])[:, None, None, None]
    y = np.asarray(layers.InstanceNorm()(x, train=True, norm="running"))
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), 1, atol=1e-3)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    x = jnp.ones((4, 64, 64, 8))
    y = np.asarray(layers.dropout(x, 0.3, jax.random.key(0)))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert (layers.dropout(x, 0.3, None) == x).all()


def test_dropout_by_a_key_per_example_does_not_depend_on_the_others():
    x, keys = jnp.ones((4, 64, 64, 8)), jax.random.split(jax.random.key(0), 4)
    y = np.asarray(layers.dropout(x, 0.3, keys))
    np.testing.assert_allclose((y == 0).mean((1, 2, 3)), 0.3, atol=0.01)
    assert all((y[0] != other).any() for other in y[1:])
    np.testing.assert_array_equal(y[2:], layers.dropout(x[2:], 0.3, keys[2:]))
    np.testing.assert_array_equal(y[1], layers.dropout(x[1:2], 0.3, keys[1])[0])


def test_initial_values():
    conv = layers.Conv(32, 64, 4, bias=True, rngs=nnx.Rngs(0))
    norm = _norm(4096)
    assert abs(float(conv.kernel[...].std()) - 0.02) < 5e-4
    assert abs(float(conv.kernel[...].mean())) < 5e-4
    assert (conv.bias[...] == 0).all() and (norm.bias[...] == 0).all()
    assert abs(float(norm.scale[...].std()) - 0.02) < 1e-3
    assert abs(float(norm.scale[...].mean()) - 1) < 1e-3


@pytest.mark.parametrize("transposed", (False, True))
def test_keras_initial_values(transposed):
    init = layers.he_normal_transposed if transposed else layers.he_normal
    shape = (3, 3, 64, 32) if transposed else (3, 3, 32, 64)
    kernel = np.asarray(init(jax.random.key(0), shape, jnp.float32))
    stddev = np.sqrt(2 / (9 * 32))
    assert kernel.shape == shape and abs(kernel.std() / stddev - 1) < 0.02
    assert np.abs(kernel).max() < 2 * stddev / 0.8796


def test_keras_same_padding_puts_the_odd_zero_at_the_end():
    conv = layers.Conv(1, 1, 2, padding="same", bias=False, rngs=nnx.Rngs(0))
    conv.kernel.set_value(jnp.ones((2, 2, 1, 1)))
    y = conv(jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
    np.testing.assert_array_equal(y, [[10, 6], [7, 4]])
