"""Options of the discriminator: several scales, features; the flow."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.models import build_discriminator, naming, patchgan
from msi2he_jax.models.flow import FlowNet

TINY = {"in_channels": 2, "features": 4, "n_layers": 1, "norm": "none"}


def _judge(**options):
    return build_discriminator(SimpleNamespace(**{**TINY, **options}), rngs=nnx.Rngs(0))


def _inputs(size=16, seed=0):
    rng = np.random.default_rng(seed)
    msi = rng.random((2, size, size, 2), np.float32)
    return msi, rng.normal(size=(2, size, size, 3)).astype(np.float32)


def test_scales_are_discriminators_of_ever_smaller_images():
    judge, (msi, image) = _judge(scales=2), _inputs()
    logits, seen = judge(msi, image, train=False, features=True)
    both = jnp.concatenate([2 * msi - 1, image], -1)
    for number, core in enumerate(judge.core.cores):
        np.testing.assert_allclose(logits[number], core(both, train=False, norm="batch"), atol=1e-6)
        both = patchgan.halve(both)
    assert [x.shape for x in logits] == [(2, 6, 6, 1), (2, 2, 2, 1)]
    assert [[x.shape[1:] for x in stages] for stages in seen] == [
        [(8, 8, 4), (7, 7, 8)],
        [(4, 4, 4), (3, 3, 8)],
    ]
    first = [np.asarray(core.head.kernel[...]) for core in judge.core.cores]
    assert (first[0] != first[1]).any()


def test_features_do_not_change_the_logits():
    judge, inputs = _judge(), _inputs()
    logits, seen = judge(*inputs, train=False, features=True)
    np.testing.assert_array_equal(logits, judge(*inputs, train=False))
    assert [x.shape for x in seen] == [(2, 8, 8, 4), (2, 7, 7, 8)]


def test_halving_counts_nothing_beyond_the_border():
    np.testing.assert_allclose(patchgan.halve(jnp.ones((1, 5, 8, 2))), np.ones((1, 3, 4, 2)))
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(patchgan.halve(x)[0, :, :, 0], [[2.5, 4.0], [8.5, 10.0]])


def test_what_pix2pix_does_not_have_has_no_name_there():
    with pytest.raises(InputError, match="no counterpart in pix2pix"):
        naming.discriminator_names(_judge(scales=2), SimpleNamespace(**{**TINY, "scales": 2}))


def test_the_flow_begins_at_zero_and_can_learn():
    graph, params = nnx.split(FlowNet(features=4, depth=2, rngs=nnx.Rngs(0)))
    fake, real = (_inputs(18, seed)[1][:, :, :13] for seed in (0, 1))

    @jax.jit
    def run(params):
        flow = nnx.merge(graph, params)(fake, real)
        return jnp.sum(flow), flow

    (_, flow), gradient = jax.value_and_grad(run, has_aux=True)(params)
    assert flow.shape == (2, 18, 13, 2) and flow.dtype == np.float32
    np.testing.assert_array_equal(flow, 0.0)
    slopes = np.asarray(gradient["head"]["kernel"][...])
    assert np.isfinite(slopes).all() and np.abs(slopes).max() > 0
