"""PNG and JPEG by Pillow, which also decodes the TIFF pages that tifffile alone cannot."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from msi2he_jax.errors import InputError
from msi2he_jax.histology.channels import STRAIGHT, Colours
from msi2he_jax.histology.limits import check_size

_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def read_picture(
    path: Path, kind: str, chosen: Sequence[int] | None = None, page: int = 0
) -> np.ndarray:
    """Decodes a picture as a viewer shows it; transparent parts become white.

    Args:
        path: The image.
        kind: `PNG`, `JPEG` or `TIFF`; nothing else is tried.
        chosen: One or three channels from 1, or None.
        page: Of a TIFF, from 0.

    Returns:
        `[H, W, 3]` uint8, sRGB.

    Raises:
        InputError: damaged, too large, or without the channels chosen.
    """
    try:
        with _own_limit(), Image.open(path, formats=(kind,)) as image:
            check_size(path, *image.size, len(image.getbands()), path.stat().st_size)
            image.seek(page)
            return _to_rgb8(path, ImageOps.exif_transpose(image), chosen)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(path, "histology", f"is a {kind} that is damaged at its start") from error
    except Exception as error:  # decoders raise nearly any type on damaged files
        hint = "is it damaged? Save or export it again"
        raise InputError(path, "histology", f"cannot be decoded: {error}", hint) from error


def _to_rgb8(path: Path, image: Image.Image, chosen: Sequence[int] | None) -> np.ndarray:
    """Any Pillow mode to uint8 [H, W, 3]."""
    if image.mode.startswith("I") or image.mode == "F":
        wide = np.asarray(image)
        if image.mode != "F" and (wide.size == 0 or 0 <= wide.min() <= wide.max() < 65536):
            wide = wide.astype(np.uint16)
        array, colours = wide[..., None], Colours(path, 1)
    elif image.mode in _ALPHA_MODES or "transparency" in image.info:
        array, colours = np.asarray(image.convert("RGBA")), Colours(path, 4, alpha=STRAIGHT)
    else:
        array, colours = np.asarray(image.convert("RGB")), Colours(path, 3)
    return colours.choose(chosen).to_rgb8(array)


@contextlib.contextmanager
def _own_limit() -> Iterator[None]:
    """Lifts Pillow's limit, too low for slides; `check_size` holds ours against the header."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def silent_libtiff() -> Iterator[None]:
    """Sends away what the C library writes to stderr itself; Pillow cannot tell it not to."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def png_bytes(array: np.ndarray) -> bytes:
    """Encodes an `array` of uint8 or bool [H, W], or uint8 [H, W, 3]; bool becomes 0 and 1."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decodes PNG bytes to uint8 [H, W] or [H, W, 3]."""
    with _own_limit(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image)
