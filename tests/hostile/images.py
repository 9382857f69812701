"""Images that are damaged, lie, or would harm; made by code. `{}` is the path in a message."""

import io
import pathlib
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

UM = 0.5


def pixels(height=24, width=18):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def stored(name, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, name, **options)
    return buffer.getvalue()


def tiff(array=None, **options):
    buffer = io.BytesIO()
    options = {"photometric": "rgb"} | options
    tifffile.imwrite(buffer, pixels() if array is None else array, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_bomb(width, height):
    """A PNG whose header promises `width` x `height` px, and whose rows are all zero."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer, rows = zlib.compressobj(9), bytearray()
    for _ in range(64):
        rows += packer.compress(bytes(1 << 20))
    rows += packer.flush()
    chunks = [(b"IHDR", header), (b"IDAT", bytes(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff_header(width, height, **tags):
    """A TIFF of one strip that holds 8 bytes, whatever its header says."""
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    entries |= {279: 8} | {int(tag[1:]): value for tag, value in tags.items()}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    return (
        struct.pack("<2sHI", b"II", 42, 16)
        + bytes(8)
        + struct.pack("<H", len(entries))
        + body
        + bytes(4)
    )


def tiff_of_tiles(side):
    """A tiny image in one tile of `side` px."""
    data = tiff_header(2, 4, t322=side, t323=side, t324=8, t325=8)
    for tag in (273, 278, 279):  # No strips: their tags become ones that nobody knows.
        data = data.replace(struct.pack("<HHI", tag, 4, 1), struct.pack("<HHI", tag + 65_000, 4, 1))
    return data


def loop_of_pages():
    """A TIFF whose first page names itself as the next."""
    data = bytearray(tiff_header(2, 4))
    data[-4:] = struct.pack("<I", 16)
    return bytes(data)


def ome(xml):
    return tiff(pixels(), metadata=None, description=xml)


OME = (
    '<?xml version="1.0" encoding="UTF-8"?>{}<OME xmlns="http://www.openmicroscopy.org/Schemas/'
    'OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
    'SizeX="18" SizeY="24" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="{}" PhysicalSizeY="{}">'
    '<TiffData IFD="0">{}</TiffData></Pixels></Image></OME>'
)
ELSEWHERE = '<UUID FileName="../outside/secret.tif">urn:uuid:0</UUID>'
HINT = " (PNG, JPEG, TIFF, OME-TIFF and SVS are read)"
SIZE_HINT = " (fill the manifest's column histology_um_per_px, in um)"
LIMIT_HINT = " (export a lower resolution, or allow more with --limits.image_pixels=N)"
RATIO_HINT = " (no scan is packed so tightly; --limits.image_ratio=N allows it)"

# Name of the file, its content, um/px given or None, the message.
REFUSED = {
    "empty": ("a.png", b"", UM, ""),
    "text": ("a.png", b"<html>404</html>", UM, ""),
    "cut png": ("a.png", stored("PNG")[:700], UM, ""),
    "cut jpeg": ("a.jpg", stored("JPEG")[:300], UM, ""),
    "png of another checksum": ("a.png", stored("PNG").replace(b"IDAT", b"IDAU"), UM, ""),
    "png bomb": ("a.png", png_bomb(30_000, 30_000), UM, ""),
    "png of 4 billion rows": ("a.png", png_bomb(1 << 31 - 1, 1 << 31 - 1), UM, ""),
    "gif": ("a.gif", stored("GIF"), UM, ""),
    "eps": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UM, ""),
    "no pixel size": ("a.png", stored("PNG"), None, ""),
    "tiff without pixel size": ("a.tif", tiff(), None, ""),
    "tiff of a print": ("a.tif", tiff(resolution=(72, 72)), None, ""),
    "text named tiff": ("a.tif", b"nothing of the kind", UM, ""),
    "cut tiff": ("a.tif", tiff()[:-500], UM, ""),
    "tiff of 2e18 px": ("a.tif", tiff_header(2**31 - 1, 2**31 - 1), UM, ""),
    "tiff bomb": ("a.tif", tiff_header(30_000, 30_000), UM, ""),
    "tiff that lacks rows": ("a.tif", tiff_header(100, 100), UM, ""),
    "tiff strip beyond the end": ("a.tif", tiff_header(2, 4, t273=10**9), UM, ""),
    "tiff without rows": ("a.tif", tiff_header(0, 0), UM, ""),
    "tiff of unknown compression": ("a.tif", tiff_header(2, 4, t259=60_000), UM, ""),
    "tiff of floats": ("a.tif", tiff(pixels()[..., 0].astype(np.float32), photometric=1), UM, ""),
    "tiff in Lab": ("a.tif", tiff(photometric="cielab"), UM, ""),
    "tiff of huge tiles": ("a.tif", tiff_of_tiles(1 << 20), UM, ""),
    "tiff whose pages go round": ("a.tif", loop_of_pages(), UM, ""),
    "ome of negative size": ("a.ome.tif", ome(OME.format("", "-1", "-1", "")), None, ""),
    "ome of oblong pixels": ("a.ome.tif", ome(OME.format("", "0.5", "2", "")), None, ""),
    "ome of size nan": ("a.ome.tif", ome(OME.format("", "nan", "nan", "")), None, ""),
}


def make(folder: pathlib.Path, name: str) -> pathlib.Path:
    file, content, *_ = REFUSED[name]
    (folder / file).write_bytes(content)
    return folder / file
