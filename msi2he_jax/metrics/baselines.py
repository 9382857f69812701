"""What a straight line from MSI to colours knows: the baselines that a network has to beat.

Ridge and partial least squares, of a pixel's own channels or with the mean of its neighbours. They
learn from the training split alone, and leave its patients out in turn to decide how strongly to
shrink.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import regression
from msi2he_jax.metrics.nulls import Training

# Name: method, and side of the square of neighbours, px.
LINEAR = {
    "ridge": ("ridge", 1),
    "ridge_3x3": ("ridge", 3),
    "pls": ("pls", 1),
    "pls_3x3": ("pls", 3),
}
_WIDEST_PX = 3


def linear_predictions(
    train: Training, patients: Sequence[str], inside: np.ndarray, msi: np.ndarray
) -> dict[str, np.ndarray]:
    """Images of a test split by each of `LINEAR`.

    Args:
        train: The training split.
        patients: M names of its patients.
        inside: `[M, h, w]` bool, the training pixels that count: all but padding.
        msi: `[N, H, W, K]` float in [0, 1], test.

    Returns:
        `[N, H, W, 3]` float32 in [0, 1] by name.

    Raises:
        InputError: other channels than the training split has, or shapes that do not fit.
    """
    if msi.shape[-1] != train.msi.shape[-1]:
        why = f"has {msi.shape[-1]} channels, the training split {train.msi.shape[-1]}"
        raise InputError("linear_predictions", "msi", why)
    examples = zip(patients, train.msi, train.histology, inside, strict=True)
    wide = regression.patient_moments(examples, neighbours_px=_WIDEST_PX)
    own = {name: found.first(msi.shape[-1]) for name, found in wide.items()}
    fits = {
        name: regression.fit_linear(own if side == 1 else wide, method)
        for name, (method, side) in LINEAR.items()
    }
    return {name: apply_linear(fit, msi, LINEAR[name][1]) for name, fit in fits.items()}


def apply_linear(fit: regression.LinearFit, msi: np.ndarray, neighbours_px: int) -> np.ndarray:
    """Images by a fit, one at a time.

    Args:
        fit: Of `neighbours_px`.
        msi: `[N, H, W, K]` float in [0, 1].
        neighbours_px: As `side_px` of `with_neighbours`.

    Returns:
        `[N, H, W, C]` float32 in [0, 1].
    """
    kernel, bias = fit.kernel.astype(np.float32), fit.bias.astype(np.float32)
    images = [
        np.asarray(regression.with_neighbours(jnp.asarray(one[None], jnp.float32), neighbours_px))
        @ kernel
        + bias
        for one in msi
    ]
    return np.clip(np.concatenate(images), 0.0, 1.0)
