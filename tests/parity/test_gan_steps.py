"""Whole steps of the training methods in float64, against the same in PyTorch.

Losses, parameters and statistics agree to 1e-10 after up to ten steps: the order of the updates,
the losses and their weights, Adam and its epsilon, and the schedule are the original's.
"""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.config import default_config
from msi2he_jax.models import naming
from msi2he_jax.training.methods import build_optimizers, make_method
from msi2he_jax.training.state import Network, TrainState

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def train(arrays, filled):
    """Takes a case's steps: `train(config, case, prefix)` -> state by name, metrics by name."""

    def run(config, case, prefix):
        with jax.enable_x64(True):
            method, state, names = _begin(config, case, prefix, filled)
            step = jax.jit(method.step)
            seen = []
            for number in range(case["steps"]):
                state, metrics = step(state, _batch(arrays, case, prefix, number), _key())
                seen.append(metrics)
            assert int(state.step) == case["steps"] and int(state.skipped) == 0
            metrics = {name: np.array([each[name] for each in seen]) for name in seen[0]}
            return dict(_by_name(state, names)), metrics

    return run


def _key():
    return jax.random.key(0)  # nothing is drawn from it: dropout is off


def _begin(config, case, prefix, filled):
    """The method as a run makes it, the state filled as the recorded networks were, and names."""
    config.model.update({"dtype": "float64", "dropout": 0.0, "in_channels": 3})
    config.train.batch_size, config.train.steps = case["batch"], case["steps"]
    examples = case.get("steps_per_epoch", 1) * case["batch"]
    method, optimizers = make_method(config, examples=examples), build_optimizers(config, examples)
    counters = dict.fromkeys(("step", "skipped", "skipped_in_a_row"), jnp.zeros((), jnp.int32))
    parts, names = {"generator": None, "discriminator": None}, {}
    settings = {"generator": config.model}
    if config.discriminator.name != "none":
        small = {"in_channels": 3, "dtype": "float64"}
        settings["discriminator"] = type(config)({**config.discriminator, **small})
    for (part, of_part), optimizer in zip(settings.items(), optimizers):
        net = filled(f"{prefix}/{part[0]}", of_part, part[0])
        parts[part] = Network(net.params, net.stats, optimizer.init(net.params))
        names[part] = net.names
    return method, TrainState(**counters, **parts, average=None), names


def _batch(arrays, case, prefix, number):
    msi = arrays.images(f"{prefix}/{number}", case["batch"], case["size"], 3)
    image = arrays.images(f"{prefix}/{number}/image", case["batch"], case["size"], 3)
    return {"msi": jnp.asarray(msi), "image": jnp.asarray(2.0 * image - 1.0)}


def _by_name(state, names):
    """Parameters and statistics in PyTorch's layout, by network and the original's name."""
    for part, known in names.items():
        network = getattr(state, part)
        for arrays in (network.params, network.stats):
            for path, variable in nnx.to_flat_state(arrays):
                value = naming.to_torch(path, np.asarray(variable[...]))
                yield f"{part[0]}/{known[path]}", value


def _gan_config(case):
    """pix2pix' own values, which are the default's, with smaller networks."""
    config = default_config()
    config.model.update({name: case["generator"][name] for name in ("name", "depth", "features")})
    config.discriminator.update({n: case["discriminator"][n] for n in ("n_layers", "features")})
    return config


def _agree(found, expected):
    assert set(found) == set(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-10, err_msg=name)


def _losses_agree(metrics, expected):
    found = [metrics[name] for name in ("discriminator", "adversarial", "reconstruction")]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-10)


def test_ten_steps_of_pix2pix_end_in_pytorchs_state(arrays, recorded, train):
    state, metrics = train(_gan_config(arrays.GAN), arrays.GAN, "gan")
    expected = dict(recorded("gan_steps"))
    _losses_agree(metrics, expected.pop("losses"))
    _agree(state, expected)


def test_pix2pix_with_a_falling_rate(arrays, recorded, train):
    """Stepped at the start of an epoch, as PyTorch's code does since 2020; D at its own rate."""
    config = _gan_config(arrays.GAN_EXACT)
    config.optimizer.update({"schedule": "linear", "schedule_form": "exact"})
    config.optimizer.d_learning_rate = arrays.GAN_EXACT["d_learning_rate"]
    state, metrics = train(config, arrays.GAN_EXACT, "gan")
    _agrees_with_digest(arrays, recorded, "gan_exact", state, metrics, _losses_agree)


@pytest.mark.parametrize("schedule", ["unet", "unet_fixed"])
def test_the_papers_unet_ends_in_pytorchs_state(arrays, recorded, train, schedule):
    """The rate, moments, epsilon and loss are those of the shipped configuration."""
    case = getattr(arrays, schedule.upper())
    spec = importlib.util.spec_from_file_location("unet_config", CONFIGS / "unet.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    config = module.get_config("paper")
    config.model.update({name: case[name] for name in ("depth", "features")})
    if schedule == "unet_fixed":
        config.optimizer.update({"schedule": "linear", "schedule_form": "fixed"})
    state, metrics = train(config, case, "unet")

    def losses_agree(metrics, expected):
        np.testing.assert_allclose(metrics["reconstruction"], expected, rtol=1e-10)

    _agrees_with_digest(arrays, recorded, schedule, state, metrics, losses_agree)


def _agrees_with_digest(arrays, recorded, case, state, metrics, losses_agree):
    prefix = f"{case}/"
    values = recorded("steps").items()
    expected = {k.removeprefix(prefix): v for k, v in values if k.startswith(prefix)}
    losses_agree(metrics, expected.pop("losses"))
    _agree({name: arrays.digest(value, 16) for name, value in state.items()}, expected)
