"""Hands the parity tests what was recorded, and networks filled as the recorded ones were."""

import importlib.util
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx

from msi2he_jax.models import build_discriminator, build_generator, naming

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def arrays():
    """The module the recording script uses too; loaded by path, since tests are not a package."""
    spec = importlib.util.spec_from_file_location("parity_arrays", HERE / "arrays.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def recorded():
    """Reads a fixture file once: `recorded("g_f64")` -> mapping of arrays."""
    files = {}

    def read(name):
        if name not in files:
            with np.load(HERE / f"{name}.npz") as archive:
                files[name] = dict(archive)
        return files[name]

    return read


@pytest.fixture(scope="session")
def filled(arrays):
    """Fills a network from `arrays.parameter`, and says what the original calls its variables."""

    def fill(case, config, kind):
        build = build_generator if kind == "g" else build_discriminator
        find = naming.generator_names if kind == "g" else naming.discriminator_names
        if getattr(config, "name", "") == "unet_ronneberger":
            find = _names_after_paths
        module = nnx.eval_shape(lambda: build(config, rngs=nnx.Rngs(0)))
        names = find(module, config)
        state = nnx.to_flat_state(nnx.state(module))
        for path, variable in state:
            shape = naming.to_torch(path, np.empty(variable.shape)).shape
            value = naming.from_torch(path, arrays.parameter(case, names[path], shape))
            variable.set_value(value.astype(variable.dtype))
        nnx.update(module, nnx.from_flat_state(state))
        graphdef, params, stats = nnx.split(module, nnx.Param, ...)
        return SimpleNamespace(graphdef=graphdef, params=params, stats=stats, names=names)

    return fill


def _names_after_paths(module, config):
    """Names of a network that the original lacks: its PyTorch twin has our attributes' names."""
    leaves = {"kernel": "weight", "bias": "bias"}
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(module))]
    return {path: ".".join(map(str, (*path[1:-1], leaves[path[-1]]))) for path in paths}
