"""Ions of solvents, matrices and contaminants, computed from their formulas.

They are listed in background_ions.csv beside this file, a row an ion, after the literature named
with each; every m/z follows from formula and adduct. Lists of polymers end near m/z 650: above,
their ions lie within 10 ppm of phospholipids' (PEG 16 with ammonium and PC 30:2 with potassium,
740.46), and a lipid lost is worse than a polymer kept.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from pathlib import Path

from msi2he_jax.errors import InputError

# Mass of the lightest stable (for these elements: most abundant) isotope, Da; of an electron, Da.
MONOISOTOPIC_DA = {
    "H": 1.00782503223,
    "C": 12.0,
    "N": 14.00307400443,
    "O": 15.99491461957,
    "F": 18.99840316273,
    "Na": 22.989769282,
    "Si": 27.97692653465,
    "P": 30.97376199842,
    "S": 31.9720711744,
    "Cl": 34.968852682,
    "K": 38.9637064864,
}
ELECTRON_DA = 0.000548579909065

_TABLE = Path(__file__).with_name("background_ions.csv")


@dataclasses.dataclass(frozen=True)
class BackgroundIon:
    """An ion that does not come from the tissue.

    Attributes:
        compound: What it is.
        formula: Of the neutral molecule M.
        adduct: Of the ion, as in "[2M+Na]+".
        mz: Monoisotopic m/z.
        polarity: "positive" or "negative".
        source: Where it is described.
    """

    compound: str
    formula: str
    adduct: str
    mz: float
    polarity: str
    source: str


def named(name: str, polarity: str | None = None) -> tuple[float, ...]:
    """Returns the m/z of a list of background ions, increasing, each once.

    Args:
        name: One of `names()`.
        polarity: "positive" or "negative" to leave out the other's ions; None for all.

    Raises:
        InputError: an unknown name or polarity, or a list without ions of that polarity.
    """
    if polarity not in (None, "positive", "negative"):
        raise InputError("background", "polarity", f"is {polarity!r}", "positive or negative")
    chosen = {ion.mz for ion in ions(name) if polarity in (None, ion.polarity)}
    if not chosen:
        raise InputError("background", name, f"holds no {polarity} ion", "another list fits")
    return tuple(sorted(chosen))


def ions(name: str) -> tuple[BackgroundIon, ...]:
    """Returns a list of background ions with their formulas and sources.

    Raises:
        InputError: an unknown name.
    """
    lists = _lists()
    if name not in lists:
        raise InputError("background", "", f"is {name!r}", f"one of {', '.join(lists)}")
    return lists[name]


def names() -> tuple[str, ...]:
    """Returns the names of the lists."""
    return tuple(_lists())


@functools.cache
def _lists() -> dict[str, tuple[BackgroundIon, ...]]:
    """Reads the table; an ion that cannot be computed names its row."""
    found: dict[str, list[BackgroundIon]] = {}
    with open(_TABLE, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                mz = ion_mz(row["formula"], row["adduct"])
            except InputError as error:
                raise InputError(_TABLE, f"row {number}", str(error)) from error
            polarity = "positive" if row["adduct"].endswith("+") else "negative"
            own = row["compound"], row["formula"], row["adduct"]
            found.setdefault(row["list"], []).append(
                BackgroundIon(*own, mz, polarity, row["source"])
            )
    return {name: tuple(listed) for name, listed in found.items()}


def exact_mass(formula: str) -> float:
    """Returns the monoisotopic mass of a formula such as "C7H6O4", Da.

    Raises:
        InputError: not a formula, or an element that is not in `MONOISOTOPIC_DA`.
    """
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    if not parts or "".join(a + b for a, b in parts) != formula:
        raise InputError("formula", "", f"{formula!r} is not understood", "write it as in C7H6O4")
    unknown = {element for element, _ in parts} - set(MONOISOTOPIC_DA)
    if unknown:
        raise InputError("formula", formula, f"has no mass for {', '.join(sorted(unknown))}")
    return sum(MONOISOTOPIC_DA[element] * int(number or 1) for element, number in parts)


def ion_mz(formula: str, adduct: str) -> float:
    """Returns the monoisotopic m/z of an ion.

    Args:
        formula: Of the neutral molecule M.
        adduct: In the usual notation: "[M+H]+", "[2M+Na-H2O]+", "[M-H]-", "[M]+".

    Raises:
        InputError: a formula or an adduct that is not understood.
    """
    whole = re.fullmatch(r"\[(\d*)M((?:[+-]\d*[A-Z][A-Za-z0-9]*)*)\](\d*)([+-])", adduct)
    if not whole:
        hint = "write it as in [2M+Na-H2O]+"
        raise InputError("adduct", "", f"{adduct!r} is not understood", hint)
    molecules, terms, charge, sign = whole.groups()
    mass = int(molecules or 1) * exact_mass(formula)
    for plus, number, part in re.findall(r"([+-])(\d*)([A-Z][A-Za-z0-9]*)", terms):
        mass += (1 if plus == "+" else -1) * int(number or 1) * exact_mass(part)
    z = int(charge or 1)
    return (mass - (z if sign == "+" else -z) * ELECTRON_DA) / z
