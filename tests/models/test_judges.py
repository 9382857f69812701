"""Options of the discriminator and of norms: spectral norm, several scales, groups; the flow."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.models import build_discriminator, build_generator, layers, naming, patchgan
from msi2he_jax.models.flow import FlowNet
from msi2he_jax.models.spectral import SpectralConv

TINY = {"in_channels": 2, "features": 4, "n_layers": 1, "norm": "none"}


def _judge(**options):
    return build_discriminator(SimpleNamespace(**{**TINY, **options}), rngs=nnx.Rngs(0))


def _inputs(size=16, seed=0):
    rng = np.random.default_rng(seed)
    msi = rng.random((2, size, size, 2), np.float32)
    return msi, rng.normal(size=(2, size, size, 3)).astype(np.float32)


def _kernel_matrix(conv):
    return np.asarray(conv.kernel[...]).reshape(-1, conv.kernel.shape[-1])


def test_spectral_norm_is_the_largest_singular_value():
    conv = SpectralConv(3, 5, 4, padding=1, bias=True, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), jnp.float32)
    graph, state = nnx.split(conv)

    @jax.jit
    def follow(state):
        def one(state, _):
            conv = nnx.merge(graph, state, copy=True)
            y = conv(x, train=True)
            return nnx.state(conv), y

        return jax.lax.scan(one, state, length=200)[1][-1]

    y = follow(state)
    plain = layers.Conv(3, 5, 4, padding=1, bias=True, rngs=nnx.Rngs(0))
    largest = np.linalg.svd(_kernel_matrix(conv), compute_uv=False)[0]
    np.testing.assert_array_equal(_kernel_matrix(conv), _kernel_matrix(plain))
    np.testing.assert_allclose(y, plain(x) / largest, rtol=1e-4, atol=1e-5)


def test_spectral_norm_begins_near_and_follows_in_training_only():
    conv = SpectralConv(3, 5, 4, padding=1, bias=False, rngs=nnx.Rngs(0))
    x, before = jnp.ones((1, 8, 8, 3)), np.asarray(conv.singular[...])
    conv(x)
    np.testing.assert_array_equal(conv.singular[...], before)
    conv(x, train=True)
    assert np.abs(np.asarray(conv.singular[...]) - before).max() > 0
    other, after = _kernel_matrix(conv) @ before, np.asarray(conv.singular[...])
    largest = np.linalg.svd(_kernel_matrix(conv), compute_uv=False)[0]
    assert np.linalg.norm(other) == pytest.approx(largest, rel=0.05)
    assert np.linalg.norm(after) == pytest.approx(1.0, abs=1e-5)


def test_scaling_a_kernel_does_not_change_what_spectral_norm_gives():
    judge = _judge(spectral_norm=True)
    msi, image = _inputs()
    judged = nnx.jit(lambda judge: judge(msi, image, train=False))
    first = judged(judge)
    kernel = judge.core.head.kernel
    kernel.set_value(3.0 * kernel[...])
    np.testing.assert_allclose(judged(judge), first, rtol=1e-4, atol=1e-6)
    state = nnx.state(judge)
    kinds = {type(v) for v in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.Variable))}
    assert kinds == {nnx.Param, nnx.BatchStat}


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


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (16, 1), (24, 3), (64, 4)])
def test_group_norm(channels, groups):
    norm = layers.make_norm("group", channels, rngs=nnx.Rngs(0), dtype="float32")
    x = 3.0 + 2.0 * np.random.default_rng(0).normal(size=(2, 4, 5, channels)).astype(np.float32)
    y = (np.asarray(norm(x, train=True, norm="batch")) - np.asarray(norm.bias)) / np.asarray(
        norm.scale
    )
    split = y.reshape(2, 20, groups, -1)
    np.testing.assert_allclose(split.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(split.std((1, 3)), 1, atol=1e-3)
    np.testing.assert_array_equal(
        norm(x, train=True, norm="batch"), norm(x, train=False, norm="running")
    )


@pytest.mark.parametrize("name", ["unet_pix2pix", "resnet", "unet_ronneberger"])
def test_generators_take_group_norm(name):
    options = {"name": name, "features": 2, "in_channels": 2, "norm": "group", "blocks": 1}
    config = SimpleNamespace(**options, depth=5 if name == "unet_pix2pix" else 2)
    graph, state = nnx.split(build_generator(config, rngs=nnx.Rngs(0)))
    y = jax.jit(lambda s, x: nnx.merge(graph, s, copy=True)(x, train=True))(state, _inputs(32)[0])
    assert np.isfinite(y).all() and np.std(y) > 0


@pytest.mark.parametrize("option", [{"spectral_norm": True}, {"scales": 2}, {"norm": "group"}])
def test_what_pix2pix_does_not_have_has_no_name_there(option):
    with pytest.raises(InputError, match="no counterpart in pix2pix"):
        naming.discriminator_names(_judge(**option), SimpleNamespace(**{**TINY, **option}))


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
