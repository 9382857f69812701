"""SIGTERM and Ctrl-C as a request to stop at the next safe place; a second one stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the number of the signal received, or None so far."""
    received: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)

    def remember(number, _):
        if received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)

    # Python lets only the main thread set handlers; elsewhere whoever runs the thread stops it.
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, remember) for number in signals} if mine else {}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
