"""The harness sets variants against the first one, and tables come out of records alone."""

import time

import pytest

from benchmarks import harness, report
from benchmarks.harness import Variant


def test_ratio_is_per_item():
    times = {"ours": [1.0, 1.0, 9.0], "theirs": [6.0, 6.0, 6.0]}
    variants = [Variant("ours", None, items=2), Variant("theirs", None, items=4, peer=True)]
    ours, theirs = harness._records(variants, {"ours": 3.0, "theirs": 0.1}, times)
    assert (ours["ratio"], theirs["ratio"]) == (1.0, 3.0)
    assert (ours["items_per_s"], ours["high_s"], ours["first_s"]) == (2.0, 9.0, 3.0)


def test_variants_take_turns(monkeypatch):
    monkeypatch.setattr(harness, "LEAST_S", 0.0)
    calls = []
    variants = [Variant(name, lambda name=name: calls.append(name)) for name in "ab"]
    harness.measure(variants, rounds=3)
    assert "".join(calls) == "ab" + "ababab"
    calls.clear()
    harness.measure(variants, rounds=3, warm_up=0)
    assert "".join(calls) == "ababab"


def test_short_calls_are_repeated_and_slow_ones_are_not(monkeypatch):
    monkeypatch.setattr(harness, "LEAST_S", 0.004)
    calls = []
    slow = Variant("slow", lambda: (calls.append("s"), time.sleep(0.01)))
    short = Variant("short", lambda: (calls.append("q"), time.sleep(0.001)))
    records = harness.measure([slow, short], rounds=2)
    assert calls.count("s") == 3 and calls.count("q") > 5
    assert all(record["low_s"] < 1 for record in records)


def test_tables_stand_between_markers():
    text = "x <!-- speed:begin -->old<!-- speed:end --> y"
    done = report.replace_between(text, "speed", "new")
    assert done == "x <!-- speed:begin -->\nnew\n<!-- speed:end --> y"
    with pytest.raises(ValueError):
        report.replace_between("no markers", "speed", "new")
