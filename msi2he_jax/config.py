"""Training configurations: their keys and defaults, how they are read, and every check on them.

A configuration is a Python file with `get_config()` (or `get_config(variant)`, asked for as
`FILE.py:variant`) that starts from `default_config()`. A Python file is code and is run;
`FILE.json`, such as a run's own `config.json`, is read as data only.
"""

from __future__ import annotations

import difflib
import os
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msi2he_jax import io_safety
from msi2he_jax.errors import InputError

CHOICES = {
    "parallel": ("jit", "pmap"),
    "data.augment": ("none", "flip", "dihedral"),
    "data.padding": ("provenance", "white", "black"),
    "model.name": ("unet_pix2pix", "resnet", "unet_ronneberger"),
    "model.norm": ("batch", "instance", "none"),
    "model.upsample": ("deconv", "resize"),
    "model.lowering": ("auto", "plain", "vjp", "matmul"),
    "model.dtype": ("float32", "bfloat16", "float64"),
    "discriminator.name": ("patchgan", "none"),
    "discriminator.norm": ("batch", "instance", "none"),
    "loss.gan": ("vanilla", "lsgan", "hinge", "wgangp"),
    "loss.reconstruction": ("l1", "mse"),
    "optimizer.schedule": ("constant", "linear"),
    "optimizer.schedule_form": ("exact", "fixed"),
    "train.best_metric": ("ssim_masked", "ssim", "mae_masked", "mae"),
    "test.norm_at_test": ("batch", "running"),
}
# Inclusive bounds. What takes a float may be given as a whole number too.
RANGES = {
    "seed": (0, 2**31 - 1),
    "ema": (0.0, 0.999999),
    "data.crop_px": (0, 65_536),
    "model.in_channels": (0, 100_000),
    "model.depth": (1, 9),
    "model.features": (1, 4_096),
    "model.dropout": (0.0, 0.99),
    "model.blocks": (0, 64),
    "discriminator.features": (1, 4_096),
    "discriminator.n_layers": (0, 5),
    "loss.lambda_gan": (0.0, 1e6),
    "loss.lambda_l1": (0.0, 1e6),
    "loss.gradient_penalty": (0.0, 1e6),
    "optimizer.learning_rate": (1e-12, 1e3),
    "optimizer.d_learning_rate": (0.0, 1e3),
    "optimizer.b1": (0.0, 0.999999),
    "optimizer.b2": (0.0, 0.9999999),
    "optimizer.eps": (1e-30, 1.0),
    "optimizer.decay_from": (0.0, 1.0),
    "train.steps": (1, 10**9),
    "train.batch_size": (1, 65_536),
    "train.steps_per_call": (1, 100_000),
    "train.eval_every": (1, 10**9),
    "train.checkpoint_every": (1, 10**9),
    "train.image_every": (1, 10**9),
    "train.patience": (0, 10**6),
}
PREFIX = "config."  # of overrides on a command line: --config.SECTION.KEY=VALUE
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def default_config() -> ConfigDict:
    """Returns every section and key, with pix2pix' values; the comments say what they mean."""
    return ConfigDict(
        {
            "name": "pix2pix",  # names the default workdir, runs/NAME
            "seed": 0,  # the only source of randomness
            "init_from": "",  # a pix2pix PyTorch checkpoint to begin with; see train --init_from
            "parallel": "jit",  # how several devices share a batch
            "ema": 0.0,  # decay of the generator's moving average; 0 = off
            "data": _data(),
            "model": _model(),
            "discriminator": {
                "name": "patchgan",  # none: train on the reconstruction loss alone
                "features": 64,
                "n_layers": 3,  # 3 sees 70 x 70 px
                "norm": "batch",
                "conditional": True,  # whether it sees the MSI beside the image
            },
            "loss": {
                "gan": "vanilla",
                "lambda_gan": 1.0,
                "lambda_l1": 100.0,  # weight of the reconstruction loss, whichever it is
                "reconstruction": "l1",  # l1 on [-1, 1]; mse on [0, 1], as Keras has it
                "gradient_penalty": 10.0,  # wgangp only
            },
            "optimizer": _optimizer(),
            "train": _train(),
            "test": {"norm_at_test": "batch", "dropout_at_test": False},
        }
    )


def _data() -> dict[str, Any]:
    return {
        "dir": "data/pairs",
        "crop_px": 0,  # side of random crops; 0 = whole images
        "augment": "flip",  # flip: left-right, up-down; dihedral: also turns by 90 degrees
        "padding": "provenance",  # around the histology: as preprocessed, white or black
    }


def _model() -> dict[str, Any]:
    return {
        "name": "unet_pix2pix",
        "in_channels": 0,  # channels of the MSI; 0 = as many as the data have
        "depth": 8,  # halvings: 8 is unet_256, 7 unet_128
        "features": 64,
        "norm": "batch",
        "dropout": 0.5,
        "upsample": "deconv",
        "blocks": 9,  # resnet only
        "dtype": "float32",  # of computation; parameters and losses stay float32
        "lowering": "auto",
    }


def _optimizer() -> dict[str, Any]:
    return {
        "learning_rate": 2e-4,
        "d_learning_rate": 0.0,  # the discriminator's; 0 = the same
        "b1": 0.5,
        "b2": 0.999,
        "eps": 1e-8,
        "schedule": "constant",
        "schedule_form": "exact",  # exact: as PyTorch's code since 2020 (ends at 0); fixed: 1/(n+1)
        "decay_from": 0.5,  # part of the epochs after which `linear` decays
    }


def _train() -> dict[str, Any]:
    return {
        "steps": 20_000,
        "batch_size": 1,
        "steps_per_call": 50,  # steps without a word to the host: one call (on CPU: several calls)
        "eval_every": 1_000,
        "checkpoint_every": 1_000,
        "image_every": 1_000,
        "patience": 0,  # evaluations without a better score before stopping; 0 = never
        "best_metric": "ssim_masked",
    }


def load_config(source: str | os.PathLike) -> ConfigDict:
    """Reads a configuration and checks its keys and types; for values there is `check_config`.

    Args:
        source: `FILE.py`, `FILE.py:variant` or `FILE.json`.

    Raises:
        InputError: no such file, no `get_config`, not JSON, an unknown key or a value of the wrong
            type.
    """
    path, variant = _split_variant(os.fspath(source))
    if path.suffix == ".json":
        values = io_safety.read_json(path)
    elif path.suffix == ".py":
        values = _run_file(io_safety.existing_file(path, "--config"), variant)
    else:
        raise InputError(path, "--config", "is neither a .py nor a .json file")
    if not isinstance(values, dict | ConfigDict):
        raise InputError(path, "", "holds no mapping of configuration sections")
    config = default_config()
    _fill(config, values, path, "")
    return config


def _split_variant(source: str) -> tuple[Path, str | None]:
    """Splits `FILE.py:variant`; a Windows drive's colon is none of it."""
    name, colon, variant = source.rpartition(":")
    if colon and name.endswith(".py"):
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
        default = config[key] if key in config else _refuse(path, name)
        if isinstance(default, ConfigDict):
            if not isinstance(value, dict | ConfigDict):
                raise InputError(path, name, f"is {value!r}, expected a section of keys")
            _fill(default, value, path, f"{name}.")
        else:
            config[key] = _typed(value, default, path, name)


def _refuse(path: Any, name: str) -> None:
    raise InputError(path, name, "no such key", nearest_key(name))


def nearest_key(name: str) -> str:
    """Returns a hint naming the known key spelt most like `name`, such as `train.steps`."""
    known = list(_leaves(default_config()))
    last = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    close = close or [
        last[word] for word in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    ]
    return f"did you mean {close[0]}?" if close else "msi2he_jax/config.py lists all keys"


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _typed(value: Any, default: Any, path: Any, name: str) -> Any:
    """Returns `value` in the type of `default`; a whole number will do for a float, that is all."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(path, name, f"is {value!r}, expected {_WORDS[kind]}")
    return value


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.KEY=VALUE` (or ` VALUE`, or nothing for true) out of a command line.

    Returns:
        The other words, and (key, value) pairs in the order given.
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


def key_type(config: ConfigDict, name: str) -> type:
    """Returns the type of the key `name`, such as `train.steps`.

    Raises:
        InputError: there is no such key, or it is a section; the nearest name is in the hint.
    """
    value: Any = config
    for word in name.split("."):
        if not isinstance(value, ConfigDict) or word not in value:
            raise InputError(f"--config.{name}", "", "no such key", nearest_key(name))
        value = value[word]
    if isinstance(value, ConfigDict):
        keys = ", ".join(value)
        raise InputError(f"--config.{name}", "", "is a section", f"its keys are {keys}")
    return type(value)


def describe_type(kind: type) -> str:
    """Returns a type in words, for messages."""
    return _WORDS[kind]


def describe_keys() -> list[str]:
    """Returns one line per key, as it is set on the command line, with its default and choices."""
    config = default_config()
    return [
        f"  --config.{name}={value(config, name)}  {'|'.join(CHOICES.get(name, ()))}".rstrip()
        for name in _leaves(config)
    ]


def check_config(config: ConfigDict, source: str | os.PathLike = "config") -> None:
    """Checks every value and the pairs that do not go together; needs no device.

    Args:
        config: As `load_config` returned it, after any overrides.
        source: What messages name as the place of the mistake.

    Raises:
        InputError: the first mistake found.
    """
    for name, allowed in CHOICES.items():
        found = value(config, name)
        if found not in allowed:
            close = difflib.get_close_matches(found, allowed, n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            why = f"is {found!r}, expected one of {', '.join(allowed)}"
            raise InputError(source, name, why, hint)
    for name, (low, high) in RANGES.items():
        found = value(config, name)
        if not low <= found <= high:
            why = f"is {found:g}, expected from {low:g} to {high:g}"
            raise InputError(source, name, why)
    _check_name(config, source)
    for test, name, why, hint in _incompatible(config):
        if test:
            raise InputError(source, name, why, hint)


def value(config: ConfigDict, name: str) -> Any:
    """Returns the value of the key `name`, such as `train.steps`."""
    found: Any = config
    for word in name.split("."):
        found = found[word]
    return found


def _check_name(config: ConfigDict, source: Any) -> None:
    """The name becomes a folder: it must be one, and not lead elsewhere."""
    word = config.name.replace("-", "").replace("_", "").replace(".", "")
    if not (word.isascii() and word.isalnum()) or len(config.name) > 80:
        why = f"is {config.name!r}, expected letters, digits, '-', '_' and '.'"
        raise InputError(source, "name", why)


def _incompatible(config: ConfigDict) -> Iterator[tuple[bool, str, str, str]]:
    """Yields (whether it applies, key, why, hint) for pairs of values that cannot work together."""
    model, crop = config.model, config.data.crop_px
    depths = {"unet_pix2pix": (5, 9), "unet_ronneberger": (1, 6)}
    low, high = depths.get(model.name, (1, 9))
    yield (
        not low <= model.depth <= high,
        "model.depth",
        f"is {model.depth}, {model.name} takes from {low} to {high}",
        "",
    )
    multiple = 4 if model.name == "resnet" else 2**model.depth
    yield (
        crop % multiple != 0,
        "data.crop_px",
        f"is {crop}, {model.name} of depth {model.depth} needs a multiple of {multiple} px",
        f"--config.data.crop_px={max(multiple, round(crop / multiple) * multiple)}",
    )
    no_adversary = config.discriminator.name == "none"
    yield (
        no_adversary and config.loss.lambda_l1 == 0,
        "loss.lambda_l1",
        "is 0 while discriminator.name is none: nothing would be learnt",
        "",
    )
    yield (
        config.loss.gan == "wgangp" and config.discriminator.norm == "batch" and not no_adversary,
        "discriminator.norm",
        "is batch, but the gradient penalty of wgangp is per image",
        "--config.discriminator.norm=instance",
    )
    yield (
        config.test.dropout_at_test and model.dropout == 0,
        "test.dropout_at_test",
        "is true while model.dropout is 0",
        "",
    )


def differences(first: ConfigDict, second: ConfigDict) -> list[str]:
    """Returns the names of the keys whose values differ, such as `train.steps`."""
    names = _leaves(default_config())
    return [name for name in names if value(first, name) != value(second, name)]
