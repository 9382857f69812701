"""PNG with physical size and a mark that a network made it."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from msi2he_jax.interop.ome_tiff import SYNTHETIC
from msi2he_jax.io_safety import atomic_file

UM_PER_INCH = 25_400.0


def write_png(
    path: str | os.PathLike,
    pixels: np.ndarray,
    *,
    um_per_px: float,
    synthetic: bool = False,
    description: str = "",
) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        path: Where to.
        pixels: `[H, W, 3]` uint8, sRGB.
        um_per_px: Pixel size in um, stored as resolution.
        synthetic: Marks title and description as made by a network.
        description: Free text.

    Raises:
        InputError: the file cannot be written.
    """
    text = PngInfo()
    if synthetic:
        text.add_itxt("Title", SYNTHETIC)
        description = f"{SYNTHETIC}: made by a network from MSI. {description}".strip()
    text.add_itxt("Description", description)
    text.add_itxt("um_per_px", f"{um_per_px:.9g}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    with atomic_file(path) as temporary:
        dpi = UM_PER_INCH / um_per_px
        image.save(temporary, format="PNG", pnginfo=text, dpi=(dpi, dpi))
