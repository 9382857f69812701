"""Names that people and spreadsheets spell in several ways: which of them are one patient.

Two names are **the same** where their `name_key` is. Names that a person might take for each other
have one `alike_key`: nobody can tell from them alone, so they are kept together and named.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

_DASHES = "\u2212\u02d7\u2043"  # Minus and its like, which Unicode does not count as dashes.
_SEPARATORS = ("Pd", "Pc", "Cc")  # Dashes, underscores, control characters; `split` knows blanks.


@functools.lru_cache(4096)
def name_key(name: str) -> str:
    """Returns what all spellings of one name share.

    Letter case, the Unicode form of accents and of wide letters, and characters that cannot be seen
    do not count. Runs of blanks, dashes and underscores are one blank, and none at the ends. Where
    the whole name is a number without a fraction, it counts as that number: 007, 7 and 7.0.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    seen = [c for c in folded if unicodedata.category(c) != "Cf"]
    key = " ".join("".join(" " if _separates(c) else c for c in seen).split())
    number = re.fullmatch(r"(\d+)(?:[.,]0*)?", key)
    return str(int(number[1])) if number and len(number[1]) < 1000 else key


def _separates(char: str) -> bool:
    return char in _DASHES or unicodedata.category(char) in _SEPARATORS


@functools.lru_cache(4096)
def alike_key(name: str) -> str:
    """Returns what names share that may be one, as P7, P-7 and P07, or José and Jose.

    Beyond `name_key`, accents do not count, nor zeros at the start of a number within the name, nor
    separators but for those between two digits: 1-11 and 11-1 are not alike.

    Example:
        >>> alike_key("P07") == alike_key("p-7")
        True
    """
    apart = unicodedata.normalize("NFD", name_key(name))
    plain = "".join(c for c in apart if not unicodedata.combining(c))
    joined = re.sub(r"(?<!\d) | (?!\d)", "", plain)
    return re.sub(r"(?<!\d)0+(?=\d)", "", joined)


def one_spelling(names: Sequence[str]) -> list[str]:
    """Spells each name as the first that is the same."""
    first: dict[str, str] = {}
    return [first.setdefault(name_key(name), name) for name in names]


def spelling_warnings(patients: Sequence[str], *, force: bool = False) -> list[str]:
    """Lists in words the patients that were spelt in several ways, or may have been.

    Args:
        patients: Of all samples.
        force: Says that names which are alike are several patients.
    """
    found = []
    for spellings in _spelt(patients, name_key):
        found.append(f"the patients {spellings} are taken as one")
    for spellings in [] if force else _spelt(one_spelling(patients), alike_key):
        hint = "write one name in one way, or pass --force where they are several"
        found.append(f"the patients {spellings} may be one and stay in one split: {hint}")
    return found


def _spelt(names: Sequence[str], key) -> list[str]:
    """Joins the different names of each key that has several."""
    by_key: dict[str, dict[str, None]] = {}
    for name in names:
        by_key.setdefault(key(name), {})[name] = None
    return [" and ".join(map(repr, each)) for each in by_key.values() if len(each) > 1]
