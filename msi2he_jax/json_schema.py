"""Says what the values of a JSON file must be, and names the first that is not.

A schema is a `Kind`, a dict of schemas (a key that ends with "?" may be absent; other keys may
stand beside), a list of one schema for a list of any length, `Each` for an object of any keys, or
`Maybe` where null is allowed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from msi2he_jax.errors import InputError
from msi2he_jax.plain_json import json_text

_LARGEST = 1e300  # Beyond, products overflow; an int of JSON may be larger than any float.
_LARGEST_WHOLE = 2**53  # As far as every reader of JSON keeps whole numbers.
_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of single value.

    Attributes:
        words: What it is called in a message: "expected {words}".
        accepts: Tells whether a value is of the kind.
    """

    words: str
    accepts: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class Each:
    """An object of any keys whose values are all alike."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Maybe:
    """Null, or what the schema says."""

    value: Any


def is_number(value: Any) -> bool:
    """Returns whether a value read from JSON is a finite number; true and false are not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -_LARGEST <= value <= _LARGEST


def is_whole(value: Any) -> bool:
    """Returns whether a value read from JSON is a whole number that a float holds exactly."""
    return isinstance(value, int) and is_number(value) and abs(value) <= _LARGEST_WHOLE


ANY = Kind("anything", lambda value: True)
TEXT = Kind("a text", lambda value: isinstance(value, str))
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a finite number", is_number)
POSITIVE = Kind("a number above 0", lambda value: is_number(value) and value > 0)
WHOLE = Kind("a whole number", is_whole)
COUNT = Kind("a whole number, 0 or more", lambda value: is_whole(value) and value >= 0)


def choice(*values: Any) -> Kind:
    """Returns the kind that is one of `values`, of the same type."""
    words = " or ".join(json_text(value) for value in values)
    return Kind(words, lambda found: any(type(found) is type(v) and found == v for v in values))


def check_json(path: str | os.PathLike, value: Any, schema: Any, field: str = "") -> None:
    """Compares a value read from JSON with a schema.

    Args:
        path: The file, for the message.
        value: As read.
        schema: See above.
        field: Where in the file the value stands, such as `peaks.mz`.

    Raises:
        InputError: a value is missing or is something else than the schema says.
    """
    if isinstance(schema, Maybe):
        if value is not None:
            check_json(path, value, schema.value, field)
    elif isinstance(schema, Kind):
        _expect(schema.accepts(value), path, value, schema.words, field)
    elif isinstance(schema, list):
        _expect(isinstance(value, list), path, value, "a list", field)
        for index, each in enumerate(value):
            check_json(path, each, schema[0], f"{field}[{index}]")
    else:
        _expect(isinstance(value, dict), path, value, "an object", field)
        for name, inner in _members(value, schema):
            place = f"{field}.{name}" if field else name
            if name not in value:
                raise InputError(path, place, "is missing")
            check_json(path, value[name], inner, place)


def _members(value: dict[str, Any], schema: dict[str, Any] | Each) -> list[tuple[str, Any]]:
    """Names to look at, with their schemas."""
    if isinstance(schema, Each):
        return [(name, schema.value) for name in value]
    asked = [(name.removesuffix("?"), name.endswith("?"), each) for name, each in schema.items()]
    return [(name, each) for name, free, each in asked if not free or name in value]


def _expect(right: bool, path: str | os.PathLike, value: Any, words: str, field: str) -> None:
    if not right:
        raise InputError(path, field, f"is {shown(value)}, expected {words}")


def shown(value: Any) -> str:
    """Returns a value as JSON for a message; of a long one the beginning, of an object no more."""
    if isinstance(value, list | dict):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number beyond all limits"  # Of thousands of digits, which Python does not print.
    text = repr(value) if isinstance(value, float) else json_text(value)  # "inf" has no JSON
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
