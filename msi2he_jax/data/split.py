"""Divides samples into train, validation and test; nothing of a patient is in two of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence

import numpy as np

from msi2he_jax.data.manifest import Roi, Sample
from msi2he_jax.data.patients import alike_key, name_key
from msi2he_jax.errors import InputError

SPLITS = ("train", "validation", "test")
VALIDATION_PART, TEST_PART = 0.1, 0.2


def assign_splits(
    samples: Sequence[Sample],
    seed: int = 0,
    *,
    manifest: str | os.PathLike = "manifest",
    force: bool = False,
) -> dict[str, str]:
    """Chooses a split for every sample: 70/10/20 of the groups, drawn with the seed.

    A group is all of one patient, with whatever overlaps it in an imzML file or on a slide. One
    patient is who has the same name by `patients.name_key`; names that are alike are kept together
    too. Splits that the manifest gives stand, and hold for the rest of their group. With three
    groups or more none is empty; two become train and test, one becomes train. The order of the
    samples does not matter.

    Args:
        samples: All samples of the cohort.
        seed: Fixes the draw.
        manifest: Named in messages.
        force: Takes names that are alike, but not the same, as several patients.

    Returns:
        Split by sample_id.

    Raises:
        InputError: the manifest puts samples of one group into two splits.
    """
    groups = _groups(samples, name_key)
    given = {name: _given_split(members, manifest) for name, members in groups.items()}
    if not force:
        groups = _groups(samples, alike_key)
        given = {n: _given_split(members, manifest, alike=True) for n, members in groups.items()}
    free = sorted(name for name, split in given.items() if split is None)
    np.random.default_rng(seed).shuffle(free)
    taken = list(given.values())
    for split, wanted in _wanted(len(groups)).items():
        missing = min(len(free), max(0, wanted - taken.count(split)))
        given |= dict.fromkeys(free[:missing], split)
        free = free[missing:]
    given |= dict.fromkeys(free, "train")
    return {s.sample_id: given[name] for name, members in groups.items() for s in members}


def no_train(manifest: str | os.PathLike) -> InputError:
    """Says that nothing is left to train on."""
    return InputError(manifest, "split", "the train split is empty", "peaks are chosen from it")


def empty_split_warnings(splits: Collection[str]) -> list[str]:
    """Says in words which splits got nothing, and why.

    Args:
        splits: Of all samples.
    """
    empty = [split for split in SPLITS if split not in splits]
    said = (
        f"nothing for {' and '.join(empty)}: a split needs three patients whose sections "
        "share neither file nor slide (or regions of them that do not overlap)"
    )
    return [said] if empty else []


def _wanted(groups: int) -> dict[str, int]:
    """How many groups test and validation should have; train takes the others."""
    if groups < 3:
        return {"test": groups - 1, "validation": 0}
    share = {"test": TEST_PART, "validation": VALIDATION_PART}
    return {split: max(1, round(part * groups)) for split, part in share.items()}


def _groups(samples: Sequence[Sample], key: Callable[[str], str]) -> dict[str, list[Sample]]:
    """Joins samples that share a patient or measured area; keyed by the least sample_id."""
    ordered = sorted(samples, key=lambda s: s.sample_id)
    label = {s.sample_id: s.sample_id for s in ordered}
    for sharing in _sharing(ordered, key):
        for i, one in enumerate(sharing):
            for two in sharing[i + 1 :]:
                if label[one[0].sample_id] != label[two[0].sample_id] and _overlap(one[1], two[1]):
                    _join(label, one[0].sample_id, two[0].sample_id)
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(label[sample.sample_id], []).append(sample)
    return groups


def _sharing(
    samples: list[Sample], key: Callable[[str], str]
) -> list[list[tuple[Sample, Roi | None]]]:
    """Lists the samples of each patient, imzML file and slide, with the region they take of it."""
    by_key: dict[tuple, list] = {}
    for sample in samples:
        by_key.setdefault(("group", key(sample.group_id)), []).append((sample, None))
        for path, roi in ((sample.imzml, sample.msi_roi), (sample.histology, sample.histology_roi)):
            by_key.setdefault(("file", path.resolve()), []).append((sample, roi))
    return list(by_key.values())


def _overlap(one: Roi | None, two: Roi | None) -> bool:
    """Whether two regions share a pixel; None is the whole file."""
    if one is None or two is None:
        return True
    return all(
        one[axis] < two[axis] + two[axis + 2] and two[axis] < one[axis] + one[axis + 2]
        for axis in (0, 1)
    )


def _join(label: dict[str, str], one: str, two: str) -> None:
    keep, drop = sorted((label[one], label[two]))
    for name, value in label.items():
        if value == drop:
            label[name] = keep


def _given_split(
    members: list[Sample], manifest: str | os.PathLike, alike: bool = False
) -> str | None:
    """Returns the one split that the manifest gives a group, or None."""
    given = {s.split: s for s in members if s.split}
    if len(given) > 1 and alike:
        (one, a), (two, b) = _most_alike(members)
        why = f"{a.sample_id} ({one}) and {b.sample_id} ({two}) may be of one patient, spelt "
        why += f"{a.group_id!r} and {b.group_id!r}"
        hint = "write one name in one way and give it one split, or pass --force if they are two"
        raise InputError(manifest, "group_id", why, hint)
    if len(given) > 1:
        (one, a), (two, b) = sorted(given.items())[:2]
        why = f"{a.sample_id} ({one}) and {b.sample_id} ({two}) share a patient or measured area"
        raise InputError(manifest, "split", why, "put them into one split, or leave it empty")
    return next(iter(given), None)


def _most_alike(members: list[Sample]) -> tuple[tuple[str, Sample], tuple[str, Sample]]:
    """Picks two samples of different splits, of names that are alike where there are such."""
    parted = sorted((s for s in members if s.split), key=lambda s: (s.split, s.sample_id))
    pairs = [(a, b) for a in parted for b in parted if a.split < b.split]
    a, b = min(pairs, key=lambda p: alike_key(p[0].group_id) != alike_key(p[1].group_id))
    return (a.split, a), (b.split, b)
