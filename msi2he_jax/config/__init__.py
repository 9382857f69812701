"""Training configurations: their keys and defaults, how they are read, and every check on them.

A configuration is a Python file with `get_config()` (or `get_config(variant)`, asked for as
`FILE.py:variant`) that starts from `default_config()`. A Python file is code and is run;
`FILE.json`, such as a run's own `config.json`, is read as data only.
"""

from msi2he_jax.config.checks import check_config
from msi2he_jax.config.keys import CHOICES, RANGES, default_config
from msi2he_jax.config.names import (
    describe_keys,
    describe_type,
    differences,
    key_type,
    nearest_key,
    value,
)
from msi2he_jax.config.published import published_differences
from msi2he_jax.config.reading import PREFIX, config_of, load_config, split_overrides
from msi2he_jax.config.shipped import shipped_configs

__all__ = [
    "CHOICES",
    "PREFIX",
    "RANGES",
    "check_config",
    "config_of",
    "default_config",
    "describe_keys",
    "describe_type",
    "differences",
    "key_type",
    "load_config",
    "nearest_key",
    "published_differences",
    "shipped_configs",
    "split_overrides",
    "value",
]
