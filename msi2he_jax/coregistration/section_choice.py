"""Which sections of a manifest are registered, and which must not be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.patients import alike_key, name_key
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import sha256


def choose_sections(
    samples: Sequence[Sample],
    provenance: dict[str, Any] | None,
    split: str | None,
    names: Sequence[str],
    manifest: str | os.PathLike,
) -> list[Sample]:
    """Picks the sections to register.

    Args:
        samples: Of the manifest.
        provenance: Of the run, which recorded its split; None without a run.
        split: `test`, `all`, or None: the run's test split where there is a run, else all.
        names: Only these sample_ids; empty means no such limit, and they override `split`.
        manifest: What to name in an error.

    Returns:
        At least one sample, in the manifest's order.

    Raises:
        InputError: a name that is not in the manifest, or nothing left.
    """
    known = {sample.sample_id for sample in samples}
    for name in names:
        if name not in known:
            raise InputError("--samples", "", f"{name!r} is not in {manifest}")
    if names:
        return [sample for sample in samples if sample.sample_id in names]
    if split == "all" or (split is None and provenance is None):
        return list(samples)
    splits = _recorded_splits(provenance)
    chosen = [s for s in samples if splits.get(name_key(s.sample_id), s.split) == "test"]
    if not chosen:
        hint = "--split=all takes every section, --samples=NAME takes one"
        raise InputError(manifest, "split", "no section is in the test split", hint)
    return chosen


def _recorded_splits(provenance: dict[str, Any] | None) -> dict[str, str]:
    records = (provenance or {}).get("samples", [])
    return {name_key(record["sample_id"]): record["split"] for record in records}


def refuse_training(
    samples: Sequence[Sample], provenance: dict[str, Any], run: str | os.PathLike
) -> None:
    """Refuses sections of patients whom the generator was trained on.

    Args:
        samples: To be synthesised.
        provenance: Of the run.
        run: What to name in the error.

    Raises:
        InputError: a sample's patient, name or imzML was in the training split, or a patient whose
            name is alike.
    """
    seen = [r for r in provenance.get("samples", []) if r["split"] == "train"]
    names = {name_key(r["sample_id"]) for r in seen}
    groups = {name_key(r["group_id"]) for r in seen}
    alike = {alike_key(r["group_id"]): r["group_id"] for r in seen}
    hashes = {r.get("sha256", {}).get("imzml") for r in seen} - {None}
    hint = "register other sections, train without this patient, or pass --force"
    for sample in samples:
        same = name_key(sample.sample_id) in names or name_key(sample.group_id) in groups
        if same or sha256(sample.imzml) in hashes:
            why = f"was trained on {sample.sample_id} or on its patient, {sample.group_id}"
            raise InputError(run, "", why, hint)
        other = alike.get(alike_key(sample.group_id))
        if other is not None:
            why = f"was trained on patient {other!r}, who may be {sample.group_id!r}, the patient"
            raise InputError(run, "", f"{why} of {sample.sample_id}", hint)


def without_trained(
    samples: Sequence[Sample], provenance: dict[str, Any], run: str | os.PathLike
) -> tuple[list[Sample], list[tuple[Sample, InputError]]]:
    """Returns the sections that `refuse_training` lets pass, and the others with what it says."""
    chosen, trained = [], []
    for sample in samples:
        try:
            refuse_training([sample], provenance, run)
            chosen.append(sample)
        except InputError as error:
            trained.append((sample, error))
    return chosen, trained
