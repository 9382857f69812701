"""What an image's header promises, held against the limits before anything is decoded."""

from __future__ import annotations

from pathlib import Path

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS

SMALL_BYTES = 64 * 2**20  # Decoded, an image up to this is let in however tightly it is packed.


def check_size(path: Path, width: int, height: int, channels: int, stored: int) -> None:
    """Refuses an image that is too large, or larger than its bytes can hold.

    Args:
        path: The image.
        width: Pixels.
        height: Pixels.
        channels: Bytes of a pixel.
        stored: Bytes that the file holds of it.

    Raises:
        InputError: beyond `image_pixels` or `image_ratio`.
    """
    if width * height > LIMITS.image_pixels:
        why = f"{width} x {height} px is more than {LIMITS.image_pixels} pixels"
        hint = "export a lower resolution, or allow more with --limits.image_pixels=N"
        raise InputError(path, "histology", why, hint)
    size = width * height * channels
    if size > max(SMALL_BYTES, LIMITS.image_ratio * stored):
        why = f"{width} x {height} px would come from no more than {stored} bytes"
        hint = "no scan is packed so tightly; --limits.image_ratio=N allows it"
        raise InputError(path, "histology", why, hint)
