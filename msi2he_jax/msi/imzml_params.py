"""What imzML's XML states, as plain values: parameters, how arrays are stored, and the index."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from msi2he_jax.msi.imzml_template import (
    COMPRESSIONS,
    DTYPE_NAMES,
    DTYPES,
    FIELDS,
    LEVELS,
    MS_LEVEL,
    NOT_STATED,
    TAGS,
)

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,400}(\.[0-9]*)?([eE][+-]?[0-9]{1,4})?\s*", re.ASCII)


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
        others: int64 [K, 2], first byte and size of arrays that are neither m/z nor intensity.
        other_names: What those arrays are called.
        declared_count: The spectrumList's own count, or None.
        scientific: Whether some integer was written in scientific notation.
    """

    table: np.ndarray
    formats: list[tuple[ArrayFormat, ArrayFormat]]
    file_content: list[Param]
    scan_settings: list[list[Param]]
    others: np.ndarray
    other_names: list[str]
    declared_count: int | None
    scientific: bool

    def column(self, name: str) -> np.ndarray:
        """Returns one column of the table, a view, int64 [N]."""
        return self.table[:, FIELDS.index(name)]

    def tags(self, chosen: np.ndarray) -> set[str]:
        """Returns the tags that some spectra state themselves.

        Args:
            chosen: int64 [n], rows of the table.
        """
        bits = int(np.bitwise_or.reduce(self.column("tags")[chosen], initial=0))
        return {tag for i, tag in enumerate(TAGS.values()) if bits >> i & 1}


def param(attributes: dict[str, str]) -> Param:
    """Reads the attributes of a cvParam; absent ones are empty."""
    names = ("accession", "name", "value", "unitAccession", "unitName")
    return Param(*(attributes.get(name, "") for name in names))


def tag_of(param: Param) -> str | None:
    """Returns centroid, profile, negative or positive; old writers gave positive profile's code."""
    if param.accession == "MS:1000128" and "positive" in param.name.lower():
        return "positive"
    return TAGS.get(param.accession)


def tag_bits(params: list[Param]) -> int:
    """Returns which of `TAGS` are stated, one bit each, in their order."""
    stated = {tag_of(param) for param in params}
    return sum(1 << i for i, tag in enumerate(TAGS.values()) if tag in stated)


def ms_level(params: list[Param]) -> int:
    """Returns the MS level: its number, `MSN` for one above 1 without a number, or `NOT_STATED`."""
    for each in params:
        if each.accession == MS_LEVEL and each.value.isascii() and each.value.isdigit():
            return min(int(each.value[:9]), 99)
    stated = {LEVELS[each.accession] for each in params if each.accession in LEVELS}
    return min(stated, default=NOT_STATED)


def array_name(params: list[Param]) -> str:
    """Returns what an array calls itself, such as "charge array"; "" where it does not."""
    names = [each.name.strip() for each in params if each.name.strip().endswith("array")]
    return next((name[:80] for name in names if name.isprintable()), "")


def one_value(params: list[Param], code: str) -> str | None:
    """Returns the value stated for a code, None where absent.

    Raises:
        ValueError: several values are stated; says which.
    """
    values = list(dict.fromkeys(param.value for param in params if param.accession == code))
    if len(values) > 1:
        raise ValueError(f"is stated as both {values[0][:40]!r} and {values[1][:40]!r}")
    return values[0] if values else None


def integer(text: str) -> int:
    """Reads an integer, also in scientific notation.

    Raises:
        ValueError: it is none, or so large that it may have been rounded.
    """
    number = float(text) if _NUMBER.fullmatch(text) else float("nan")
    if not (abs(number) < 2**53 and number == int(number)):
        raise ValueError(f"is {text[:40]!r}, an integer was expected")
    return int(number)


def array_format(params: list[Param]) -> ArrayFormat:
    """Reads how an array is stored.

    Raises:
        ValueError: nothing this reader knows is stated, or contradictions are; a hint may follow.
    """
    by_code = _one({p.accession: DTYPES.get(p.accession) for p in params})
    by_name = _one({p.name: DTYPE_NAMES.get(p.name) for p in params})
    if by_code is None and by_name is None:
        raise ValueError("states no number type this reader knows")
    packings = {each.accession: each.name for each in params if _is_compression(each)}
    for accession, name in packings.items():
        if accession not in COMPRESSIONS:
            why = f"is stored with {name or accession}; only zlib and none are read"
            raise ValueError(why, "convert the file without it")
    if len(packings) > 1:
        raise ValueError("is said to be compressed and not to be")
    return ArrayFormat(by_code, by_name, any(COMPRESSIONS[each] for each in packings))


def _one(known: dict[str, str | None]) -> str | None:
    """Returns the one type among those that are known."""
    types = sorted({each for each in known.values() if each})
    if len(types) > 1:
        names = " and ".join(np.dtype(each).name for each in types)
        raise ValueError(f"states several number types: {names}")
    return types[0] if types else None


def _is_compression(param: Param) -> bool:
    name = param.name.lower()
    return param.accession in COMPRESSIONS or "compression" in name or "numpress" in name
