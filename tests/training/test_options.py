"""Every option of a step: nothing at zero weight, finite and moving otherwise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from msi2he_jax.training import step as steps
from msi2he_jax.training.recipe import make_recipe
from msi2he_jax.training.state import Network, build_graphs, create_train_state, run

SGD = optax.sgd(0.05)
take = jax.jit(steps.train_step, static_argnums=0)
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


def setup(config, optimizer=SGD, **changes):
    config.model.in_channels = 4
    recipe = make_recipe(config, build_graphs(config), (optimizer, optimizer))
    recipe = dataclasses.replace(recipe, dropout=False, **changes)
    return recipe, create_train_state(config, optimizer, optimizer)


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
        "loss.r1": 1.0,
        "discriminator.norm": "group",
        "discriminator.scales": 2,
        "diffaugment.color": 1.0,
        "diffaugment.translation": 0.125,
        "diffaugment.cutout": 0.5,
    },
    "tolerant": {
        **FLOW,
        "loss.gan": "hinge",
        "discriminator.spectral_norm": True,
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
    recipe, state = setup(_set(config, OPTIONS[name]))
    new, metrics = take(recipe, state, batch, KEY)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["skipped"]) == 0
    for part in ("generator", "discriminator", "flow"):
        if getattr(state, part) is not None:
            assert _gap(getattr(new, part).params, getattr(state, part).params) > 0
    more = {"r1"} if name == "penalties" else {"feature_matching", "flow_px", "flow_roughness"}
    assert set(metrics) == {"reconstruction", "adversarial", "discriminator", "skipped"} | more
    if name == "tolerant":  # the singular vectors follow
        assert _gap(new.discriminator.stats, state.discriminator.stats) > 0


def test_weights_next_to_nothing_change_nothing(config, batch):
    config.discriminator.norm = "instance"
    recipe, state = setup(config)
    plain, _ = take(recipe, state, batch, KEY)
    nothing = {"r1": 1e-30, "feature_matching": 1e-30, "background_weight": 1.0 - 1e-7}
    other, _ = take(dataclasses.replace(recipe, **nothing), state, batch, KEY)
    assert _gap(plain, other) < 1e-6


@pytest.mark.parametrize("remat", ["activations", "networks"])
def test_what_is_computed_again_is_the_same(config, batch, remat):
    """Gradients and statistics, dropout and penalties included."""
    config = _set(config, {"loss.feature_matching": 1.0, "loss.r1": 1.0, "train.remat": remat})
    config.model.update({"name": "unet_pix2pix", "depth": 5})
    batch = {name: np.repeat(np.repeat(x, 2, 1), 2, 2) for name, x in batch.items()}
    recipe, state = setup(config)
    recipe = dataclasses.replace(recipe, dropout=True)
    again, _ = take(recipe, state, batch, KEY)
    plain, _ = take(dataclasses.replace(recipe, remat="none"), state, batch, KEY)
    assert _gap(plain.generator, state.generator) > 1e-4
    assert _gap(plain, again) < 1e-6


def test_a_flow_is_plain_l1_at_first_and_leaves_the_networks_alone(config, batch):
    """Its displacement is zero; its roughness is, too, and so is that one's gradient."""
    plain, start = setup(config.copy_and_resolve_references())
    recipe, state = setup(_set(config, FLOW))
    first, one = take(plain, start, batch, KEY)
    second, other = take(recipe, state, batch, KEY)
    for name, value in one.items():
        assert float(other[name]) == pytest.approx(float(value), abs=1e-6), name
    assert float(other["flow_px"]) == 0.0 and float(other["flow_roughness"]) == 0.0
    assert _gap(first.generator.params, second.generator.params) < 1e-5
    assert _gap(first.discriminator, second.discriminator) < 1e-6


def test_lazy_r1_is_paid_every_kth_step_and_as_many_times(config, batch):
    config.discriminator.norm = "instance"
    recipe, state = setup(config, r1=1.0)
    always = float(take(recipe, state, batch, KEY)[1]["r1"])
    lazy = dataclasses.replace(recipe, r1_every=4)
    for number, times in ((0, 4), (1, 0), (3, 0), (4, 4)):
        paid = take(lazy, dataclasses.replace(state, step=jnp.int32(number)), batch, KEY)[1]["r1"]
        assert float(paid) == pytest.approx(times * always, rel=1e-5)
    assert always > 0


def test_weights_of_examples_act_on_their_own_loss(config, batch):
    config.discriminator.name = "none"
    recipe, state = setup(config)
    weigh = lambda *weights: {**batch, "weight": np.array(weights, np.float32)}  # noqa: E731
    both, first, second = (
        float(take(recipe, state, weigh(*weights), KEY)[1]["reconstruction"])
        for weights in ((1, 1), (2, 0), (0, 2))
    )
    plain = float(take(recipe, state, batch, KEY)[1]["reconstruction"])
    assert both == pytest.approx(plain, rel=1e-5)
    assert (first + second) / 2 == pytest.approx(plain, rel=1e-5) and first != second


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
    recipe, state = setup(config, optax.adam(3e-3), lambda_l1=1.0)
    graph, *arrays = nnx.split(Painted(), nnx.Param, nnx.BatchStat)
    recipe = dataclasses.replace(recipe, graphs=dataclasses.replace(recipe.graphs, generator=graph))
    network = Network(*arrays, recipe.generator_optimizer.init(arrays[0]))
    state = dataclasses.replace(state, generator=network)
    learn = jax.jit(lambda s: jax.lax.scan(lambda s, _: take(recipe, s, batch, KEY), s, length=150))
    state, metrics = learn(state)
    losses, plain = np.asarray(metrics["reconstruction"]), np.abs(_painted(batch) - batch["image"])
    assert losses[0] == pytest.approx(plain.mean(), rel=1e-5) and losses[-1] < 0.5 * plain.mean()
    assert metrics["flow_px"][-1] == pytest.approx(2.0, abs=0.5)
    moves = run(recipe.graphs.flow, state.flow.params, {}, _painted(batch), batch["image"])[0]
    rows, columns = np.median(np.asarray(moves)[:, 4:-4, 4:-4].reshape(-1, 2), axis=0)
    assert rows == pytest.approx(-2.0, abs=0.4) and columns == pytest.approx(0.0, abs=0.4)


def _painted(batch):
    return 2.0 * batch["msi"][..., :3] - 1.0
