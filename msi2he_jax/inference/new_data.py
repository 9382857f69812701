"""A new imzML made into what a generator takes, by the very steps that made its training data."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from msi2he_jax.data.msi_arrays import MsiArrays, msi_arrays, read_like
from msi2he_jax.data.provenance import peaks_of
from msi2he_jax.errors import InputError
from msi2he_jax.msi.images import apply_scale
from msi2he_jax.msi.open_msi import MsiFile


def read_msi(
    path: str | os.PathLike,
    provenance: dict[str, Any],
    *,
    um_per_px: float | None = None,
    um_per_px_y: float | None = None,
    roi: tuple[int, int, int, int] | None = None,
    force: bool = False,
) -> MsiArrays:
    """Reads an imzML onto the training data's grid, scaled as they are.

    Args:
        path: The .imzML file.
        provenance: Of the training data.
        um_per_px: MSI pixel size along x, um; None takes the file's own.
        um_per_px_y: Along y, um; None is as along x.
        roi: (x, y, w, h) in MSI pixels, or None for all.
        force: Goes on where spectrum type or polarity differ, or peaks lie outside the m/z range.

    Returns:
        Arrays whose `msi` `[H, W, K]` is float32 in [0, 1].

    Raises:
        InputError: the file is damaged, or does not fit the training data.
    """
    msi, _ = read_like(path, provenance)
    msi.verify_checksum()
    if not force:
        _check_range(msi, provenance)
    size = {"um_per_px": um_per_px, "um_per_px_y": um_per_px_y}
    arrays = msi_arrays(msi, provenance, **size, roi=roi, force=force)
    return dataclasses.replace(arrays, msi=scale_msi(arrays.msi, provenance))


def scale_msi(msi: np.ndarray, provenance: dict[str, Any]) -> np.ndarray:
    """Scales intensities as the training data were.

    Args:
        msi: `[H, W, K]` float, normalised intensities.
        provenance: Of the training data.

    Returns:
        `[H, W, K]` float32 in [0, 1].
    """
    scaling = provenance["scaling"]
    return apply_scale(msi, np.asarray(scaling["scale"]), scaling["transform"])


def _check_range(msi: MsiFile, provenance: dict[str, Any]) -> None:
    """Refuses a file that cannot show some peak: its channel would be 0, which means absent."""
    peaks, (low, high) = peaks_of(provenance), msi.mz_range
    outside = (peaks.upper < low) | (peaks.lower > high)
    if outside.any():
        why = (
            f"is m/z {low:.4f} to {high:.4f}; {int(outside.sum())} of the model's "
            f"{len(peaks.mz)} peaks lie outside, such as {peaks.mz[outside][0]:.4f}"
        )
        raise InputError(msi.path, "mz_range", why, "--force goes on with those channels 0")
