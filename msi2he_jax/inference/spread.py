"""How far synthetic images of one section differ: dropout drawn anew, or several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.inference.model import Model
from msi2he_jax.inference.tiled import synthesize_tiled

Apply = Callable[[np.ndarray], jax.Array]


def compared_generators(model: Model, samples: int, others: Sequence[Model] = ()) -> list[Apply]:
    """Returns the generators whose images are to be compared.

    Args:
        model: The run's.
        samples: How often each generator paints with dropout; 0 or 1: once, without.
        others: Further runs on the same channels.

    Raises:
        InputError: nothing to compare: one generator used once, or without dropout; or a run
            whose channels mean something else.
    """
    for other in others:
        for key in ("peaks", "scaling"):
            if other.provenance[key] != model.provenance[key]:
                why = f"its {key} differ from those of {model.run_dir}"
                raise InputError(other.run_dir, "--ensemble", why)
    if samples < 2:
        if not others:
            why = f"are {samples}, must be 2 at least where no other run is compared"
            raise InputError("samples", "", why)
        return [each.apply for each in (model, *others)]
    if model.config.model.dropout == 0:
        why = f"{model.run_dir} has no dropout to draw anew"
        raise InputError("samples", "", why, "synthesize --ensemble=RUN,RUN compares runs instead")
    return [
        lambda msi, each=each, number=number: each.sample(msi, number)
        for each in (model, *others)
        for number in range(samples)
    ]


def estimate_spread(generators: Sequence[Apply], msi: np.ndarray, **tiling) -> np.ndarray:
    """Synthesises a section several times and says how far the images differ.

    Args:
        generators: From `compared_generators`.
        msi: `[H, W, K]` float in [0, 1].
        **tiling: As `synthesize_tiled` takes it.

    Returns:
        `[H, W]` float32 in [0, 1]: standard deviation over the images, root mean square over the
        colours, full range 1.
    """
    total, squares = 0.0, 0.0
    for generate in generators:
        image = 0.5 * synthesize_tiled(generate, msi, **tiling).astype(np.float64)
        total, squares = total + image, squares + image**2
    count = len(generators)
    variance = (squares - total**2 / count) / (count - 1)
    return np.sqrt(np.maximum(variance, 0).mean(axis=-1)).astype(np.float32)


def confidence(image: np.ndarray, spread: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Returns how much of what an image shows is more than its spread, pixel by pixel.

    Args:
        image: `[H, W, 3]` float in [-1, 1].
        spread: `[H, W]` float, as `estimate_spread` returns it.
        measured: `[H, W]` bool.

    Returns:
        `[H, W]` float32 in [0, 1]: the image's variance over itself plus the squared spread; 1
        where the images agree.
    """
    if not measured.any():
        return np.ones(spread.shape, np.float32)
    signal = (0.5 * np.asarray(image, np.float64)[measured]).var(axis=0).mean()
    return (signal / np.maximum(signal + np.square(spread, dtype=np.float64), 1e-12)).astype(
        np.float32
    )
