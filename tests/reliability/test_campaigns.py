"""Each campaign, a few rounds of it: what docs/reliability.md tells of is run by hand in full."""

import importlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

CAMPAIGNS = pathlib.Path(__file__).with_name("campaigns.py")


def test_the_page_is_what_its_promises_and_figures_write():
    """An edit of the page alone would be lost with the next figures."""
    docs = CAMPAIGNS.parents[2] / "docs"
    page = importlib.import_module("tests.reliability.promises").page
    known = json.loads((docs / "reliability.json").read_text())
    assert (docs / "reliability.md").read_text() == page(known)
    assert all(f"`{name}`" in page(known) for name in known)


def campaign(name: str, count: int) -> dict:
    words = [sys.executable, str(CAMPAIGNS), name, f"--count={count}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_mutants():
    result = campaign("mutants", 20_000)
    known = ("refused", "unchanged", "read otherwise")
    assert sum(result[name] for name in known) == 20_000
    assert result["refused"] > 10_000


@pytest.mark.slow
def test_bit_flips():
    assert campaign("bit_flips", 40)["found"] == 40


@pytest.mark.slow
def test_kill_training():
    assert campaign("kill_training", 2)["killed"] == 2


@pytest.mark.slow
def test_kill_build():
    result = campaign("kill_build", 3)
    assert result.get("nothing left", 0) + result.get("whole", 0) == 3


@pytest.mark.slow
def test_locks():
    result = campaign("locks", 2)
    assert result["equal data"] == result["equal weights"] == 1 and not result["left"]


@pytest.mark.slow
def test_signals():
    assert campaign("signals", 2)["stops"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler to make writes fail with")
def test_full_disk():
    result = campaign("full_disk", 2)
    assert min(result[part]["writes"] for part in ("training", "build")) > 20


@pytest.mark.slow
def test_json_types():
    result = campaign("json_types", 30)
    assert result["cases"] > 200 and result["refused"] > 50
