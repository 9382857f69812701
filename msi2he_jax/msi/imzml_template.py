"""Recognises spectra of imzML's XML that differ from a known one only in attribute values.

Also holds the codes of the controlled vocabulary that say where a spectrum's numbers are.
"""

from __future__ import annotations

import dataclasses
import re
from array import array

import numpy as np

from msi2he_jax.msi.mapped_file import MappedFile

POSITION_X, POSITION_Y, POSITION_Z = "IMS:1000050", "IMS:1000051", "IMS:1000052"
OFFSET, LENGTH, ENCODED = "IMS:1000102", "IMS:1000103", "IMS:1000104"
MZ_ARRAY, INTENSITY_ARRAY = "MS:1000514", "MS:1000515"
MS_LEVEL = "MS:1000511"
NOT_STATED, MSN = 0, -1  # Levels that are no number.
LEVELS = {"MS:1000579": 1, "MS:1000580": MSN}
DTYPES = {
    "MS:1000519": "<i4",
    "MS:1000521": "<f4",
    "MS:1000522": "<i8",
    "MS:1000523": "<f8",
    "IMS:1000141": "<i4",
    "IMS:1000142": "<i8",
    "IMS:1100000": "<i1",
    "IMS:1100001": "<i2",
}
DTYPE_NAMES = {
    "8-bit integer": "<i1",
    "16-bit integer": "<i2",
    "32-bit integer": "<i4",
    "64-bit integer": "<i8",
    "32-bit float": "<f4",
    "64-bit float": "<f8",
}
COMPRESSIONS = {"MS:1000576": False, "MS:1000574": True}
FIELDS = (
    *("x", "y", "z", "mz_offset", "mz_length", "mz_encoded"),
    *("intensity_offset", "intensity_length", "intensity_encoded", "level", "tags", "format"),
)
ABSENT = -(2**62)
_BATCH = 4096
TAGS = {
    "MS:1000127": "centroid",
    "MS:1000128": "profile",
    "MS:1000129": "negative",
    "MS:1000130": "positive",
}

_TAG = re.compile(rb"<[^<>]*>")
_ATTRIBUTE = re.compile(rb'\b([\w:.-]+)="([^"<&]*)"')
_ANY = rb"[\t\r\n\x20\x21\x23-\x25\x27-\x3b\x3d-\x7f]*"  # what needs no decoding; no quote, & or <
_CAPTURE = rb"(-?[0-9]{1,15})"
_MEANINGFUL = frozenset(
    (*DTYPES, *COMPRESSIONS, *TAGS, *LEVELS, MS_LEVEL, MZ_ARRAY, INTENSITY_ARRAY)
)


@dataclasses.dataclass
class Template:
    """A regular expression for spectra of one form, and which table column each group fills.

    All other columns are as in `row`, that of the spectrum it was made from.
    """

    pattern: re.Pattern
    columns: list[int]
    row: np.ndarray

    def take(self, file: MappedFile, position: int, rows: array) -> tuple[int, int]:
        """Matches spectra back to back from `position`, appends their rows."""
        match, text = self.pattern.match, file.data
        total = 0
        while True:
            file.check_size()
            found, start = [], position
            while len(found) < _BATCH and (hit := match(text, position)):
                found.append(hit.groups())
                position = hit.end()
            if not found:
                return total, position
            file.touched(position - start)
            rows.frombytes(self.rows(found).tobytes())
            total += len(found)

    def rows(self, found: list[tuple[bytes, ...]]) -> np.ndarray:
        """Returns what the groups of several matches say, int64 [n, len(FIELDS)]."""
        rows = np.tile(self.row, (len(found), 1))
        rows[:, self.columns] = np.array(found, np.bytes_).astype(np.int64)
        return rows


def make_template(raw: bytes, kinds: list[str], row: array) -> Template | None:
    """Makes a template of a parsed spectrum, or None where it would not be safe.

    Args:
        raw: Its bytes.
        kinds: Its arrays in order: "mz", "intensity", "other".
        row: What Expat made of it, in the order of `FIELDS`; the template must give the same.
    """
    if len(kinds) != 2 or b"<!" in raw:
        return None
    columns: list[int] = []
    pieces: list[bytes] = [rb"\s*"]
    position, arrays = 0, 0
    for tag in _TAG.finditer(raw):
        pieces.append(re.escape(raw[position : tag.start()]))
        arrays += tag.group().startswith(b"<binaryDataArray ")
        pieces.append(_tag_pattern(tag.group(), kinds[max(arrays - 1, 0) : arrays], columns))
        position = tag.end()
    pieces.append(re.escape(raw[position:]))
    expected = {FIELDS.index(name) for name in FIELDS if name in "xy" or "_" in name}
    expected -= {FIELDS.index(name) for name in FIELDS if name.endswith("encoded")}
    if arrays != 2 or len(set(columns)) != len(columns) or not expected <= set(columns):
        return None
    template = Template(re.compile(b"".join(pieces)), columns, np.array(row, np.int64))
    if template.pattern.groups != len(columns):
        return None
    found = template.pattern.fullmatch(raw)
    agrees = found and template.rows([found.groups()]).ravel().tolist() == list(row)
    return template if agrees else None


def _tag_pattern(tag: bytes, kind: list[str], columns: list[int]) -> bytes:
    """The pattern of one tag: wanted values captured, those without meaning here free."""
    if tag.startswith((b"<spectrum ", b"<binaryDataArray ")):
        return _replace_values(tag, {b"*": _ANY})
    accession = dict(_ATTRIBUTE.findall(tag)).get(b"accession", b"").decode("latin-1")
    if tag.startswith(b"<userParam"):
        return _replace_values(tag, {b"value": _ANY})
    if not tag.startswith(b"<cvParam") or accession in _MEANINGFUL:
        return re.escape(tag)
    column = _column(accession, kind)
    if column is None:
        return _replace_values(tag, {b"value": _ANY})
    columns.append(column)
    return _replace_values(tag, {b"value": _CAPTURE})


def _column(accession: str, kind: list[str]) -> int | None:
    positions = {POSITION_X: "x", POSITION_Y: "y", POSITION_Z: "z"}
    if accession in positions:
        return FIELDS.index(positions[accession])
    parts = {OFFSET: "offset", LENGTH: "length", ENCODED: "encoded"}
    if accession in parts and kind and kind[0] != "other":
        return FIELDS.index(f"{kind[0]}_{parts[accession]}")
    return None


def _replace_values(tag: bytes, patterns: dict[bytes, bytes]) -> bytes:
    pieces, position = [], 0
    for attribute in _ATTRIBUTE.finditer(tag):
        pattern = patterns.get(attribute.group(1), patterns.get(b"*"))
        if pattern is not None:
            pieces += [re.escape(tag[position : attribute.start(2)]), pattern]
            position = attribute.end(2)
    return b"".join([*pieces, re.escape(tag[position:])])
