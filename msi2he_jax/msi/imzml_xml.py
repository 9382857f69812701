"""Reads the XML half of an imzML file into numbers, streaming and without trusting it.

Expat parses everything. A spectrum whose bytes differ from an already parsed one only in attribute
values is recognised by a regular expression made from that one, which is several times faster; any
other spectrum goes through expat, so both ways give the same numbers.
"""

from __future__ import annotations

import contextlib
import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS
from msi2he_jax.msi.imzml_params import (
    ArrayFormat,
    Param,
    XmlIndex,
    array_format,
    array_name,
    integer,
    ms_level,
    one_value,
    param,
    tag_bits,
)
from msi2he_jax.msi.imzml_template import (
    ABSENT,
    ENCODED,
    FIELDS,
    INTENSITY_ARRAY,
    LENGTH,
    MZ_ARRAY,
    OFFSET,
    POSITION_X,
    POSITION_Y,
    POSITION_Z,
    Template,
    make_template,
)
from msi2he_jax.msi.mapped_file import MappedFile

_CHUNK = 1 << 22
_TEMPLATES, _PATIENCE = 4, 64
_EMPTY_CHUNKS = 16  # Expat reads a tag again from its start with every chunk.
_MOST_PARAMS, _MOST_HEADER_PARAMS, _MOST_FORMATS = 1_000, 100_000, 100
_IN_SPECTRUM = frozenset(["spectrum", "scan", "binaryDataArray"])
_SCOPES = _IN_SPECTRUM | {"fileContent", "referenceableParamGroup", "scanSettings"}


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
        self.formats: dict[tuple[ArrayFormat, ArrayFormat], int] = {}
        self.groups: dict[str, list[Param]] = {}
        self.file_content: list[Param] = []
        self.scan_settings: list[list[Param]] = []
        self.others, self.other_names = array("q"), set()
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
        self.elements, self.kept, self.idle = 0, 0, 0
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
            formats=list(self.formats),
            file_content=self.file_content,
            scan_settings=self.scan_settings,
            others=np.frombuffer(self.others, np.int64).reshape(-1, 2),
            other_names=sorted(self.other_names),
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
            before = self.elements
            self.parser.Parse(text[position:end], False)
            self._check_progress(before)
            file.touched(end - position)
            position = min(end, size)
            if self.span[1] == position and self._templates_pay():
                position = self._skim(file, position)
        self.parser.Parse(b"", True)

    def _check_progress(self, before: int) -> None:
        """Refuses a tag or comment so long that reading it would take for ever."""
        self.idle = self.idle + 1 if self.elements == before else 0
        if self.idle > _EMPTY_CHUNKS:
            megabytes = _EMPTY_CHUNKS * _CHUNK >> 20
            raise InputError(self.path, "", f"holds {megabytes} MiB without a single tag")

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
        self.elements += 1
        self.depth += 1
        if self.depth > LIMITS.xml_depth:
            raise InputError(self.path, "", f"nests elements more than {LIMITS.xml_depth} deep")
        name = name.rpartition(":")[2]
        if name == "cvParam":
            self._add([param(attributes)])
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

    def _add(self, params: list[Param]) -> None:
        """Adds parameters to the innermost scope; bounded, since groups may be meant to explode."""
        if not self.stack:
            return
        scope, known = self.stack[-1]
        known.extend(params)
        if len(known) > _MOST_PARAMS:
            where = f"spectrum {self._spectrum()}" if scope in _IN_SPECTRUM else scope
            raise InputError(self.path, where, f"has more than {_MOST_PARAMS} parameters")

    def _open_scope(self, name: str, attributes: dict[str, str]) -> None:
        if name == "spectrum" and self.stack:
            why = f"is inside another element, {self.stack[-1][0]}"
            raise InputError(self.path, f"spectrum {self._spectrum()}", why)
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
        self._add(self.groups[group])

    def _end(self, name: str) -> None:
        self.depth -= 1
        name = name.rpartition(":")[2]
        if name not in _SCOPES:
            return
        _, params = self.stack.pop()
        if name not in _IN_SPECTRUM:
            self._end_header(name, params)
        elif name == "scan":
            self._add(params)
        elif name == "binaryDataArray":
            self._end_array(params)
        else:
            self._end_spectrum(params)
            end = self.parser.CurrentByteIndex + self.skipped + len(b"</spectrum>")
            self.span = (self.spectrum_start, end)

    def _end_header(self, name: str, params: list[Param]) -> None:
        self.kept += len(params)
        if self.kept > _MOST_HEADER_PARAMS:
            why = f"has more than {_MOST_HEADER_PARAMS} parameters in all"
            raise InputError(self.path, "header", why)
        if name == "fileContent":
            self.file_content += params
        elif name == "referenceableParamGroup":
            self.groups[self.group_id] = params
        else:
            self.scan_settings.append(params)

    # Spectra -------------------------------------------------------------------------------------

    def _spectrum(self) -> int:
        return len(self.rows) // len(FIELDS) + 1

    def _end_array(self, params: list[Param]) -> None:
        codes = {param.accession for param in params}
        kind = "mz" if MZ_ARRAY in codes else "intensity" if INTENSITY_ARRAY in codes else "other"
        self.arrays.append((kind, params))

    def _end_spectrum(self, params: list[Param]) -> None:
        row = [self._integer(params, code) for code in (POSITION_X, POSITION_Y)]
        row.append(self._integer(params, POSITION_Z, 1))
        formats = []
        for kind, name in (("mz", "m/z"), ("intensity", "intensity")):
            array = self._one_array(kind, name)
            row += [self._integer(array, code) for code in (OFFSET, LENGTH)]
            row.append(self._integer(array, ENCODED, ABSENT))
            with self._blaming(f"{name} array"):
                formats.append(array_format(array))
        row += [ms_level(params), tag_bits(params)]
        self.rows.extend([*row, self._format_number(tuple(formats))])
        self._add_others()

    def _add_others(self) -> None:
        """Notes where arrays lie that are not read; what is not said of them is let pass."""
        for params in [params for kind, params in self.arrays if kind == "other"]:
            with contextlib.suppress(ValueError):
                offset, length, size = (
                    integer(one_value(params, code) or "0") for code in (OFFSET, LENGTH, ENCODED)
                )
                size = size or length * _item_bytes(params)
                if offset > 0 and size > 0:
                    self.others.extend([offset, size])
                    self.other_names.add(array_name(params) or "an array without a name")

    def _one_array(self, kind: str, name: str) -> list[Param]:
        found = [params for each, params in self.arrays if each == kind]
        if len(found) != 1:
            why = f"has {len(found)} {name} arrays, exactly one is needed"
            raise InputError(self.path, f"spectrum {self._spectrum()}", why)
        return found[0]

    def _format_number(self, formats: tuple[ArrayFormat, ArrayFormat]) -> int:
        number = self.formats.setdefault(formats, len(self.formats))
        if number >= _MOST_FORMATS:
            why = f"stores arrays in more than {_MOST_FORMATS} different forms"
            raise InputError(self.path, f"spectrum {self._spectrum()}", why)
        return number

    def _integer(self, params: list[Param], code: str, absent: int | None = None) -> int:
        """Returns the integer stated for a code, `absent` where there is none."""
        with self._blaming(_NAMES[code]):
            text = one_value(params, code)
            if text is None and absent is None:
                raise ValueError(f"is missing ({code})")
            self.scientific |= "e" in (text or "").lower()
            return absent if text is None else integer(text)

    @contextlib.contextmanager
    def _blaming(self, part: str) -> Iterator[None]:
        """Says which part of which spectrum a ValueError is about."""
        try:
            yield
        except ValueError as error:
            where = f"spectrum {self._spectrum()}, {part}"
            raise InputError(self.path, where, *error.args) from error


def _item_bytes(params: list[Param]) -> int:
    found = array_format(params)
    return np.dtype(found.by_code or found.by_name).itemsize


_NAMES = {
    POSITION_X: "position x",
    POSITION_Y: "position y",
    POSITION_Z: "position z",
    OFFSET: "external offset",
    LENGTH: "external array length",
    ENCODED: "external encoded length",
}
