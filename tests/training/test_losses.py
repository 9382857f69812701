import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.training import losses

KINDS = ("vanilla", "lsgan", "hinge", "wgangp")


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
        "hinge": 0.5 * (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()),
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

    value = losses.gradient_penalty(judge, image, image, jax.random.key(0))
    np.testing.assert_allclose(value, (12**-0.5 - 1) ** 2, rtol=1e-5)


def test_unknown_loss_is_refused():
    with pytest.raises(InputError, match=r"loss\.gan"):
        losses.discriminator_loss(_logits(0), _logits(1), gan="wasserstein")
