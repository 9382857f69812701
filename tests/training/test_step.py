import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from msi2he_jax.training.chunk import make_chunk
from msi2he_jax.training.methods import METHODS, Optimizers, Setup, method_name
from msi2he_jax.training.optimizer import flow_optimizer
from msi2he_jax.training.state import apply_network, build_graphs

RATE = 0.05
SGD = optax.sgd(RATE)  # parameters move by the gradient and nothing else
take = jax.jit(lambda method, *inputs: method.step(*inputs), static_argnums=0)


def built(config, options=None, *, dropout=0.0):
    """The method of a configuration with some keys changed, by plain SGD, and its first state."""
    config = config.copy_and_resolve_references()
    channels = {"model.in_channels": 4, "model.dropout": dropout}
    config.update_from_flattened_dict({**channels, **(options or {})})
    flow = flow_optimizer(config, SGD) if config.flow.enabled else None
    parts = Setup(config, build_graphs(config), Optimizers(SGD, SGD, flow))
    method = METHODS[method_name(config)](parts)
    return method, method.init()


def _graphs(config):
    config = config.copy_and_resolve_references()
    config.model.update({"in_channels": 4, "dropout": 0.0})
    return build_graphs(config)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    msi = rng.random((2, 16, 16, 4), np.float32)
    return {"msi": msi, "image": rng.random((2, 16, 16, 3), np.float32) * 2 - 1}


def _gap(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)


def test_step_is_the_originals_order(config, batch):
    """Against the same step written out: D on the detached image, then G through the updated D."""
    method, state = built(config)
    graphs = _graphs(config)
    g, d = state.generator, state.discriminator

    def paint(params):
        modes = {"train": True, "norm": "batch", "dropout_key": None}
        return apply_network(graphs.generator, params, g.stats, batch["msi"], **modes)[0]

    def judge(params, stats, image):
        return apply_network(graphs.discriminator, params, stats, batch["msi"], image, train=True)

    def d_loss(params):
        fake = judge(params, d.stats, paint(g.params))[0]
        real = judge(params, d.stats, batch["image"])[0]
        return 0.5 * (jnp.mean(jnp.log1p(jnp.exp(fake))) + jnp.mean(jnp.log1p(jnp.exp(-real))))

    def descend(loss, params):
        return jax.tree.map(lambda p, slope: p - RATE * slope, params, jax.grad(loss)(params))

    @jax.jit
    def by_hand():
        d_params = descend(d_loss, d.params)

        def g_loss(params):
            fake = paint(params)
            l1 = jnp.mean(jnp.abs(fake - batch["image"]))
            return jnp.mean(jnp.log1p(jnp.exp(-judge(d_params, d.stats, fake)[0]))) + 100.0 * l1

        stats = judge(d.params, d.stats, paint(g.params))[1]
        stats = judge(d.params, stats, batch["image"])[1]
        return d_params, descend(g_loss, g.params), judge(d_params, stats, paint(g.params))[1]

    d_params, g_params, stats = by_hand()
    new, metrics = take(method, state, batch, jax.random.key(0))
    assert _gap(new.discriminator.params, d_params) < 1e-6
    assert _gap(new.generator.params, g_params) < 1e-4  # the step itself is of size 1
    assert _gap(new.discriminator.stats, stats) < 1e-6
    assert _gap(new.generator.params, g.params) > 1e-2
    assert set(metrics) == {"reconstruction", "adversarial", "discriminator", "skipped"}
    assert int(new.step) == 1 and int(new.skipped) == 0


def test_without_a_discriminator_it_is_regression(config, batch):
    config.discriminator.name = "none"
    method, state = built(config, {"loss.reconstruction": "mse", "loss.lambda_l1": 1.0})
    assert state.discriminator is None
    values = []
    for _ in range(20):
        state, metrics = take(method, state, batch, jax.random.key(0))
        values.append(float(metrics["reconstruction"]))
    assert set(metrics) == {"reconstruction", "skipped"}
    assert values[-1] < values[0] and (np.diff(values) < 1e-3).all()


@pytest.mark.parametrize("poison", ["msi", "image"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(config, batch, poison):
    method, state = built(config)
    bad = {**batch, poison: np.full_like(batch[poison], np.nan)}
    after, metrics = take(method, state, bad, jax.random.key(0))
    assert float(metrics["skipped"]) == 1
    assert (int(after.step), int(after.skipped), int(after.skipped_in_a_row)) == (1, 1, 1)
    for part in ("generator", "discriminator", "average"):
        assert _gap(getattr(after, part), getattr(state, part)) == 0
    after, _ = take(method, after, batch, jax.random.key(0))
    assert (int(after.step), int(after.skipped), int(after.skipped_in_a_row)) == (2, 1, 0)
    assert _gap(after.generator.params, state.generator.params) > 0


def test_average_follows_and_is_what_inference_takes(config, batch):
    method, state = built(config)
    new, _ = take(method, state, batch, jax.random.key(0))
    keep = min(0.9, 1 / 10)  # the warm-up's first decay
    expected = jax.tree.map(
        lambda a, b: keep * a + (1 - keep) * b, state.generator.params, new.generator.params
    )
    assert _gap(new.average.params, expected) < 1e-6
    assert method.finish(new)[0] is new.average.params
    assert method.finish(dataclasses.replace(new, average=None))[0] is new.generator.params


def test_wgangp_moves_both_networks(config, batch):
    config.discriminator.norm = "instance"
    method, state = built(config, {"loss.gan": "wgangp", "loss.lambda_l1": 0.0})
    new, metrics = take(method, state, batch, jax.random.key(0))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert _gap(new.generator.params, state.generator.params) > 0
    assert _gap(new.discriminator.params, state.discriminator.params) > 0


def test_start_is_a_function_of_the_seed(config):
    first, again = built(config)[1], built(config)[1]
    assert _gap(first, again) == 0
    config.seed = 1
    assert _gap(first, built(config)[1]) > 0


def test_states_hold_parameters_and_statistics_only(config):
    """No random state hides in a network: a checkpoint holds everything."""
    _, state = built(config)
    for network in (state.generator, state.discriminator):
        for kind, tree in ((nnx.Param, network.params), (nnx.BatchStat, network.stats)):
            leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, nnx.Variable))
            assert all(type(leaf) is kind for leaf in leaves)


def test_chunks_of_any_length_give_the_same_state(config, batch):
    """How steps are cut into calls changes nothing, dropout included: bit for bit between loops."""
    method, state = built(config, dropout=0.5)

    def sample(arrays, step, seed):
        turned = jax.random.bernoulli(jax.random.fold_in(jax.random.key(seed), step))
        return jax.tree.map(lambda x: jnp.where(turned, x[::-1], x), arrays)

    def after_four(length):
        chunk, now = jax.jit(make_chunk(method, sample, length)), state
        for _ in range(4 // length):
            now, metrics = chunk(now, batch, jnp.uint32(3))
            assert metrics["reconstruction"].shape == (length,)
        return now

    assert _gap(after_four(2), after_four(4)) == 0
    assert _gap(after_four(1), after_four(4)) < 1e-5  # no loop: another program, other rounding


@pytest.mark.parametrize("flow", [False, True])
def test_parts_of_a_batch_give_the_whole_ones_step(config, flow):
    """With norms per image, which cannot tell how a batch is cut; dropout cannot either."""
    config.model.norm = config.discriminator.norm = "instance"
    config.flow.enabled = flow
    rng = np.random.default_rng(1)
    msi, image = rng.random((4, 16, 16, 4), np.float32), rng.random((4, 16, 16, 3), np.float32)
    batch = {"msi": msi, "image": 2 * image - 1}
    method, state = built(config, dropout=0.5)
    whole, metrics = take(method, state, batch, jax.random.key(0))
    parts, _ = built(config, {"train.microbatches": 2}, dropout=0.5)
    cut, cut_metrics = take(parts, state, batch, jax.random.key(0))
    assert set(metrics) == set(cut_metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(cut_metrics[name], value, rtol=1e-4)
    for name in ("generator", "discriminator", "average", *(["flow"] * flow)):
        moved = _gap(getattr(whole, name), getattr(state, name))
        assert moved > 0 and _gap(getattr(whole, name), getattr(cut, name)) < 1e-4 * max(moved, 1)


def test_parts_see_their_own_batch_statistics_and_bad_ones_skip_the_step(config):
    rng = np.random.default_rng(2)
    batch = {"msi": rng.random((4, 16, 16, 4), np.float32)}
    batch["image"] = rng.random((4, 16, 16, 3), np.float32) * 2 - 1
    method, state = built(config, {"train.microbatches": 2})
    new, _ = take(method, state, batch, jax.random.key(0))
    assert _gap(new.generator.stats, state.generator.stats) > 0
    batch["image"][3] = np.nan
    after, metrics = take(method, state, batch, jax.random.key(0))
    assert float(metrics["skipped"]) == 1 and _gap(after.generator, state.generator) == 0
