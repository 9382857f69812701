"""A slide image and what is known of the tissue on it and under MSI."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.phantom.tissue import COMPARTMENTS


@dataclasses.dataclass(frozen=True)
class Slide:
    """A slide image and what is known of it.

    Attributes:
        pixels: `[h, w, 3]` uint8 sRGB.
        um_per_px: Pixel size, um.
        abundance: `[h, w, L]` float32 in [0, 1], share of each tissue compartment; 0 on glass.
        center_yx: Centre of the circle that holds the tissue (y, x), um.
        measured: As `abundance`, of the tissue that MSI meets, where that is not the slide's.
    """

    pixels: np.ndarray
    um_per_px: float
    abundance: np.ndarray
    center_yx: tuple[float, float]
    measured: np.ndarray | None = None

    @property
    def met(self) -> np.ndarray:
        """The tissue that MSI meets, as `abundance`."""
        return self.abundance if self.measured is None else self.measured

    @property
    def mask(self) -> np.ndarray:
        """Tissue, `[h, w]` bool."""
        return self.abundance.sum(axis=-1) > 0.5

    @property
    def labels(self) -> np.ndarray:
        """Strongest compartment, `[h, w]` uint8, index into COMPARTMENTS (0 = glass)."""
        strongest = self.abundance.argmax(axis=-1) + 1
        return np.where(self.mask, strongest, 0).astype(np.uint8)


def abundance_of(labels: np.ndarray) -> np.ndarray:
    """Turns labels into shares of compartments.

    Args:
        labels: `[h, w]` uint8, index into COMPARTMENTS.

    Returns:
        `[h, w, L]` float32, 0 or 1; L leaves out glass.
    """
    return (labels[..., None] == np.arange(1, len(COMPARTMENTS))).astype(np.float32)
