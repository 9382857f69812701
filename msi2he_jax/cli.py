"""What every verb's command line shares: flags, help, and one line per user error.

Exit codes: 0 done, 1 a fault of the program, 2 a user's mistake (or a full disk), 3 done, but not
as `register --require` asks, 75 stopped by SIGTERM, 129 by SIGHUP (the terminal was closed), 130 by
Ctrl-C.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import difflib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from absl import flags

from msi2he_jax import io_safety, progress
from msi2he_jax.errors import InputError, one_line
from msi2he_jax.training import interrupt

DONE, USER_ERROR, UNMET, TERMINATED, HUNG_UP, INTERRUPTED = 0, 2, 3, 75, 129, 130
_LIMITS = "limits."


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a verb as Ctrl-C does, so that nothing is left half written."""


class HungUp(KeyboardInterrupt):
    """SIGHUP, likewise."""


_STOPS = {Terminated: ("SIGTERM", TERMINATED), HungUp: ("SIGHUP", HUNG_UP)}


def new_flags() -> flags.FlagValues:
    """Returns a verb's own set of flags, so that several verbs can live in one process."""
    values = flags.FlagValues()
    flags.DEFINE_boolean(
        "help", False, "Print this help and exit.", short_name="h", flag_values=values
    )
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "No progress on stderr.", flag_values=values)
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
        with (
            io_safety.changed_limits(**_limits(values)),
            _ending_at_signals(),
            progress.shown(quiet=values.quiet),
        ):
            code = run(values, positional) or DONE
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        name, code = _STOPS.get(type(error), ("Ctrl-C", INTERRUPTED))
        return _fail("; ".join([f"stopped by {name}", *filter(None, error.args)]), code)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (InputError, flags.Error, AttributeError, OSError, MemoryError, RuntimeError) as error:
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
def _ending_at_signals() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM and `HungUp` at SIGHUP."""

    def terminate(number: int) -> None:
        raise Terminated

    def hang_up(number: int) -> None:
        signal.signal(number, signal.SIG_IGN)  # A terminal that is closed sends two.
        raise HungUp

    with interrupt.handled({signal.SIGTERM: terminate, signal.SIGHUP: hang_up}):
        yield


@contextlib.contextmanager
def keeping(words: Callable[[], str]) -> Iterator[None]:
    """Lets the line that a signal ends a verb with say what is kept of its work.

    Args:
        words: Says it; empty where nothing is.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (words(),)
        raise


@contextlib.contextmanager
def asking_for(flag: str, column: str) -> Iterator[None]:
    """Lets an error that asks for a column of the manifest ask for the flag that stands for it.

    Args:
        flag: With its dashes.
        column: Of the manifest.
    """
    try:
        yield
    except InputError as error:
        asked = f"fill the manifest's column {column}"
        if asked not in error.hint:
            raise
        hint = error.hint.replace(asked, f"pass {flag}")
        raise InputError(error.path, flag, error.why, hint) from error


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


def ignore(*words: object, **more: object) -> None:
    """Tells nobody: what a Python caller who asks for no progress and no warnings gets."""


def warn(warnings: Iterable[str], name: str = "") -> None:
    """Prints what is odd on stderr, a line each, each once: `warning: NAME: WHAT`."""
    progress.clear()
    for text in dict.fromkeys(f"{name}: {each}" if name else each for each in warnings):
        print(f"warning: {one_line(text)}", file=sys.stderr)


def print_written(
    out: str | os.PathLike, paths: Iterable[Path] | None = None, names: Iterable[str] = ()
) -> None:
    """Prints what a verb wrote: the folder, then a line per kind of file with its count.

    Args:
        out: The folder.
        paths: What was written there; a folder among them counts as its files. Default: all.
        names: Of samples; files that differ in nothing else are of one kind.
    """
    progress.clear()
    paths = sorted(Path(out).iterdir() if paths is None else paths)
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    longest_first = sorted(names, key=len, reverse=True)
    kinds = collections.Counter(
        "/".join(_kind_of(part, longest_first) for part in file.relative_to(out).parts)
        for file in files
        if file.is_file() and not file.name.startswith(".")
    )
    print(out)
    for kind, count in sorted(kinds.items()):
        print(f"  {count:4d} {kind}")


def _kind_of(part: str, names: Sequence[str]) -> str:
    """Returns a file's or folder's name with SAMPLE for the sample that it begins with."""
    for name in names:
        if part.startswith(name) and not part[len(name) :][:1].isalnum():
            return f"SAMPLE{part.removeprefix(name)}"
    return part


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
        return f"the output cannot be written: {error.strerror} (make room, run again)"
    if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error):  # of XLA
        return f"there is not enough memory for this ({' '.join(str(error).split())[:200]})"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "there is not enough memory for this"
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
