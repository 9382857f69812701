"""Reading ahead and writing behind in threads, so that a device need not wait for either."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()
_WAITING = 2  # what may wait to be written: each is a whole section in memory


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yields items in their order; the next is made in a thread while one is worked on."""
    with ThreadPoolExecutor(1, "read_ahead") as pool:
        source = iter(items)
        coming = pool.submit(next, source, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, source, _END)
            yield item


@contextlib.contextmanager
def written_behind(done: Callable[[Any], object]) -> Iterator[Callable[..., None]]:
    """Yields `submit(write, *arguments)`, which returns at once unless two writes wait already.

    Writes are done one by one in their order. What one raises is raised by a later `submit` or at
    the end; those after it that have begun are finished.

    Args:
        done: Called in this thread, in order, with what each write returned.
    """
    waiting: collections.deque = collections.deque()
    with ThreadPoolExecutor(1, "write_behind") as pool:

        def submit(write: Callable, *arguments: Any) -> None:
            while len(waiting) >= _WAITING:
                done(waiting.popleft().result())
            waiting.append(pool.submit(write, *arguments))

        try:
            yield submit
            while waiting:
                done(waiting.popleft().result())
        finally:
            for each in waiting:
                each.cancel()
