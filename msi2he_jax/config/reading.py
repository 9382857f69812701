"""How configurations are read, and the overrides of a command line."""

from __future__ import annotations

import os
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msi2he_jax import io_safety
from msi2he_jax.config.keys import REMOVED, default_config
from msi2he_jax.config.names import describe_type, refuse_key
from msi2he_jax.config.shipped import find_config
from msi2he_jax.errors import InputError
from msi2he_jax.json_schema import is_number, is_whole, shown

PREFIX = "config."  # of overrides on a command line: --config.SECTION.KEY=VALUE


def load_config(source: str | os.PathLike) -> ConfigDict:
    """Reads a configuration and checks its keys and types; for values there is `check_config`.

    Args:
        source: `FILE.py`, `FILE.json`, or the name of a shipped configuration such as `pix2pix`;
            `FILE.py:variant` and `NAME:variant` ask for a variant.

    Raises:
        InputError: no such file or name, no `get_config`, not JSON, an unknown key or a value of
            the wrong type.

    Example:
        >>> load_config("pix2pix").name
        'pix2pix'
    """
    path, variant = _split_variant(os.fspath(source))
    path = find_config(path)
    if path.suffix == ".json":
        values = io_safety.read_json(path)
    elif path.suffix == ".py":
        values = _run_file(io_safety.existing_file(path, "--config"), variant)
    else:
        raise InputError(path, "--config", "is neither a .py nor a .json file")
    return config_of(values, path)


def config_of(values: Any, path: str | os.PathLike) -> ConfigDict:
    """Makes a configuration of nested values, as `load_config` does of those of the file `path`.

    Raises:
        InputError: an unknown key or a value of the wrong type.
    """
    if not isinstance(values, dict | ConfigDict):
        raise InputError(path, "", "holds no mapping of configuration sections")
    config = default_config()
    _fill(config, values, path, "")
    return config


def _split_variant(source: str) -> tuple[Path, str | None]:
    """Splits `FILE.py:variant` or `NAME:variant`; a colon within a path is none of it."""
    name, colon, variant = source.rpartition(":")
    if colon and (name.endswith(".py") or name.isidentifier()):
        return Path(name), variant
    return Path(source), None


def _run_file(path: Path, variant: str | None) -> Any:
    """Runs a configuration file; a fault in it becomes one line that names file and fault."""
    try:
        get_config = runpy.run_path(os.fspath(path)).get("get_config")
        if not callable(get_config):
            raise InputError(path, "get_config", "is not defined", "see configs/pix2pix.py")
        return get_config() if variant is None else get_config(variant)
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code raises is the user's to read
        raise InputError(path, "get_config", f"{type(error).__name__}: {error}") from error


def _fill(config: ConfigDict, values: Any, path: Any, prefix: str) -> None:
    """Copies `values` over `config`, key by key, refusing what `config` does not have."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in config:
            _refuse(path, name, value)
            continue
        default = config[key]
        if isinstance(default, ConfigDict):
            if not isinstance(value, dict | ConfigDict):
                raise InputError(path, name, f"is {value!r}, expected a section of keys")
            _fill(default, value, path, f"{name}.")
        else:
            config[key] = _typed(value, default, path, name)


def _refuse(path: Any, name: str, value: Any) -> None:
    """Refuses a key that there is not; one that was removed only where it is on."""
    if isinstance(value, dict | ConfigDict) and any(k.startswith(f"{name}.") for k in REMOVED):
        for key, each in value.items():
            _refuse(path, f"{name}.{key}", each)
    elif name not in REMOVED or type(value) is not type(REMOVED[name]) or value != REMOVED[name]:
        refuse_key(path, name, name)


def _typed(value: Any, default: Any, path: Any, name: str) -> Any:
    """Returns `value` in the type of `default`; a whole number will do for a float, that is all."""
    kind = type(default)
    if kind is float and isinstance(value, int) and is_number(value):
        return float(value)
    if type(value) is not kind or (kind is int and not is_whole(value)):
        raise InputError(path, name, f"is {_short(value)}, expected {describe_type(kind)}")
    return value


def _short(value: Any) -> str:
    """A value for a message; a whole number of thousands of digits has no repr."""
    return shown(value) if isinstance(value, int) else repr(value)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.KEY=VALUE` (or ` VALUE`, or nothing for true) out of a command line.

    Returns:
        The other words, and (key, value) pairs in the order given.

    Example:
        >>> split_overrides(["--config=unet", "--config.train.steps=5"])
        (['--config=unet'], [('train.steps', '5')])
    """
    rest, overrides, words = [], [], list(words)
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name.removeprefix("no").startswith(PREFIX):
            rest.append(word)
        elif name.startswith("no"):
            overrides.append((name.removeprefix("no" + PREFIX), "false"))
        else:
            bare = not equals and (not words or words[0].startswith("--"))
            text = value if equals else "true" if bare else words.pop(0)
            overrides.append((name.removeprefix(PREFIX), text))
    return rest, overrides
