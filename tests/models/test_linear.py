"""The linear map alone, and under each network."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.baselines import apply_linear
from msi2he_jax.metrics.regression import LinearFit
from msi2he_jax.models import build_generator, multiple_of
from msi2he_jax.models.linear import fitted_values

NETWORKS = {
    "unet_pix2pix": {"depth": 5},
    "resnet": {"blocks": 1},
    "unet_ronneberger": {"depth": 1},
}


def _generator(name, **more):
    options = {"in_channels": 4, "features": 2, "start": "ridge", "norm": "none", **more}
    return build_generator(SimpleNamespace(name=name, **options), rngs=nnx.Rngs(0))


def _fit(features=8, seed=0):
    random = np.random.default_rng(seed)
    return LinearFit(random.normal(0, 0.2, (features, 3)), random.random(3), 0.1)


def _fitted(generator, fit):
    for name, value in fitted_values(fit).items():
        getattr(generator.line, name).set_value(value)
    return generator


def _msi(seed=0):
    return np.random.default_rng(seed).random((2, 10, 13, 4), dtype=np.float32)


@pytest.mark.parametrize("side", (1, 3, 5))
def test_the_model_is_the_baseline(side):
    fit = _fit(4 if side == 1 else 8)
    generator = _fitted(_generator("linear", neighbours_px=side), fit)
    image = np.asarray(generator(_msi(), norm="running"))
    expected = 2 * apply_linear(fit, _msi(), side) - 1
    np.testing.assert_allclose(image, expected, atol=1e-5)
    assert image.min() == -1 or image.max() == 1  # clipped, as the baseline is


def test_a_linear_model_has_nothing_to_train_and_takes_any_size():
    generator = _generator("linear")
    assert not nnx.to_flat_state(nnx.state(generator, nnx.Param))
    assert {type(each) for _, each in nnx.to_flat_state(nnx.state(generator))} == {nnx.BatchStat}
    assert multiple_of(SimpleNamespace(name="linear", start="pls")) == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("upsample", ("deconv", "resize"))
def test_a_network_begins_at_the_linear_map(name, upsample):
    """Whatever its weights and its dropout are: the last convolution is zero."""
    fit = _fit()
    alone = _fitted(_generator("linear"), fit)
    network = _fitted(_generator(name, upsample=upsample, **NETWORKS[name]), fit)
    msi = jnp.asarray(_msi())
    for mode in ({"norm": "running"}, {"train": True}):
        np.testing.assert_array_equal(network(msi, **mode), alone(msi, **mode))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_network_adds_can_grow(name):
    """Gradients reach the last convolution, and through it, once it moved, all others."""
    network = _fitted(_generator(name, **NETWORKS[name]), _fit())
    graph, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)

    def loss(params):
        return jnp.mean(nnx.merge(graph, params, stats, copy=True)(_msi(), train=True) ** 2)

    slopes = nnx.to_flat_state(nnx.grad(loss)(params))
    assert any(np.asarray(slope[...]).any() for _, slope in slopes)


def test_training_sees_beyond_the_range_of_colours():
    fit = LinearFit(np.zeros((8, 3)), np.full(3, 1.5), 0.0)
    generator = _fitted(_generator("linear"), fit)
    assert np.asarray(generator(_msi(), train=True)).max() == pytest.approx(2.0)
    assert np.asarray(generator(_msi(), norm="running")).max() == 1.0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"start": "none"}, "start"),
        ({"start": "lasso"}, "start"),
        ({"neighbours_px": 2}, "neighbours_px"),
        ({"neighbours_px": 65}, "neighbours_px"),
    ],
)
def test_what_no_linear_model_is(options, field):
    with pytest.raises(InputError) as caught:
        _generator("linear", **options)
    assert caught.value.field == field
