"""PNG with physical size and a mark that a network made it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from msi2he_jax.errors import InputError
from msi2he_jax.interop.ome_tiff import SYNTHETIC
from msi2he_jax.io_safety import atomic_file

UM_PER_INCH = 25_400.0


def write_png(
    path: str | os.PathLike,
    pixels: np.ndarray,
    *,
    um_per_px: float | tuple[float, float],
    channel_names: Sequence[str] | None = None,
    synthetic: bool = False,
    description: str = "",
) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        path: Where to.
        pixels: `[H, W, 3]` uint8, sRGB.
        um_per_px: Pixel size in um, one number or (y, x), of which x is stored, as resolution.
        channel_names: None: a PNG holds RGB only.
        synthetic: Marks title and description as made by a network.
        description: Free text.

    Raises:
        InputError: channels are named, or the file cannot be written.
    """
    if channel_names is not None:
        raise InputError(path, "", "a PNG holds RGB only", "write .ome.tiff")
    um_per_px = float(np.broadcast_to(um_per_px, 2)[1])
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
