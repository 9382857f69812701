"""Writes an image in the format that its file's name asks for.

A writer for another format is a module of its own, with a function that is called as `write_png`
is, and one entry of `WRITERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.interop.ome_tiff import write_ome_tiff
from msi2he_jax.interop.png import write_png

WRITERS = {".ome.tiff": write_ome_tiff, ".ome.tif": write_ome_tiff, ".png": write_png}


def image_writer(path: str | os.PathLike) -> Callable[..., None]:
    """Returns the function that writes the format of a file, by the ending of its name.

    Raises:
        InputError: no format has this ending.
    """
    for suffix, writer in WRITERS.items():
        if str(path).lower().endswith(suffix):
            return writer
    raise InputError(path, "", f"must end in {', '.join(WRITERS)}")


def write_image(
    path: str | os.PathLike,
    image: np.ndarray,
    um_per_px: float | tuple[float, float],
    *,
    channel_names: Sequence[str] | None = None,
    synthetic: bool = False,
    description: str = "",
) -> None:
    """Writes an image with its pixel size, whole or not at all.

    Args:
        path: Where to; `.ome.tiff` or `.ome.tif` (a pyramid) or `.png` (RGB).
        image: `[H, W, 3]` uint8 for RGB (sRGB), else `[H, W, C]` uint8 or float32 channels.
        um_per_px: Pixel size in micrometres, one number or (y, x); a PNG holds that along x.
        channel_names: One per channel, such as `m/z 885.5499`; None for RGB.
        synthetic: Marks the image as made by a network.
        description: Free text.

    Raises:
        InputError: no format has this ending, the image does not fit the format, or the file cannot
            be written.

    Example:
        >>> import numpy as np, tempfile
        >>> path = f"{tempfile.mkdtemp()}/a.ome.tiff"
        >>> write_image(path, np.zeros((8, 8, 3), np.uint8), 50.0, description="black")
    """
    image_writer(path)(
        path,
        image,
        um_per_px=um_per_px,
        channel_names=channel_names,
        synthetic=synthetic,
        description=description,
    )
