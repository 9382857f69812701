"""How levels of hardness are written and read, and the table in docs/simulation.md."""

import dataclasses
import pathlib

import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.phantom.hardness import (
    KNOBS,
    PRESETS,
    Hardness,
    hardness_table,
    parse_hardness,
)


def test_presets_and_levels_are_read():
    assert parse_hardness("") == parse_hardness("none") == Hardness()
    assert parse_hardness("pen=1, warp=0.5") == Hardness(pen=1.0, warp=0.5)
    hard = parse_hardness("hard,pen=0")
    assert hard.pen == 0 and hard == dataclasses.replace(PRESETS["hard"], pen=0.0)
    for knob in KNOBS:
        levels = [getattr(preset, knob) for preset in PRESETS.values()]
        assert levels == sorted(levels) and levels[-1] > 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("hrad", "did you mean hard?"),
        ("pens=1", "did you mean pen?"),
        ("pen", "write pen=0.5"),
        ("pen=1.5", "not a level in [0, 1]"),
        ("pen=-0.1", "not a level"),
        ("pen=nan", "not a level"),
        ("pen=", "not a level"),
        ("=1", "known:"),
    ],
)
def test_mistakes_are_one_line(text, word):
    with pytest.raises(InputError) as error:
        parse_hardness(text)
    assert word in str(error.value) and "--hardness" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_docs_hold_the_table():
    page = (pathlib.Path(__file__).parents[2] / "docs/simulation.md").read_text()
    start, end = page.index("hardness_table() -->\n"), page.index("<!-- end of knobs -->")
    assert page[start:end].partition("\n")[2].strip() == hardness_table().strip()
