"""Which kind of image a file is, told by its content: a suffix is only a name."""

from __future__ import annotations

import struct
from pathlib import Path

from msi2he_jax.errors import InputError

PNG, JPEG, TIFF, OPENSLIDE = "PNG", "JPEG", "TIFF", "OpenSlide"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Starts of files that only OpenSlide reads: Hamamatsu VMS and VMU, Sakura SVSLIDE, Zeiss CZI.
_OPENSLIDE = (
    b"[Virtual Microscope Specimen]",
    b"[Uncompressed Virtual Microscope Specimen]",
    b"SQLite format 3\0",
    b"ZISRAWFILE",
)
_READ = "PNG, JPEG, TIFF with OME, SVS, NDPI and SCN; by OpenSlide MRXS, VMS, BIF and SVSLIDE"
_NDPI_FORMAT = 65420
_XMP, _SOFTWARE = 700, 305


def kind_of(path: Path) -> str:
    """Tells a file's kind by its first bytes and, for MIRAX, by the folder beside it.

    Args:
        path: A regular file.

    Returns:
        `PNG`, `JPEG`, `TIFF` or `OPENSLIDE`.

    Raises:
        InputError: empty, or of a kind that is not read.
    """
    with open(path, "rb") as handle:
        head = handle.read(132)
    if not head:
        raise InputError(path, "histology", "is empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):  # The .mrxs itself is a small JPEG of the slide.
        return OPENSLIDE if (path.with_suffix("") / "Slidedat.ini").is_file() else JPEG
    if head.startswith(_TIFF):
        return _kind_of_tiff(path)
    if head.startswith(_OPENSLIDE) or head[128:] == b"DICM":
        return OPENSLIDE
    raise not_read(path)


def not_read(path: Path) -> InputError:
    """Returns the error for a file of a kind that is not read."""
    hint = f"export OME-TIFF; these are read: {_READ}"
    return InputError(path, "histology", "this kind of file is not read", hint)


def _kind_of_tiff(path: Path) -> str:
    """Ventana's tiles overlap and Philips pads its levels: OpenSlide knows how."""
    if (path.parent / f"_{path.stem}_").is_dir() and path.suffix.lower() == ".vsi":
        raise not_read(path)  # Olympus VSI: the TIFF is a preview, the slide lies in the folder.
    import tifffile

    try:
        with tifffile.TiffFile(path, is_ome=False, is_ndpi=is_ndpi(path)) as tiff:
            tags = tiff.pages[0].tags
            ventana = _XMP in tags and b"<iScan" in _bytes(tags[_XMP].value)
            philips = _SOFTWARE in tags and _bytes(tags[_SOFTWARE].value).startswith(b"Philips DP")
    except Exception:  # A damaged file is refused by who reads it, with the cause.
        return TIFF
    return OPENSLIDE if ventana or philips else TIFF


def _bytes(value) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else bytes(value)


def is_ndpi(path: Path) -> bool:
    """Says whether a TIFF is laid out as Hamamatsu NDPI: 64-bit offsets in a classic TIFF."""
    with open(path, "rb") as handle:
        head = handle.read(12)
        if len(head) < 12 or head[:4] != b"II*\0":
            return False
        handle.seek(0, 2)
        size, (offset,) = handle.tell(), struct.unpack("<Q", head[4:])
        if offset + 2 > size:
            return False
        handle.seek(offset)
        (count,) = struct.unpack("<H", handle.read(2))
        entries = handle.read(12 * min(count, 4096))
    codes = [struct.unpack_from("<H", entries, at)[0] for at in range(0, len(entries) - 1, 12)]
    return _NDPI_FORMAT in codes
