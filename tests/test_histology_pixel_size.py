"""The pixel size of a TIFF: stated, converted, or an error that names what was read."""

import numpy as np
import pytest
import tifffile

from msi2he_jax import doctor
from msi2he_jax.errors import InputError
from msi2he_jax.histology import read_histology, slide_um_per_px
from msi2he_jax.histology.pixel_size import UNIT_UM
from msi2he_jax.interop.ome_tiff import read_ome_tiff

IMAGE = np.full((8, 9, 3), 200, np.uint8)
APERIO = "Aperio Image Library v12.0 46000x32893 |AppMag = 20|MPP = {}|Left = 3"
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
    '2016-06"><Image ID="Image:0"><Description>{0}</Description><Pixels ID="Pixels:0" '
    'DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="8" SizeC="3" SizeZ="1" SizeT="1" {1}>'
    '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0"/></Pixels></Image>{2}</OME>'
)
TWO_UM = {"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}
PRINT = {"resolution": (600, 600), "resolutionunit": "INCH"}


def _tiff(path, text=None, **tags):
    text = text and text.encode()
    tifffile.imwrite(path, IMAGE, photometric="rgb", description=text, metadata=None, **tags)
    return path


def _size(value, unit):
    quoted = f'PhysicalSize{{0}}="{value}" PhysicalSize{{0}}Unit="{unit}"'
    return f"{quoted.format('X')} {quoted.format('Y')}"


@pytest.mark.parametrize("tags", [{}, PRINT, TWO_UM])
@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("0.5", "&#181;m"),
        ("0.5", "&#956;m"),
        ("0.5", "&#xB5;m"),
        ("500", "nm"),
        ("500000", "pm"),
        ("5000", "\u00c5"),
        ("5e-6", "dm"),
        ("5e-10", "km"),
        ("1.9685039e-05", "in"),
        ("0.019685039", "thou"),
        ("0.0014173228", "pt"),
    ],
)
def test_units_of_ome(tmp_path, value, unit, tags):
    path = _tiff(tmp_path / "a.ome.tif", OME.format("", _size(value, unit), ""), **tags)
    assert slide_um_per_px(path) == pytest.approx(0.5)
    assert read_ome_tiff(path).um_per_px == pytest.approx((0.5, 0.5))


def test_all_length_units_of_the_ome_schema_are_known():
    listed = "Ym Zm Em Pm Tm Gm Mm km hm dam m dm cm mm µm nm pm fm am zm ym Å thou li in ft yd mi"
    assert set(f"{listed} ua ly pc pt".split()) <= set(UNIT_UM)


@pytest.mark.parametrize("tags", [{}, PRINT, TWO_UM])
@pytest.mark.parametrize("unit", ["?m", "pixel", "reference frame", "\ufffdm", ""])
def test_an_unknown_unit_is_named_and_the_size_not_forgotten(tmp_path, unit, tags):
    path = _tiff(tmp_path / "a.ome.tif", OME.format("", _size("0.5", unit), ""), **tags)
    for read in (read_histology, read_ome_tiff):
        with pytest.raises(InputError) as caught:
            read(path)
        assert f"states 0.5 in the unit {unit!r}" in str(caught.value)
    assert read_ome_tiff(path, 0.7).um_per_px == (0.7, 0.7)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('PhysicalSizeX="0.5"', "along one axis only"),
        (_size("0,5", "um"), "states '0,5', no number"),
        (_size("INF", "um"), "is not one"),
    ],
)
def test_sizes_of_ome_that_are_none(tmp_path, attributes, said):
    with pytest.raises(InputError, match=said):
        slide_um_per_px(_tiff(tmp_path / "a.ome.tif", OME.format("", attributes, ""), **TWO_UM))


@pytest.mark.parametrize(
    ("description", "more"),
    [
        ("exported from a scan of MPP=0.25", ""),
        ("", "<StructuredAnnotations>|MPP = 0.2520|</StructuredAnnotations>"),
        ("", "<Value>Aperio Image Library |MPP = 0.2520|</Value>"),
        (APERIO.format("2.01"), ""),
    ],
)
def test_ome_is_believed(tmp_path, description, more):
    path = _tiff(tmp_path / "a.ome.tif", OME.format(description, _size("2000", "nm"), more))
    assert slide_um_per_px(path) == 2.0


@pytest.mark.parametrize("tags", [{}, TWO_UM])
def test_ome_against_the_words_of_aperio_it_keeps(tmp_path, tags):
    text = OME.format(APERIO.format("0.4990"), _size("2.0", "um"), "")
    path = _tiff(tmp_path / "a.ome.tif", text, **tags)
    with pytest.raises(InputError, match=r"conflict: 2 um by OME-XML, 0.499 um by the words MPP"):
        slide_um_per_px(path)
    assert read_histology(path, 2.0).um_per_px == 2.0


def test_words_count_in_a_description_of_aperio_alone(tmp_path):
    path = tmp_path / "a.tif"
    assert slide_um_per_px(_tiff(path, APERIO.format("0.499"))) == 0.499
    assert slide_um_per_px(_tiff(path, APERIO.format("0.499"), **PRINT)) == 0.499
    assert slide_um_per_px(_tiff(path, APERIO.format("1.98"), **TWO_UM)) == 1.98
    assert slide_um_per_px(_tiff(path, "shown at MPP = 0.25", **TWO_UM)) == 2.0
    with pytest.raises(InputError, match="does not say"):
        slide_um_per_px(_tiff(path, "shown at MPP = 0.25"))
    with pytest.raises(InputError, match=r"conflict: 2 um by the resolution tag, 0.499 um by"):
        slide_um_per_px(_tiff(path, APERIO.format("0.499"), **TWO_UM))
    with pytest.raises(InputError, match=r"'0\.4\.9', no number"):
        slide_um_per_px(_tiff(path, APERIO.format("0.4.9")))


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200])
@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER"])
def test_print_resolutions_are_no_pixel_size(tmp_path, dpi, unit):
    value = dpi if unit == "INCH" else round(dpi / 2.54, 2)
    path = _tiff(tmp_path / "a.tif", resolution=(value, value), resolutionunit=unit)
    with pytest.raises(InputError, match=rf"\({dpi} dpi\), is a print setting"):
        slide_um_per_px(path)


def test_a_resolution_without_a_unit_is_no_pixel_size(tmp_path):
    path = _tiff(tmp_path / "a.tif", resolution=(20000, 20000), resolutionunit="NONE")
    with pytest.raises(InputError, match="does not say"):
        slide_um_per_px(path)


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", "nm", "pixel", "furlong"])
def test_units_of_imagej(tmp_path, unit):
    path = tmp_path / "a.tif"
    resolution = (2e-3, 2e-3) if unit == "nm" else (2, 2)
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=resolution, metadata={"unit": unit})
    if unit in ("pixel", "furlong"):
        with pytest.raises(InputError, match="does not say" if unit == "pixel" else "'furlong'"):
            slide_um_per_px(path)
    else:
        assert slide_um_per_px(path) == pytest.approx(0.5)


def test_doctor_says_what_is_unclear_of_the_size(tmp_path, capsys):
    image = np.full((64, 64, 3), 245, np.uint8)
    image[16:48, 16:48] = (200, 120, 170)
    path = tmp_path / "a.ome.tif"
    text = OME.format("", _size("0.5", "?m"), "")
    tifffile.imwrite(path, image, photometric="rgb", description=text, metadata=None)
    assert doctor.main([str(path)]) == 0
    words = "in the unit '?m', not known: fill the manifest's column histology_um_per_px"
    assert words in capsys.readouterr().err
