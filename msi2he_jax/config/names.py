"""Keys of a configuration by their names, such as `train.steps`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NoReturn

from ml_collections import ConfigDict

from msi2he_jax.config.keys import CHOICES, NOTES, REMOVED, default_config
from msi2he_jax.errors import InputError

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def nearest_key(name: str) -> str:
    """Returns a hint naming the known key spelt most like `name`, such as `train.steps`.

    Example:
        >>> nearest_key("train.step")
        'did you mean train.steps?'
    """
    known = list(_leaves(default_config()))
    last = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    close = close or [
        last[word] for word in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    ]
    return f"did you mean {close[0]}?" if close else "msi2he_jax/config/keys.py lists all keys"


def refuse_key(path: Any, field: str, name: str) -> NoReturn:
    """Raises InputError for a key that there is not: removed, or misspelt."""
    if name in REMOVED:
        raise InputError(path, field, "was removed: nothing spoke for it", "docs/results.md")
    raise InputError(path, field, "no such key", nearest_key(name))


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def value(config: ConfigDict, name: str) -> Any:
    """Returns the value of the key `name`, such as `train.steps`.

    Example:
        >>> value(default_config(), "loss.lambda_l1")
        100.0
    """
    found: Any = config
    for word in name.split("."):
        found = found[word]
    return found


def key_type(config: ConfigDict, name: str) -> type:
    """Returns the type of the key `name`, such as `train.steps`.

    Raises:
        InputError: there is no such key, or it is a section; the nearest name is in the hint.

    Example:
        >>> key_type(default_config(), "train.steps")
        <class 'int'>
    """
    value: Any = config
    for word in name.split("."):
        if not isinstance(value, ConfigDict) or word not in value:
            refuse_key(f"--config.{name}", "", name)
        value = value[word]
    if isinstance(value, ConfigDict):
        keys = ", ".join(value)
        raise InputError(f"--config.{name}", "", "is a section", f"its keys are {keys}")
    return type(value)


def describe_type(kind: type) -> str:
    """Returns a type in words, for messages."""
    return _WORDS[kind]


def describe_keys() -> list[str]:
    """Returns one line per key, as it is set on the command line, with its default and meaning."""
    config = default_config()
    words = {name: "|".join(choices) for name, choices in CHOICES.items()} | NOTES
    return [
        f"  --config.{name}={value(config, name)}  {words.get(name, '')}".rstrip()
        for name in _leaves(config)
    ]


def differences(first: ConfigDict, second: ConfigDict) -> list[str]:
    """Returns the names of the keys whose values differ, such as `train.steps`."""
    names = _leaves(default_config())
    return [name for name in names if value(first, name) != value(second, name)]
