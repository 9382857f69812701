"""Odd but good imzML: read right, whatever its spelling, and each oddity said in its words."""

import shutil

import numpy as np
import pytest
from imzml_pair import ENCODED, OFFSET, POINTS, POSITIONS, SPECTRA, X, Y, read, several, value, xml

from msi2he_jax.msi.imzml import open_imzml

UNIT_X = 'value="50" unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"'
OTHER_X = "<cvParam accession='IMS:1000050' value='9'/>"


def unit(number, text):
    """States 50 um otherwise, for both axes."""
    return xml(UNIT_X, f'value="{number}" {text}', -1)


def shift(by):
    def change(pair):
        for name in (X, Y):
            for number in range(SPECTRA):
                place = POSITIONS[number][name == Y]
                pair.value(name, str(place + by), number)

    return change


def recoded(encoding, stated):
    def change(pair):
        pair.write(pair.text.replace('encoding="ISO-8859-1"', f'encoding="{stated}"'), encoding)

    return change


def text(change):
    return lambda pair: pair.write(change(pair.text))


def uuid_bytes(change):
    def spoil(pair):
        pair.patch(0, change(pair.identity))
        pair.stamp()

    return spoil


def prefixed(pair):
    plain = pair.text.replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:")
    plain = plain.replace("<m:?xml", "<?xml").replace("<m:mzML xmlns=", "<m:mzML xmlns:m=")
    pair.write(plain)


def entities(pair):
    pair.write(pair.text.replace('value="112"', 'value="&#49;&#x31;2"'))


def swapped(pair):
    """Intensities first, and an array of something else between them."""
    head, *spectra = pair.text.split("<binaryDataArray encodedLength")
    spectra[0], spectra[1] = (
        spectra[1].split("</binaryDataArrayList>")[0],
        (spectra[0] + "</binaryDataArrayList>" + spectra[1].split("</binaryDataArrayList>")[1]),
    )
    other = '="0"><cvParam accession="MS:1000786" name="non-standard array"/></binaryDataArray>'
    spectra.insert(1, other)
    pair.write("<binaryDataArray encodedLength".join([head, *spectra]))


def volume(pair):
    z = '<cvParam cvRef="IMS" accession="IMS:1000052" name="position z" value="4"/>'
    pair.edit(f'name="{X}"', f'name="{X}" title=""', -1)
    pair.write(pair.text.replace("</scan>", z + "</scan>"))


SCIENTIFIC = "some integers are in scientific notation, which may have lost digits"
ODD = {
    # 2 and 3: identities and checksums in every spelling.
    "UUID little-endian": (uuid_bytes(lambda one: one.bytes_le), []),
    "UUID in braces and capitals": (
        value("universally unique identifier", "{01234567-89AB-CDEF-0123-456789ABCDEF}"),
        [],
    ),
    "UUID without hyphens": (
        value("universally unique identifier", "0123456789abcdef0123456789abcdef"),
        [],
    ),
    "UUID as a URN": (
        value("universally unique identifier", "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"),
        [],
    ),
    "no UUID": (
        xml('accession="IMS:1000080"', 'accession="IMS:0"'),
        ["the imzML states no UUID, so that the .ibd cannot be proven to belong to it"],
    ),
    "a checksum in small letters": (lambda pair: pair.stamp(), []),
    # 4 Packed arrays.
    "zlib": (lambda pair: pair.pack(), []),
    # 5 Offsets and lengths.
    "offsets in scientific notation": (value(OFFSET, "1.12e2", 2), [SCIENTIFIC]),
    "offsets as decimals": (value(OFFSET, " 112.0 ", 2), []),
    "offsets with a sign": (value(OFFSET, "+112", 2), []),
    "offsets as entities": (entities, []),
    "no encoded lengths": (
        xml(f'accession="IMS:1000104" name="{ENCODED}"', 'accession="IMS:0" name=""', -1),
        [],
    ),
    "encoded lengths of 0": (
        text(
            lambda said: said.replace(f'"{ENCODED}" value="96"', f'"{ENCODED}" value="0"').replace(
                f'"{ENCODED}" value="48"', f'"{ENCODED}" value="0"'
            )
        ),
        [],
    ),
    "arrays in another order": (swapped, []),
    "bytes that belong to nobody": (
        several(
            lambda pair: pair.ibd.write_bytes(pair.ibd.read_bytes() + bytes(880)),
            lambda pair: pair.stamp(),
        ),
        ["50 % of the .ibd belongs to no spectrum"],
    ),
    # 6 The spelling of the XML.
    "Firefly: no namespace": (xml(' xmlns="http://psi.hupo.org/ms/mzml"', ""), []),
    "a namespace with a prefix": (prefixed, []),
    "inside an index": (
        text(
            lambda said: said.replace("<mzML ", "<indexedmzML><mzML ").replace(
                "</mzML>", "</mzML><indexList/></indexedmzML>"
            )
        ),
        [],
    ),
    "Windows line ends": (text(lambda said: said.replace("\n", "\r\n")), []),
    "no line ends": (text(lambda said: said.replace("\n", " ")), []),
    "UTF-8 with a mark": (recoded("utf-8-sig", "UTF-8"), []),
    "UTF-16": (recoded("utf-16", "UTF-16"), []),
    "no XML declaration": (text(lambda said: said[said.index("<mzML") :]), []),
    "comments and sections": (
        xml("<scan>", f"<scan><!-- {OTHER_X} --><![CDATA[{OTHER_X}]]>", -1),
        [],
    ),
    "spaces in closing tags": (xml("</spectrum>", "</spectrum >", -1), []),
    "single quotes": (xml(f'name="{X}" value="2"', f"name='{X}' value='2'", -1), []),
    "unknown elements": (xml("<scanList ", '<new:it xmlns:new="x">y</new:it><scanList ', -1), []),
    "another count": (
        xml('<spectrumList count="6"', '<spectrumList count="8"'),
        ["declares 8 spectra and holds 6"],
    ),
    # 7 The grid.
    "counted from 0": (
        shift(-1),
        ["positions start at x 0, y 0, though imzML counts them from 1"],
    ),
    "counted from far": (shift(1000), []),
    "negative positions": (
        shift(-5),
        ["positions start at x -4, y -4, though imzML counts them from 1"],
    ),
    "a third dimension": (volume, []),
    "a header that is too small": (
        value("max count of pixels y", "2"),
        ["the header allows 2 pixels in y, the spectra span 3"],
    ),
    # 8 Units of the pixel size.
    "nanometres": (unit("50000", 'unitAccession="UO:0000018" unitName="nanometer"'), []),
    "millimetres": (unit("0.05", 'unitAccession="UO:0000016" unitName="millimeter"'), []),
    "centimetres": (unit("5e-3", 'unitAccession="UO:0000015"'), []),
    "metres": (unit("0.00005", 'unitName="metre"'), []),
    "micrometres by name": (unit("50", 'unitName="Micrometres"'), []),
    "micrometres by letter": (unit("50", 'unitName="&#956;m"'), []),
    "no unit": (unit("50", ""), ["the pixel size of 50 x 50 has no unit, um is assumed"]),
    # 9 Mode and polarity.
    "polarity said by profile's code": (
        xml('"MS:1000129" name="negative scan"', '"MS:1000128" name="POSITIVE"'),
        [],
    ),
    "no mode": (
        xml('accession="MS:1000127" name="centroid spectrum"', 'accession="MS:0" name=""', -1),
        ["the spectrum type is not stated"],
    ),
    "no storage": (
        xml('accession="IMS:1000031"', 'accession="IMS:0"'),
        ["the file does not say how it is stored; it looks processed"],
    ),
    "continuous, which it is not": (
        xml('"IMS:1000031" name="processed"', '"IMS:1000030" name="continuous"'),
        ["says continuous, but its spectra do not share one m/z array"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_read_right(good, name):
    change, warnings = ODD[name]
    change(good)
    file = read(good.path)
    assert file.warnings == warnings
    for index in range(SPECTRA):
        mz, intensity = file.spectrum(index)
        np.testing.assert_array_equal(mz, good.mz[index])
        np.testing.assert_array_equal(intensity, good.intensity[index])
    np.testing.assert_allclose(file.tic(), good.intensity.sum(1, dtype=np.float64), rtol=1e-12)
    assert (
        file.shape == (3, 2) and file.mask.all() and file.pixel_size_um == pytest.approx((50, 50))
    )
    assert file.coordinates.tolist() == [[y - 1, x - 1] for x, y in POSITIONS]
    assert file.polarity == ("positive" if "polarity" in name else "negative")
    assert file.spectrum_type == (None if name == "no mode" else "centroid")


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (unit("50", 'unitAccession="UO:0000031"'), ": its unit 'UO:0000031' is no length"),
        (
            unit("50", 'unitAccession="UO:0000017" unitName="nanometer"'),
            ": its unit 'UO:0000017' 'nanometer' is contradictory",
        ),
        (unit("0", 'unitAccession="UO:0000017"'), ": '0' is not a positive number"),
        (unit("NaN", 'unitAccession="UO:0000017"'), ": 'NaN' is not a positive number"),
        (unit("0,05", 'unitAccession="UO:0000016"'), ": '0,05' is not a positive number"),
        (
            xml("</scanSettings>", '<cvParam accession="IMS:1000046" value="8"/></scanSettings>'),
            ": both '50' and '8' are",
        ),
        (xml('accession="IMS:1000046"', 'accession="IMS:0"'), ""),
    ],
)
def test_pixel_sizes_of_no_use(good, change, warning):
    change(good)
    file = open_imzml(good.path)
    assert file.pixel_size_um is None
    assert file.warnings == [f"no usable pixel size is stated{warning}"]


@pytest.mark.parametrize(("number", "size"), [("50000000", "large (as"), ("0.001", "small (as")])
def test_pixel_sizes_that_cannot_be(good, number, size):
    unit(number, 'unitAccession="UO:0000017"')(good)
    (warning,) = open_imzml(good.path).warnings
    assert f"um is implausibly {size} its unit says)" in warning


def test_a_position_that_is_far_but_possible(good):
    good.value(X, "50000", 5)
    file = open_imzml(good.path)
    assert file.shape == (3, 50000)
    assert file.warnings == [
        "the header allows 2 pixels in x, the spectra span 50000",
        "only 0.004 % of the grid's pixels were measured; farthest out, spectrum 6 lies at "
        "x 50000, y 3",
    ]


def test_spectra_that_repeat_another(good):
    good.value(OFFSET, good.text.split(f'name="{OFFSET}" value="')[2].split('"')[0], 3)
    warnings = open_imzml(good.path).warnings
    assert "1 spectra have the very intensities of another" in warnings


@pytest.mark.parametrize("name", ["A.IBD", "a.Ibd", "A.ibd"])
def test_spellings_of_the_name(good, name):
    good.ibd.rename(good.ibd.with_name(name))
    assert read(good.path).ibd_path.name == name


def test_the_exact_name_comes_first(good):
    good.ibd.with_name("A.IBD").write_bytes(b"something else entirely")
    assert read(good.path).ibd_path.name == "a.ibd"


def test_folders_of_any_name(good, tmp_path):
    """Spaces, letters of all scripts, a folder named .ibd, dots in the name, and links."""
    folder = tmp_path / "Größe 5 µm.ibd" / "脳"
    folder.mkdir(parents=True)
    shutil.copy(good.path, folder / "x.1.2.imzml")
    (folder / "x.1.2.ibd").symlink_to(good.ibd)
    assert read(folder / "x.1.2.imzml").n == SPECTRA


def test_several_regions_and_missing_pixels(good):
    for number, (x, y) in enumerate([(1, 1), (2, 1), (1, 2), (7, 9), (8, 9), (8, 8)]):
        good.value(X, str(x), number)
        good.value(Y, str(y), number)
    file = read(good.path)
    assert file.shape == (9, 8) and file.mask.sum() == 6
    assert file.mask[0, :2].all() and file.mask[8, 6:].all() and not file.mask[4].any()


def test_empty_spectra_are_no_fault(good):
    length, encoded = "external array length", "external encoded length"
    for number in (0, 1):
        good.value(length, "0", number)
        good.value(encoded, "0", number)
    file = read(good.path)
    assert file.points.tolist() == [0] + [POINTS] * 5 and file.tic()[0] == 0
