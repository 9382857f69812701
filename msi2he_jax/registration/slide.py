"""The fixed side of a registration: a slide at working resolution, as optical density."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from msi2he_jax.histology import Histology, resample_area, tissue_mask

MOST_PIXELS_A_SIDE = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Slide:
    """A slide ready to register to.

    Attributes:
        pixels: `[H, W, 3]` uint8 sRGB.
        density: `[H, W]` float32, optical density, mean of the channels (decades).
        tissue: `[H, W]` bool.
        um_per_px: Pixel size, um.
        origin_um: `[2]` float64 (y, x), outer corner of pixel (0, 0) in the slide's frame, um.
        warnings: What is odd in the file.
    """

    pixels: np.ndarray
    density: np.ndarray
    tissue: np.ndarray
    um_per_px: float
    origin_um: np.ndarray
    warnings: tuple[str, ...] = ()

    @functools.cached_property
    def channels(self) -> np.ndarray:
        """Principal components of the channels' optical densities over the tissue.

        `[H, W, 3]` float32. They span what any two or three stains absorb (haematoxylin and eosin,
        DAB), and no stain need be named; of a grey image only the first is not constant.
        """
        density = channel_densities(self.pixels)
        inside = density[self.tissue] if self.tissue.any() else density.reshape(-1, 3)
        centred = inside - inside.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
        return (density - inside.mean(axis=0)) @ axes

    @property
    def diagonal_um(self) -> float:
        """Diagonal of the image, um."""
        return float(np.hypot(*self.tissue.shape) * self.um_per_px)


def working_slide(histology: Histology, *, um_per_px: float) -> Slide:
    """Brings a slide to working resolution and finds its tissue.

    Args:
        histology: As read, possibly much finer.
        um_per_px: Pixel size wanted, um; never finer than the image's own, and coarser where the
            image would have more than `MOST_PIXELS_A_SIDE`.

    Returns:
        The slide.
    """
    extent = max(histology.pixels.shape[:2]) * histology.um_per_px
    um = max(um_per_px, histology.um_per_px, extent / MOST_PIXELS_A_SIDE)
    pixels = resample_area(histology.pixels, histology.um_per_px, um)
    origin = np.asarray(histology.origin_um, np.float64)
    tissue = tissue_mask(pixels)
    return Slide(pixels, optical_density(pixels), tissue, um, origin, histology.warnings)


def optical_density(pixels: np.ndarray) -> np.ndarray:
    """Returns how much light was absorbed, in which stain adds up linearly.

    Args:
        pixels: `[..., 3]` uint8 sRGB; the encoding's gamma is left in, as stain separation does.

    Returns:
        `[...]` float32, 0 (white) to 2.41 (black), mean of the channels.
    """
    return channel_densities(pixels).mean(axis=-1)


def channel_densities(pixels: np.ndarray) -> np.ndarray:
    """Returns `optical_density` of each channel, `[..., 3]` float32."""
    return -np.log10(np.maximum(pixels.astype(np.float32), 1.0) / 255.0)
