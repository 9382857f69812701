"""Reads the XML half of an imzML file into numbers, streaming and without trusting it.

Expat parses everything. A spectrum whose bytes differ from an already parsed one only in attribute
values is recognised by a regular expression made from that one, which is several times faster; any
other spectrum goes through expat, so both ways give the same numbers.
"""

from __future__ import annotations

import dataclasses
import mmap
import re
from array import array
from pathlib import Path
from xml.parsers import expat

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_template import (
    ABSENT,
    COMPRESSIONS,
    DTYPE_NAMES,
    DTYPES,
    ENCODED,
    FIELDS,
    INTENSITY_ARRAY,
    LENGTH,
    MZ_ARRAY,
    OFFSET,
    POSITION_X,
    POSITION_Y,
    POSITION_Z,
    TAGS,
    Template,
    make_template,
)
from msi2he_jax.msi.mapped_file import MappedFile

_CHUNK = 1 << 22
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,400}(\.[0-9]*)?([eE][+-]?[0-9]{1,4})?\s*", re.ASCII)
_TEMPLATES, _PATIENCE = 4, 64
_SCOPES = frozenset(
    [
        "fileContent",
        "referenceableParamGroup",
        "scanSettings",
        "spectrum",
        "scan",
        "binaryDataArray",
    ]
)


@dataclasses.dataclass(frozen=True)
class Param:
    """One controlled-vocabulary parameter of the XML."""

    accession: str
    name: str
    value: str
    unit: str
    unit_name: str


@dataclasses.dataclass(frozen=True)
class ArrayFormat:
    """How one array is stored: the type by its code, the type by its name, and whether packed."""

    by_code: str | None
    by_name: str | None
    zlib: bool


@dataclasses.dataclass
class XmlIndex:
    """What the XML says, before it is held against the binary file.

    Attributes:
        table: int64 [N, len(FIELDS)], one row per spectrum; `ABSENT` where a value is not given.
        formats: Pairs (m/z, intensity) of array formats; column `format` of the table points here.
        file_content: Parameters of the whole file.
        scan_settings: Parameters of each scanSettings element.
        spectrum_tags: Accessions stated by spectra themselves (mode, polarity).
        declared_count: The spectrumList's own count, or None.
        scientific: Whether some integer was written in scientific notation.
    """

    table: np.ndarray
    formats: list[tuple[ArrayFormat, ArrayFormat]]
    file_content: list[Param]
    scan_settings: list[list[Param]]
    spectrum_tags: set[str]
    declared_count: int | None
    scientific: bool

    def column(self, name: str) -> np.ndarray:
        """Returns one column of the table, a view, int64 [N]."""
        return self.table[:, FIELDS.index(name)]


def tag_of(param: Param) -> str | None:
    """Returns centroid, profile, negative or positive; old writers gave positive profile's code."""
    if param.accession == "MS:1000128" and "positive" in param.name.lower():
        return "positive"
    return TAGS.get(param.accession)


def read_xml(path: Path) -> XmlIndex:
    """Parses an imzML file.

    Args:
        path: The .imzML file.

    Raises:
        InputError: not XML, with a DOCTYPE, not imzML, or a spectrum lacks what reading needs.
    """
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "", "is empty")
    if size > LIMITS.xml_bytes:
        raise InputError(path, "", f"is larger than {LIMITS.xml_bytes} bytes")
    return _Reader(path).read()


class _Reader:
    """The state of one parse."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = array("q")
        self.formats: list[tuple[ArrayFormat, ArrayFormat]] = []
        self.groups: dict[str, list[Param]] = {}
        self.file_content: list[Param] = []
        self.scan_settings: list[list[Param]] = []
        self.tags: set[str] = set()
        self.declared: int | None = None
        self.scientific = False
        self.stack: list[tuple[str, list[Param]]] = []
        self.arrays: list[tuple[str, list[Param]]] = []
        self.group_id = ""
        self.root: str | None = None
        self.skipped = 0
        self.span, self.spectrum_start = (-1, -1), -1
        self.templates: list[Template] = []
        self.misses, self.hits, self.depth = 0, 0, 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype

    # Feeding -------------------------------------------------------------------------------------

    def read(self) -> XmlIndex:
        try:
            self._feed(MappedFile(self.path))
        except expat.ExpatError as error:
            where = self.parser.ErrorByteIndex + self.skipped
            why = f"is not well-formed XML: {expat.ErrorString(error.code)} at byte {where}"
            hint = "the file is cut off or is not imzML"
            raise InputError(self.path, "", why, hint) from error
        except (LookupError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(self.path, "XML encoding", str(error)) from error
        table = np.frombuffer(self.rows, np.int64).reshape(-1, len(FIELDS))
        return XmlIndex(
            table=table,
            formats=self.formats,
            file_content=self.file_content,
            scan_settings=self.scan_settings,
            spectrum_tags=self.tags,
            declared_count=self.declared,
            scientific=self.scientific,
        )

    def _feed(self, file: MappedFile) -> None:
        position, size, text = 0, len(file), file.data
        while position < size:
            file.check_size()
            end = position + _CHUNK
            if self._templates_pay():
                found = text.find(b"</spectrum>", position, end)
                end = found + len(b"</spectrum>") if found >= 0 else end
            self.parser.Parse(text[position:end], False)
            file.touched(end - position)
            position = min(end, size)
            if self.span[1] == position and self._templates_pay():
                position = self._skim(file, position)
        self.parser.Parse(b"", True)

    def _templates_pay(self) -> bool:
        return self.misses <= _PATIENCE + self.hits // 4

    def _skim(self, file: MappedFile, position: int) -> int:
        """Takes all following spectra that look like a parsed one; returns where it stopped."""
        start, self.misses = position, self.misses + 1
        self._learn_template(file.data)
        count = 1
        while count:
            count = 0
            for template in self.templates:
                taken, position = template.take(file, position, self.rows)
                count += taken
            self.hits += count
        self.skipped += position - start
        return position

    def _learn_template(self, text: mmap.mmap) -> None:
        """Makes a template of the spectrum just parsed; it must give the row that Expat gave."""
        if len(self.templates) < _TEMPLATES:
            raw, row = text[slice(*self.span)], self.rows[-len(FIELDS) :]
            template = make_template(raw, [kind for kind, _ in self.arrays], row)
            if template is not None:
                self.templates.append(template)

    # Expat's events ------------------------------------------------------------------------------

    def _doctype(self, *_args) -> None:
        why = "has a DOCTYPE declaration, which imzML does not use and which can harm"
        raise InputError(self.path, "DOCTYPE", why, "delete the declaration if you trust the file")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > LIMITS.xml_depth:
            raise InputError(self.path, "", f"nests elements more than {LIMITS.xml_depth} deep")
        name = name.rpartition(":")[2]
        if name == "cvParam":
            if self.stack:
                self.stack[-1][1].append(_param(attributes))
        elif name in _SCOPES:
            self._open_scope(name, attributes)
        elif name == "referenceableParamGroupRef":
            self._reference(attributes.get("ref", ""))
        elif name == "spectrumList":
            count = attributes.get("count", "")
            self.declared = int(count) if count.isascii() and count.isdigit() else None
        elif self.root is None and name not in ("mzML", "indexedmzML"):
            raise InputError(self.path, "", f"is not imzML: its first element is <{name}>")
        self.root = self.root or name

    def _open_scope(self, name: str, attributes: dict[str, str]) -> None:
        self.stack.append((name, []))
        if name == "referenceableParamGroup":
            self.group_id = attributes.get("id", "")
        elif name == "spectrum":
            self.arrays = []
            self.spectrum_start = self.parser.CurrentByteIndex + self.skipped

    def _reference(self, group: str) -> None:
        if not self.stack:
            return
        if group not in self.groups:
            why = f"refers to the parameter group {group!r}, which is not defined before it"
            raise InputError(self.path, f"spectrum {self._spectrum()}", why)
        self.stack[-1][1].extend(self.groups[group])

    def _end(self, name: str) -> None:
        self.depth -= 1
        name = name.rpartition(":")[2]
        if name not in _SCOPES:
            return
        _, params = self.stack.pop()
        if name == "fileContent":
            self.file_content += params
        elif name == "referenceableParamGroup":
            self.groups[self.group_id] = params
        elif name == "scanSettings":
            self.scan_settings.append(params)
        elif name == "scan" and self.stack:
            self.stack[-1][1].extend(params)
        elif name == "binaryDataArray":
            self._end_array(params)
        elif name == "spectrum":
            self._end_spectrum(params)
            end = self.parser.CurrentByteIndex + self.skipped + len(b"</spectrum>")
            self.span = (self.spectrum_start, end)

    # Spectra -------------------------------------------------------------------------------------

    def _spectrum(self) -> int:
        return len(self.rows) // len(FIELDS) + 1

    def _end_array(self, params: list[Param]) -> None:
        codes = {param.accession for param in params}
        kind = "mz" if MZ_ARRAY in codes else "intensity" if INTENSITY_ARRAY in codes else "other"
        self.arrays.append((kind, params))

    def _end_spectrum(self, params: list[Param]) -> None:
        self.tags.update(tag for tag in map(tag_of, params) if tag)
        values = {param.accession: param.value for param in params}
        row = [self._integer(values.get(code), code) for code in (POSITION_X, POSITION_Y)]
        row.append(self._integer(values.get(POSITION_Z, "1"), POSITION_Z))
        formats = []
        for kind in ("mz", "intensity"):
            array_params = self._one_array(kind)
            values = {param.accession: param.value for param in array_params}
            row += [self._integer(values.get(code), code) for code in (OFFSET, LENGTH)]
            row.append(self._integer(values[ENCODED], ENCODED) if ENCODED in values else ABSENT)
            formats.append(self._format(array_params, kind))
        self.rows.extend([*row, self._format_number(tuple(formats))])

    def _one_array(self, kind: str) -> list[Param]:
        found = [params for name, params in self.arrays if name == kind]
        if len(found) != 1:
            name = "m/z" if kind == "mz" else kind
            why = f"has {len(found)} {name} arrays, exactly one is needed"
            raise InputError(self.path, f"spectrum {self._spectrum()}", why)
        return found[0]

    def _format(self, params: list[Param], kind: str) -> ArrayFormat:
        where = f"spectrum {self._spectrum()}, {'m/z' if kind == 'mz' else kind} array"
        by_code = next((DTYPES[p.accession] for p in params if p.accession in DTYPES), None)
        by_name = next((DTYPE_NAMES[p.name] for p in params if p.name in DTYPE_NAMES), None)
        if by_code is None and by_name is None:
            raise InputError(self.path, where, "states no number type this reader knows")
        packed = [param for param in params if _is_compression(param)]
        for param in packed:
            if param.accession not in COMPRESSIONS:
                why = f"is stored with {param.name or param.accession}; only zlib and none are read"
                raise InputError(self.path, where, why, "convert the file without it")
        zlib = any(COMPRESSIONS[param.accession] for param in packed)
        return ArrayFormat(by_code, by_name, zlib)

    def _format_number(self, formats: tuple[ArrayFormat, ArrayFormat]) -> int:
        if formats not in self.formats:
            self.formats.append(formats)
        return self.formats.index(formats)

    def _integer(self, text: str | None, code: str) -> int:
        """Reads an integer, also in scientific notation, and says which spectrum is wrong."""
        where = f"spectrum {self._spectrum()}, {_NAMES[code]}"
        if text is None:
            raise InputError(self.path, where, f"is missing ({code})")
        number = float(text) if _NUMBER.fullmatch(text) else float("nan")
        if not (abs(number) < 2**53 and number == int(number)):
            raise InputError(self.path, where, f"is {text[:40]!r}, an integer was expected")
        self.scientific |= "e" in text.lower()
        return int(number)


_NAMES = {
    POSITION_X: "position x",
    POSITION_Y: "position y",
    POSITION_Z: "position z",
    OFFSET: "external offset",
    LENGTH: "external array length",
    ENCODED: "external encoded length",
}


def _param(attributes: dict[str, str]) -> Param:
    get = attributes.get
    return Param(
        get("accession", ""), get("name", ""), get("value", ""), get("unitAccession", ""),
        get("unitName", ""),
    )  # fmt: skip


def _is_compression(param: Param) -> bool:
    name = param.name.lower()
    return param.accession in COMPRESSIONS or "compression" in name or "numpress" in name
