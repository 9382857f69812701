"""All lowerings are the same function with the same gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.models import convolution

SIZES = ((6, 10), (1, 2))


def _loss(apply, **options):
    def loss(x, kernel, weights):
        return jnp.sum(apply(x, kernel, **options) * weights)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def _normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lowering", ("vjp", "matmul", "auto"))
def test_transposed_lowerings_agree(size, lowering):
    x, kernel = _normal(0, 2, *size, 5), _normal(1, 4, 4, 3, 5)
    weights = _normal(2, 2, 2 * size[0], 2 * size[1], 3)
    options = {"stride": 2, "padding": 1}
    want = _loss(convolution.transposed_conv, lowering="plain", **options)(x, kernel, weights)
    got = _loss(convolution.transposed_conv, lowering=lowering, **options)(x, kernel, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


@pytest.mark.parametrize("size", ((6, 10), (7, 5), (2, 3)))
def test_halving_lowerings_agree(size):
    x, kernel = _normal(0, 2, *size, 3), _normal(1, 4, 4, 3, 5)
    weights = _normal(2, 2, size[0] // 2, size[1] // 2, 5)
    options = {"stride": 2, "padding": 1}
    want = _loss(convolution.conv, lowering="plain", **options)(x, kernel, weights)
    got = _loss(convolution.conv, lowering="matmul", **options)(x, kernel, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), got, want)


def test_transposed_with_output_padding_agrees():
    x, kernel = _normal(0, 1, 4, 5, 4), _normal(1, 3, 3, 2, 4)
    weights = _normal(2, 1, 8, 10, 2)
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    want = _loss(convolution.transposed_conv, lowering="plain", **options)(x, kernel, weights)
    got = _loss(convolution.transposed_conv, lowering="vjp", **options)(x, kernel, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


def test_transposed_is_the_adjoint_of_the_convolution():
    image, small, kernel = _normal(0, 1, 8, 6, 2), _normal(1, 1, 4, 3, 5), _normal(2, 4, 4, 2, 5)
    down = convolution.conv(image, kernel, stride=2, padding=1, lowering="plain")
    up = convolution.transposed_conv(small, kernel, stride=2, padding=1, lowering="plain")
    assert up.shape == image.shape
    np.testing.assert_allclose(jnp.vdot(down, small), jnp.vdot(image, up), rtol=1e-4)


@pytest.mark.parametrize("lowering", ("plain", "vjp", "matmul"))
def test_gradient_under_scan_in_bfloat16(lowering):
    x, kernel = (_normal(s, *shape) for s, shape in enumerate(((1, 4, 4, 3), (4, 4, 3, 3))))
    kernel = 0.1 * kernel

    @jax.jit
    def gradient(x, kernel):
        def loss(kernel):
            def body(x, _):
                up = convolution.transposed_conv(x, kernel, stride=2, padding=1, lowering=lowering)
                return convolution.conv(up, kernel, stride=2, padding=1, lowering=lowering), None

            return jnp.mean(jnp.square(jax.lax.scan(body, x, length=2)[0].astype(jnp.float32)))

        return jax.grad(loss)(kernel)

    exact = np.asarray(gradient(x, kernel))
    half = gradient(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize("apply", ["conv", "transposed_conv"])
def test_products_in_bfloat16_add_up_in_float32(apply):
    """Off from float32 on the same inputs by one rounding of the result, also where it cancels."""
    size = (8, 8) if apply == "conv" else (4, 4)
    x, kernel = (_normal(i, *shape) for i, shape in enumerate(((2, *size, 16), (4, 4, 16, 16))))
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    function = getattr(convolution, apply)
    options = {"stride": 2, "padding": 1, "lowering": "matmul"}
    output, pull_back = jax.vjp(lambda *inputs: function(*inputs, **options), x, kernel)
    weights = _normal(2, *output.shape).astype(jnp.bfloat16)
    wide, wide_pull_back = jax.vjp(
        lambda *inputs: function(*inputs, **options),
        x.astype(jnp.float32),
        kernel.astype(jnp.float32),
    )
    exact = (wide, *wide_pull_back(weights.astype(jnp.float32)))
    for found, wanted in zip((output, *pull_back(weights)), exact, strict=True):
        assert found.dtype == jnp.bfloat16
        found, most = np.asarray(found, np.float32), float(jnp.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, rtol=2**-8, atol=1e-5 * most)


def test_auto_depends_on_backend_and_size_only():
    resolve = convolution.resolve_lowering
    assert [resolve("auto", n, "gpu") for n in (1, 16, 17, 10**6)] == ["matmul"] * 2 + ["vjp"] * 2
    assert [resolve("auto", n, "cpu") for n in (1, 256, 257)] == ["matmul"] * 2 + ["vjp"]
    for name, backend in itertools.product(("plain", "vjp", "matmul"), ("cpu", "gpu")):
        assert resolve(name, 4, backend) == name


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_computed_apart_is_the_gradient(stride):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, 8, 10, 7)), random.normal(size=(4, 4, 7, 5))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)

    def gradients(apart):
        def loss(x, k):
            options = {"stride": stride, "padding": 1, "lowering": "vjp", "apart": apart}
            return (convolution.conv(x, k, **options) ** 2).sum()

        def penalty(k):  # a gradient of a gradient, as of wgan-gp
            return (jax.grad(loss)(x, k) ** 2).sum()

        return [*jax.grad(loss, (0, 1))(x, kernel), jax.grad(penalty)(kernel)]

    for plain, apart in zip(gradients(0), gradients(3), strict=True):
        np.testing.assert_allclose(apart, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


def test_only_the_part_asked_for_is_computed():
    x, kernel = jnp.ones((1, 16, 16, 40)), jnp.ones((4, 4, 40, 8))

    def of_image(image, apart):
        whole = jnp.concatenate([x[..., 3:], image], axis=-1)
        options = {"stride": 2, "padding": 1, "lowering": "vjp", "apart": apart}
        return convolution.conv(whole, kernel, **options).sum()

    def flops(apart):
        slope = jax.jit(jax.grad(of_image), static_argnums=1)
        return slope.lower(x[..., :3], apart).compile().cost_analysis()["flops"]

    assert flops(3) < 0.2 * flops(0)
