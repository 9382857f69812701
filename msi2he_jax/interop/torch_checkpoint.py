"""Networks to and from pix2pix' PyTorch checkpoints, `latest_net_G.pth` and `latest_net_D.pth`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from msi2he_jax.errors import InputError
from msi2he_jax.interop.torch_file import read_state_dict, write_state_dict
from msi2he_jax.io_safety import existing_file
from msi2he_jax.models import naming
from msi2he_jax.training import checkpoint
from msi2he_jax.training.state import (
    Average,
    Graphs,
    Network,
    TrainState,
    build_graphs,
    discriminator_shapes,
)

GENERATOR, DISCRIMINATOR = "latest_net_G.pth", "latest_net_D.pth"
_COUNTER = "num_batches_tracked"  # Kept by PyTorch, used by neither.
_PARALLEL = "module."  # What torch.nn.DataParallel puts before every name.


def read_network(
    path: str | os.PathLike, names: dict[naming.Path, str], params: Any, stats: Any
) -> tuple[Any, Any]:
    """Reads one network.

    Args:
        path: The `.pth` file.
        names: From `naming.generator_names` or `naming.discriminator_names`.
        params: `nnx.State` whose shapes and dtypes the file must fit.
        stats: The same of its statistics.

    Returns:
        Parameters and statistics, in their dtypes.

    Raises:
        InputError: not such a file, or it holds another network: the first layer that differs is
            named, in the order of the file.
    """
    found = {name.removeprefix(_PARALLEL): x for name, x in read_state_dict(path).items()}
    flat = {p: leaf for part in (params, stats) for p, leaf in nnx.to_flat_state(part)}
    wanted = {names[p]: (p, leaf) for p, leaf in flat.items()}
    for name, array in found.items():
        if not name.endswith(_COUNTER):
            _check(path, name, array, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(path, missing[0], "is missing", _layers(len(found), len(wanted)))
    values = {p: naming.from_torch(p, found[name]) for name, (p, _) in wanted.items()}
    return _filled(params, values), _filled(stats, values)


def _check(path, name: str, array: np.ndarray, wanted: dict) -> None:
    if name not in wanted:
        why = "is a layer that this configuration's network does not have"
        raise InputError(path, name, why, _layers(None, len(wanted)))
    place, leaf = wanted[name]
    expected = naming.to_torch(place, np.empty(leaf.shape, np.int8)).shape
    if array.shape != expected:
        why = f"has shape {list(array.shape)}, the configuration asks for {list(expected)}"
        hint = "model.in_channels, features and norm must be the checkpoint's"
        raise InputError(path, name, why, hint)


def _layers(held: int | None, wanted: int) -> str:
    text = f"the configuration's network has {wanted} arrays"
    text += "" if held is None else f", the file {held}"
    return f"{text}; are model.name, depth, norm and discriminator.n_layers those it was made with?"


def _filled(state: Any, values: dict[naming.Path, np.ndarray]) -> Any:
    """Returns a state of the same structure with other arrays."""
    flat = nnx.to_flat_state(state)
    leaves = [(p, leaf.replace(jnp.asarray(values[p], leaf.dtype))) for p, leaf in flat]
    return nnx.from_flat_state(leaves)


def write_network(
    path: str | os.PathLike, names: dict[naming.Path, str], params: Any, stats: Any
) -> None:
    """Writes one network so that pix2pix' PyTorch code loads it.

    Args:
        path: The `.pth` file.
        names: From `naming.generator_names` or `naming.discriminator_names`.
        params: `nnx.State` of its parameters.
        stats: `nnx.State` of its statistics.
    """
    tensors = {}
    for part in (params, stats):
        for place, leaf in nnx.to_flat_state(part):
            tensors[names[place]] = naming.to_torch(place, np.asarray(leaf[...]))
    norms = [name.removesuffix("running_var") for name in tensors if name.endswith("running_var")]
    tensors |= {name + _COUNTER: np.zeros((), np.int64) for name in norms}
    write_state_dict(path, dict(sorted(tensors.items())))


def checkpoint_files(source: str | os.PathLike) -> tuple[Path, Path | None]:
    """Finds what to begin training from.

    Args:
        source: A generator's `.pth`, or a folder with `latest_net_G.pth` and, if there is one,
            `latest_net_D.pth`.

    Returns:
        The generator's file, and the discriminator's or None.

    Raises:
        InputError: no such file.
    """
    source = Path(source)
    if not source.is_dir():
        return existing_file(source, "--init_from"), None
    discriminator = source / DISCRIMINATOR
    generator = existing_file(source / GENERATOR, "--init_from")
    return generator, discriminator if discriminator.is_file() else None


def begin_from(
    state: TrainState, graphs: Graphs, config: Any, *, source: str | os.PathLike
) -> TrainState:
    """Puts a PyTorch checkpoint into a state that has not been trained yet.

    Args:
        state: As `create_train_state` made it; optimisers and step are kept.
        graphs: Of the same configuration.
        config: The whole configuration.
        source: See `checkpoint_files`.

    Raises:
        InputError: no such file, or another network.
    """
    first, second = checkpoint_files(source)
    module = nnx.merge(graphs.generator, state.generator.params, state.generator.stats, copy=True)
    names = naming.generator_names(module, config.model)
    generator = _begun(state.generator, first, names)
    discriminator = state.discriminator
    if second is not None and discriminator is not None:
        arrays = discriminator.params, discriminator.stats
        module = nnx.merge(graphs.discriminator, *arrays, copy=True)
        names = naming.discriminator_names(module, config.discriminator)
        discriminator = _begun(discriminator, second, names)
    average = state.average and Average(generator.params, generator.stats)
    networks = {"generator": generator, "discriminator": discriminator, "average": average}
    state = dataclasses.replace(state, **networks)
    return jax.tree.map(jnp.copy, state)  # No two parts may share arrays: a step donates them.


def write_run(
    run_dir: str | os.PathLike, which: str, folder: str | os.PathLike
) -> Iterator[tuple[Path, int]]:
    """Writes the networks of a run; best checkpoints hold no discriminator.

    Args:
        run_dir: The run's folder.
        which: `"best"` or `"latest"`.
        folder: Gets `latest_net_G.pth` and, where there is one, `latest_net_D.pth`.

    Yields:
        Each file and its number of arrays.

    Raises:
        InputError: no such run, or the original has no such network.
    """
    restored = checkpoint.restore_generator(run_dir, which)
    config, graphs = restored.config, build_graphs(restored.config)
    module = nnx.merge(graphs.generator, restored.params, restored.stats, copy=True)
    names = naming.generator_names(module, config.model)
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_network(Path(folder) / GENERATOR, names, restored.params, restored.stats)
    yield Path(folder) / GENERATOR, len(names)
    saved, _ = checkpoint.read_newest(Path(run_dir) / "checkpoints" / which)
    if any(name.startswith("discriminator.params.") for name in saved.arrays):
        params, stats = discriminator_shapes(config)
        params = checkpoint.fill(params, saved.arrays, "discriminator.params")
        stats = checkpoint.fill(stats, saved.arrays, "discriminator.stats")
        module = nnx.merge(graphs.discriminator, params, stats, copy=True)
        names = naming.discriminator_names(module, config.discriminator)
        write_network(Path(folder) / DISCRIMINATOR, names, params, stats)
        yield Path(folder) / DISCRIMINATOR, len(names)


def _begun(network: Network, path: Path, names: dict[naming.Path, str]) -> Network:
    params, stats = read_network(path, names, network.params, network.stats)
    return dataclasses.replace(network, params=params, stats=stats)
