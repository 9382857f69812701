"""SIGTERM, SIGHUP and Ctrl-C ask to stop at the next safe place; a second one stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the number of the signal received, or None so far.

    A second signal ends the process at once, but for SIGHUP: a terminal that is closed sends two.
    """
    received: list[int] = []

    def remember(number: int) -> None:
        if received and number != signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)

    with handled(dict.fromkeys(SIGNALS, remember)):
        yield lambda: received[0] if received else None


@contextlib.contextmanager
def handled(handlers: dict[int, Callable[[int], None]]) -> Iterator[None]:
    """Calls a function with a signal's number when it comes, for a while.

    Only in the main thread: elsewhere Python sets no handlers, and whoever runs the thread stops
    it. What `nohup` has SIGHUP ignored for goes on ignoring it. Once SIGHUP has come, what is
    written to the terminal goes nowhere: it is gone, and writing would be an error.

    Args:
        handlers: What to call, by the number of the signal.
    """
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def handle(number, _):
        if number == signal.SIGHUP:
            _write_nowhere(terminals)
        handlers[number](number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in handlers:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_nowhere(descriptors: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
