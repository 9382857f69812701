"""Histology images: read at a known um/px as 8-bit sRGB, resample by area, find the tissue."""

from msi2he_jax.histology.pictures import decode_png, png_bytes
from msi2he_jax.histology.pixel_size import NoPixelSize
from msi2he_jax.histology.reading import Histology, read_histology, slide_um_per_px
from msi2he_jax.histology.resampling import resample_area
from msi2he_jax.histology.tissue import require_tissue, tissue_mask

__all__ = [
    "Histology",
    "NoPixelSize",
    "decode_png",
    "png_bytes",
    "read_histology",
    "require_tissue",
    "resample_area",
    "slide_um_per_px",
    "tissue_mask",
]
