"""Mutants of an imzML pair: each is read as a slow reference reads it, or refused in one line."""

import dataclasses
import random
import re
import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from imzml_pair import SPECTRA, read

from msi2he_jax.errors import InputError
from msi2he_jax.msi import imzml_xml

COUNT = 500
NUMBERS = [
    "-1",
    "0",
    "1",
    "7",
    "12",
    "13",
    "16",
    "4096",
    "1e2",
    "1.5",
    "NaN",
    "inf",
    "1e400",
    "0x1",
]
NUMBERS += ["2147483648", "-2147483648", "4294967296", "9223372036854775808"]
NUMBERS += ["", " 16 ", "1_6", "²", "+1", "1,5", "00016"]
TOKENS = ["<", ">", "&", '"', "'", "\x00", "/>", "<!--", "]]>", "<!DOCTYPE a>", "</spectrum>", "é"]
CODES = [f"IMS:10000{one}" for one in (50, 51, 52)] + [f"IMS:1000{one}" for one in (102, 103, 104)]
CODES += [f"MS:1000{one}" for one in (514, 519, 521, 523, 574)] + ["IMS:1100000", "x"]


def number(text, rng):
    """Another number, or none, for one of the values."""
    return replaced(r'value="([^"]*)"', NUMBERS, text, rng)


def code(text, rng):
    return replaced(r'accession="([^"]*)"', CODES, text, rng)


def replaced(pattern, choices, text, rng):
    places = list(re.finditer(pattern, text))
    if not places:
        return text
    place = rng.choice(places)
    return text[: place.start(1)] + rng.choice(choices) + text[place.end(1) :]


def cut(text, rng):
    return text[: rng.randrange(len(text))]


def span(text, rng):
    start = rng.randrange(len(text))
    return start, start + rng.choice((1, 5, 40, 300, 2000))


def lost(text, rng):
    start, end = span(text, rng)
    return text[:start] + text[end:]


def twice(text, rng):
    start, end = span(text, rng)
    return text[:end] + text[start:end] + text[end:]


def line_twice(text, rng):
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return "".join([*lines[:at], lines[at], *lines[at:]])


def lines_swapped(text, rng):
    lines = text.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def noise(text, rng):
    at = rng.randrange(len(text))
    return text[:at] + chr(rng.randrange(256)) + text[at + 1 :]


def token(text, rng):
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(TOKENS) + text[at:]


WAYS = [number, number, number, code, cut, lost, twice, line_twice, lines_swapped, noise, token]


@dataclasses.dataclass
class Reference:
    """What ElementTree and struct make of a pair, one number at a time."""

    positions: list
    spectra: list


def reference(path, raw):
    """Reads a pair in the plainest way: every number where the XML says it is."""
    root = ElementTree.parse(path).getroot()
    groups, found = {}, Reference([], [])
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        if name == "referenceableParamGroup":
            groups[element.get("id")] = list(element)
        if name == "spectrum":
            said = stated(element, groups, stop=("binaryDataArrayList",))
            found.positions.append([float(said["IMS:1000050"]), float(said["IMS:1000051"])])
            arrays = [each for each in element.iter() if each.tag.endswith("binaryDataArray")]
            said = [stated(each, groups) for each in arrays]
            by_kind = {code: each for each in said for code in each if code in KINDS}
            found.spectra.append([numbers(by_kind[kind], raw) for kind in KINDS])
    return found


KINDS = ("MS:1000514", "MS:1000515")
TYPES = {"MS:1000523": "d", "MS:1000521": "f", "MS:1000519": "i", "IMS:1100000": "b"}
TYPES |= {"64-bit float": "d", "32-bit float": "f"}


def stated(element, groups, stop=()):
    """All parameters of an element: values by code, and the names as keys too."""
    values = {}
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name == "referenceableParamGroupRef":
            values |= stated(groups[child.get("ref")], groups)
        elif name == "cvParam":
            values[child.get("accession")] = child.get("value", "")
            values[child.get("name")] = ""
        elif name not in stop:
            values |= stated(child, groups, stop)
    return values


def numbers(said, raw):
    """The values of one array; where code and name of its type disagree, its size decides."""
    length, offset = int(float(said["IMS:1000103"])), int(float(said["IMS:1000102"]))
    kinds = {TYPES[one] for one in said if one in TYPES}
    if len(kinds) > 1:
        size = int(float(said["IMS:1000104"]))
        kinds = {kind for kind in kinds if struct.calcsize(kind) * length == size}
    (kind,) = kinds
    size = struct.calcsize(kind) * length
    return list(struct.unpack(f"<{length}{kind}", raw[offset : offset + size]))


def check_equal(file, path, raw):
    """Compares all positions and numbers with the reference's."""
    expected = reference(path, raw)
    origin = np.array(file.origin_px)
    assert (file.coordinates[:, ::-1] + origin).tolist() == expected.positions
    for index, (mz, intensity) in enumerate(expected.spectra):
        assert file.spectrum(index)[0].tolist() == mz
        np.testing.assert_array_equal(file.spectrum(index)[1], np.array(intensity, np.float32))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_mutants(good, seed, monkeypatch):
    """2,000 in all: a reading equal to the reference, or one InputError; nothing else."""
    rng, text, raw = random.Random(seed), good.text, good.ibd.read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for _ in range(COUNT):
        mutant = text
        for _ in range(rng.choice((1, 1, 1, 2))):
            mutant = rng.choice(WAYS)(mutant, rng) or " "
        good.write(mutant, "utf-8" if rng.random() < 0.1 else "latin-1")
        with monkeypatch.context() as context:
            if rng.random() < 0.3:
                context.setattr(imzml_xml, "_TEMPLATES", 0)
            try:
                file = read(good.path)
            except InputError as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
                continue
        check_equal(file, good.path, raw)
        outcomes["read"] += 1
    assert min(outcomes.values()) > COUNT // 20


@pytest.mark.parametrize("seed", range(2))
def test_mutants_of_the_binary_file(good, seed):
    """Any change of the .ibd that is not refused for another reason is found by its SHA-1."""
    rng, raw = random.Random(seed), good.ibd.read_bytes()
    for _ in range(200):
        mutant = bytearray(raw)
        at = rng.randrange(len(raw))
        way = rng.randrange(4)
        if way == 0:
            mutant[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del mutant[at : at + rng.choice((1, 4, 100))]
        elif way == 2:
            mutant[at:at] = rng.randbytes(rng.choice((1, 8, 100)))
        else:
            mutant[at : at + 8] = bytes(8)
        good.ibd.write_bytes(mutant)
        if bytes(mutant) == raw:
            assert read(good.path).n == SPECTRA
            continue
        with pytest.raises(InputError) as caught:
            read(good.path)
        assert "\n" not in str(caught.value)
