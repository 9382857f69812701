"""Slides of several makers, made by code with their tags, and a stand-in for OpenSlide."""

import io
import re
import struct
import sys
import types

import numpy as np
import pytest
import tifffile
from PIL import Image

from msi2he_jax import doctor
from msi2he_jax.errors import InputError
from msi2he_jax.histology import openslide_slides, read_histology, slide_um_per_px, tiles

MCU = 8  # Pixels a side of a JPEG block.


def picture(height, width, seed=0):
    """A smooth H&E-like picture, which JPEG hardly changes; uint8 [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width] / 40.0
    wave = np.stack([np.sin(rows + k + seed) * np.cos(columns - k) for k in range(3)], axis=-1)
    return (wave * 40 + (200, 150, 190)).astype(np.uint8)


def jpeg(pixels, blocks):
    """JPEG bytes with a restart marker every so many blocks."""
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": "4:4:4", "restart_marker_blocks": blocks}
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _restarts(data):
    """Where the blocks between restart markers start."""
    scan = data.index(b"\xff\xda")
    first = scan + 2 + struct.unpack_from(">H", data, scan + 2)[0]
    return [first, *(found.end() for found in re.finditer(rb"\xff[\xd0-\xd7]", data[first:]))]


def write_ndpi(path, pages, um_per_px=0.5, tile=64):
    """Writes an NDPI: 64-bit offsets in a classic TIFF, each page one huge strip of JPEG.

    `pages`: (pixels, lens, focus) of each; lens -1 is the macro picture, -2 the map.
    """
    body, link = bytearray(struct.pack("<4sQ", b"II*\0", 0)), 4
    full = pages[0][0].shape[1]
    for pixels, lens, focus in pages:
        height, width = pixels.shape[:2]
        data = jpeg(pixels, tile // MCU)
        starts = _restarts(data)
        starts = [starts[0], *(starts[0] + each for each in starts[1:])]
        strip = _put(body, data)
        size = um_per_px * full / width
        resolution = _put(body, struct.pack("<II", round(1e7 / size), 1000))
        entries = [
            *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, _put(body, b"\x08\0" * 3))),
            *((259, 3, 1, 7), (262, 3, 1, 6), (271, 2, 10, _put(body, b"Hamamatsu\0"))),
            *((273, 4, 1, strip), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data))),
            *((282, 5, 1, resolution), (283, 5, 1, resolution), (296, 3, 1, 3), (65420, 4, 1, 1)),
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", lens))[0]),
            (65424, 9, 1, focus),
            (65426, 4, len(starts), _put(body, struct.pack(f"<{len(starts)}I", *starts))),
        ]
        struct.pack_into("<Q", body, link, len(body))
        body += struct.pack("<H", len(entries))
        body += b"".join(struct.pack("<HHII", *entry) for entry in entries)
        link = len(body)
        body += struct.pack("<Q", 0) + bytes(4 * len(entries))
    path.write_bytes(body)
    return path


def _put(body, data):
    offset = len(body)
    body += data + bytes(len(data) % 2)
    return offset


SCN = (
    '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection'
    ' name="c" sizeX="{glass}" sizeY="{glass}">{images}</collection></scn>'
)
SCN_IMAGE = (
    '<image name="i"><pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
    '<view sizeX="{x}" sizeY="{y}" offsetX="0" offsetY="0"/></image>'
)


def write_scn(path, macro, scans, um_per_px=0.5):
    """Writes an SCN: the picture of the whole glass, then scans, each a list of levels."""
    pages, images = [macro], [_scn_image([macro], [0], 10**8, 10**8)]
    for levels in scans:
        ifds = range(len(pages), len(pages) + len(levels))
        height, width = levels[0].shape[:2]
        sides = (round(1000 * um_per_px * side) for side in (width, height))
        images.append(_scn_image(levels, ifds, *sides))
        pages += levels
    text = SCN.format(glass=10**8, images="".join(images))
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, page in enumerate(pages):
            said = {} if number else {"description": text}
            file.write(page, photometric="rgb", tile=(64, 64), metadata=None, **said)
    return path


def _scn_image(levels, ifds, x, y):
    shapes = [level.shape[:2] for level in levels]
    dimensions = "".join(
        f'<dimension sizeX="{width}" sizeY="{height}" r="{r}" ifd="{ifd}"/>'
        for r, ((height, width), ifd) in enumerate(zip(shapes, ifds, strict=True))
    )
    (height, width), *_ = shapes
    return SCN_IMAGE.format(width=width, height=height, dimensions=dimensions, x=x, y=y)


def write_vms(path, pixels, um_per_px=0.5, tile=128):
    """Writes a VMS: an index and its JPEGs."""
    height, width = pixels.shape[:2]
    path.with_suffix(".jpg").write_bytes(jpeg(pixels, tile // MCU))
    (path.parent / "map.jpg").write_bytes(jpeg(pixels[::4, ::4], tile // 4 // MCU))
    keys = {"NoLayers": 1, "NoJpegColumns": 1, "NoJpegRows": 1, "MapFile": "map.jpg"}
    keys |= {"ImageFile": path.with_suffix(".jpg").name, "OptimisationFile": ""}
    keys |= {
        "PhysicalWidth": int(width * um_per_px * 1000),
        "PhysicalHeight": int(height * um_per_px * 1000),
    }
    lines = [f"{key}={value}" for key, value in keys.items()]
    path.write_text("\n".join(["[Virtual Microscope Specimen]", *lines, ""]))
    return path


SLIDE = picture(256, 384)
MACRO = picture(96, 192, seed=2)


def _close(image, expected, um_per_px):
    assert image.um_per_px == pytest.approx(um_per_px)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels.astype(int) - expected).max() < 12


@pytest.fixture
def ndpi(tmp_path):
    pytest.importorskip("imagecodecs", reason="tifffile needs it for JPEG; in the wsi extra")
    half = SLIDE[::2, ::2]
    elsewhere = SLIDE[::4, ::4][:, :64] // 2  # In another focal plane only.
    pages = [(SLIDE, 20.0, 0), (half, 10.0, 0), (elsewhere, 5.0, 3000), (MACRO, -1.0, 0)]
    return write_ndpi(tmp_path / "a.ndpi", pages)


def test_ndpi_by_its_own_levels_and_size(ndpi):
    _close(read_histology(ndpi), SLIDE, 0.5)
    _close(read_histology(ndpi, target_um_per_px=30.0), SLIDE[::2, ::2], 1.0)
    part = read_histology(ndpi, roi=(64, 32, 128, 64), target_um_per_px=1.0)
    _close(part, SLIDE[32:96:2, 64:192:2], 1.0)


def test_ndpi_is_read_by_tiles_whatever_its_suffix(ndpi, monkeypatch):
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)
    path = ndpi.rename(ndpi.with_suffix(".tif"))
    _close(read_histology(path, target_um_per_px=4.0), SLIDE[4::8, 4::8], 4.0)


def test_restart_markers_that_make_no_tiles_are_not_read_as_tiles(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs", reason="tifffile needs it for JPEG; in the wsi extra")
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)
    path = write_ndpi(tmp_path / "a.ndpi", [(SLIDE[:, :192], 20.0, 0)], tile=128)
    _close(read_histology(path, target_um_per_px=4.0), SLIDE[:, :192], 0.5)


def test_tiles_that_are_missing_are_an_error_and_not_black(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SLIDE, photometric="rgb", tile=(64, 64))
    data = path.read_bytes()
    for tag in (324, 325):  # Three of 24 tiles have no offset.
        data = data.replace(struct.pack("<HHI", tag, 4, 24), struct.pack("<HHI", tag, 4, 21))
    path.write_bytes(data)
    with pytest.raises(InputError, match="is cut off: parts of the image are missing"):
        read_histology(path, 0.5)


def test_scn_is_its_scan_and_not_the_glass(tmp_path):
    path = write_scn(tmp_path / "a.scn", MACRO, [[SLIDE, SLIDE[::4, ::4]]])
    np.testing.assert_array_equal(read_histology(path).pixels, SLIDE)
    level = read_histology(path, target_um_per_px=2.0)
    assert level.um_per_px == 2.0 and slide_um_per_px(path) == 0.5
    np.testing.assert_array_equal(level.pixels, SLIDE[::4, ::4])


@pytest.mark.parametrize("count", [0, 2])
def test_scn_of_no_or_several_scans_is_refused(tmp_path, count):
    path = write_scn(tmp_path / "a.scn", MACRO, [[SLIDE]] * count)
    with pytest.raises(InputError, match=f"holds {count} scans beside the picture of the whole"):
        read_histology(path)


def test_vms_through_openslide_itself(tmp_path):
    pytest.importorskip("openslide", reason="in the wsi extra")
    path = write_vms(tmp_path / "a.vms", SLIDE)
    _close(read_histology(path), SLIDE, 0.5)
    assert slide_um_per_px(path) == 0.5
    level = read_histology(path, target_um_per_px=1.0)
    _close(level, tiles.average_pieces([(0, 0, SLIDE)], 256, 384, 2), 1.0)


class StandIn:
    """Two levels of SLIDE, whose first 20 columns were not scanned."""

    level_dimensions = ((384, 256), (192, 128))
    level_downsamples = (1.0, 2.0)

    def __init__(self, name):
        self.properties = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}

    def read_region(self, at, level, size):
        scale = int(self.level_downsamples[level])
        alpha = np.full((256, 384, 1), 255, np.uint8)
        alpha[:, :20] = 0
        pixels = np.concatenate([SLIDE, alpha], axis=-1)[at[1] :: scale, at[0] :: scale]
        return Image.fromarray(np.ascontiguousarray(pixels[: size[1], : size[0]]))

    def close(self):
        pass


class Unsupported(Exception):
    pass


@pytest.fixture
def stand_in(monkeypatch):
    module = types.ModuleType("openslide")
    module.OpenSlide, module.OpenSlideError = StandIn, Unsupported
    module.OpenSlideUnsupportedFormatError = Unsupported
    monkeypatch.setitem(sys.modules, "openslide", module)
    monkeypatch.setattr(openslide_slides, "PIECE_PX", 100)
    return module


def _only_openslide(folder, kind):
    """A file that only OpenSlide reads, as its first bytes tell."""
    path = folder / f"a.{kind}"
    if kind == "mrxs":
        path.write_bytes(jpeg(MACRO, 1))
        (folder / "a").mkdir()
        (folder / "a" / "Slidedat.ini").write_text("[GENERAL]")
    elif kind in ("bif", "tiff"):
        tags = {"software": "Philips DP v1.0"} if kind == "tiff" else {}
        xmp = b"<EncodeInfo><iScan/></EncodeInfo>"
        more = [(700, 1, len(xmp), xmp, True)] if kind == "bif" else []
        tifffile.imwrite(path, MACRO, photometric="rgb", metadata=None, extratags=more, **tags)
    else:
        heads = {"svslide": b"SQLite format 3\0", "czi": b"ZISRAWFILE", "dcm": bytes(128) + b"DICM"}
        path.write_bytes(heads[kind] + bytes(99))
    return path


KINDS = ("mrxs", "bif", "tiff", "svslide", "czi", "dcm")


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_openslide_reads_is_handed_to_it(tmp_path, stand_in, kind):
    path = _only_openslide(tmp_path, kind)
    image = read_histology(path)
    assert image.um_per_px == 0.5 and (image.pixels[:, :20] == 255).all()
    np.testing.assert_array_equal(image.pixels[:, 20:], SLIDE[:, 20:])
    level = read_histology(path, roi=(64, 32, 128, 64), target_um_per_px=1.0)
    np.testing.assert_array_equal(level.pixels, SLIDE[32:96:2, 64:192:2])
    assert level.origin_um == (16.0, 32.0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_openslide_one_line_says_what_to_install(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert doctor.main([str(_only_openslide(tmp_path, kind))]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "pip install 'msi2he_jax[wsi]'" in message


def test_openslide_reduces_what_is_too_large(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)
    image = read_histology(_only_openslide(tmp_path, "mrxs"), target_um_per_px=4.0)
    assert image.um_per_px == 4.0
    _close(image, np.where(np.arange(48)[:, None] < 3, image.pixels, SLIDE[4::8, 4::8]), 4.0)


def test_what_openslide_cannot_read_or_does_not_know(tmp_path, stand_in):
    path = _only_openslide(tmp_path, "svslide")
    stand_in.OpenSlide = lambda name: types.SimpleNamespace(properties={}, close=lambda: None)
    with pytest.raises(InputError, match="does not say its pixel size"):
        read_histology(path)

    def refuse(name):
        raise Unsupported

    stand_in.OpenSlide = refuse
    with pytest.raises(InputError, match="this kind of file is not read"):
        read_histology(path)


@pytest.mark.parametrize("name", ["a.ndpi", "a.mrxs", "a.czi", "a.jp2", "a.TIF", "a", "a.btf"])
def test_content_decides_and_not_the_suffix(tmp_path, capsys, name):
    image = np.full((64, 64, 3), 245, np.uint8)
    image[16:48, 16:48] = (200, 120, 170)
    options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / name, image, photometric="rgb", **options)
    np.testing.assert_array_equal(read_histology(tmp_path / name).pixels, image)
    Image.fromarray(image).save(tmp_path / "b.tif", "PNG")
    np.testing.assert_array_equal(read_histology(tmp_path / "b.tif", 1).pixels, image)
    assert doctor.main([str(tmp_path / name)]) == 0
    assert doctor.main([str(tmp_path / "b.tif")]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("name", ["a.jp2", "a.vsi", "a.tif", "a.png", "a.docx"])
def test_a_kind_that_is_not_read_says_no_word_of_its_size(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99))
    if name == "a.vsi":
        tifffile.imwrite(tmp_path / name, MACRO, photometric="rgb")
        (tmp_path / "_a_").mkdir()
    for read in (read_histology, slide_um_per_px):
        with pytest.raises(InputError, match=r"this kind of file is not read \(export OME-TIFF"):
            read(tmp_path / name)
    assert doctor.main([str(tmp_path / name)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "pixel size" not in message


@pytest.mark.parametrize("compression", [None, 60_000])
def test_a_damaged_image_is_the_first_error_and_not_its_size(tmp_path, capsys, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, MACRO, photometric="rgb")
    data = path.read_bytes()
    if compression:
        data = data.replace(
            struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, 60000)
        )
    path.write_bytes(data if compression else data[:-500])
    Image.fromarray(MACRO).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:700])
    for name in ("a.tif", "b.png"):
        with pytest.raises(InputError, match=r"cannot be decoded|is cut off"):
            read_histology(tmp_path / name)
        assert doctor.main([str(tmp_path / name)]) == 2
        assert "pixel size" not in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(1, 1), (64, 64)])
def test_doctor_refuses_what_shows_no_tissue(tmp_path, capsys, shape):
    Image.new("RGB", shape, (240, 240, 240)).save(tmp_path / "a.png")
    assert doctor.main([str(tmp_path / "a.png")]) == 2
    assert "no stained tissue is found on it" in capsys.readouterr().err
