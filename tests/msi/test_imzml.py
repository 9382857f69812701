"""The imzML reader: what it reads equals pyimzML and what was written."""

import hashlib
import re

import numpy as np
import pytest
from pyimzml.ImzMLParser import ImzMLParser
from pyimzml.ImzMLWriter import ImzMLWriter

from msi2he_jax.errors import InputError
from msi2he_jax.msi import imzml_template, imzml_xml
from msi2he_jax.msi.imzml import open_imzml

SAMPLES = [
    "desi_lung_mrm/lung_crop96_continuous.imzML",
    "desi_lung_mrm/lung_crop96_processed.imzML",
    "maldi_mouse_brain/brain_crop96_continuous.imzML",
    "imzml_tiny/Example_Continuous.imzML",
    "imzml_tiny/Example_Processed.imzML",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_real_files_equal_pyimzml(sample_data, name):
    ours, theirs = open_imzml(sample_data / name), ImzMLParser(str(sample_data / name))
    assert ours.n == len(theirs.coordinates)
    x, y = ours.coordinates[:, 1] + ours.origin_px[0], ours.coordinates[:, 0] + ours.origin_px[1]
    assert [(a, b) for a, b in zip(x, y)] == [c[:2] for c in theirs.coordinates]
    spectra = [theirs.getspectrum(i) for i in range(ours.n)]
    tic = np.array([intensity.astype(np.float64).sum() for _, intensity in spectra])
    np.testing.assert_allclose(ours.tic(), tic, rtol=1e-6)
    for i in range(0, ours.n, max(1, ours.n // 50)):
        np.testing.assert_array_equal(ours.spectrum(i)[0], spectra[i][0].astype(np.float64))
        np.testing.assert_array_equal(ours.spectrum(i)[1], spectra[i][1])
    filled = [mz for mz, _ in spectra if len(mz)]
    assert ours.mz_range == (min(mz.min() for mz in filled), max(mz.max() for mz in filled))
    assert ours.verify_checksum() == "sha1"


def test_real_files_describe_themselves(sample_data):
    desi = open_imzml(sample_data / SAMPLES[0])
    assert (desi.shape, desi.storage, desi.spectrum_type) == ((96, 96), "continuous", "centroid")
    assert desi.polarity == "positive" and desi.pixel_size_um is None and desi.mask.all()
    tiny = open_imzml(sample_data / SAMPLES[4])
    assert (tiny.storage, tiny.spectrum_type) == ("processed", "profile")
    assert (tiny.polarity, tiny.pixel_size_um) == ("negative", (100.0, 100.0))
    assert tiny.uuid == "9d501bdc-5344-4916-b7e9-7e795b02c856" and tiny.warnings == []


@pytest.mark.parametrize("mode", ["continuous", "processed"])
def test_what_pyimzml_writes(tmp_path, mode):
    rng = np.random.default_rng(0)
    mz = np.sort(rng.uniform(100, 200, 40))
    spectra = [rng.random(40).astype(np.float32) for _ in range(4)]
    positions = [(3, 5), (4, 5), (3, 6), (5, 7)]
    with ImzMLWriter(str(tmp_path / "w.imzML"), mode=mode, spec_type="profile") as writer:
        for intensity, position in zip(spectra, positions, strict=True):
            writer.addSpectrum(mz, intensity, position)
    file = open_imzml(tmp_path / "w.imzML")
    assert (file.shape, file.origin_px, file.storage) == ((3, 3), (3, 5), mode)
    assert file.shares_mz == (mode == "continuous")
    assert file.coordinates.tolist() == [[0, 0], [0, 1], [1, 0], [2, 2]]
    assert file.mask.sum() == 4 and file.mask[2, 2] and not file.mask[2, 0]
    for i in range(4):
        np.testing.assert_array_equal(file.spectrum(i)[0], mz)
        np.testing.assert_array_equal(file.spectrum(i)[1], spectra[i])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mz_type", ["f4", "f8"])
@pytest.mark.parametrize("intensity_type", ["f4", "f8", "i1", "i2", "i4", "i8"])
def test_every_number_type(pair, mz_type, intensity_type, packed):
    spectra = [(np.arange(100, 110), np.arange(10) + 10 * k) for k in range(6)]
    file = open_imzml(
        pair(spectra, mz_type=mz_type, intensity_type=intensity_type, packed=packed).path
    )
    for i, (mz, intensity) in enumerate(spectra):
        assert file.spectrum(i)[0].dtype == np.float64
        assert file.spectrum(i)[1].dtype == np.float32
        np.testing.assert_array_equal(file.spectrum(i)[0], mz)
        np.testing.assert_array_equal(file.spectrum(i)[1], intensity)


def test_packed_blocks_cover_every_chosen_spectrum(pair):
    file = open_imzml(pair().path)
    blocks = list(file.packed(np.array([5, 0, 2]), points=31))
    assert np.concatenate([block.indices for block in blocks]).tolist() == [5, 0, 2]
    assert len(blocks) > 1


def test_empty_spectra_among_others(pair):
    spectra = [([], []), ([100.0, 101.0], [1.0, 2.0]), ([], [])]
    file = open_imzml(pair(spectra, [(1, 1), (2, 1), (3, 1)]).path)
    assert file.tic().tolist() == [0.0, 3.0, 0.0]
    assert file.mz_range == (100.0, 101.0)
    assert len(file.spectrum(2)[0]) == 0


def test_zero_based_and_shifted_grids_are_rebased(pair):
    for base in (0, 1, 700):
        positions = [(base + x, base + y) for y in range(2) for x in range(3)]
        file = open_imzml(pair(positions=positions).path)
        assert file.shape == (2, 3) and file.origin_px == (base, base) and file.mask.all()


def test_both_byte_orders_of_the_uuid(pair):
    written = pair()
    binary = bytearray(written.ibd.read_bytes())
    binary[:16] = written.identity.bytes_le
    written.ibd.write_bytes(binary)
    assert open_imzml(written.path).uuid == str(written.identity)


@pytest.mark.parametrize("suffix", [".IBD", ".Ibd"])
def test_spellings_of_the_extension(pair, suffix):
    written = pair()
    written.ibd.rename(written.path.with_suffix(suffix))
    assert open_imzml(written.path).ibd_path.suffix == suffix


def test_without_namespace_and_with_prefix(pair):
    plain = open_imzml(pair().path).tic()
    written = pair()
    written.edit(' xmlns="http://psi.hupo.org/ms/mzml"', "")
    np.testing.assert_array_equal(open_imzml(written.path).tic(), plain)
    text = written.path.read_text().replace("</", "</m:").replace("<", "<m:")
    text = text.replace("<m:/m:", "</m:").replace("<m:?xml", "<?xml")
    written.path.write_text(
        text.replace("<m:mzML", '<m:mzML xmlns:m="http://psi.hupo.org/ms/mzml"')
    )
    np.testing.assert_array_equal(open_imzml(written.path).tic(), plain)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("50", 'unitAccession="UO:0000017"', (50.0, 50.0)),
        ("50000", 'unitAccession="UO:0000018"', (50.0, 50.0)),
        ("0.05", 'unitAccession="UO:0000016"', (50.0, 50.0)),
        ("0.05", 'unitAccession="" unitName="millimeter"', (50.0, 50.0)),
        ("50", 'unitAccession=""', (50.0, 50.0)),
        ("50", 'unitAccession="UO:0000031"', None),
        ("-3", 'unitAccession="UO:0000017"', None),
    ],
)
def test_pixel_size_units(pair, value, unit, expected):
    written = pair()
    written.edit('value="50" unitAccession="UO:0000017"', f'value="{value}" {unit}')
    assert open_imzml(written.path).pixel_size_um == pytest.approx(expected)


def test_pixel_size_of_two_axes_and_of_disagreeing_settings(pair):
    written = pair()
    y = '<cvParam accession="IMS:1000047" name="y" value="80" unitAccession="UO:0000017"/>'
    written.edit("</scanSettings>", y + "</scanSettings>")
    assert open_imzml(written.path).pixel_size_um == (80.0, 50.0)
    second = (
        '<scanSettings id="b"><cvParam accession="IMS:1000046" name="x" value="20"/></scanSettings>'
    )
    written.edit("</scanSettingsList>", second + "</scanSettingsList>")
    file = open_imzml(written.path)
    assert file.pixel_size_um is None
    assert "scanSettings disagree about the pixel size: 20 x 20, 80 x 50 um" in file.warnings


def test_implausible_pixel_size_is_warned_of(pair):
    written = pair()
    written.edit('value="50" unitAccession="UO:0000017"', 'value="50000" unitAccession=""')
    warnings = open_imzml(written.path).warnings
    assert any("implausibly large (no unit is stated, um is assumed)" in each for each in warnings)


def test_mode_and_polarity(pair):
    assert open_imzml(pair(mode="centroid").path).spectrum_type == "centroid"
    file = open_imzml(pair(mode=None).path)
    assert file.spectrum_type is None and "the spectrum type is not stated" in file.warnings
    assert file.polarity == "positive"
    old = '<cvParam accession="MS:1000128" name="positive scan"/>'
    file = open_imzml(pair(tags=old).path)
    assert file.polarity == "positive" and file.spectrum_type is None


def test_header_smaller_than_the_grid_is_warned_of(pair):
    written = pair()
    small = '<cvParam accession="IMS:1000043" name="max count of pixels y" value="2"/>'
    written.edit("</scanSettings>", small + "</scanSettings>")
    assert (
        "the header allows 2 pixels in y, the spectra span 3" in open_imzml(written.path).warnings
    )


def test_scientific_notation_of_offsets(pair):
    plain = open_imzml(pair().path).tic()
    written = pair()
    for offset in ("16", "256"):
        written.edit(
            f'name="external offset" value="{offset}"',
            f'name="external offset" value="{float(offset):.6e}"',
        )
    file = open_imzml(written.path)
    np.testing.assert_array_equal(file.tic(), plain)
    assert any("scientific notation" in each for each in file.warnings)


def test_offsets_beyond_4_gib_and_their_32_bit_forms(pair, tmp_path):
    """A sparse .ibd of more than 4 GiB; offsets as they are, and wrapped to 32 signed bits."""
    written = pair()
    expected = open_imzml(written.path).tic()
    text, data = written.path.read_text(), written.ibd.read_bytes()
    offsets = _offsets(text)
    places = [offset + (0, 7 * 2**29, 17 * 2**28)[i // 4] for i, offset in enumerate(offsets)]
    try:
        with open(written.ibd, "r+b") as handle:
            for place in (7 * 2**29, 17 * 2**28):
                handle.seek(place)
                handle.write(data)
    except OSError as error:
        pytest.skip(f"the file system holds no sparse file of 4 GiB: {error}")
    for wrapped in (False, True):
        moved = text
        for offset, place in zip(offsets, places, strict=True):
            value = (place + 2**31) % 2**32 - 2**31 if wrapped else place
            moved = moved.replace(f'offset" value="{offset}"', f'offset" value="{value}"')
        written.path.write_text(moved)
        file = open_imzml(written.path)
        np.testing.assert_array_equal(file.tic(), expected)
        assert any("32 bits" in each for each in file.warnings) == wrapped


def _offsets(text):
    parts = text.split('name="external offset" value="')[1:]
    return [int(part.split('"')[0]) for part in parts]


def test_number_type_whose_code_and_name_disagree(pair):
    plain = open_imzml(pair().path).tic()
    written = pair()
    written.edit(
        'accession="MS:1000521" name="32-bit float"', 'accession="MS:1000521" name="64-bit float"'
    )
    np.testing.assert_array_equal(open_imzml(written.path).tic(), plain)
    np.testing.assert_array_equal(open_imzml(pair(mz_type="f4").path).tic(), plain)
    path = pair().edit('accession="MS:1000521"', 'accession="MS:1000519"')
    with pytest.raises(InputError, match="is int32 by code but float32 by name, and its size"):
        open_imzml(path)


def test_duplicates(pair):
    spectra = [([100.0], [1.0]), ([100.0], [2.0]), ([100.0], [4.0])]
    path = pair(spectra, [(1, 1), (2, 1), (1, 1)]).path
    with pytest.raises(InputError) as caught:
        open_imzml(path)
    assert str(caught.value) == (
        f"{path}: spectrum 3: lies at x 1, y 1 like spectrum 1 (1 such spectra in all) "
        "(pass --duplicates=sum or first to preprocess or doctor, or split the file)"
    )
    first = open_imzml(path, duplicates="first")
    assert first.n == 2 and first.tic().tolist() == [1.0, 2.0]
    both = open_imzml(path, duplicates="sum")
    assert both.n == 3 and both.mask.sum() == 2


def test_checksum(pair):
    written = pair()
    assert open_imzml(written.path).verify_checksum() == "sha1"
    binary = bytearray(written.ibd.read_bytes())
    binary[-1] ^= 1
    written.ibd.write_bytes(binary)
    found = hashlib.sha1(binary).hexdigest()
    with pytest.raises(InputError, match=f"a.ibd: SHA1: is {found}, the imzML states"):
        open_imzml(written.path).verify_checksum()


@pytest.mark.parametrize("change", ["none", "comment", "order", "quotes", "entity"])
def test_templates_read_what_expat_reads(pair, monkeypatch, change):
    """Spectra of several forms give the same table with and without the shortcut."""
    written = pair(positions=[(x, y) for y in range(8) for x in range(9)])
    text = written.path.read_text()
    pieces = text.split("<spectrum id=")
    for i in range(3, len(pieces), 3):
        pieces[i] = _changed(pieces[i], change)
    written.path.write_text("<spectrum id=".join(pieces))
    quick = imzml_xml.read_xml(written.path)
    monkeypatch.setattr(imzml_xml, "_TEMPLATES", 0)
    slow = imzml_xml.read_xml(written.path)
    np.testing.assert_array_equal(quick.table, slow.table)
    assert len(quick.table) == 72 and quick.formats == slow.formats


def _changed(piece, change):
    position = 'accession="IMS:1000050" name="position x" value='
    if change == "comment":
        return piece.replace("<scan>", "<scan><!-- " + position + '"77" -->')
    if change == "order":
        return piece.replace("</scan>", '<cvParam accession="IMS:1000052" value="4"/></scan>')
    if change == "quotes":
        head, _, tail = piece.partition(position)
        return head + position + "'" + tail.replace('"', "'", 2).lstrip("'")
    if change == "entity":
        return piece.replace("total ion current", "total &amp; ion current")
    return piece


def test_a_template_leaves_the_values_of_user_parameters_free():
    pattern = re.compile(imzml_template._tag_pattern(b'<userParam name="a" value="1"/>', [], []))
    assert pattern.fullmatch(b'<userParam name="a" value="2 &amp; 3"/>') is None  # to be decoded
    assert pattern.fullmatch(b'<userParam name="a" value="other words"/>')
    assert not pattern.fullmatch(b'<userParam name="b" value="1"/>')
