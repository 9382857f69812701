import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.training import losses

KINDS = ("vanilla", "lsgan", "wgangp")


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return tuple(rng.uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32) for _ in range(2))


def _logits(seed):
    return jax.random.normal(jax.random.key(seed), (2, 3, 3, 1))


def test_values_against_their_formulas():
    real, fake = np.asarray(_logits(0), np.float64), np.asarray(_logits(1), np.float64)

    def cross_entropy(logits, label):
        p = 1 / (1 + np.exp(-logits))
        return -np.mean(label * np.log(p) + (1 - label) * np.log(1 - p))

    expected = {
        "vanilla": 0.5 * (cross_entropy(real, 1) + cross_entropy(fake, 0)),
        "lsgan": 0.5 * (np.mean((real - 1) ** 2) + np.mean(fake**2)),
        "wgangp": fake.mean() - real.mean(),
    }
    for kind in KINDS:
        value = losses.discriminator_loss(_logits(0), _logits(1), gan=kind)
        np.testing.assert_allclose(value, expected[kind], rtol=1e-5)
    generator = losses.generator_loss(_logits(1), gan="vanilla")
    np.testing.assert_allclose(generator, cross_entropy(fake, 1), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_generator_wants_higher_logits(kind):
    slope = jax.grad(lambda x: losses.generator_loss(x, gan=kind))(jnp.zeros((1, 2, 2, 1)))
    assert (slope < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_logits_are_judged_in_float32(kind):
    logits = _logits(0).astype(jnp.bfloat16)
    assert losses.discriminator_loss(logits, logits, gan=kind).dtype == jnp.float32
    assert losses.generator_loss(logits, gan=kind).dtype == jnp.float32


def test_reconstruction_ranges():
    """From black to white: 2 in pix2pix' range, 1 squared in Keras'."""
    black, white = -jnp.ones((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
    assert losses.reconstruction_loss(black, white, kind="l1") == 2
    assert losses.reconstruction_loss(black, white, kind="mse") == 1


def test_gradient_penalty_of_a_linear_judge():
    """A judge that is the mean of 12 numbers has a gradient of norm 1/sqrt(12)."""
    image = jnp.zeros((2, 2, 2, 3))

    def judge(x):
        return jnp.mean(x, axis=(1, 2, 3), keepdims=True)

    value = losses.gradient_penalty(judge, image, image, jax.random.split(jax.random.key(0), 2))
    np.testing.assert_allclose(value, (12**-0.5 - 1) ** 2, rtol=1e-5)


def test_unknown_loss_is_refused():
    with pytest.raises(InputError, match=r"loss\.gan"):
        losses.discriminator_loss(_logits(0), _logits(1), gan="wasserstein")


def test_pyramid_is_the_mean_over_halved_images(images):
    fake, real = images
    halved = [x.reshape(2, 4, 2, 4, 2, 3).mean((2, 4)) for x in images]
    expected = (np.abs(fake - real).mean() + np.abs(halved[0] - halved[1]).mean()) / 2
    found = losses.reconstruction_loss(fake, real, kind="l1", levels=2)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_pyramid_forgives_a_shift():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(1, 64, 64, 3)).astype(np.float32)
    shifted = np.roll(real, 1, axis=1)
    other = rng.normal(size=real.shape).astype(np.float32)
    ratio = [
        float(losses.reconstruction_loss(shifted, real, kind="l1", levels=n))
        / float(losses.reconstruction_loss(other, real, kind="l1", levels=n))
        for n in (1, 4)
    ]
    assert ratio[0] == pytest.approx(1.0, abs=0.05) and ratio[1] < 0.85


def test_weights_of_pixels(images):
    fake, real = images
    inside = np.zeros((2, 8, 8), bool)
    inside[0, 2:5, 1:4] = True
    inside[1, :, 5:] = True
    error = np.abs(fake - real).mean(-1)
    for background in (0.0, 0.25):
        weights = np.where(inside, 1.0, background).astype(np.float32)
        expected = np.mean([np.average(e, weights=w) for e, w in zip(error, weights, strict=True)])
        found = losses.reconstruction_loss(fake, real, kind="l1", pixel_weights=weights)
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    nothing = losses.reconstruction_loss(fake, real, kind="mse", pixel_weights=0 * weights)
    assert float(nothing) == 0.0


def test_feature_matching():
    rng = np.random.default_rng(0)
    fake, real = ([rng.normal(size=(2, n, n, 3)) for n in (4, 3)] for _ in range(2))
    expected = 2 * sum(np.abs(a - b).mean() for a, b in zip(fake, real, strict=True))
    one = losses.feature_matching_loss(tuple(fake), tuple(real))
    assert float(one) == pytest.approx(expected, rel=1e-5)
    two = losses.feature_matching_loss((tuple(fake),) * 2, (tuple(real),) * 2)
    assert float(two) == pytest.approx(expected, rel=1e-5)


def test_several_scales_are_averaged():
    logits = tuple(np.full((1, n, n, 1), float(n)) for n in (2, 4))
    assert float(losses.over_scales(losses.generator_loss, logits, gan="wgangp")) == -3.0


def test_roughness():
    rows = np.arange(5.0)[:, None] * np.ones((5, 4))
    flow = np.stack([2 * rows, 0 * rows], -1)[None]
    assert float(losses.roughness(flow)) == pytest.approx(2.0)
    assert float(losses.roughness(np.ones((1, 5, 4, 2)))) == 0.0
