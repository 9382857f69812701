"""The state before the first step: random weights, and a linear map solved in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from msi2he_jax.data.loader import Arrays, inside_extent
from msi2he_jax.data.patients import one_spelling
from msi2he_jax.data.streaming import Stored
from msi2he_jax.metrics.evaluation import unit_float
from msi2he_jax.metrics.regression import LinearFit, fit_linear, patient_moments
from msi2he_jax.models.linear import fitted_values
from msi2he_jax.training.methods.setup import Setup
from msi2he_jax.training.state import Average, TrainState, create_train_state


def initial_state(
    setup: Setup,
    data: Arrays | Stored | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> TrainState:
    """Returns the state before the first step, as `Method.init` says.

    Args:
        setup: Of the method; `model.start` says whether there is a linear map, and of which kind.
        data: The training split; None leaves the map at zero.
        note: Told what the fit chose.
    """
    kind = setup.config.model.start
    state = create_train_state(setup.config, *setup.optimizers)
    if data is None or kind == "none":
        return state
    fit = fit_training_split(setup.config, data)
    unit = "components" if kind == "pls" else "penalty"
    note(f"{kind}: {fit.chosen:.3g} {unit}, chosen by training patients left out in turn")
    return with_linear_map(state, fit)


def fit_training_split(config: Any, data: Arrays | Stored) -> LinearFit:
    """Fits colours in [0, 1] to the MSI of a training split, padding left out.

    Args:
        config: The whole configuration; `model.start` and `model.neighbours_px` are read.
        data: The training split, in memory or on the disk; read once.

    Raises:
        InputError: a method or a square of neighbours that there is not.
    """
    sums = patient_moments(_examples(data), neighbours_px=config.model.neighbours_px)
    return fit_linear(sums, config.model.start)


def with_linear_map(state: TrainState, fit: LinearFit) -> TrainState:
    """Puts a fit into a state that has not been trained yet, its average included."""
    stats, values = state.generator.stats, fitted_values(fit)
    flat = {path: leaf for path, leaf in nnx.to_flat_state(stats)}
    for name, value in values.items():
        flat["line", name] = flat["line", name].replace(value)
    stats = nnx.from_flat_state(flat.items())
    average = state.average and Average(state.average.params, stats)
    generator = dataclasses.replace(state.generator, stats=stats)
    state = dataclasses.replace(state, generator=generator, average=average)
    return jax.tree.map(jnp.copy, state)  # No two parts may share arrays: a step donates them.


def _examples(data: Arrays | Stored) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields patient, MSI, colours in [0, 1] and all but padding of each pair."""
    for index, patient in enumerate(one_spelling(data.group_ids)):
        if isinstance(data, Stored):
            one = data.example(index)
            msi, histology = one["msi"], one["histology"]
        else:
            msi, histology = data.msi[index], data.histology[index]
        yield patient, msi, unit_float(histology), inside_extent(data.extent_px[index], data.grid)
