"""Whether a run's configuration, data and provenance are those its checkpoints were made with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msi2he_jax import config as configs
from msi2he_jax import io_safety
from msi2he_jax.errors import InputError
from msi2he_jax.json_schema import COUNT, NUMBER, TEXT, Each, Maybe, check_json

NOTES = {
    "best?": Maybe(NUMBER),
    "stale?": COUNT,
    "spent_s?": Each(NUMBER),
    "config?": {},
    "provenance?": Maybe(TEXT),
}
# Without which a run cannot go on.
RESUMED = NOTES | {"best": Maybe(NUMBER), "stale": COUNT, "spent_s": Each(NUMBER)}
# What of a data set's provenance decides what a network sees.
DECIDING = ("content_sha256", "peaks", "normalization", "scaling", "pad_value")
# What may differ between a run and its continuation without making it another run.
FREE = (
    "name",
    "parallel",
    "data.dir",
    "data.loader",
    "train.steps",
    "train.epochs",
    "train.steps_per_call",
    "train.eval_every",
    "train.checkpoint_every",
    "train.image_every",
    "train.patience",
    "test.norm_at_test",
    "test.dropout_at_test",
)


def check_same_run(run_dir: str | os.PathLike, config: ConfigDict) -> None:
    """Refuses to continue a run with another configuration or other data.

    Args:
        run_dir: The run's folder; one without `config.json` is fine.
        config: What is asked for.

    Raises:
        InputError: a value differs that would make it another run.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        return
    before = configs.load_config(path)
    for name in configs.differences(before, config):
        if name not in FREE:
            old, new = configs.value(before, name), configs.value(config, name)
            why = f"is {old!r} in the run that is there, {new!r} was asked for"
            hint = f"another --workdir, or --config={path} to continue"
            raise InputError(path, name, why, hint)
    _check_same_data(Path(run_dir) / "provenance.json", Path(config.data.dir) / "provenance.json")


def _check_same_data(before: Path, now: Path) -> None:
    """Refuses data whose content, or how it is scaled, is not that of the run's."""
    if not (before.is_file() and now.is_file()):
        return
    old, new = (_object(path) for path in (before, now))
    for name in DECIDING:
        if old.get(name) != new.get(name):
            why = "these are not the data of the run that is there"
            raise InputError(now, name, why, "another --workdir, or the run's own data")


def _object(path: Path) -> dict[str, Any]:
    record = io_safety.read_json(path)
    check_json(path, record, {})
    return record


def provenance_digest(run_dir: str | os.PathLike) -> str | None:
    """Returns the SHA-256 of a run's `provenance.json`; None where it has none."""
    path = Path(run_dir) / "provenance.json"
    return io_safety.sha256(path) if path.is_file() else None


def check_provenance(run_dir: str | os.PathLike, notes: dict[str, Any]) -> list[str]:
    """Compares a run's `provenance.json` with the digest in a checkpoint's notes.

    Args:
        run_dir: The run's folder.
        notes: Of a checkpoint.

    Returns:
        A line where the checkpoint is of a version that kept no digest; else nothing.

    Raises:
        InputError: it is not the file that the checkpoint was made with.
    """
    path, expected = Path(run_dir) / "provenance.json", notes.get("provenance")
    if expected is None:
        why = "its checkpoints, of an earlier version, hold no digest of it: changes go unnoticed"
        return [f"{path}: {why}"]
    if provenance_digest(run_dir) not in (None, expected):
        why = "differs from the one that the checkpoint was made with"
        raise InputError(path, "", why, "put the run's own provenance.json back")
    return []


def check_same_network(path: Path, config: ConfigDict, made_with: dict[str, Any]) -> None:
    """Refuses a `config.json` that is not the one its checkpoint was made with."""
    before = configs.config_of(made_with, path)
    for name in configs.differences(before, config):
        if name not in FREE:
            old, new = configs.value(before, name), configs.value(config, name)
            why = f"is {new!r}, the checkpoint was made with {old!r}"
            raise InputError(path, name, why, "put the run's own config.json back")
