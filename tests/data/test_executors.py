"""The ordered map: the same results in the same order wherever the work is done."""

import contextlib
import functools
import operator
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError

import pytest

from msi2he_jax import locking
from msi2he_jax.data import executors
from msi2he_jax.errors import InputError


def square_slowly(number):
    time.sleep(0.02 * (number % 3))
    return number * number


def refuse(number):
    raise InputError("file.imzML", f"spectrum {number}", "is damaged", "copy it again")


def end(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_in_this_process_items_are_taken_when_asked_for():
    taken = []
    with executors.open_map() as each:
        results = each(operator.neg, (taken.append(i) or i for i in range(9)))
        assert next(results) == 0 and taken == [0]
        assert list(results) == [-i for i in range(1, 9)]


def test_a_pool_keeps_the_order_and_bounds_what_is_under_way():
    taken = []
    with executors.open_map(2) as each:
        results = each(square_slowly, (taken.append(i) or i for i in range(40)))
        assert next(results) == 0
        assert len(taken) <= 8
        assert list(results) == [i * i for i in range(1, 40)]


def test_a_caller_who_stops_cancels_the_rest():
    with pytest.raises(KeyError), executors.open_map(2) as each:
        for _ in each(time.sleep, [0.0] + [60.0] * 20):
            raise KeyError("enough")


def test_an_input_error_crosses_processes_as_its_parts():
    with pytest.raises(InputError) as caught, executors.open_map(2) as each:
        list(each(refuse, [7]))
    error = caught.value
    assert (error.path, error.field) == ("file.imzML", "spectrum 7")
    assert str(error) == "file.imzML: spectrum 7: is damaged (copy it again)"


def test_a_process_that_is_killed_is_one_line():
    with pytest.raises(InputError) as caught, executors.open_map(2) as each:
        list(each(end, range(5)))
    assert str(caught.value) == (
        "--workers: one of the processes was ended by the system, perhaps for want of memory "
        "(try fewer; what was finished is kept)"
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("head", "is not an address"),
        ("head:8786", "is not an address"),
        ("tcp://head", "is not an address"),
        ("tcp://127.0.0.1:1", "cannot be reached within 0.5 s"),
    ],
)
def test_no_scheduler_is_one_line(monkeypatch, address, why):
    monkeypatch.setattr(executors, "CONNECT_S", 0.5)
    with pytest.raises(InputError) as caught, executors.open_map(scheduler=address):
        pass
    assert str(caught.value) == (
        f"{address}: scheduler: {why} (start it with: dask scheduler, and write its address as "
        "tcp://host:8786)"
    )


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError) as caught, executors.open_map(scheduler="tcp://head:8786"):
        pass
    assert str(caught.value) == (
        "--scheduler: needs the package distributed (pip install 'msi2he_jax[dask]')"
    )


def test_a_scheduler_that_is_lost_is_one_line():
    with pytest.raises(InputError) as caught, executors._said_plainly("tcp://head:8786"):
        raise CancelledError("lost dependencies")
    assert str(caught.value) == (
        "tcp://head:8786: scheduler: was lost (the same command continues once it is back)"
    )


PARENT = """
import time
from msi2he_jax import locking
from msi2he_jax.data import executors
if __name__ == "__main__":
    with executors.open_map(2) as each:
        results = each(time.sleep, [0, 0] + [60] * 8)
        next(results), next(results)
        print("working", flush=True)
        list(results)
"""


def _children(parent):
    """Processes whose parent is this one, by number; whoever has ended is none."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[1] == str(parent) and fields[0] not in "ZX":
                found.add(int(path.parent.name))
    return found


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=-1, text=True) as parent:
        assert parent.stdout.readline() == "working\n"
        started = _children(parent.pid)
        assert len(started) == 3  # Two workers and the tracker of what they share.
        parent.kill()
    left = started
    for _ in range(100):
        left = {pid for pid in left if locking._start_of(pid)}
        if not left:
            return
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"{len(left)} of {len(started)} were alive 10 s later")


class _Late:
    """A task that ends while it is asked for: the wait is over first."""

    def __init__(self, status, outcome):
        self.status, self._outcome, self._asked = status, outcome, 0

    def result(self, timeout=None):
        self._asked += 1
        if self._asked == 1:
            raise TimeoutError
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def test_a_task_that_ends_while_it_is_asked_for_is_no_fault():
    said = []
    wait = functools.partial(executors._wait_for, lambda: 1, "tcp://x", said.append)
    assert wait(_Late("finished", 7)) == 7
    with pytest.raises(TimeoutError, match="its own"):
        wait(_Late("error", TimeoutError("its own")))
    assert said == []
