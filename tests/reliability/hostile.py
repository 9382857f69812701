"""Processor time and memory of every test in tests/hostile, each by itself."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import time

import pytest
import rounds

TESTS = pathlib.Path(__file__).resolve().parents[1] / "hostile"
MOST_S, MOST_MB = 2.0, 1000.0
# Not one file each: thousands of mutants, and a compiler's work for a run's weights.
LEFT_OUT = ("test_imzml_mutants.py",)


class Costs:
    """A pytest plugin that measures the calls of tests, without what their fixtures take."""

    def __init__(self):
        self.found: dict[str, tuple[float, float]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Measures one test; peak memory is counted from where it stood."""
        gc.collect()
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
        before, begin = _kb("VmRSS"), time.process_time()
        try:
            return (yield)
        finally:
            spent = time.process_time() - begin
            self.found[item.nodeid] = (spent, (_kb("VmHWM") - before) / 1024)


def _kb(name: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))


def campaign(count: int, seed: int, folder: pathlib.Path) -> dict:
    """Runs all tests of hostile files in one process; `count` and `seed` do not matter."""
    told = folder / "told.json"
    ignored = [f"--ignore={TESTS / name}" for name in LEFT_OUT]

    def measured() -> int:
        os.chdir(TESTS.parents[1])
        costs = Costs()
        quiet = ["-q", "-p", "no:cacheprovider"]
        code = int(pytest.main([str(TESTS), *ignored, *quiet], plugins=[costs]))
        told.write_text(json.dumps(costs.found))
        return code

    if rounds.run(measured, folder / "log", limit_s=1800):
        raise RuntimeError((folder / "log").read_text()[-3000:])
    found = json.loads(told.read_text())
    slowest = max(found, key=lambda name: found[name][0])
    largest = max(found, key=lambda name: found[name][1])
    faults = [
        f"{name}: {seconds:.2f} s, {mb:.0f} MB"
        for name, (seconds, mb) in found.items()
        if seconds > MOST_S or mb > MOST_MB
    ]
    return {
        "tests": len(found),
        "slowest_cpu_s": round(found[slowest][0], 3),
        "slowest": slowest,
        "most_mb": round(found[largest][1], 1),
        "most_memory": largest,
        "faults": faults,
    }
