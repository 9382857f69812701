"""Runs a command of the pipeline: `msi2he VERB ...`, or `python -m msi2he_jax VERB ...`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

import msi2he_jax
from msi2he_jax import cli

# In the order in which a cohort meets them.
VERBS = (
    "simulate",
    "doctor",
    "landmarks",
    "preprocess",
    "train",
    "evaluate",
    "synthesize",
    "register",
    "report",
    "export",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("--help", "-h", "help"):
        shown = cli.verb(lambda *_: print(_overview()), cli.new_flags(), "")([])
        return shown if words else cli.USER_ERROR
    if words[0] == "--version":
        print(f"msi2he_jax {msi2he_jax.__version__}")
        return cli.DONE
    if words[0] not in VERBS:
        print(f"error: {words[0]}: no such command{_nearest(words[0])}", file=sys.stderr)
        return cli.USER_ERROR
    return importlib.import_module(f"msi2he_jax.{words[0]}").main(words[1:])


def _nearest(word: str) -> str:
    close = difflib.get_close_matches(word, VERBS, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (commands: {', '.join(VERBS)})"


def _overview() -> str:
    lines = ["usage: msi2he COMMAND [--flag=value ...]", "", "Commands:"]
    for name in VERBS:
        doc = importlib.import_module(f"msi2he_jax.{name}").__doc__
        lines.append(f"  {name:11s} {doc.splitlines()[0]}")
    return "\n".join([*lines, "", "msi2he COMMAND --help lists a command's flags."])


if __name__ == "__main__":
    sys.exit(main())
