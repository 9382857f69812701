"""What every verb's command line shares: flags, help, and one line per user error.

Exit codes: 0 done, 1 a fault of the program, 2 a user's mistake (or a full disk), 75 stopped by
SIGTERM, 130 by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from msi2he_jax import io_safety
from msi2he_jax.errors import InputError

DONE, USER_ERROR, TERMINATED, INTERRUPTED = 0, 2, 75, 130
_LIMITS = "limits."


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a verb as Ctrl-C does, so that nothing is left half written."""


def new_flags() -> flags.FlagValues:
    """Returns a verb's own set of flags, so that several verbs can live in one process."""
    values = flags.FlagValues()
    flags.DEFINE_boolean(
        "help", False, "Print this help and exit.", short_name="h", flag_values=values
    )
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.", flag_values=values)
    for field in dataclasses.fields(io_safety.Limits):
        words = _limit_help(field.name)
        name = _LIMITS + field.name
        flags.DEFINE_integer(name, field.default, words, lower_bound=1, flag_values=values)
    return values


def _limit_help(name: str) -> str:
    """What the docstring of `Limits` says of one of them."""
    return re.search(rf"^ +{name}: (.+)$", io_safety.Limits.__doc__, re.MULTILINE)[1]


def verb(
    run: Callable[[flags.FlagValues, list[str]], int | None],
    values: flags.FlagValues,
    doc: str,
) -> Callable[[Sequence[str] | None], int]:
    """Makes a verb's `main(argv=None) -> exit code` from its `run(FLAGS, positional)`.

    Args:
        run: Does the work; raises InputError on a user's mistake; returns an exit code or None.
        values: The verb's flags, from `new_flags`.
        doc: The verb's module docstring, shown by --help.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        if {"--help", "-h", "-help", "--helpfull"} & set(words):
            return _guarded(lambda *_: print(help_text(values, doc)), values, [])
        return _guarded(run, values, words)

    return main


def _guarded(run: Callable, values: flags.FlagValues, words: list[str]) -> int:
    """Runs a verb; turns a user's mistake into one line and exit code 2."""
    debug = "--debug" in words
    try:
        values.unparse_flags()
        for name in values:
            values[name].unparse()
        positional = values(["verb", *(_as_defined(word, values) for word in words)])[1:]
        with io_safety.changed_limits(**_limits(values)), _ending_at_sigterm():
            code = run(values, positional) or DONE
        sys.stdout.flush()
        return code
    except Terminated:
        return _fail("stopped by SIGTERM; what was complete is kept", TERMINATED)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; what was complete is kept", INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (InputError, flags.Error, AttributeError, OSError, MemoryError) as error:
        if debug:
            raise
        message = user_message(error, values)
        if message is None:
            raise
        return _fail(message, USER_ERROR)


def _limits(values: flags.FlagValues) -> dict[str, int]:
    """The limits that were given."""
    names = [name for name in values if name.startswith(_LIMITS) and values[name].present]
    return {name.removeprefix(_LIMITS): values[name].value for name in names}


@contextlib.contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM, where this is the main thread."""

    def end(number, frame):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_defined(word: str, values: flags.FlagValues) -> str:
    """Spells a flag as its verb does: `-` and `_` inside a name are the same to the user."""
    name, *value = word.removeprefix("--").split("=", 1)
    for spelling in (name.replace("-", "_"), name.replace("_", "-")):
        if word.startswith("--") and name not in values and spelling in values:
            return "=".join([f"--{spelling}", *value])
    return word


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def user_message(error: Exception, values: flags.FlagValues) -> str | None:
    """Returns the one line a user should read, or None where the fault is the program's."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"--{error.flagname}: unknown flag{_did_you_mean(error.flagname, list(values))}"
    if isinstance(error, flags.Error):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in io_safety.FULL:
        return f"the output cannot be written: {error.strerror} (what was complete is kept)"
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this{f' ({error})' if str(error) else ''}"
    return None


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean --{close[0]}?)" if close else " (--help lists them)"


def help_text(values: flags.FlagValues, doc: str) -> str:
    """Returns a verb's description and all its flags with defaults."""
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(values, key=lambda name: (name.startswith(_LIMITS), name)):
        flag = values[name]
        if len(name) > 1 and flag.help is not None:
            lines.append(_flag_line(name, flag))
    return "\n".join(lines)


def _flag_line(name: str, flag: flags.Flag) -> str:
    silent = flag.default is None or flag.default is False or flag.default in ("", [])
    default = "" if silent else f" [default: {flag.default}]"
    value = "" if flag.boolean else f"={re.sub('[-_]', '_', name).rpartition('.')[2].upper()}"
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        value = "=" + "|".join(choices)
    text = re.sub(r"\s+", " ", flag.help)
    text = text.removeprefix(f"<{'|'.join(choices or ())}>: ")  # which absl puts there
    return f"  --{name}{value}\n      {text}{default}"


def require(values: flags.FlagValues, *names: str) -> None:
    """Raises InputError for the first flag of `names` that was not given."""
    for name in names:
        if values[name].value in (None, "", []):
            raise InputError(f"--{name}", "", "is required", "--help explains it")


def require_range(
    values: flags.FlagValues, name: str, low: float, high: float = float("inf")
) -> None:
    """Raises InputError unless `low <= value <= high`."""
    value = values[name].value
    if value is not None and not low <= value <= high:
        bound = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise InputError(f"--{name}", "", f"is {value:g}, must be {bound}")


def no_positional(args: Sequence[str]) -> None:
    """Raises InputError where words were given that are not flags."""
    if args:
        raise InputError(args[0], "", "is not a flag", "write --name=value")
