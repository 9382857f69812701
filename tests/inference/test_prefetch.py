"""Reading ahead and writing behind: order kept, faults raised, at most two waiting."""

import threading

import pytest

from msi2he_jax.inference import prefetch


def test_the_next_item_is_made_while_one_is_worked_on():
    """Its maker gets on before the first is given back: else this would wait for ever."""
    begun = threading.Event()

    def items():
        yield 1
        begun.set()
        yield 2

    found = []
    for item in prefetch.read_ahead(items()):
        assert begun.wait(10)
        found.append(item)
    assert found == [1, 2] and list(prefetch.read_ahead([])) == []


def test_a_fault_of_the_reader_comes_where_its_item_would():
    def items():
        yield 1
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        for item in prefetch.read_ahead(items()):
            found.append(item)
    assert found == [1]


def test_writes_are_behind_in_order_and_few():
    """Two may wait; the third waits for the first."""
    let, written, done = threading.Event(), [], []

    def write(number):
        let.wait(10)
        written.append(number)
        return number

    with prefetch.written_behind(done.append) as submit:
        submit(write, 0)
        submit(write, 1)
        assert written == [] and done == []
        let.set()
        for number in range(2, 6):
            submit(write, number)
            assert done == list(range(number - 1))
    assert written == done == list(range(6))


def test_a_fault_of_a_write_is_raised():
    def fail():
        raise OSError("full")

    done = []
    with pytest.raises(OSError, match="full"), prefetch.written_behind(done.append) as submit:
        submit(lambda: 1)
        submit(fail)
    assert done == [1]
    with pytest.raises(OSError, match="full"), prefetch.written_behind(done.append) as submit:
        submit(fail)
        submit(lambda: 2)
        submit(lambda: 3)
        raise AssertionError("not reached")
