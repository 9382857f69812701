"""What the channels of an image mean, and how their values become 8-bit sRGB.

Taken as they are: grey, RGB, and both with transparency that says so. Everything else is refused
unless channels are chosen: five channels are a fluorescence scan, and three grey ones may be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError

STRAIGHT, PREMULTIPLIED = "straight", "premultiplied"
# A 16-bit image whose values all lie below this is dark, or uses fewer bits than it has.
_LEAST_WHITE = 2**14
EXPORT = "export as 8-bit RGB"


@dataclasses.dataclass(frozen=True)
class Colours:
    """How decoded samples become colours.

    Attributes:
        path: The image, for messages.
        count: Samples a pixel.
        alpha: `STRAIGHT` or `PREMULTIPLIED` where the last sample is transparency, else empty.
        bits: Significant bits of a sample as the file states them, or None.
        names: Of the channels, where the file has them.
        known: Whether the samples are known to be grey or RGB, with or without alpha.
        inverted: Whether 0 is white.
        chosen: Channels taken, from 0; None takes what `known` promises.
    """

    path: Path
    count: int
    alpha: str = ""
    bits: int | None = None
    names: tuple[str, ...] = ()
    known: bool = True
    inverted: bool = False
    chosen: tuple[int, ...] | None = None

    def choose(self, channels: Sequence[int] | None) -> Colours:
        """Takes the channels a user chose.

        Args:
            channels: One (grey) or three (red, green, blue), counted from 1; None for none.

        Raises:
            InputError: a channel that is not there, or none chosen where some must be.
        """
        if channels is None:
            if not self.known:
                raise self._unknown()
            return self
        if len(channels) not in (1, 3) or not all(0 < each <= self.count for each in channels):
            named = ",".join(map(str, channels))
            why = f"{named} are not one or three of its {self.count} channels, counted from 1"
            raise InputError(self.path, "histology_channels", why)
        return dataclasses.replace(self, chosen=tuple(each - 1 for each in channels), alpha="")

    def _unknown(self) -> InputError:
        named = f" ({', '.join(self.names)})" if any(self.names) else ""
        why = f"holds {self.count} channels{named}, which may be red, green and blue or other light"
        hint = f"choose three, as in histology_channels=1,2,3 of the manifest, or {EXPORT}"
        return InputError(self.path, "histology", why + ", such as fluorescence", hint)

    def to_rgb8(self, array: np.ndarray) -> np.ndarray:
        """Turns decoded samples into colours; what is transparent lies on white.

        Args:
            array: `[H, W, count]`, any dtype.

        Returns:
            `[H, W, 3]` uint8, sRGB.

        Raises:
            InputError: numbers of which the file does not say what white is.
        """
        if self.chosen is not None:
            array = array[..., list(self.chosen)]
        array = _as_8_bit(self.path, array, self.bits)
        if self.inverted:
            array = 255 - array
        if self.alpha:
            array = _on_white(array, self.alpha)
        return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _as_8_bit(path: Path, array: np.ndarray, bits: int | None) -> np.ndarray:
    if array.size == 0:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return _of_floats(path, array)
    if array.dtype not in (np.uint8, np.uint16):
        why = f"{array.dtype} values from {array.min()} to {array.max()}: what is white is not said"
        readings = f"their largest value or {_largest(array.dtype)}"
        raise InputError(path, "histology", f"{why}, {readings}", EXPORT)
    stored = 8 * array.dtype.itemsize
    top = 2 ** (bits or stored) - 1
    if bits == stored == 8 or (bits is None and stored == 8):
        return array
    most = int(array.max())
    if most > top:
        why = f"states {bits} significant bits, up to {top}, but holds values up to {most}"
        raise InputError(path, "histology", why, EXPORT)
    if bits is None and most < _LEAST_WHITE:
        used = max(8, most.bit_length())
        why = (
            f"no value is above {most} of {top}: nearly black, or {used} of {stored} bits are used"
        )
        raise InputError(path, "histology", why, EXPORT)
    return ((array.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def _largest(dtype: np.dtype) -> str:
    return str(np.iinfo(dtype).max) if dtype.kind in "iu" else "True"


def _of_floats(path: Path, array: np.ndarray) -> np.ndarray:
    """Floats are colours only from 0 to 1, where white is 1 by custom."""
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 1:
        why = f"{array.dtype} values from {low:g} to {high:g}: what is white is not said"
        raise InputError(path, "histology", f"{why}, 1, 255 or their largest value", EXPORT)
    return np.rint(array * 255).astype(np.uint8)


def _on_white(array: np.ndarray, alpha: str) -> np.ndarray:
    """Lays 8-bit colours and their alpha, the last channel, on white."""
    share = array[..., -1:].astype(np.uint16)
    if alpha == PREMULTIPLIED:
        return np.minimum(array[..., :-1].astype(np.uint16) + 255 - share, 255).astype(np.uint8)
    blended = array[..., :-1] * share + 255 * (255 - share)
    return ((blended + 127) // 255).astype(np.uint8)
