"""Holds what the XML says against the binary file and against itself."""

from __future__ import annotations

import math
import uuid as uuid_module
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.imzml_arrays import ArrayTable
from msi2he_jax.msi.imzml_params import Param, XmlIndex, tag_of
from msi2he_jax.msi.imzml_template import LEVELS, MSN, NOT_STATED

UUID = "IMS:1000080"
CHECKSUMS = {"md5": "IMS:1000090", "sha1": "IMS:1000091", "sha256": "IMS:1000092"}
CONTINUOUS, PROCESSED = "IMS:1000030", "IMS:1000031"
SIZE_X, SIZE_Y = "IMS:1000046", "IMS:1000047"
_UM_PER_UNIT = {
    "UO:0000008": 1e6,
    "UO:0000015": 1e4,
    "UO:0000016": 1e3,
    "UO:0000017": 1.0,
    "UO:0000018": 1e-3,
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
}
_PLAUSIBLE_UM = (0.02, 2000.0)


def find_ibd(path: Path) -> Path:
    """Returns the binary file beside an imzML file, in whatever spelling of its extension.

    Raises:
        InputError: there is none.
    """
    exact = path.with_suffix(".ibd")
    if exact.is_file():
        return exact
    beside = [each for each in sorted(path.parent.iterdir()) if each.suffix.lower() == ".ibd"]
    for spelling in (str, str.lower):
        alike = [each for each in beside if spelling(each.stem) == spelling(path.stem)]
        found = [each for each in alike if each.is_file()]
        if found:
            return found[0]
    why = f"the binary file {exact.name} is not beside it"
    raise InputError(path, "ibd", why, "put both files in one folder under the same name")


def check_uuid(xml: XmlIndex, path: Path, head: bytes, allow_mismatch: bool) -> tuple[str, str]:
    """Compares the XML's UUID with the first 16 bytes of the binary file, in both byte orders.

    Returns:
        The UUID of the XML ("" where absent) and a warning ("" where there is none).

    Raises:
        InputError: they differ and `allow_mismatch` is false.
    """
    text = value_of(xml.file_content, UUID)
    if not text:
        return "", "the imzML states no UUID, so that the .ibd cannot be proven to belong to it"
    try:
        stated = uuid_module.UUID(text.strip())
    except ValueError as error:
        raise InputError(path, "UUID", f"{text[:60]!r} is not a UUID") from error
    if head in (stated.bytes, stated.bytes_le):
        return str(stated), ""
    why = f"the imzML states {stated}, the .ibd starts with {head.hex()}"
    if not allow_mismatch:
        hint = "the two files do not belong together; doctor --allow_uuid_mismatch looks at them"
        raise InputError(path, "UUID", why, hint)
    return str(stated), why


def one_level(xml: XmlIndex, path: Path) -> tuple[np.ndarray, list[str]]:
    """Chooses the spectra of one MS level: MS1, which those are that state none.

    Returns:
        int64 [n], rows of the table; warnings.

    Raises:
        InputError: several levels and none of them MS1.
    """
    levels, numbers = xml.column("level"), np.arange(len(xml.table))
    found = {int(level): int((levels == level).sum()) for level in np.unique(levels)}
    survey = levels[np.isin(levels, (NOT_STATED, 1))]
    counts = ", ".join(f"{count} {_level_name(level)}" for level, count in sorted(found.items()))
    if len(survey) == len(levels):
        return numbers, _unnamed_fragments(xml) if NOT_STATED in found else []
    if len(found) == 1:
        return numbers, [f"fragment spectra: all {len(levels)} are of MS level above 1"]
    if not len(survey):
        why = f"holds spectra of several MS levels and no MS1: {counts}"
        raise InputError(path, "MS level", why, "split the file by MS level")
    used = f"only the {len(survey)} MS1 spectra are used"
    if NOT_STATED in found:
        used += ", those that state no level among them"
    return np.flatnonzero(np.isin(levels, (NOT_STATED, 1))), [f"MS levels: {counts}; {used}"]


def _level_name(level: int) -> str:
    return {NOT_STATED: "of no stated level", MSN: "MSn"}.get(level, f"MS{level}")


def _unnamed_fragments(xml: XmlIndex) -> list[str]:
    """Says that the file as a whole holds fragment spectra, where its spectra do not say which."""
    if MSN not in {LEVELS.get(param.accession) for param in xml.file_content}:
        return []
    return [
        "the file states fragment spectra (MSn), but its spectra state no MS level; all are used"
    ]


def storage(xml: XmlIndex, mz: ArrayTable, chosen: np.ndarray) -> tuple[str, bool, list[str]]:
    """Tells how arrays really lie.

    Args:
        xml: The parsed file.
        mz: Its m/z arrays.
        chosen: int64 [n], rows of its table: the spectra that are used.

    Returns:
        "continuous" or "processed", whether those spectra share one m/z array; warnings.
    """
    places = [part[chosen] for part in (mz.offset, mz.length, mz.format)]
    shared = all((part == part[0]).all() for part in places)
    codes = {param.accession for param in xml.file_content} & {CONTINUOUS, PROCESSED}
    if len(codes) != 1:
        found = "continuous" if shared else "processed"
        return found, shared, [f"the file does not say how it is stored; it looks {found}"]
    if codes == {CONTINUOUS} and not shared:
        return "processed", False, ["says continuous, but its spectra do not share one m/z array"]
    return ("continuous" if codes == {CONTINUOUS} else "processed"), shared, []


def one_tag(
    xml: XmlIndex, chosen: np.ndarray, options: tuple[str, str], what: str
) -> tuple[str | None, list[str]]:
    """Tells which of two options is stated.

    Args:
        xml: The parsed file.
        chosen: int64 [n], rows of its table: the spectra that are used.
        options: Two tags, as `imzml_params.tag_of` names them.
        what: The choice in words.

    Returns:
        What those spectra (else the file) state, None if none or both; warnings.
    """
    found = xml.tags(chosen) & set(options)
    if not found:
        found = {tag for tag in map(tag_of, xml.file_content) if tag in options}
    if len(found) == 1:
        return found.pop(), []
    stated = f"states both {options[0]} and {options[1]}" if found else "is not stated"
    return None, [f"{what} {stated}"]


def pixel_size_um(xml: XmlIndex) -> tuple[tuple[float, float] | None, list[str]]:
    """Returns the pixel size (y, x) in um, or None and a warning that says why."""
    try:
        sizes = {size for size in map(_one_pixel_size, xml.scan_settings) if size is not None}
    except ValueError as error:
        return None, [f"no usable pixel size is stated: {error}"]
    if not sizes:
        return None, ["no usable pixel size is stated"]
    if len(sizes) > 1:
        listed = ", ".join(f"{y:g} x {x:g}" for y, x, _ in sorted(sizes))
        return None, [f"scanSettings disagree about the pixel size: {listed} um"]
    y, x, bare = sizes.pop()
    warnings = []
    if not (_PLAUSIBLE_UM[0] <= min(y, x) and max(y, x) <= _PLAUSIBLE_UM[1]):
        unit = "no unit is stated, um is assumed" if bare else "as its unit says"
        size = "large" if max(y, x) > _PLAUSIBLE_UM[1] else "small"
        warnings.append(f"the pixel size of {y:g} x {x:g} um is implausibly {size} ({unit})")
    elif bare:
        warnings.append(f"the pixel size of {y:g} x {x:g} has no unit, um is assumed")
    return (y, x), warnings


def _one_pixel_size(settings: list[Param]) -> tuple[float, float, bool] | None:
    """Returns (y, x, whether without a unit) of one scanSettings, None where it says nothing."""
    x, y = (_length_um(settings, code) for code in (SIZE_X, SIZE_Y))
    if x is None:
        return None
    y = x if y is None else y
    return y[0], x[0], x[1] or y[1]


def _length_um(settings: list[Param], code: str) -> tuple[float, bool] | None:
    """Returns a length in um and whether it had no unit, None where absent.

    Raises:
        ValueError: it is not positive, its unit is no length, or two are stated.
    """
    stated = list(dict.fromkeys(param for param in settings if param.accession == code))
    if not stated:
        return None
    if len({param.value for param in stated}) > 1:
        raise ValueError(f"both {stated[0].value[:40]!r} and {stated[1].value[:40]!r} are")
    value, units = number_of(stated[0].value), [stated[0].unit, _spelled(stated[0].unit_name)]
    if not 0 < value < math.inf:
        raise ValueError(f"{stated[0].value[:40]!r} is not a positive number")
    known = {_UM_PER_UNIT[unit] for unit in units if unit in _UM_PER_UNIT}
    named = " ".join(repr(unit[:40]) for unit in units if unit)
    if named and len(known) != 1:
        raise ValueError(f"its unit {named} is {'contradictory' if known else 'no length'}")
    return value * (known.pop() if known else 1.0), not named


def _spelled(unit: str) -> str:
    """Brings "micrometres", "Micrometer" and both letters mu to one spelling."""
    return unit.strip().lower().replace("metre", "meter").replace("μ", "µ").removesuffix("s")


def value_of(params: list[Param], code: str) -> str:
    """Returns the first value stated for a code, "" where there is none."""
    return next((param.value for param in params if param.accession == code), "")


def number_of(text: str) -> float:
    """Reads a number, NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def stated_checksums(xml: XmlIndex) -> dict[str, str]:
    """Returns the checksums the XML states for the binary file, by hashlib's name."""
    found = {name: value_of(xml.file_content, code) for name, code in CHECKSUMS.items()}
    return {name: value.strip().lower() for name, value in found.items() if value.strip()}
