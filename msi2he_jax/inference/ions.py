"""Ion images of one file: which ones a command line names, and those of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msi2he_jax.data.msi_arrays import native_images, read_like
from msi2he_jax.errors import InputError


def parse_ions(words: Sequence[str]) -> list[float]:
    """Returns the m/z named on a command line.

    Args:
        words: Such as `885.55`.

    Raises:
        InputError: a word that is no m/z.
    """
    found = []
    for word in words:
        try:
            mz = float(word)
        except ValueError:
            mz = 0.0
        if not 0 < mz < 1e6:
            raise InputError("--ions", "", f"{word!r} is no m/z", "as in --ions=885.55,281.25")
        found.append(mz)
    return found


def peak_images_like(path, provenance: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the peaks of a data set on a file's own grid, treated and divided as there.

    Args:
        path: The .imzML file.
        provenance: Of the data set.

    Returns:
        `[H, W, K]` float32, and m/z `[K]`.
    """
    imzml, _ = read_like(path, provenance)
    return native_images(imzml, provenance), np.array(provenance["peaks"]["mz"])
