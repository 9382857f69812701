"""Cuts the spectra of a large file into ranges, which are read apart and put together in order."""

from __future__ import annotations

import itertools

import numpy as np

from msi2he_jax.msi.open_msi import MsiFile

RANGE_BYTES = 2_000_000_000


def range_bounds(spectra: int, ibd_bytes: int) -> list[tuple[int, int]]:
    """Cuts a file into as few ranges of about equally many spectra as keep to `RANGE_BYTES` each.

    They depend on the file alone, never on who reads them: what is summed within each range and
    then over the ranges has the same bits on one computer and on many.

    Args:
        spectra: How many the file holds.
        ibd_bytes: Size of its .ibd, bytes.

    Returns:
        The (first, one after the last) spectrum of each range, consecutive and together all; one
        range for a file within the limit.
    """
    count = max(1, min(-(-ibd_bytes // RANGE_BYTES), spectra))
    cuts = [spectra * i // count for i in range(count + 1)]
    return list(itertools.pairwise(cuts))


def spectrum_ranges(msi: MsiFile) -> list[np.ndarray]:
    """Returns the numbers of the spectra in each range of an open file, int64 [n] each."""
    bounds = range_bounds(msi.n, msi.bytes)
    return [np.arange(first, stop) for first, stop in bounds]
