"""Histology images: read at a known um/px as 8-bit sRGB, resample by area, find the tissue."""

from msi2he_jax.histology.reading import (
    Histology,
    decode_png,
    png_bytes,
    read_histology,
    slide_um_per_px,
)
from msi2he_jax.histology.resampling import resample_area
from msi2he_jax.histology.tissue import tissue_mask

__all__ = [
    "Histology",
    "decode_png",
    "png_bytes",
    "read_histology",
    "resample_area",
    "slide_um_per_px",
    "tissue_mask",
]
