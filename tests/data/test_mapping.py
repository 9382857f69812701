"""The ordered map: the same results in the same order wherever the work is done."""

import operator
import os
import signal
import sys
import time
from concurrent.futures import CancelledError

import pytest

from msi2he_jax.data import mapping
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
    with mapping.open_map() as each:
        results = each(operator.neg, (taken.append(i) or i for i in range(9)))
        assert next(results) == 0 and taken == [0]
        assert list(results) == [-i for i in range(1, 9)]


def test_a_pool_keeps_the_order_and_bounds_what_is_under_way():
    taken = []
    with mapping.open_map(2) as each:
        results = each(square_slowly, (taken.append(i) or i for i in range(40)))
        assert next(results) == 0
        assert len(taken) <= 8
        assert list(results) == [i * i for i in range(1, 40)]


def test_a_caller_who_stops_cancels_the_rest():
    with pytest.raises(KeyError), mapping.open_map(2) as each:
        for _ in each(time.sleep, [0.0] + [60.0] * 20):
            raise KeyError("enough")


def test_an_input_error_crosses_processes_as_its_parts():
    with pytest.raises(InputError) as caught, mapping.open_map(2) as each:
        list(each(refuse, [7]))
    error = caught.value
    assert (error.path, error.field) == ("file.imzML", "spectrum 7")
    assert str(error) == "file.imzML: spectrum 7: is damaged (copy it again)"


def test_a_process_that_is_killed_is_one_line():
    with pytest.raises(InputError) as caught, mapping.open_map(2) as each:
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
    monkeypatch.setattr(mapping, "CONNECT_S", 0.5)
    with pytest.raises(InputError) as caught, mapping.open_map(scheduler=address):
        pass
    assert str(caught.value) == (
        f"{address}: scheduler: {why} (start it with: dask scheduler, and write its address as "
        "tcp://host:8786)"
    )


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError) as caught, mapping.open_map(scheduler="tcp://head:8786"):
        pass
    assert str(caught.value) == (
        "--scheduler: needs the package distributed (pip install 'msi2he_jax[dask]')"
    )


def test_a_scheduler_that_is_lost_is_one_line():
    with pytest.raises(InputError) as caught, mapping._said_plainly("tcp://head:8786"):
        raise CancelledError("lost dependencies")
    assert str(caught.value) == (
        "tcp://head:8786: scheduler: was lost (the same command continues once it is back)"
    )
