import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msi2he_jax.config import default_config
from msi2he_jax.training.optimizer import adam, decay_begins, make_optimizer, make_schedule


def _rates(form, steps=200, steps_per_epoch=1):
    settings = default_config().optimizer
    settings.schedule, settings.schedule_form = "linear", form
    schedule = make_schedule(
        settings, steps=steps, steps_per_epoch=steps_per_epoch, learning_rate=1.0
    )
    return np.array([float(schedule(step)) for step in range(steps)])


def test_exact_is_pytorch_since_2020():
    """100 + 100 epochs, stepped at the start: epoch 100 has begun to decay, epoch 200 runs at 0."""
    rates = _rates("exact")
    expected = [1 - max(0, epoch + 1 - 100) / 101 for epoch in range(1, 201)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    assert rates[98] == 1 and rates[99] < 1 and rates[199] == 0


def test_fixed_never_reaches_zero():
    rates = _rates("fixed")
    assert rates[99] == 1 and rates[100] < 1
    np.testing.assert_allclose(rates[199], 1 / 101, rtol=1e-5)


def test_rate_changes_between_epochs_only():
    rates = _rates("fixed", steps=40, steps_per_epoch=4).reshape(-1, 4)
    assert (rates == rates[:, :1]).all()
    assert len(np.unique(rates)) == 6


@pytest.mark.parametrize(("b1", "eps"), [(0.5, 1e-8), (0.9, 1e-3)])
def test_adam_by_hand(b1, eps):
    settings = default_config().optimizer
    settings.b1, settings.eps = b1, eps
    optimizer = make_optimizer(settings, steps=2, steps_per_epoch=1, learning_rate=0.1)
    value, state, m, v = jnp.array(1.0), optimizer.init(jnp.array(1.0)), 0.0, 0.0
    for t, gradient in enumerate([0.3, -0.2], start=1):
        update, state = optimizer.update(jnp.array(gradient), state, value)
        m, v = b1 * m + (1 - b1) * gradient, 0.999 * v + 0.001 * gradient**2
        expected = -0.1 * (m / (1 - b1**t)) / (np.sqrt(v / (1 - 0.999**t)) + eps)
        np.testing.assert_allclose(update, expected, rtol=1e-4)


def _walk(optimizer, accepted):
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.float32(2.0)}
    state = optimizer.init(params)
    for accept in accepted:
        gradient = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params)
        updates, state = optimizer.update(gradient, state, params, accept=accept)
        if accept:
            params = optax.apply_updates(params, updates)
    return params, state


def test_adam_is_optax_adam():
    rate = lambda step: 0.1 / (1 + step)  # noqa: E731
    ours = _walk(adam(rate, b1=0.5, b2=0.999, eps=1e-8), [True] * 5)
    theirs = _walk(optax.with_extra_args_support(optax.adam(rate, b1=0.5)), [True] * 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours[0], theirs[0])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), ours[1], theirs[1][0])


def test_weight_decay_is_that_of_optax_adamw():
    rate = lambda step: 0.1 / (1 + step)  # noqa: E731
    ours = _walk(adam(rate, b1=0.5, b2=0.999, eps=1e-8, weight_decay=0.3), [True] * 5)[0]
    theirs = optax.with_extra_args_support(optax.adamw(rate, b1=0.5, weight_decay=0.3))
    theirs = _walk(theirs, [True] * 5)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, theirs)
    settings = default_config().optimizer
    settings.weight_decay, schedule = 0.3, {"steps": 2, "steps_per_epoch": 1}
    made = make_optimizer(settings, learning_rate=0.1, **schedule)
    expected = optax.with_extra_args_support(optax.adamw(0.1, b1=0.5, weight_decay=0.3))
    one, other = _walk(made, [True] * 3)[0], _walk(expected, [True] * 3)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


def test_a_step_left_out_leaves_no_trace():
    optimizer = adam(lambda step: 0.1, b1=0.9, b2=0.99, eps=1e-8)
    before = _walk(optimizer, [True, True])
    after = _walk(optimizer, [True, True, jnp.asarray(False), False])
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("form", ["exact", "fixed"])
@pytest.mark.parametrize(("steps", "per_epoch"), [(40, 4), (15_600, 78), (3, 2)])
def test_the_decay_begins_where_the_rate_first_falls(form, steps, per_epoch):
    config = default_config().optimizer
    config.schedule, config.schedule_form = "linear", form
    length = {"steps": steps, "steps_per_epoch": per_epoch}
    rate = make_schedule(config, **length, learning_rate=1.0)
    begins = decay_begins(config, **length)
    assert begins == 0 or rate(begins - 1) == 1.0
    assert rate(begins) < 1.0
    config.schedule = "constant"
    assert decay_begins(config, **length) == 0
