"""The tiny cohort of the net still comes to what was stored."""

import importlib
import json

import pytest

golden = importlib.import_module("tests.revisions.golden")


@pytest.mark.slow
def test_the_line_comes_to_what_was_stored(tmp_path):
    """Another result on purpose: `python -m tests.revisions.golden --renew`, and say why."""
    stored, found = json.loads(golden.STORED.read_text()), golden.plain(golden.measure(tmp_path))
    assert len(stored) > 500
    assert not golden.unlike(stored, found)


def test_integers_and_names_are_exact_and_values_have_tolerances():
    stored = {"/profile/peaks/mz/0": 100.0, "/profile/counts/train": 2, "/profile/view": "pca"}
    assert not golden.unlike(stored, stored | {"/profile/peaks/mz/0": 100.0 + 1e-9})
    for other in ({"/profile/peaks/mz/0": 100.0 + 1e-7}, {"/profile/counts/train": 3}, {"/x/y": 0}):
        assert len(golden.unlike(stored, stored | other)) == 1
