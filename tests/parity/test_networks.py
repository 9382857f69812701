"""Every network against PyTorch: outputs, gradients, statistics, names."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.models import naming

G_CASES = ("unet5", "unet8", "unet7_instance", "unet6_none", "resnet9", "resnet6_instance")
D_CASES = (*(f"patch{n}" for n in range(6)), "patch3_instance")
# What float32 rounding allows (outputs of G and D, gradients) and what float64 must reach.
TOLERANCES = {"f32": (1e-5, 1e-4, 1e-2, 1e-5), "f64": (1e-10, 1e-10, 1e-8, 1e-12)}


@pytest.mark.parametrize("name", G_CASES)
def test_generator_float64(name, arrays, recorded, filled):
    with jax.enable_x64(True):
        _compare_generator(name, "f64", arrays, recorded, filled, lowering="vjp")


@pytest.mark.parametrize("name", ("unet8", "resnet9"))
def test_generator_float32(name, arrays, recorded, filled):
    _compare_generator(name, "f32", arrays, recorded, filled, lowering="auto")


@pytest.mark.parametrize("name", D_CASES)
def test_discriminator_float64(name, arrays, recorded, filled):
    with jax.enable_x64(True):
        _compare_discriminator(name, "f64", arrays, recorded, filled, lowering="plain")


@pytest.mark.parametrize("name", ("patch0", "patch3"))
def test_discriminator_float32(name, arrays, recorded, filled):
    _compare_discriminator(name, "f32", arrays, recorded, filled, lowering="auto")


def _compare_generator(name, precision, arrays, recorded, filled, lowering):
    case = arrays.GENERATORS[name]
    config = _config(case, precision, lowering)
    net = filled(name, config, "g")

    def inputs(step):
        msi = arrays.images(f"{name}/{step}", case["batch"], case["size"], case["in_channels"])
        return (jnp.asarray(msi, _dtype(precision)),)

    def apply(model, msi, train):
        return model(msi, train=train, norm="batch" if train else "running")

    _compare(name, precision, arrays, recorded(f"g_{precision}"), net, inputs, apply, "g")


def _compare_discriminator(name, precision, arrays, recorded, filled, lowering):
    case = arrays.DISCRIMINATORS[name]
    config = _config(case, precision, lowering)
    net = filled(name, config, "d")

    def inputs(step):
        shape = case["batch"], case["size"]
        msi = arrays.images(f"{name}/{step}", *shape, case["in_channels"])
        image = 2.0 * arrays.images(f"{name}/{step}/image", *shape, 3) - 1.0
        return jnp.asarray(msi, _dtype(precision)), jnp.asarray(image, _dtype(precision))

    def apply(model, msi, image, train):
        return model(msi, image, train=train)

    _compare(name, precision, arrays, recorded(f"d_{precision}"), net, inputs, apply, "d")


def _compare(name, precision, arrays, expected, net, inputs, apply, kind):
    """Gradients at input 0, statistics after three inputs, then evaluation at input 0."""
    g_atol, d_atol, grad_rtol, stats_atol = TOLERANCES[precision]
    output_atol = g_atol if kind == "g" else d_atol
    y, grads, stats, y_eval = _run(net, inputs, apply, arrays, name, precision)
    key, expected = f"{name}/{precision}", dict(expected)
    y, y_eval = (np.transpose(value, (0, 3, 1, 2)) for value in (y, y_eval))
    _close(arrays.digest(y, 1024), expected[f"{key}/train"], output_atol)
    _close(arrays.digest(y_eval, 1024), expected[f"{key}/eval"], output_atol)
    for path, value in grads.items():
        want = expected.pop(f"{key}/grad/{net.names[path]}")
        got = arrays.digest(naming.to_torch(path, value))
        # A bias before an instance norm has no gradient but rounding: hence the floor.
        atol = grad_rtol * max(want[-2], 1e-6)
        np.testing.assert_allclose(got, want, rtol=grad_rtol, atol=atol, err_msg=path)
    for path, value in stats.items():
        want = expected.pop(f"{key}/stats/{net.names[path]}")
        got = arrays.digest(value)
        np.testing.assert_allclose(got, want, rtol=stats_atol, atol=stats_atol, err_msg=path)
    left = [k for k in expected if k.startswith((f"{key}/grad/", f"{key}/stats/"))]
    assert not left, "the original has variables that ours lacks"


def _run(net, inputs, apply, arrays, name, precision):
    target_shape = jax.eval_shape(
        lambda: apply(nnx.merge(net.graphdef, net.params, net.stats), *inputs(0), False)
    ).shape
    chw = (target_shape[0], target_shape[3], *target_shape[1:3])
    target = arrays.uniform(f"{name}/target", chw).transpose(0, 2, 3, 1)
    target = jnp.asarray(target, _dtype(precision))

    def step(params, stats, *batch):
        model = nnx.merge(net.graphdef, params, stats, copy=True)
        y = apply(model, *batch, True)
        return jnp.mean(jnp.abs(y - target)), (y, nnx.state(model, nnx.BatchStat))

    step = jax.jit(jax.grad(step, has_aux=True))
    grads, (y, stats) = step(net.params, net.stats, *inputs(0))
    for index in range(1, arrays.UPDATES):
        _, (_, stats) = step(net.params, stats, *inputs(index))
    evaluate = jax.jit(lambda p, s, *b: apply(nnx.merge(net.graphdef, p, s, copy=True), *b, False))
    y_eval = evaluate(net.params, stats, *inputs(0))
    return np.asarray(y), _flat(grads), _flat(stats), np.asarray(y_eval)


def _close(got, want, atol):
    """Elements absolutely; norm and projection, sums over all of them, relative to the norm."""
    np.testing.assert_allclose(got[:-2], want[:-2], rtol=0, atol=atol)
    np.testing.assert_allclose(got[-2:], want[-2:], rtol=0, atol=atol * max(want[-2], 1.0))


def _flat(state):
    return {path: np.asarray(variable[...]) for path, variable in nnx.to_flat_state(state)}


def _config(case, precision, lowering):
    return SimpleNamespace(**case, dtype=jnp.dtype(_dtype(precision)).name, lowering=lowering)


def _dtype(precision):
    return np.float64 if precision == "f64" else np.float32
