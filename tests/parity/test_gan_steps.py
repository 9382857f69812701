"""Ten whole training steps in float64 end in PyTorch's parameters, statistics and losses."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from msi2he_jax.models import naming


def test_ten_steps_end_in_the_same_parameters(arrays, recorded, filled):
    case, expected = arrays.GAN, recorded("gan_steps")
    with jax.enable_x64(True):
        state, losses = _train(case, arrays, filled)
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-10)
    assert len(state) == len(expected) - 1
    for (kind, path), (name, value) in state.items():
        want = expected[f"{kind}/{name}"]
        np.testing.assert_allclose(naming.to_torch(path, value), want, rtol=0, atol=1e-10)


def _train(case, arrays, filled):
    configs = {
        kind: SimpleNamespace(**case[key], dtype="float64")
        for kind, key in (("g", "generator"), ("d", "discriminator"))
    }
    g = filled("gan/g", configs["g"], "g")
    d = filled("gan/d", configs["d"], "d")
    adam = optax.adam(case["learning_rate"], *case["betas"])
    step = jax.jit(_make_step(g, d, adam, case["l1_weight"]))
    state = g.params, g.stats, adam.init(g.params), d.params, d.stats, adam.init(d.params)
    losses = []
    for index in range(case["steps"]):
        msi = arrays.images(f"gan/{index}", case["batch"], case["size"], 3)
        image = 2.0 * arrays.images(f"gan/{index}/image", case["batch"], case["size"], 3) - 1.0
        state, loss = step(state, jnp.asarray(msi), jnp.asarray(image))
        losses.append(loss)
    flat = {}
    for kind, net, parts in (("g", g, state[:2]), ("d", d, state[3:5])):
        for part in parts:
            for path, variable in nnx.to_flat_state(part):
                flat[kind, path] = net.names[path], np.asarray(variable[...])
    return flat, np.asarray(losses)


def _make_step(g, d, adam, l1_weight):
    """G forward, D step, then G step through the updated D; D's statistics: fake, real, fake."""

    def judge(params, stats, msi, image):
        model = nnx.merge(d.graphdef, params, stats, copy=True)
        logits = model(msi, image, train=True)
        return logits, nnx.state(model, nnx.BatchStat)

    def d_loss(params, stats, msi, fake, real):
        on_fake, stats = judge(params, stats, msi, fake)
        on_real, stats = judge(params, stats, msi, real)
        return 0.5 * (_bce(on_fake, 0.0) + _bce(on_real, 1.0)), stats

    def g_loss(fake, params, stats, msi, real):
        on_fake, stats = judge(params, stats, msi, fake)
        gan, l1 = _bce(on_fake, 1.0), jnp.mean(jnp.abs(fake - real))
        return gan + l1_weight * l1, (gan, l1, stats)

    def step(state, msi, real):
        g_params, g_stats, g_adam, d_params, d_stats, d_adam = state

        def generate(params):
            model = nnx.merge(g.graphdef, params, g_stats, copy=True)
            return model(msi, train=True, norm="batch"), nnx.state(model, nnx.BatchStat)

        fake, backward, g_stats = jax.vjp(generate, g_params, has_aux=True)
        (on_d, d_stats), grads = jax.value_and_grad(d_loss, has_aux=True)(
            d_params, d_stats, msi, fake, real
        )
        updates, d_adam = adam.update(grads, d_adam)
        d_params = optax.apply_updates(d_params, updates)
        image_grad, (gan, l1, d_stats) = jax.grad(g_loss, has_aux=True)(
            fake, d_params, d_stats, msi, real
        )
        updates, g_adam = adam.update(backward(image_grad)[0], g_adam)
        g_params = optax.apply_updates(g_params, updates)
        return (g_params, g_stats, g_adam, d_params, d_stats, d_adam), jnp.array([on_d, gan, l1])

    return step


def _bce(logits, label):
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, label)))
