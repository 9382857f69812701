"""Splits: by patient, seeded, of the right sizes, and never two of one patient apart."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.split import _overlap, assign_splits
from msi2he_jax.errors import InputError


def _samples(groups, **changes):
    return [
        Sample(f"s{i}", f"p{group}", Path(f"{i}.imzML"), Path(f"{i}.png"), **changes)
        for i, group in enumerate(groups)
    ]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=40), st.integers(0, 100), st.randoms())
def test_groups_stay_together_and_order_does_not_matter(groups, seed, random):
    samples = _samples(groups)
    splits = assign_splits(samples, seed)
    assert set(splits) == {s.sample_id for s in samples}
    by_group = {
        g: {splits[s.sample_id] for s in samples if s.group_id == g}
        for g in {s.group_id for s in samples}
    }
    assert all(len(found) == 1 for found in by_group.values())
    if len(by_group) >= 3:
        assert set(splits.values()) == {"train", "validation", "test"}
    shuffled = samples[:]
    random.shuffle(shuffled)
    assert assign_splits(shuffled, seed) == splits


def test_seventy_ten_twenty():
    splits = assign_splits(_samples(range(111)), 0)
    assert Counter(splits.values()) == {"train": 78, "validation": 11, "test": 22}


def test_seed_changes_the_draw():
    samples = _samples(range(20))
    assert assign_splits(samples, 0) == assign_splits(samples, 0) != assign_splits(samples, 1)


def test_few_groups():
    assert assign_splits(_samples([1, 1])) == {"s0": "train", "s1": "train"}
    assert sorted(assign_splits(_samples([1, 2])).values()) == ["test", "train"]


def test_given_splits_stand_and_hold_for_their_group():
    samples = _samples([1, 1, 2, 3, 4, 5])
    samples[0] = dataclasses.replace(samples[0], split="test")
    for seed in range(5):
        splits = assign_splits(samples, seed)
        assert splits["s0"] == splits["s1"] == "test"
        assert Counter(splits.values()) == {"train": 3, "test": 2, "validation": 1}


def test_all_given():
    given_splits = ["train", "validation", "test", "test"]
    samples = [dataclasses.replace(s, split=g) for s, g in zip(_samples(range(4)), given_splits)]
    assert list(assign_splits(samples).values()) == given_splits


def test_a_group_given_two_splits_is_refused():
    first, second = _samples([1, 1])
    samples = [dataclasses.replace(first, split="train"), dataclasses.replace(second, split="test")]
    with pytest.raises(InputError) as caught:
        assign_splits(samples)
    assert str(caught.value) == (
        "manifest: split: s1 (test) and s0 (train) share a patient or measured area "
        "(put them into one split, or leave it empty)"
    )


def test_one_file_under_two_patients_stays_together():
    samples = [dataclasses.replace(s, imzml=Path("same.imzML")) for s in _samples([1, 2, 3])]
    assert set(assign_splits(samples).values()) == {"train"}


def test_regions_of_one_file_apart_may_part():
    """A tissue microarray: many patients in one run and on one slide."""
    samples = [
        dataclasses.replace(
            s,
            imzml=Path("tma.imzML"),
            msi_roi=(10 * i, 0, 10, 10),
            histology=Path("tma.svs"),
            histology_roi=(0, 100 * i, 100, 100),
        )
        for i, s in enumerate(_samples([1, 2, 3]))
    ]
    assert len(set(assign_splits(samples).values())) == 3
    touching = dataclasses.replace(samples[1], msi_roi=(9, 9, 10, 10))
    splits = assign_splits([samples[0], touching, samples[2]])
    assert splits["s0"] == splits["s1"]


@settings(max_examples=300, deadline=None)
@given(*[st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 4)] * 2)] * 2)
def test_regions_overlap_where_they_share_a_pixel(one, two):
    grids = np.zeros((2, 8, 8), bool)
    for grid, (x, y, width, height) in zip(grids, (one, two)):
        grid[y : y + height, x : x + width] = True
    assert _overlap(one, two) == (grids[0] & grids[1]).any()
    assert _overlap(one, None) and _overlap(None, one) and _overlap(None, None)


def test_the_seed_is_0_unless_told():
    samples = _samples(range(30))
    assert assign_splits(samples) == assign_splits(samples, seed=0) != assign_splits(samples, 1)


def test_a_group_given_three_splits_is_refused():
    splits = ("train", "validation", "test")
    samples = [dataclasses.replace(s, split=g) for s, g in zip(_samples([1, 1, 1]), splits)]
    with pytest.raises(InputError, match=r"s2 \(test\) and s0 \(train\) share a patient"):
        assign_splits(samples)


SPELLINGS = [("P-07", "p\u201307"), ("7", "007"), ("Ren\u00e9", "Rene\u0301"), ("P7", "P07")]


@pytest.mark.parametrize("pair", SPELLINGS)
def test_a_patient_of_two_spellings_is_never_parted(pair):
    samples = [dataclasses.replace(s, group_id=g) for s, g in zip(_samples([0, 0]), pair)]
    others = [dataclasses.replace(s, sample_id=f"o{s.sample_id}") for s in _samples(range(8))]
    for seed in range(20):
        splits = assign_splits([*samples, *others], seed)
        assert splits["s0"] == splits["s1"]


def test_one_patient_in_two_splits_is_refused_however_it_is_spelt():
    one, two = _samples([1, 1])
    one = dataclasses.replace(one, group_id="P-07", split="train")
    same = [one, dataclasses.replace(two, group_id="p_07", split="test")]
    with pytest.raises(InputError, match=r"^m.csv: split: s1 \(test\) and s0 \(train\) share"):
        assign_splits(same, manifest="m.csv")
    with pytest.raises(InputError, match="share a patient"):
        assign_splits(same, force=True)
    alike = [one, dataclasses.replace(two, group_id="P7", split="test")]
    with pytest.raises(InputError) as caught:
        assign_splits(alike, manifest="m.csv")
    assert str(caught.value).startswith(
        "m.csv: group_id: s1 (test) and s0 (train) may be of one patient, spelt 'P7' and 'P-07' ("
    )
    assert assign_splits(alike, force=True) == {"s0": "train", "s1": "test"}
