"""Confidence intervals over groups: sections of one patient are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


def bootstrap_mean(
    values: np.ndarray, groups: Sequence[str], *, seed: int, draws: int = 2000
) -> tuple[float, float, float]:
    """Mean of the values, with its 95 % percentile interval when whole groups are resampled.

    With one group there is nothing to resample: the bounds equal the mean and say nothing.

    Args:
        values: `[N]` float; those that are not finite are left out.
        groups: N names of groups, usually patients.
        seed: Seed of the resampling.
        draws: Number of resamples.

    Returns:
        Mean, lower and upper bound; all NaN where no value is finite.

    Source: cluster bootstrap, Field and Welsh 2007 (J. R. Statist. Soc. B 69:369).
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return (float("nan"),) * 3
    values, groups = values[finite], np.asarray(list(groups), str)[finite]
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(0, sizes.size, (draws, sizes.size))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = float(values.mean())
    # With few groups the percentiles can miss the mean by its own rounding.
    return mean, min(float(low), mean), max(float(high), mean)
