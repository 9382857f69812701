"""The one exception a user's mistake raises, so that every verb reports it alike."""

from __future__ import annotations

import os

_LONGEST = 2000  # Characters of one part of a message; what a file says can have any length.


class InputError(ValueError):
    """Something a user handed in is wrong.

    Args:
        path: The file, folder or flag that is wrong.
        field: The part of it: a column, key, tag or argument name; may be empty.
        why: What was found and what was expected, with units.
        hint: What to do about it; may be empty.
    """

    def __init__(self, path: str | os.PathLike, field: str, why: str, hint: str = ""):
        self.path = str(path)
        self.field = field
        self.why = why
        self.hint = hint
        super().__init__(self._message())

    def __reduce__(self):
        """Crosses to another process as its parts."""
        return type(self), (self.path, self.field, self.why, self.hint)

    def _message(self) -> str:
        parts = [one_line(part) for part in (self.path, self.field, self.why) if part]
        return ": ".join(parts) + (f" ({one_line(self.hint)})" if self.hint else "")


def one_line(text: str) -> str:
    """Escapes what could break a log line: newlines, terminal codes, bidirectional marks."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
