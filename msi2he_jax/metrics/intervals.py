"""Confidence intervals over groups: sections of one patient are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.errors import InputError

LEVEL = 0.95


def bootstrap_mean(
    values: np.ndarray, groups: Sequence[str], *, seed: int, draws: int = 2000
) -> tuple[float, float, float]:
    """Mean of the values, with its 95 % percentile interval when whole groups are resampled.

    With one group there is nothing to resample and so no interval: the bounds are NaN.

    Args:
        values: `[N]` float; those that are not finite are left out.
        groups: N names of groups, usually patients.
        seed: Seed of the resampling.
        draws: Number of resamples.

    Returns:
        Mean, lower and upper bound; the bounds NaN where one group has finite values, all NaN
        where no value is finite.

    Raises:
        InputError: values and groups differ in number, or draws below 1.

    Source: cluster bootstrap, Field and Welsh 2007 (J. R. Statist. Soc. B 69:369).
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(groups),):
        why = f"have shape {values.shape} for {len(groups)} groups"
        raise InputError("bootstrap_mean", "values", why, "one group per value")
    if draws < 1:
        raise InputError("bootstrap_mean", "draws", f"is {draws}, expected at least 1")
    finite = np.isfinite(values)
    if not finite.any():
        return (float("nan"),) * 3
    values, groups = values[finite], np.asarray(list(groups), str)[finite]
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    mean = float(values.mean())
    if sizes.size == 1:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, sizes.size, (draws, sizes.size))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # With few groups the percentiles can miss the mean by its own rounding.
    return mean, min(float(low), mean), max(float(high), mean)
