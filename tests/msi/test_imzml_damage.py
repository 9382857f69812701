"""What the imzML reader says of damaged, hostile and mistaken files, word for word."""

import zlib

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import Limits
from msi2he_jax.msi import imzml_arrays, imzml_xml
from msi2he_jax.msi.imzml import open_imzml

LENGTH = 'name="external array length" value="30"'
ENCODED = 'name="external encoded length" value="240"'
OFFSET = 'name="external offset" value="16"'


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        open_imzml(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            LENGTH,
            'name="external array length" value="31"',
            "spectrum 1, m/z array: states 240 bytes, but 31 values of type float64 take 248",
        ),
        (
            LENGTH,
            'name="external array length" value="-3"',
            "spectrum 1, m/z array: has an impossible length of -3 values",
        ),
        (
            LENGTH,
            'name="external array length" value="99999999999"',
            "spectrum 1, m/z array: has an impossible length of 99999999999 values",
        ),
        (
            OFFSET,
            'name="external offset" value="99999999999"',
            "spectrum 1, m/z array: ends at byte 100000000239, the .ibd has 2176 "
            "(the .ibd is cut off or belongs to another imzML)",
        ),
        (
            OFFSET,
            'name="external offset" value="-99999999999"',
            "spectrum 1, m/z array: ends at byte -99999999759, the .ibd has 2176 ",
        ),
        (
            OFFSET,
            'name="external offset" value="0"',
            "spectrum 1, m/z array: starts at byte 0, inside the UUID",
        ),
        (
            OFFSET,
            'name="external offset" value="NA"',
            "spectrum 1, external offset: is 'NA', an integer was expected",
        ),
        (
            OFFSET,
            'name="external offset" value="1e400"',
            "spectrum 1, external offset: is '1e400', an integer was expected",
        ),
        (
            OFFSET,
            'name="external offset" value="1_6"',
            "spectrum 1, external offset: is '1_6', an integer was expected",
        ),
        (
            OFFSET,
            'name="external offset" value="16.5"',
            "spectrum 1, external offset: is '16.5', an integer was expected",
        ),
        (
            'accession="IMS:1000102" ' + OFFSET,
            'accession="IMS:1" name="x"',
            "spectrum 1, external offset: is missing (IMS:1000102)",
        ),
        (
            'name="position x" value="1"',
            'name="position x" value="900000001"',
            "positions: span a grid of 3 x 900000001 pixels for 6 spectra "
            "(spectrum 1 lies at x 900000001, y 1: is that right? If so, split the file, or allow "
            "more with --limits.grid_pixels=N)",
        ),
        (
            'accession="IMS:1000051" name="position y" value="1"',
            'accession="IMS:1"',
            "spectrum 1, position y: is missing (IMS:1000051)",
        ),
        (
            '<referenceableParamGroupRef ref="intensity array"/>',
            "",
            "spectrum 1: has 0 intensity arrays, exactly one is needed",
        ),
        (
            '<referenceableParamGroupRef ref="intensity array"/>',
            '<referenceableParamGroupRef ref="other"/>',
            "spectrum 1: refers to the parameter group 'other', which is not defined before it",
        ),
        (
            'accession="MS:1000521" name="32-bit float"',
            'accession="MS:1" name="128-bit float"',
            "spectrum 1, intensity array: states no number type this reader knows",
        ),
        (
            'accession="MS:1000576" name="no compression"',
            'accession="MS:1002312" name="MS-Numpress linear prediction compression"',
            "spectrum 1, m/z array: is stored with MS-Numpress linear prediction compression; "
            "only zlib and none are read (convert the file without it)",
        ),
        ("</mzML>", "", "is not well-formed XML: no element found"),
        (
            "<mzML ",
            "<!DOCTYPE mzML>\n<mzML ",
            "DOCTYPE: has a DOCTYPE declaration, which imzML does not use and which can harm "
            "(delete the declaration if you trust the file)",
        ),
        (
            "<mzML ",
            '<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]>\n<mzML ',
            "DOCTYPE: has a DOCTYPE declaration",
        ),
    ],
)
def test_a_wrong_line_of_xml(pair, old, new, message):
    path = pair().edit(old, new, 1)
    assert refusal(path).startswith(f"{path}: {message}")


def test_a_length_that_differs_between_the_two_arrays(pair):
    path = pair().edit(
        LENGTH + ' unitAccession=""/>\n<cvParam cvRef="IM" accession="IMS:1000104" ' + ENCODED,
        'name="" value="29" unitAccession=""/>\n<cvParam cvRef="IM" accession="IMS:1000104" '
        'name="" value="232"',
        1,
    )
    assert refusal(path) == f"{path}: spectrum 1: has 29 m/z values and 30 intensities"


def test_several_wrong_spectra_are_counted(pair):
    written = pair()
    written.ibd.write_bytes(written.ibd.read_bytes()[:1000])
    assert refusal(written.path) == (
        f"{written.path}: spectrum 4, m/z array: ends at byte 1336, the .ibd has 1000; "
        "3 spectra in all (the .ibd is cut off or belongs to another imzML)"
    )


def test_no_binary_file(pair):
    written = pair()
    written.ibd.unlink()
    assert refusal(written.path) == (
        f"{written.path}: ibd: the binary file a.ibd is not beside it "
        "(put both files in one folder under the same name)"
    )


def test_a_folder_named_ibd_is_not_the_binary_file(pair):
    written = pair()
    written.ibd.unlink()
    written.ibd.mkdir()
    assert "the binary file a.ibd is not beside it" in refusal(written.path)


def test_the_binary_file_named_instead(pair):
    written = pair()
    assert refusal(written.ibd) == (
        f"{written.ibd}: is the binary half of an imzML pair (name the .imzML file beside it)"
    )


def test_no_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "b.imzML")


def test_tiny_binary_file(pair):
    written = pair()
    written.ibd.write_bytes(b"short")
    assert refusal(written.path) == f"{written.ibd}: has fewer than the 16 bytes of its UUID"


def test_uuid_of_another_file(pair):
    written = pair()
    written.ibd.write_bytes(bytes(16) + written.ibd.read_bytes()[16:])
    assert refusal(written.path) == (
        f"{written.path}: UUID: the imzML states {written.identity}, the .ibd starts with "
        f"{'0' * 32} (the two files do not belong together; doctor "
        "--allow_uuid_mismatch looks at them)"
    )
    file = open_imzml(written.path, allow_uuid_mismatch=True)
    assert any("the .ibd starts with" in each for each in file.warnings)


def test_uuid_that_is_none_or_absent(pair):
    written = pair()
    stated = "{" + str(written.identity).upper() + "}"
    path = written.edit(stated, "not one")
    assert refusal(path) == f"{path}: UUID: 'not one' is not a UUID"
    written.edit("not one", "")
    assert any("states no UUID" in each for each in open_imzml(path).warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello", "is not well-formed XML: syntax error at byte 0"),
        ("<html></html>", "is not imzML: its first element is <html>"),
        ("<mzML></mzML>", "spectrumList: holds no spectra"),
        ("<?xml version='1.0' encoding='x'?><mzML/>", "XML encoding: unknown encoding: x"),
        ("\x1f\x8b\x08", "is not well-formed XML: not well-formed (invalid token) at byte 0"),
    ],
)
def test_not_imzml(pair, text, message):
    path = pair().path
    path.write_text(text)
    assert refusal(path).startswith(f"{path}: {message}")


def test_xml_cut_off_anywhere(pair):
    written = pair()
    raw = written.path.read_bytes()
    for length in range(0, len(raw) - 10, 97):
        written.path.write_bytes(raw[:length])
        refusal(written.path)


def test_empty_spectrum_list(pair):
    path = pair([], []).path
    assert refusal(path) == f"{path}: spectrumList: holds no spectra"


def test_count_that_differs_is_warned_of(pair):
    written = pair()
    written.edit('<spectrumList count="6">', '<spectrumList count="7">')
    assert "declares 7 spectra and holds 6" in open_imzml(written.path).warnings


def test_continuous_file_with_several_mz_arrays(pair):
    written = pair()
    written.edit('accession="IMS:1000031" name="processed"', 'accession="IMS:1000030" name="c"')
    file = open_imzml(written.path)
    assert file.storage == "processed" and not file.shares_mz
    assert "says continuous, but its spectra do not share one m/z array" in file.warnings


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("field", "point", "value", "message"),
    [
        (1, 4, np.nan, "the intensity of point 5 is nan"),
        (1, 0, -1.0, "the intensity of point 1 is -1"),
        (1, 29, np.inf, "the intensity of point 30 is inf"),
        (1, 3, 3e38, "the intensity of point 4 is 3e+38"),
        (0, 4, np.nan, "the m/z of point 5 is nan"),
        (0, 0, -5.0, "the m/z of point 1 is -5"),
    ],
)
def test_numbers_that_are_none(pair, field, point, value, message, shared):
    rng = np.random.default_rng(0)
    mz = np.linspace(100, 110, 30)
    spectra = [[mz.copy(), rng.random(30)] for _ in range(6)]
    number = 1 if shared and field == 0 else 4
    spectra[number - 1][field][point] = value
    path = pair(spectra, shared=shared).path
    position = "x 1, y 1" if number == 1 else "x 2, y 2"
    expected = (
        f"{path}: spectrum {number} ({position}): {message} "
        "(a finite number, not negative, was expected; the file is damaged or mislabelled)"
    )
    file = open_imzml(path)
    for read in (file.tic, lambda: file.spectrum(number - 1)):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value) == expected


def test_mz_that_falls(pair):
    spectra = [([100.0, 101.0], [1, 1]), ([101.0, 100.5], [1, 1])]
    path = pair(spectra, [(1, 1), (2, 1)]).path
    with pytest.raises(InputError) as caught:
        open_imzml(path).tic()
    assert str(caught.value) == (
        f"{path}: spectrum 2 (x 2, y 1): m/z falls from 101.000000 to 100.500000 at point 2 "
        "(sort the spectra)"
    )


def test_a_hole_in_the_binary_file(pair):
    written = pair()
    raw = bytearray(written.ibd.read_bytes())
    raw[376:] = bytes(len(raw) - 376)
    written.ibd.write_bytes(raw)
    with pytest.raises(InputError, match=r"spectrum 2 \(x 2, y 1\): every m/z is 0, as in a hole"):
        open_imzml(written.path).tic()


def test_arrays_that_overlap_are_warned_of(pair):
    written = pair()
    written.edit('name="external offset" value="256"', 'name="external offset" value="200"')
    assert any("arrays overlap others" in each for each in open_imzml(written.path).warnings)


def test_packed_array_that_unpacks_to_more(pair):
    """The reader stops at the declared size instead of unpacking a bomb."""
    written = pair([([100.0], [1.0])], [(1, 1)], packed=True)
    old = len(zlib.compress(np.array([100.0]).tobytes()))
    bomb = zlib.compress(bytes(50_000_000))
    size = len(written.ibd.read_bytes())
    with open(written.ibd, "ab") as handle:
        handle.write(bomb)
    written.edit(OFFSET, f'name="" value="{size}"')
    written.edit(f'name="external encoded length" value="{old}"', f'name="" value="{len(bomb)}"', 1)
    with pytest.raises(InputError, match="holds more than 8 bytes, 8 were declared"):
        open_imzml(written.path).spectrum(0)


def test_packed_array_that_is_damaged_or_short(pair):
    written = pair(packed=True)
    raw = bytearray(written.ibd.read_bytes())
    raw[16:20] = b"\0\0\0\0"
    written.ibd.write_bytes(raw)
    with pytest.raises(InputError, match=r"spectrum 1 \(x 1, y 1\): zlib: Error -3"):
        open_imzml(written.path).spectrum(0)
    path = pair(packed=True).edit(LENGTH, 'name="" value="31"', 2)
    with pytest.raises(InputError, match="holds 120 bytes, 124 were declared"):
        open_imzml(path).spectrum(0)


def test_any_damage_is_refused_or_read_alike(pair, monkeypatch):
    """Random edits of either file: an InputError of one line, or the same table both ways."""
    rng, read = np.random.default_rng(0), 0
    written = pair(points=4)
    raw, binary = written.path.read_bytes(), written.ibd.read_bytes()
    for _ in range(400):
        at, kind = int(rng.integers(len(raw))), int(rng.integers(4))
        place, size = int(rng.integers(len(raw))), int(rng.integers(1, 60))
        insert = [bytes([at % 256]), b"", b"-1e5", raw[place : place + size]][kind]
        written.path.write_bytes(raw[:at] + insert + raw[at + [1, size, 0, 0][kind] :])
        changed = bytearray(binary)
        changed[int(rng.integers(16, len(binary)))] ^= int(rng.integers(2)) << 7
        written.ibd.write_bytes(changed)
        try:
            file = open_imzml(written.path)
            assert np.isfinite(file.tic()).all()
        except InputError as error:
            assert "\n" not in str(error)
            continue
        quick = imzml_xml.read_xml(written.path).table
        with monkeypatch.context() as context:
            context.setattr(imzml_xml, "_TEMPLATES", 0)
            np.testing.assert_array_equal(imzml_xml.read_xml(written.path).table, quick)
        read += 1
    assert 20 < read < 380


def test_limits_are_kept(pair, monkeypatch):
    path = pair().path
    monkeypatch.setattr(imzml_xml, "LIMITS", Limits(xml_bytes=100))
    assert refusal(path) == f"{path}: is larger than 100 bytes"
    monkeypatch.undo()
    monkeypatch.setattr(imzml_arrays, "LIMITS", Limits(spectrum_points=10))
    assert "has an impossible length of 30 values; 6 spectra in all" in refusal(path)
    monkeypatch.setattr(imzml_arrays, "LIMITS", Limits(spectrum_points=30))
    assert open_imzml(path).number_types == ["m/z float64, intensity float32"]


def test_unknown_policy(pair):
    message = refusal(pair().path, duplicates="mean")
    assert message == "duplicates: is 'mean' (one of refuse, first, sum)"
