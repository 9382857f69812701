"""Every option of a step: nothing at zero weight, finite and moving otherwise."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from msi2he_jax.training.methods import METHODS, Optimizers, Setup, method_name
from msi2he_jax.training.optimizer import flow_optimizer
from msi2he_jax.training.state import Network, apply_network, build_graphs

SGD = optax.sgd(0.05)
take = jax.jit(lambda method, *inputs: method.step(*inputs), static_argnums=0)
KEY = jax.random.key(0)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    tissue = np.zeros((2, 16, 16), bool)
    tissue[:, 4:12, 2:10] = True
    return {
        "msi": rng.random((2, 16, 16, 4), np.float32),
        "image": rng.random((2, 16, 16, 3), np.float32) * 2 - 1,
        "tissue_mask": tissue,
    }


def built(config, optimizer=SGD, graphs=None):
    """The method of a configuration with another optimiser, and its first state."""
    config.model.in_channels = 4
    flow = flow_optimizer(config, optimizer) if config.flow.enabled else None
    optimizers = Optimizers(optimizer, optimizer, flow)
    parts = Setup(config, graphs or build_graphs(config), optimizers)
    method = METHODS[method_name(config)](parts)
    return method, method.init()


def changed(config, options):
    """A copy with some keys changed."""
    return _set(config.copy_and_resolve_references(), options)


def _gap(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(np.abs(np.asarray(a) - np.asarray(b)).max(initial=0.0) for a, b in pairs)


def _set(config, options):
    config.update_from_flattened_dict(options)
    return config


FLOW = {"flow.enabled": True, "flow.features": 2, "flow.depth": 2}
OPTIONS = {  # as many at once as go together: each set is compiled
    "penalties": {
        "loss.gan": "wgangp",
        "discriminator.norm": "instance",
        "discriminator.scales": 2,
    },
    "tolerant": {
        **FLOW,
        "loss.gan": "lsgan",
        "discriminator.scales": 2,
        "discriminator.conditional": False,
        "loss.feature_matching": 10.0,
        "loss.pyramid_levels": 3,
        "loss.background_weight": 0.1,
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_train(config, batch, name):
    """Finite, and every network moves, its statistics included."""
    config.model.dropout = 0.0
    method, state = built(_set(config, OPTIONS[name]))
    new, metrics = take(method, state, batch, KEY)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["skipped"]) == 0
    for part in ("generator", "discriminator", "flow"):
        if getattr(state, part) is not None:
            assert _gap(getattr(new, part).params, getattr(state, part).params) > 0
    more = set() if name == "penalties" else {"feature_matching", "flow_px", "flow_roughness"}
    assert set(metrics) == {"reconstruction", "adversarial", "discriminator", "skipped"} | more
    if name == "tolerant":  # batch normalisation's statistics follow
        assert _gap(new.discriminator.stats, state.discriminator.stats) > 0


def test_weights_next_to_nothing_change_nothing(config, batch):
    config.discriminator.norm, config.model.dropout = "instance", 0.0
    method, state = built(config)
    plain, _ = take(method, state, batch, KEY)
    nothing = {"loss.feature_matching": 1e-30, "loss.background_weight": 1.0 - 1e-7}
    other, _ = take(built(changed(config, nothing))[0], state, batch, KEY)
    assert _gap(plain, other) < 1e-6


@pytest.mark.parametrize("remat", ["activations", "networks"])
def test_what_is_computed_again_is_the_same(config, batch, remat):
    """Gradients and statistics, dropout included."""
    config = _set(config, {"loss.feature_matching": 1.0, "model.dropout": 0.5})
    config.model.update({"name": "unet_pix2pix", "depth": 5})
    batch = {name: np.repeat(np.repeat(x, 2, 1), 2, 2) for name, x in batch.items()}
    method, state = built(config)
    plain, _ = take(method, state, batch, KEY)
    again, _ = take(built(changed(config, {"train.remat": remat}))[0], state, batch, KEY)
    assert _gap(plain.generator, state.generator) > 1e-4
    assert _gap(plain, again) < 1e-6


def test_a_flow_is_plain_l1_at_first_and_leaves_the_networks_alone(config, batch):
    """Its displacement is zero; its roughness is, too, and so is that one's gradient."""
    config.model.dropout = 0.0
    plain, start = built(config.copy_and_resolve_references())
    method, state = built(_set(config, FLOW))
    first, one = take(plain, start, batch, KEY)
    second, other = take(method, state, batch, KEY)
    for name, value in one.items():
        assert float(other[name]) == pytest.approx(float(value), abs=1e-6), name
    assert float(other["flow_px"]) == 0.0 and float(other["flow_roughness"]) == 0.0
    assert _gap(first.generator.params, second.generator.params) < 1e-5
    assert _gap(first.discriminator, second.discriminator) < 1e-6


class Painted(nnx.Module):
    """A generator that cannot learn: it shows the MSI's first channels."""

    def __call__(self, msi, *, train, norm, dropout_key):
        """[B, H, W, K] -> [B, H, W, 3]."""
        return 2.0 * msi[..., :3] - 1.0


def test_a_flow_learns_a_constant_shift(config):
    """Real images lie 2 px lower than the synthetic ones, and only the flow can explain it."""
    coarse = np.random.default_rng(0).random((8, 6, 6, 4)).astype(np.float32)
    msi = np.asarray(jax.image.resize(coarse, (8, 24, 24, 4), "cubic")).clip(0, 1)
    image = np.roll(msi, 2, axis=1)[..., :3] * 2 - 1
    batch = {"msi": msi[:, 4:20, 4:20], "image": image[:, 4:20, 4:20]}
    flow = {"flow.enabled": True, "flow.features": 8, "flow.depth": 2, "flow.smoothness": 0.1}
    _set(config, {**flow, "discriminator.name": "none", "ema": 0.0})
    _set(config, {"loss.lambda_l1": 1.0, "model.dropout": 0.0})
    graph, *arrays = nnx.split(Painted(), nnx.Param, nnx.BatchStat)
    optimizer = optax.adam(3e-3)
    config.model.in_channels = 4
    graphs = dataclasses.replace(build_graphs(config), generator=graph)
    method, state = built(config, optimizer, graphs)
    network = Network(*arrays, optimizer.init(arrays[0]))
    state = dataclasses.replace(state, generator=network)
    learn = jax.jit(lambda s: jax.lax.scan(lambda s, _: take(method, s, batch, KEY), s, length=150))
    state, metrics = learn(state)
    losses, plain = np.asarray(metrics["reconstruction"]), np.abs(_painted(batch) - batch["image"])
    assert losses[0] == pytest.approx(plain.mean(), rel=1e-5) and losses[-1] < 0.5 * plain.mean()
    assert metrics["flow_px"][-1] == pytest.approx(2.0, abs=0.5)
    moves = apply_network(graphs.flow, state.flow.params, {}, _painted(batch), batch["image"])[0]
    rows, columns = np.median(np.asarray(moves)[:, 4:-4, 4:-4].reshape(-1, 2), axis=0)
    assert rows == pytest.approx(-2.0, abs=0.4) and columns == pytest.approx(0.0, abs=0.4)


def _painted(batch):
    return 2.0 * batch["msi"][..., :3] - 1.0
