"""Hostile XML: declarations, explosions, grids that are none: refused, word for word."""

import pytest
from imzml_pair import DOCTYPE, OFFSET, RUN, X, Y, read, refused, several, value, xml

from msi2he_jax.errors import InputError
from msi2he_jax.msi import imzml_xml

CASES = {
    # 6 Declarations and other bombs.
    "a DOCTYPE": (xml("<mzML ", "<!DOCTYPE mzML><mzML "), DOCTYPE),
    "a DOCTYPE elsewhere": (
        xml("<mzML ", '<!DOCTYPE mzML SYSTEM "http://127.0.0.1/x.dtd"><mzML '),
        DOCTYPE,
    ),
    "entities that multiply": (
        xml(
            "<mzML ",
            '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><mzML ',
        ),
        DOCTYPE,
    ),
    "an entity that reads a file": (
        xml("<mzML ", '<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/hostname">]><mzML '),
        DOCTYPE,
    ),
    "a parameter entity": (
        xml("<mzML ", '<!DOCTYPE m [<!ENTITY % a SYSTEM "b.dtd"> %a;]><mzML '),
        DOCTYPE,
    ),
    "an entity that nobody defined": (
        value(OFFSET, "&size;"),
        "{path}: is not well-formed XML: undefined entity at byte {entity} "
        "(the file is cut off or is not imzML)",
    ),
    "groups that multiply": (
        lambda pair: pair.edit(
            '<referenceableParamGroupRef ref="spectrum"/>',
            '<referenceableParamGroupRef ref="spectrum"/>' * 400,
        ),
        "{path}: spectrum 1: has more than 1000 parameters",
    ),
    "a header without end": (
        xml(RUN, '<x><scanSettings><cvParam accession="a"/></scanSettings></x>' * 100_001 + RUN),
        "{path}: header: has more than 100000 parameters in all",
    ),
    "elements nested without end": (
        xml(RUN, "<a>" * 200 + "</a>" * 200 + RUN),
        "{path}: nests elements more than 100 deep",
    ),
    "a spectrum inside a spectrum": (
        xml("<scanList ", '<spectrum id="x"/><scanList '),
        "{path}: spectrum 1: is inside another element, spectrum",
    ),
    "a group that is not defined": (
        xml('Ref ref="mzArray"', 'Ref ref="nothing"'),
        "{path}: spectrum 1: refers to the parameter group 'nothing', which is not defined "
        "before it",
    ),
    "another kind of XML": (
        lambda pair: pair.write("<svg><mzML/></svg>"),
        "{path}: is not imzML: its first element is <svg>",
    ),
    "a name that would colour the terminal": (
        lambda pair: pair.write("<\u202emzML/>", "utf-8"),
        "{path}: is not well-formed XML: not well-formed (invalid token) at byte 1 "
        "(the file is cut off or is not imzML)",
    ),
    # 7 The grid.
    "a position far off": (
        value(X, "2000000000"),
        "{path}: positions: span a grid of 3 x 2000000000 pixels for 6 spectra "
        "(spectrum 1 lies at x 2000000000, y 1: is that right? If so, split the file, or allow "
        "more with --limits.grid_pixels=N)",
    ),
    "two spectra at one position": (
        value(X, "1", 1),
        "{path}: spectrum 2: lies at x 1, y 1 like spectrum 1 (1 such spectra in all) "
        "(pass --duplicates=sum or first to preprocess or doctor, or split the file)",
    ),
    "layers of a volume": (
        several(
            value(X, "1", 1),
            xml(
                f'<cvParam cvRef="IMS" accession="IMS:1000050" name="{X}" value="1"/>',
                f'<cvParam cvRef="IMS" accession="IMS:1000050" name="{X}" value="1"/>'
                '<cvParam accession="IMS:1000052" name="position z" value="7"/>',
            ),
        ),
        "{path}: spectrum 2: lies at x 1, y 1 like spectrum 1 (1 such spectra in all; z runs from "
        "1 to 7) (pass --duplicates=sum or first to preprocess or doctor, or split the file)",
    ),
    "no position": (
        xml(f'accession="IMS:1000050" name="{X}"', 'accession="IMS:0"'),
        "{path}: spectrum 1, position x: is missing (IMS:1000050)",
    ),
    "half a position": (
        value(Y, "1.5"),
        "{path}: spectrum 1, position y: is '1.5', an integer was expected",
    ),
    "two positions": (
        xml(
            "</scanList>",
            f'<scan><cvParam accession="IMS:1000050" name="{X}" value="9"/></scan></scanList>',
        ),
        "{path}: spectrum 1, position x: is stated as both '1' and '9'",
    ),
    "no spectra": (
        lambda pair: pair.write(pair.text[: pair.text.index("<spectrum ")] + "</spectrumList></run>"
                                "</mzML>"),
        "{path}: spectrumList: holds no spectra",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(good, name):
    change, message = CASES[name]
    refused(good, change, message)


@pytest.mark.parametrize("content", ["<!--{}-->", "<x a='{}'/>", "<?x {}?>"])
def test_a_tag_without_end(good, monkeypatch, content):
    """Expat starts anew on an unfinished tag with each piece; it is stopped in time."""
    monkeypatch.setattr(imzml_xml, "_CHUNK", 1 << 10)
    monkeypatch.setattr(imzml_xml, "_EMPTY_CHUNKS", 30)
    good.edit(RUN, content.format("a" * (40 << 10)) + RUN)
    with pytest.raises(InputError, match=r"a\.imzML: holds 0 MiB without a single tag$"):
        read(good.path)


def test_too_many_forms(good, monkeypatch):
    monkeypatch.setattr(imzml_xml, "_MOST_FORMATS", 1)
    other = '<cvParam accession="MS:1000514"/><cvParam accession="MS:1000521" name="x"/>'
    parts = good.text.split('<referenceableParamGroupRef ref="mzArray"/>')
    good.write(parts[0] + other + other.replace("1000521", "1000523").join(parts[1:]))
    with pytest.raises(InputError) as caught:
        read(good.path)
    why = "stores arrays in more than 1 different forms"
    assert str(caught.value) == f"{good.path}: spectrum 2: {why}"
