"""Sizes of spectra, by which intensities are divided, and the weights that follow from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.block import Block
from msi2he_jax.msi.open_msi import MsiFile

KINDS = ("none", "tic", "rms", "median", "reference")
FLOOR = 0.05


def spectrum_sizes(
    msi: MsiFile,
    kind: str,
    *,
    reference_mz: float | None = None,
    reference_ppm: float | None = None,
    indices: np.ndarray | None = None,
) -> np.ndarray:
    """Measures how large each spectrum is, over all its points.

    Args:
        msi: An open file.
        kind: "none": 1; "tic": sum of the intensities; "rms": root of their mean square; "median":
            median of those that are not zero; "reference": sum of those near one m/z.
        reference_mz: m/z of the reference ion, for "reference".
        reference_ppm: How far from it a point may lie, ppm, for "reference".
        indices: int64 [n], numbers of spectra; None for all.

    Returns:
        float64 [n], 0 for spectra without signal (except "none").

    Raises:
        InputError: an unknown kind, a reference that is not given or (where all spectra are
            measured) shows no signal, or a damaged spectrum.

    Source:
        SpectralAnalysis' TIC, RMS and median (of non-zero values) normalisations; Cardinal's
        "tic", "rms" and "reference". Where a file leaves zeros out, "rms" counts only the points
        that are there.
    """
    if kind not in KINDS:
        raise InputError("normalization", "kind", f"is {kind!r}", f"one of {', '.join(KINDS)}")
    if kind == "none":
        return np.ones(msi.n if indices is None else len(indices))
    if kind == "tic" and indices is None:
        return msi.tic()
    measure = _MEASURES.get(kind) or _reference(reference_mz, reference_ppm)
    sizes = [np.zeros(0), *(measure(block) for block in msi.packed(indices))]
    sizes = np.concatenate(sizes)
    if kind == "reference" and len(sizes) == msi.n and not sizes.any():
        why = f"no spectrum has signal within {reference_ppm:g} ppm of m/z {reference_mz:g}"
        raise InputError(msi.path, "normalization", why, "name another ion: --reference_mz")
    return sizes


def _total(block: Block) -> np.ndarray:
    return block.per_spectrum(block.intensity)


def _root_mean_square(block: Block) -> np.ndarray:
    points = np.maximum(np.diff(block.starts), 1)
    return np.sqrt(block.per_spectrum(block.intensity**2) / points)


def _median_of_signal(block: Block) -> np.ndarray:
    signals = (intensity[intensity > 0] for _, intensity in block.spectra())
    return np.array([np.median(signal) if len(signal) else 0.0 for signal in signals])


def _reference(mz: float | None, ppm: float | None) -> Callable[[Block], np.ndarray]:
    """Returns a function that sums each spectrum's signal near one m/z."""
    for name, value in (("reference_mz", mz), ("reference_ppm", ppm)):
        if value is None or not 0 < value < np.inf:
            raise InputError("normalization", name, f"is {value}, must be positive")

    def measure(block: Block) -> np.ndarray:
        near = np.abs(block.mz - mz) <= mz * ppm * 1e-6
        near = np.tile(near, len(block.indices)) if block.shared else near
        return block.per_spectrum(np.where(near, block.intensity, 0.0))

    return measure


_MEASURES = {"tic": _total, "rms": _root_mean_square, "median": _median_of_signal}


def size_floor(sizes: np.ndarray) -> float:
    """Returns the size that no spectrum is taken to be below: 5 % of the median positive size.

    Args:
        sizes: float64 [...].

    Returns:
        In the unit of `sizes`; 0 where none is positive.
    """
    positive = sizes[sizes > 0]
    return float(FLOOR * np.median(positive)) if positive.size else 0.0


def size_weights(sizes: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Returns 1 / size with a floor, so that empty pixels do not explode.

    Args:
        sizes: float64 [...].
        floor: In their unit; None: `size_floor` of them. A file summed in parts needs that of all.

    Returns:
        float64, same shape: 1 / max(size, floor); 0 where all are 0.
    """
    floor = size_floor(sizes) if floor is None else floor
    floored = np.maximum(sizes, floor)
    return np.divide(1.0, floored, out=np.zeros(floored.shape), where=floored > 0)
