"""One patient, spelt in several ways: the same, alike, or another."""

import itertools

import pytest

from msi2he_jax.data.patients import alike_key, name_key, one_spelling, spelling_warnings

SAME = [
    (
        "P-07",
        "p-07",
        "P\u201307",
        "P\u221207",
        "P_07",
        " P 07 ",
        "\uff30\uff0d\uff10\uff17",
        "p--07",
        "P\u02d707",
        "P\u204307",
        "P\u300007",
    ),
    (
        "Patient 7",
        "patient\u00a07",
        "Patient  7",
        "PATIENT_7",
        "Patient\u200b 7",
        "Patient\t7",
        "Patient\x017",
    ),
    ("\u2116 7", "NO 7", "no\u20287"),
    ("7", "7.0", "007", "7,00", "\uff17", "7."),
    ("Ren\u00e9", "Rene\u0301", "RENE\u0301"),
    ("Strau\u00df", "STRAUSS"),
]
ALIKE = [
    ("P7", "P07", "P-7", "p 007"),
    ("Jos\u00e9", "Jose"),
    ("Patient7", "Patient 7"),
    ("2020-01-05", "2020-1-5"),
    ("S01-1", "S1-01"),
]
APART = [("S1-11", "S11-1"), ("P7", "P70"), ("P7", "Q7"), ("7", "7.5"), ("1-1", "11"), ("0", "00a")]


@pytest.mark.parametrize("names", SAME)
def test_spellings_of_one_name(names):
    assert len({name_key(name) for name in names}) == 1
    assert one_spelling(names) == [names[0]] * len(names)
    (said,) = spelling_warnings(names)
    assert all(repr(name) in said for name in names) and said.endswith("are taken as one")


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_may_be_one(names):
    assert len({alike_key(name) for name in names}) == 1
    assert any(name_key(a) != name_key(b) for a, b in itertools.combinations(names, 2))
    assert any("may be one and stay in one split" in said for said in spelling_warnings(names))
    assert not any("may be" in said for said in spelling_warnings(names, force=True))


@pytest.mark.parametrize("names", APART)
def test_names_of_two_patients(names):
    assert len({alike_key(name) for name in names}) == len({name_key(name) for name in names}) == 2
    assert spelling_warnings(names) == [] and one_spelling(names) == list(names)


def test_what_is_the_same_is_alike():
    names = list(itertools.chain(*SAME, *ALIKE, *APART))
    for a, b in itertools.combinations(names, 2):
        assert name_key(a) != name_key(b) or alike_key(a) == alike_key(b)


def test_a_name_of_many_digits_is_a_name():
    """Python refuses to read such a number."""
    name = "9" * 5000
    assert name_key(name) == name and alike_key("p" + "0" * 5000) == "p0"
