"""Hostile .ibd files, and XML that lies about them: refused in one line, word for word."""

import zlib

import numpy as np
import pytest
from imzml_pair import (
    CUT,
    DAMAGE,
    ENCODED,
    FIRST,
    LENGTH,
    OFFSET,
    SIZE,
    ibd,
    packed,
    point,
    refused,
    several,
    value,
    xml,
)

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml import open_imzml

CASES = {
    # 1 The binary file is cut, short or full of holes.
    "cut by one byte": (
        ibd(lambda raw: raw[:-1]),
        "{path}: spectrum 6, intensity array: ends at byte 880, the .ibd has 879 " + CUT,
    ),
    "cut in half": (
        ibd(lambda raw: raw[: len(raw) // 2]),
        "{path}: spectrum 5, m/z array: ends at byte 496, the .ibd has 440; 2 spectra in all "
        + CUT,
    ),
    "nothing but the UUID": (
        ibd(lambda raw: raw[:16]),
        "{path}: spectrum 1, m/z array: ends at byte 112, the .ibd has 16; 6 spectra in all " + CUT,
    ),
    "less than a UUID": (
        ibd(lambda raw: raw[:15]),
        "{ibd}: has fewer than the 16 bytes of its UUID",
    ),
    "empty": (ibd(lambda raw: b""), "{ibd}: has fewer than the 16 bytes of its UUID"),
    "a hole where m/z should be": (
        ibd(lambda raw: raw[:112] + bytes(96) + raw[208:]),
        "{path}: spectrum 2 (x 2, y 1): every m/z is 0, as in a hole of an .ibd that was not "
        "copied whole",
    ),
    "a hole where intensities should be": (
        ibd(lambda raw: raw[:600] + bytes(len(raw) - 600)),
        "{ibd}: SHA1: is {found}, the imzML states {sha1} "
        "(the file is damaged)",
    ),
    "no binary file": (
        lambda pair: pair.ibd.unlink(),
        "{path}: ibd: the binary file a.ibd is not beside it "
        "(put both files in one folder under the same name)",
    ),
    "XML cut in the middle of a tag": (
        lambda pair: pair.write(pair.text[:9000]),
        "{path}: is not well-formed XML: unclosed token at byte {last} "
        "(the file is cut off or is not imzML)",
    ),
    "XML cut before its end": (
        xml("</mzML>", ""),
        "{path}: is not well-formed XML: no element found at byte {end} "
        "(the file is cut off or is not imzML)",
    ),
    # 2 The two files do not belong together.
    "another UUID": (
        ibd(lambda raw: b"\x01" * 16 + raw[16:]),
        "{path}: UUID: the imzML states 01234567-89ab-cdef-0123-456789abcdef, the .ibd starts "
        f"with {'01' * 16} (the two files do not belong together; doctor "
        "--allow_uuid_mismatch looks at them)",
    ),
    "a UUID that is none": (
        value("universally unique identifier", "4711"),
        "{path}: UUID: '4711' is not a UUID",
    ),
    # 3 The checksum differs.
    "one bit of an intensity": (
        ibd(lambda raw: raw[:-4] + bytes([raw[-4] ^ 1]) + raw[-3:]),
        "{ibd}: SHA1: is {found}, the imzML states {sha1} (the file is damaged)",
    ),
    "a checksum of something else": (
        value("ibd SHA-1", "0" * 40),
        "{ibd}: SHA1: is {found}, the imzML states " + "0" * 40 + " (the file is damaged)",
    ),
    "a SHA-256 that differs though the SHA-1 agrees": (
        xml(
            '<cvParam cvRef="IMS" accession="IMS:1000091"',
            '<cvParam accession="IMS:1000092" name="ibd SHA-256" value="00"/>'
            '<cvParam cvRef="IMS" accession="IMS:1000091"',
        ),
        "{ibd}: SHA256: is {sha256}, the imzML states 00 (the file is damaged)",
    ),
    # 4 Packed arrays.
    "zlib that holds more than declared": (
        packed(lambda data: zlib.compress(bytes(10_000_000))),
        FIRST + "the compressed array holds more than 96 bytes, 96 were declared",
    ),
    "zlib that holds less than declared": (
        packed(lambda data: zlib.compress(bytes(88))),
        FIRST + "the compressed array holds 88 bytes, 96 were declared",
    ),
    "zlib without its own checksum": (
        packed(lambda data: data[:-4]),
        FIRST + "the compressed array is cut off",
    ),
    "zlib with a wrong checksum": (
        packed(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        FIRST + "zlib: Error -3 while decompressing data: incorrect data check",
    ),
    "plain numbers said to be zlib": (
        packed(lambda data: bytes(range(96))),
        FIRST + "zlib: Error -3 while decompressing data: incorrect header check",
    ),
    "zlib of no declared size": (
        several(
            packed(lambda data: data),
            xml(f'accession="IMS:1000104" name="{ENCODED}"', 'accession="IMS:0" name=""'),
        ),
        "{path}: spectrum 1, m/z array: is compressed but states no encoded length",
    ),
    "zlib said to be plain": (
        several(packed(lambda data: data), xml("1000574", "1000576", -1)),
        "{path}: spectrum 1, m/z array: states {packed} bytes, but 12 values of type float64 "
        "take 96; 6 spectra in all",
    ),
    "both zlib and not": (
        xml(
            '<cvParam cvRef="MS" accession="MS:1000576" name="no compression"',
            '<cvParam accession="MS:1000574" name="zlib compression"/>'
            '<cvParam cvRef="MS" accession="MS:1000576" name="no compression"',
        ),
        "{path}: spectrum 1, m/z array: is said to be compressed and not to be",
    ),
    "a compression of another name": (
        xml('"MS:1000576" name="no compression"', '"MS:1003780" name="Zstandard compression"'),
        "{path}: spectrum 1, m/z array: is stored with Zstandard compression; only zlib and none "
        "are read (convert the file without it)",
    ),
    # 5 Offsets and lengths.
    "an offset past the end": (
        value(OFFSET, "785"),
        "{path}: spectrum 1, m/z array: ends at byte 881, the .ibd has 880 " + CUT,
    ),
    "an offset that overflows when added to": (
        value(OFFSET, "9007199254740990"),
        "{path}: spectrum 1, m/z array: ends at byte 9007199254741086, the .ibd has 880 " + CUT,
    ),
    "an offset beyond 64 bits": (
        value(OFFSET, "9223372036854775808"),
        "{path}: spectrum 1, external offset: is '9223372036854775808', an integer was expected",
    ),
    "a negative offset that is no 32-bit one": (
        value(OFFSET, "-5000000000"),
        "{path}: spectrum 1, m/z array: ends at byte -4999999904, the .ibd has 880 " + CUT,
    ),
    "an offset inside the UUID": (
        value(OFFSET, "8"),
        "{path}: spectrum 1, m/z array: starts at byte 8, inside the UUID",
    ),
    "an offset that is not available": (
        value(OFFSET, "NA", 3),
        "{path}: spectrum 2, external offset: is 'NA', an integer was expected",
    ),
    "an empty offset": (
        value(OFFSET, ""),
        "{path}: spectrum 1, external offset: is '', an integer was expected",
    ),
    "an offset between two bytes": (
        value(OFFSET, "16.25"),
        "{path}: spectrum 1, external offset: is '16.25', an integer was expected",
    ),
    "an infinite offset": (
        value(OFFSET, "1e999"),
        "{path}: spectrum 1, external offset: is '1e999', an integer was expected",
    ),
    "digits of another script": (
        lambda pair: pair.write(
            pair.text.replace("ISO-8859-1", "UTF-8").replace(
                f'name="{OFFSET}" value="16"', f'name="{OFFSET}" value="\u0661\u0666"'
            ),
            "utf-8",
        ),
        "{path}: spectrum 1, external offset: is '\u0661\u0666', an integer was expected",
    ),
    "two offsets": (
        xml(
            f'<cvParam cvRef="IMS" accession="IMS:1000102" name="{OFFSET}"',
            '<cvParam accession="IMS:1000102" value="112"/>'
            f'<cvParam cvRef="IMS" accession="IMS:1000102" name="{OFFSET}"',
        ),
        "{path}: spectrum 1, external offset: is stated as both '112' and '16'",
    ),
    "offsets that lost digits": (
        several(value(OFFSET, "6.8e2", 5), value(OFFSET, "6.8e2", 7)),
        "{path}: external offsets: have lost digits in scientific notation: 2 arrays overlap "
        "others (write them as whole numbers)",
    ),
    "a length of a billion": (
        value(LENGTH, "1000000000"),
        "{path}: spectrum 1, m/z array: has an impossible length of 1000000000 values",
    ),
    "a negative length": (
        value(LENGTH, "-1"),
        "{path}: spectrum 1, m/z array: has an impossible length of -1 values",
    ),
    "a length that its bytes contradict": (
        value(LENGTH, "11"),
        "{path}: spectrum 1, m/z array: states 96 bytes, but 11 values of type float64 take 88",
    ),
    "unequal lengths": (
        several(value(LENGTH, "11", 1), value(ENCODED, "44", 1)),
        "{path}: spectrum 1: has 12 m/z values and 11 intensities",
    ),
    "two number types": (
        xml(
            '<cvParam cvRef="MS" accession="MS:1000523"',
            '<cvParam accession="MS:1000521" name=""/><cvParam cvRef="MS" accession="MS:1000523"',
        ),
        "{path}: spectrum 1, m/z array: states several number types: float32 and float64",
    ),
    "no number type": (
        xml('accession="MS:1000523" name="64-bit float"', 'accession="MS:1" name=""'),
        "{path}: spectrum 1, m/z array: states no number type this reader knows",
    ),
    "two m/z arrays": (
        xml('Ref ref="intensityArray"', 'Ref ref="mzArray"'),
        "{path}: spectrum 1: has 2 m/z arrays, exactly one is needed",
    ),
    # 9 Numbers that are none.
    "an m/z that is not a number": (
        point("mz", 2, 3, np.nan),
        "{path}: spectrum 3 (x 1, y 2): the m/z of point 4 is nan " + DAMAGE,
    ),
    "an infinite m/z": (
        point("mz", 0, 11, np.inf),
        FIRST + "the m/z of point 12 is inf " + DAMAGE,
    ),
    "a negative m/z": (point("mz", 0, 0, -1.0), FIRST + "the m/z of point 1 is -1 " + DAMAGE),
    "m/z out of order": (
        point("mz", 5, 11, 5.0),
        "{path}: spectrum 6 (x 2, y 3): m/z falls from {before:.6f} to 5.000000 at point 12 "
        "(sort the spectra)",
    ),
    "an intensity that is not a number": (
        point("intensity", 0, 0, np.nan),
        FIRST + "the intensity of point 1 is nan " + DAMAGE,
    ),
    "an infinite intensity": (
        point("intensity", 4, 6, np.inf),
        "{path}: spectrum 5 (x 1, y 3): the intensity of point 7 is inf " + DAMAGE,
    ),
    "a negative intensity": (
        point("intensity", 0, 1, -3.5),
        FIRST + "the intensity of point 2 is -3.5 " + DAMAGE,
    ),
    "an intensity beyond measure": (
        point("intensity", 0, 1, 2e30),
        FIRST + "the intensity of point 2 is 2e+30 " + DAMAGE,
    ),
    "nothing measured at all": (
        several(xml(f'name="{LENGTH}" value="12"', f'name="{LENGTH}" value="0"', -1),
                xml(f'name="{ENCODED}" value="96"', f'name="{ENCODED}" value="0"', -1),
                xml(f'name="{ENCODED}" value="48"', f'name="{ENCODED}" value="0"', -1)),
        "{path}: m/z: every spectrum is empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(good, name):
    change, message = CASES[name]
    refused(good, change, message)


def test_a_file_cut_while_it_is_read(good):
    file = open_imzml(good.path)
    with open(good.ibd, "r+b") as handle:
        handle.truncate(100)
    with pytest.raises(InputError) as caught:
        file.tic()
    assert str(caught.value) == (
        f"{good.ibd}: was cut from {SIZE} to 100 bytes while it was read "
        "(another program writes it; copy it and try again)"
    )
