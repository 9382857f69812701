"""The networks as a user sees them: sizes, ranges, modes, variables, errors."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.models import build_discriminator, build_generator, multiple_of, naming

TINY = {"in_channels": 4, "features": 2, "blocks": 1}
GENERATORS = {
    "unet": {**TINY, "name": "unet_pix2pix", "depth": 5},
    "unet_resize": {**TINY, "name": "unet_pix2pix", "depth": 6, "upsample": "resize"},
    "resnet": {**TINY, "name": "resnet"},
    "resnet_resize": {**TINY, "name": "resnet", "upsample": "resize", "norm": "instance"},
    "ronneberger": {**TINY, "name": "unet_ronneberger", "depth": 2, "norm": "batch"},
    "ronneberger_resize": {
        **TINY,
        "name": "unet_ronneberger",
        "depth": 3,
        "norm": "none",
        "upsample": "resize",
    },
}


def _generator(**config):
    """Builds each network once: no test changes one, `_apply` works on copies."""
    return _built(tuple(config.items()))


@functools.cache
def _built(items):
    return build_generator(SimpleNamespace(**dict(items)), rngs=nnx.Rngs(0))


def _msi(batch=2, height=30, width=50, channels=4, seed=0):
    values = np.random.default_rng(seed).random((batch, height, width, channels))
    return jnp.asarray(values, jnp.float32)


def _apply(model, *inputs, **mode):
    """Runs a network compiled, without touching it."""
    graphdef, state = nnx.split(model)

    def run(state, *inputs):
        model = nnx.merge(graphdef, state, copy=True)
        return model(*inputs, **mode), nnx.state(model, nnx.BatchStat)

    y, stats = jax.jit(run)(state, *inputs)
    return np.asarray(y), [np.asarray(leaf) for leaf in jax.tree.leaves(stats)]


def _abstract(**config):
    return nnx.eval_shape(lambda: build_generator(SimpleNamespace(**config), rngs=nnx.Rngs(0)))


def _size(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", GENERATORS)
def test_any_size_gives_images_of_that_size(name):
    y, _ = _apply(_generator(**GENERATORS[name]), _msi(), train=False, norm="batch")
    assert y.shape == (2, 30, 50, 3) and y.dtype == np.float32
    assert np.abs(y).max() <= 1.0 and y.std() > 0


@pytest.mark.parametrize("name", ("unet", "resnet", "ronneberger"))
def test_padding_equals_the_loaders(name):
    """Zero rows and columns at the end, put there by the loader or by the network: the same."""
    model, msi = _generator(**GENERATORS[name]), _msi()
    rows, columns = (-size % model.multiple for size in (30, 50))
    padded = jnp.pad(msi, ((0, 0), (0, rows), (0, columns), (0, 0)))
    inside, _ = _apply(model, msi, train=False, norm="batch")
    outside, _ = _apply(model, padded, train=False, norm="batch")
    np.testing.assert_allclose(inside, outside[:, :30, :50], atol=1e-6)


@pytest.mark.parametrize("channels,height,width", ((2, 96, 160), (500, 33, 40), (3, 1, 1)))
def test_odd_channels_and_sizes(channels, height, width):
    config = {**GENERATORS["unet"], "in_channels": channels}
    msi = _msi(1, height, width, channels)
    assert _apply(_generator(**config), msi, train=False)[0].shape == (1, height, width, 3)


@pytest.mark.parametrize("name", ("resnet", "resnet_resize"))
def test_resnet_takes_a_single_pixel(name):
    assert _apply(_generator(**GENERATORS[name]), _msi(1, 1, 1), train=False)[0].shape[1:3] == (
        1,
        1,
    )


@pytest.mark.parametrize("name", GENERATORS)
def test_variables_are_parameters_and_statistics_only(name):
    state = nnx.to_flat_state(nnx.state(_generator(**GENERATORS[name])))
    assert {type(variable) for _, variable in state} <= {nnx.Param, nnx.BatchStat}
    assert all(variable.dtype == jnp.float32 for _, variable in state)


@pytest.mark.parametrize("name", ("unet", "resnet", "ronneberger"))
def test_statistics_follow_training_only(name):
    model, msi = _generator(**GENERATORS[name]), _msi()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))]
    trained, after = _apply(model, msi, train=True, norm="batch")
    still, same = _apply(model, msi, train=False, norm="batch")
    running, _ = _apply(model, msi, train=False, norm="running")
    assert all((a != b).any() for a, b in zip(after, before))
    assert all((a == b).all() for a, b in zip(same, before))
    np.testing.assert_allclose(trained, still, atol=1e-6)
    assert np.abs(running - still).max() > 1e-4


def test_dropout_stands_where_the_original_has_it():
    for depth, levels in ((5, []), (7, [4, 5]), (8, [4, 5, 6]), (9, [4, 5, 6, 7])):
        model = _abstract(**TINY, depth=depth)
        assert [n for n, up in enumerate(model.core.ups) if up.rate] == levels
        assert {up.rate for up in model.core.ups} <= {0.0, 0.5}


@pytest.mark.parametrize("name", ("unet_resize", "resnet", "ronneberger"))
def test_dropout_acts_with_a_key_only(name):
    model, msi = _generator(**GENERATORS[name]), _msi()
    graphdef, state = nnx.split(model)

    @jax.jit
    def run(key):
        return nnx.merge(graphdef, state)(msi, train=False, norm="running", dropout_key=key)

    first, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (1, 1, 2))
    none, _ = _apply(model, msi, train=False, norm="running")
    assert (first == again).all()
    assert (first != other).any() and (first != none).any()


def test_bfloat16_stays_near_float32():
    config, msi = GENERATORS["unet"], _msi()
    exact, _ = _apply(_generator(**config), msi, train=False, norm="batch")
    half = _generator(**config, dtype="bfloat16")
    y, stats = _apply(half, msi, train=True, norm="batch")
    assert y.dtype == np.float32 and all(leaf.dtype == np.float32 for leaf in stats)
    assert 0 < np.abs(y - exact).max() < 0.05


def test_lowerings_agree_on_a_whole_network():
    msi, results = _msi(), {}
    for lowering in ("plain", "matmul"):
        model = _generator(**GENERATORS["unet"], lowering=lowering)
        graphdef, params, stats = nnx.split(model, nnx.Param, ...)

        @jax.jit
        def gradient(params, graphdef=graphdef, stats=stats):
            def loss(params):
                model = nnx.merge(graphdef, params, stats, copy=True)
                y = model(msi, train=True, norm="batch")
                return jnp.mean(jnp.square(y - 0.5)), y

            return jax.grad(loss, has_aux=True)(params)

        results[lowering] = gradient(params)
    for got, want in zip(*map(jax.tree.leaves, results.values())):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1.0, np.abs(want).max()))


def test_training_steps_scan():
    graphdef, params, stats = nnx.split(_generator(**GENERATORS["unet"]), nnx.Param, ...)
    msi = _msi()

    @jax.jit
    def two_steps(params, stats):
        def step(carry, _):
            def loss(params):
                model = nnx.merge(graphdef, params, stats, copy=True)
                y = model(msi, train=True, norm="batch")
                return jnp.mean(jnp.abs(y - 0.5)), nnx.state(model, nnx.BatchStat)

            params, stats = carry
            (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return (jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), stats), value

        return jax.lax.scan(step, (params, stats), length=3)[1]

    losses = np.asarray(two_steps(params, stats))
    assert losses[2] < losses[0]


def test_parameter_counts_are_the_originals():
    assert _size(_abstract()) == 54_462_083
    judge = nnx.eval_shape(lambda: build_discriminator(object(), rngs=nnx.Rngs(0)))
    assert _size(judge) == 2_816_833
    # The Keras code ends in a 3x3 convolution to two maps (1,154) and a 1x1 (3); ours in one (65).
    keras = {"name": "unet_ronneberger", "norm": "none", "upsample": "resize"}
    assert _size(_abstract(in_channels=1, out_channels=1, **keras)) == 31_031_685 - 1_154 - 3 + 65


@pytest.mark.parametrize("n_layers,field", ((0, 1), (1, 16), (2, 34), (3, 70)))
def test_discriminator_sees_its_patch(n_layers, field):
    config = SimpleNamespace(
        in_channels=1, features=2, n_layers=n_layers, norm="none", lowering="plain"
    )
    model = build_discriminator(config, rngs=nnx.Rngs(0))
    size = 128
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, size, size, 3)), jnp.float32)

    @jax.jit
    def influence(image):
        def middle(image):
            logits = model(jnp.zeros((1, size, size, 1)), image, train=False)
            return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

        return jnp.abs(jax.grad(middle)(image)).sum((0, 3))

    rows, columns = np.nonzero(np.asarray(influence(image)))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == field


@pytest.mark.parametrize("n_layers,side", ((3, 30), (1, 126), (0, 256)))
def test_discriminator_map_at_256(n_layers, side):
    def build():
        config = SimpleNamespace(in_channels=1, features=2, n_layers=n_layers)
        model = build_discriminator(config, rngs=nnx.Rngs(0))
        return model(jnp.zeros((1, 256, 256, 1)), jnp.zeros((1, 256, 256, 3)), train=False)

    assert jax.eval_shape(build).shape == (1, side, side, 1)


def test_unconditional_discriminator_does_not_look_at_the_msi():
    config = {"in_channels": 4, "features": 2, "n_layers": 1}
    image = _msi(channels=3, seed=5)
    for conditional in (True, False):
        model = build_discriminator(
            SimpleNamespace(**config, conditional=conditional), rngs=nnx.Rngs(0)
        )
        one, other = (_apply(model, _msi(seed=s), image, train=True)[0] for s in (0, 1))
        assert (one != other).any() == conditional
    assert model(None, image, train=False).shape == one.shape


def test_discriminator_statistics_follow_training_only():
    model = build_discriminator(SimpleNamespace(**TINY, n_layers=2), rngs=nnx.Rngs(0))
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))]
    inputs = _msi(), _msi(channels=3)
    _, after = _apply(model, *inputs, train=True)
    _, frozen = _apply(model, *inputs, train=False, norm="batch")
    assert all((a != b).any() for a, b in zip(after, before))
    assert all((a == b).all() for a, b in zip(frozen, before))


def test_config_dict_and_defaults():
    config = ml_collections.ConfigDict({"name": "unet_pix2pix", "depth": 7, "features": 2})
    assert multiple_of(config) == 128
    assert multiple_of(SimpleNamespace(name="resnet", depth=8)) == 4
    assert multiple_of(SimpleNamespace(name="unet_ronneberger")) == 16
    assert multiple_of(object()) == 256


@pytest.mark.parametrize(
    "field,value",
    (
        ("name", "unet"),
        ("depth", 4),
        ("depth", 10),
        ("norm", "layer"),
        ("dropout", 1.0),
        ("dropout", "half"),
        ("upsample", "bilinear"),
        ("dtype", "float16"),
        ("lowering", "fast"),
        ("features", 0),
        ("in_channels", 2.5),
        ("blocks", True),
    ),
)
def test_wrong_values_are_named(field, value):
    with pytest.raises(InputError, match=field):
        build_generator(SimpleNamespace(**{field: value}), rngs=nnx.Rngs(0))


def test_wrong_discriminator_depth_is_named():
    with pytest.raises(InputError, match="n_layers"):
        build_discriminator(SimpleNamespace(n_layers=6), rngs=nnx.Rngs(0))


def test_wrong_channel_count_is_named():
    with pytest.raises(InputError, match="4 channels"):
        _generator(**GENERATORS["unet"])(_msi(channels=5), train=False)


@pytest.mark.parametrize("name", ("unet", "resnet"))
def test_names_are_unique_and_layouts_round_trip(name):
    config = SimpleNamespace(**GENERATORS[name])
    model = build_generator(config, rngs=nnx.Rngs(0))
    names = naming.generator_names(model, config)
    assert len(set(names.values())) == len(names)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        back = naming.from_torch(path, naming.to_torch(path, np.asarray(variable[...])))
        np.testing.assert_array_equal(back, variable[...])


def test_known_names():
    config = SimpleNamespace(name="unet_pix2pix", features=2, in_channels=4)
    names = naming.generator_names(_abstract(**vars(config)), config)
    assert names["core", "downs", 0, "conv", "kernel"] == "model.model.0.weight"
    assert names["core", "ups", 0, "conv", "bias"] == "model.model.3.bias"
    assert names["core", "downs", 2, "norm", "var"] == ("model.model.1.model.3.model.2.running_var")


@pytest.mark.parametrize("name", ("ronneberger", "unet_resize"))
def test_networks_the_original_lacks_have_no_names(name):
    config = SimpleNamespace(**GENERATORS[name])
    with pytest.raises(InputError, match="no counterpart"):
        naming.generator_names(None, config)
