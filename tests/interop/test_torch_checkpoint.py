"""Our networks as pix2pix' checkpoints and back, bit for bit; a clear word where they differ."""

import jax
import numpy as np
import pytest
from flax import nnx

from msi2he_jax.config import default_config
from msi2he_jax.errors import InputError
from msi2he_jax.interop import torch_checkpoint as converter
from msi2he_jax.interop.torch_file import read_state_dict, write_state_dict
from msi2he_jax.models import naming
from msi2he_jax.training.methods import build_optimizers
from msi2he_jax.training.state import build_graphs, create_train_state


def _config(**model):
    config = default_config()
    config.model.update({"in_channels": 3, "depth": 5, "features": 2, **model})
    config.discriminator.update({"features": 2, "n_layers": 2})
    config.ema = 0.9
    return config


def _state(config, seed):
    config = config.copy_and_resolve_references()
    config.seed = seed
    return create_train_state(config, *build_optimizers(config, 4))


def _save(folder, config, state):
    graphs = build_graphs(config)
    nets = {
        converter.GENERATOR: (graphs.generator, state.generator, naming.generator_names),
        converter.DISCRIMINATOR: (
            graphs.discriminator,
            state.discriminator,
            naming.discriminator_names,
        ),
    }
    folder.mkdir(exist_ok=True)
    for name, (graph, network, find) in nets.items():
        section = config.model if name == converter.GENERATOR else config.discriminator
        module = nnx.merge(graph, network.params, network.stats, copy=True)
        converter.write_network(folder / name, find(module, section), network.params, network.stats)


@pytest.mark.parametrize("model", [{}, {"name": "resnet", "blocks": 1}, {"norm": "instance"}])
def test_round_trip_is_bit_exact(tmp_path, model):
    config = _config(**model)
    trained, fresh = _state(config, 1), _state(config, 2)
    _save(tmp_path / "a", config, trained)
    begun = converter.begin_from(fresh, build_graphs(config), config, source=tmp_path / "a")
    for part in ("generator", "discriminator"):
        new, old = getattr(begun, part), getattr(trained, part)
        jax.tree.map(np.testing.assert_array_equal, new.params, old.params)
        jax.tree.map(np.testing.assert_array_equal, new.stats, old.stats)
    jax.tree.map(np.testing.assert_array_equal, begun.average.params, trained.generator.params)
    _save(tmp_path / "b", config, begun)
    for name in (converter.GENERATOR, converter.DISCRIMINATOR):
        first, second = (read_state_dict(tmp_path / each / name) for each in "ab")
        assert list(first) == list(second)
        assert all(first[key].tobytes() == second[key].tobytes() for key in first)


def test_a_generator_alone_leaves_the_discriminator(tmp_path):
    config = _config()
    _save(tmp_path, config, _state(config, 1))
    fresh = _state(config, 2)
    begun = converter.begin_from(
        fresh, build_graphs(config), config, source=tmp_path / converter.GENERATOR
    )
    jax.tree.map(
        np.testing.assert_array_equal, begun.discriminator.params, fresh.discriminator.params
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"in_channels": 7},
            r"model\.model\.0\.weight: has shape \[2, 3, 4, 4\], the configuration asks for "
            r"\[2, 7, 4, 4\] \(model\.in_channels, features and norm must be the checkpoint's\)",
        ),
        ({"depth": 6}, r"is a layer that this configuration's network does not have"),
        ({"name": "resnet"}, r"model\.model\.0\.weight: is a layer that this configuration's"),
        ({"norm": "none"}, r"is a layer that this configuration's network does not have"),
    ],
)
def test_names_the_first_layer_that_differs(tmp_path, change, why):
    made = _config()
    _save(tmp_path, made, _state(made, 1))
    config = _config(**change)
    with pytest.raises(InputError, match=why):
        converter.begin_from(_state(config, 2), build_graphs(config), config, source=tmp_path)


def test_names_of_data_parallel_are_read(tmp_path):
    config = _config()
    _save(tmp_path, config, _state(config, 1))
    path = tmp_path / converter.GENERATOR
    write_state_dict(path, {f"module.{k}": x for k, x in read_state_dict(path).items()})
    begun = converter.begin_from(_state(config, 2), build_graphs(config), config, source=path)
    jax.tree.map(
        np.testing.assert_array_equal, begun.generator.params, _state(config, 1).generator.params
    )


def test_a_missing_layer_is_named(tmp_path):
    config = _config()
    _save(tmp_path, config, _state(config, 1))
    path = tmp_path / converter.GENERATOR
    tensors = read_state_dict(path)
    del tensors["model.model.3.bias"]
    write_state_dict(path, tensors)
    with pytest.raises(InputError, match=r"model\.model\.3\.bias: is missing"):
        converter.begin_from(_state(config, 2), build_graphs(config), config, source=path)
