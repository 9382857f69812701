"""Sections of patients whom a generator was trained on are refused, however they are spelt."""

from pathlib import Path

import pytest

from msi2he_jax.coregistration.section_choice import choose_sections, refuse_training
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError

TRAINED = {"samples": [{"sample_id": "s_1", "group_id": "P-07", "split": "train"}]}


@pytest.fixture
def section(tmp_path):
    (tmp_path / "a.imzML").write_text("x")
    return lambda name, group: Sample(name, group, tmp_path / "a.imzML", Path("a.png"))


@pytest.mark.parametrize("group", ["P-07", "p\u201307", "P_07"])
def test_a_patient_of_the_training_data(section, group):
    with pytest.raises(InputError, match="was trained on x or on its patient"):
        refuse_training([section("x", group)], TRAINED, "run")


def test_a_sample_of_the_training_data(section):
    with pytest.raises(InputError, match="was trained on S 1 or"):
        refuse_training([section("S 1", "other")], TRAINED, "run")


def test_a_patient_who_may_be_one_of_the_training_data(section):
    with pytest.raises(InputError, match="patient 'P-07', who may be 'P7', the patient of x"):
        refuse_training([section("x", "P7")], TRAINED, "run")
    refuse_training([section("x", "P8")], TRAINED, "run")


def test_the_runs_split_holds_for_a_sample_spelt_otherwise(section):
    samples = [section("S-1", "p"), section("other", "q")]
    provenance = {"samples": [{"sample_id": "s_1", "group_id": "p", "split": "test"}]}
    assert choose_sections(samples, provenance, None, [], "m.csv") == samples[:1]
