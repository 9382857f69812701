"""A stand-in for ml_collections on a machine that has jax and flax and little else.

Benchmarks need a configuration only as nested attributes; where the package is missing, this fills
its name before msi2he_jax is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any


class ConfigDict(dict):
    """A dict whose values are attributes too."""

    def __init__(self, values: dict | None = None):
        super().__init__()
        for name, value in (values or {}).items():
            self[name] = ConfigDict(value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def copy_and_resolve_references(self) -> ConfigDict:
        """Returns a copy of all levels."""
        return ConfigDict(self)


def install() -> bool:
    """Puts the stand-in in place where ml_collections cannot be found; returns whether it did."""
    if importlib.util.find_spec("ml_collections"):
        return False
    module = types.ModuleType("ml_collections")
    module.ConfigDict = ConfigDict
    sys.modules["ml_collections"] = module
    return True
