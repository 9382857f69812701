"""JSON that any reader takes: without NaN and infinities, of bounded depth and numbers."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Returns `value` as JSON that any reader takes: `json_ready` of it, in words.

    Args:
        value: What `json_ready` takes.
        indent: Blanks a level, or None for one line.
        sort_keys: Whether mappings are put in order.
    """
    return json.dumps(json_ready(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_ready(value: Any) -> Any:
    """Turns a value, at any depth, into what JSON knows; NaN and infinities become None.

    Args:
        value: Text, numbers, mappings, lists, NumPy scalars and arrays, paths, dataclasses.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, os.PathLike):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return json_ready(dataclasses.asdict(value))
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def json_value(text: str, depth: int) -> Any:
    """Reads JSON; `NaN` and `Infinity`, which are none, are read as floats.

    Args:
        text: The whole of it.
        depth: Most levels of lists and mappings.

    Raises:
        ValueError: not JSON, nested deeper, a number beyond float64, a key that stands twice in one
            mapping, or a text that holds half of a character and could not be written again.
    """
    numbers = {"parse_int": _whole, "parse_float": _finite}
    try:
        value = json.loads(text, object_pairs_hook=_without_twins, **numbers)
    except RecursionError:
        value = None
    else:
        if not _deeper(value, depth):
            return _whole_characters(value, text)
    raise ValueError(f"nested more than {depth} levels deep")


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and mappings nest more than `levels` deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        nests = [part.values() if isinstance(part, dict) else part for part in level]
        level = [part for nest in nests for part in nest if isinstance(part, dict | list)]
    return bool(level)


def _whole_characters(value: Any, text: str) -> Any:
    """Returns the value; two escapes make one character beyond the first 65,536."""
    if _ESCAPED_HALF.search(text):
        halves = (half for each in _texts(value) for half in _HALF.findall(each))
        if half := next(halves, ""):
            raise ValueError(f"a text holds half of a character: {half!r}")
    return value


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        yield from itertools.chain.from_iterable(map(_texts, parts))


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twin = collections.Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return found


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} ({len(digits)} characters) is too large")
    return number
