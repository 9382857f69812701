"""Says on stderr how far slow work is: `section 3 of 24, about 4 min left`.

A terminal gets one line that is rewritten; a file or a pipe gets whole lines, one every half
minute. Work that is done within two seconds says nothing, and neither does `--quiet`.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

SILENT_S = 2.0  # What takes less needs no sign of life.
REWRITTEN_S = 0.5  # Of the line on a terminal.
LINE_S = 30.0  # From one line of a log to the next.
_LEAST_S = 0.5  # A shorter time predicts nothing.


class Progress:
    """How far the work of one verb is, shown on a stream.

    Args:
        stream: Where to; a terminal is told by `isatty`.
        clock: Seconds that only grow.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._begun, self._last = clock(), None
        self._stage, self._stage_begun = ("", 0), self._begun
        self._first, self._done, self._more = 0, 0, ""
        self._shown = ""  # What stands on the terminal's line.
        self._lock, self._ended, self._thread = threading.RLock(), threading.Event(), None

    def tell(
        self, what: str, done: int = 0, total: int = 0, more: str = "", *, ready: int = 0
    ) -> None:
        """Says how far a stage of the work is; a new `what` or `total` begins a stage.

        Args:
            what: What is counted, in the singular, such as `section`.
            done: How many are finished.
            total: Of how many; 0 where nothing is counted, and `what` says what is done.
            more: Said behind, such as the name of the one in work.
            ready: How many of those finished took no time, since an earlier run left them.
        """
        with self._lock:
            if (what, total) != self._stage or done < self._done:
                self._stage, self._stage_begun = (what, total), self._clock()
                self._first = done
            self._first = max(self._first, ready)
            self._done, self._more = done, more
            self.show()
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_showing, daemon=True)
                with contextlib.suppress(RuntimeError):  # Where no thread can be had.
                    self._thread.start()

    def show(self) -> None:
        """Shows the line if it is due; a thread calls this as well, while a long step runs."""
        with self._lock:
            now = self._clock()
            pause = REWRITTEN_S if self._terminal else LINE_S
            early = now - self._begun < SILENT_S
            if early or (self._last is not None and now - self._last < pause):
                return
            self._last = now
            line = self._line(now)
            if self._terminal:
                line = line[: shutil.get_terminal_size().columns - 1]
                self._write("\r" + line.ljust(len(self._shown)))
                self._shown = line
            else:
                self._write(line + "\n")

    def clear(self) -> None:
        """Empties the terminal's line, so that another can be printed there."""
        with self._lock:
            if self._shown:
                self._write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""

    def end(self) -> None:
        """Ends all showing."""
        self._ended.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self.clear()

    def _line(self, now: float) -> str:
        what, total = self._stage
        left, fresh = total - self._done, self._done - self._first
        spent = now - self._stage_begun
        when = f"{duration(spent)} so far"
        if fresh > 0 and spent > _LEAST_S:
            when = f"about {duration(left * spent / fresh)} left" if left > 0 else "finishing"
        count = f" {min(self._done + 1, total)} of {total}" if total else ""
        words = [what + count, self._more, when]
        return ", ".join(filter(None, words))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # Closed: nobody looks.
            self._ended.set()

    def _keep_showing(self) -> None:
        while not self._ended.wait(REWRITTEN_S):
            self.show()


_current: Progress | None = None  # Of the verb that runs.


@contextlib.contextmanager
def shown(*, quiet: bool = False) -> Iterator[None]:
    """Makes `tell` and `clear` speak on stderr while a verb runs; not where it is to be quiet."""
    global _current
    before, _current = _current, None
    if not quiet and sys.stderr is not None:
        _current = Progress(sys.stderr)
    try:
        yield
    finally:
        if _current is not None:
            _current.end()
        _current = before


def tell(what: str, done: int = 0, total: int = 0, more: str = "", *, ready: int = 0) -> None:
    """Does as `Progress.tell` for the verb that runs; nothing where none does."""
    if _current is not None:
        _current.tell(what, done, total, more, ready=ready)


def clear() -> None:
    """Makes room for a line that is printed between."""
    if _current is not None:
        _current.clear()


def duration(seconds: float) -> str:
    """Returns a time in words, as exact as a forecast is: `40 s`, `4 min`, `2.5 h`, `3 d`.

    Example:
        >>> duration(40), duration(250), duration(9000)
        ('40 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"
