"""Ions of solvents, matrices and contaminants, computed from their formulas.

Which compounds and adducts are listed was chosen here, after the literature named with each; only
formulas are kept, and every m/z follows from them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable

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

_KELLER = "Keller et al. 2008, Anal. Chim. Acta 627:71"
_MADEIRA = "Madeira and Florencio 2009, J. Mass Spectrom. 44:1105"
_KELLER_LI = "Keller and Li 2000, J. Am. Soc. Mass Spectrom. 11:88"
_VERMILLION = "Vermillion-Salsbury and Hercules 2002, Rapid Commun. Mass Spectrom. 16:1575"
_THOMAS = "Thomas et al. 2012, Anal. Chem. 84:2048"


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
        name: One of `NAMES`.
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
    if name not in _COMPOUNDS:
        raise InputError("background", "", f"is {name!r}", f"one of {', '.join(NAMES)}")
    return _listed(name)


@functools.cache
def _listed(name: str) -> tuple[BackgroundIon, ...]:
    return tuple(
        BackgroundIon(compound, formula, adduct, *_mz_and_polarity(formula, adduct), source)
        for compound, formula, adducts, source in _COMPOUNDS[name]
        for adduct in adducts
    )


def _mz_and_polarity(formula: str, adduct: str) -> tuple[float, str]:
    return ion_mz(formula, adduct), "positive" if adduct.endswith("+") else "negative"


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


Compound = tuple[str, str, tuple[str, ...], str]


def _chain(name: str, unit: dict[str, int], end: dict[str, int], sizes: Iterable[int], adducts):
    """Lists the oligomers of a polymer: `end` and so many `unit`s, element by element."""
    made = []
    for n in sizes:
        counts = {e: n * unit.get(e, 0) + end.get(e, 0) for e in ("C", "H", "O", "S", "Si")}
        formula = "".join(f"{element}{count}" for element, count in counts.items() if count)
        made.append((f"{name} {n}", formula, adducts, _KELLER))
    return made


def _clusters(name: str, salt: str, ion: str, charge: str, sizes: Iterable[int]) -> Compound:
    """Lists clusters of a salt around one more of its ions."""
    return (name, salt, tuple(f"[{n if n > 1 else ''}M+{ion}]{charge}" for n in sizes), _KELLER)


_DHB = (
    "2,5-dihydroxybenzoic acid",
    "C7H6O4",
    (
        *("[M+H-H2O]+", "[M]+", "[M+H]+", "[M+Na]+", "[M+K]+", "[M-H+2Na]+", "[M-H+Na+K]+"),
        *("[M-H+2K]+", "[2M+H-2H2O]+", "[2M+H-H2O]+", "[2M+Na-H2O]+", "[2M+Na]+", "[2M+K]+"),
        *("[3M+H-3H2O]+", "[3M+H-2H2O]+", "[4M+H-4H2O]+", "[5M+H-5H2O]+"),
        *("[M-H-CO2]-", "[M-H]-", "[2M-H]-", "[2M-2H+Na]-", "[3M-H]-"),
    ),
    _MADEIRA,
)
_CHCA = (
    "alpha-cyano-4-hydroxycinnamic acid",
    "C10H7NO3",
    (
        *("[M+H-CO2]+", "[M+H-H2O]+", "[M]+", "[M+H]+", "[M+Na]+", "[M+K]+", "[M-H+2Na]+"),
        *("[M-H+Na+K]+", "[M-H+2K]+", "[2M+H-CO2]+", "[2M+H]+", "[2M+Na]+", "[2M+K]+"),
        *("[2M-H+2Na]+", "[2M-H+Na+K]+", "[2M-H+2K]+", "[3M+H]+", "[3M+Na]+", "[3M+K]+"),
        *("[3M-2H+3Na]+", "[3M-2H+3K]+", "[4M-3H+4Na]+", "[4M-3H+4K]+"),
        *("[M-H-CO2]-", "[M-H]-", "[2M-H]-", "[2M-2H+Na]-", "[2M-2H+K]-"),
    ),
    _KELLER_LI,
)
_AMINOACRIDINE = (
    "9-aminoacridine",
    "C13H10N2",
    ("[M-H]-", "[M+Cl]-", "[2M-H]-", "[2M+Cl]-", "[M+H]+", "[2M+H]+"),
    _VERMILLION,
)
_DIAMINONAPHTHALENE = (
    "1,5-diaminonaphthalene",
    "C10H10N2",
    ("[M-H]-", "[2M-H]-", "[M]+", "[M+H]+", "[2M+H]+"),
    _THOMAS,
)
_PHTHALATES: list[Compound] = [
    ("phthalic anhydride", "C8H4O3", ("[M+H]+",), _KELLER),
    ("dibutyl phthalate", "C16H22O4", ("[M+H]+", "[M+Na]+", "[M+K]+"), _KELLER),
    (
        "bis(2-ethylhexyl) phthalate",
        "C24H38O4",
        ("[M+H]+", "[M+H4N]+", "[M+Na]+", "[M+K]+", "[2M+Na]+"),
        _KELLER,
    ),
]
_PLASTICS: list[Compound] = [
    ("erucamide", "C22H43NO", ("[M+H]+", "[M+Na]+", "[2M+H]+", "[2M+Na]+"), _KELLER),
    ("tributyl phosphate", "C12H27O4P", ("[M+H]+", "[M+Na]+", "[2M+H]+"), _KELLER),
    ("triphenyl phosphate", "C18H15O4P", ("[M+H]+", "[M+Na]+"), _KELLER),
    ("triphenylphosphine oxide", "C18H15OP", ("[M+H]+", "[M+Na]+", "[2M+H]+"), _KELLER),
    ("N-butylbenzenesulfonamide", "C10H15NO2S", ("[M+H]+", "[M+Na]+"), _KELLER),
    ("oxidised Irgafos 168", "C42H63O4P", ("[M+H]+", "[M+Na]+"), _KELLER),
]
_WITH_ALKALI = ("[M+H]+", "[M+H4N]+", "[M+Na]+", "[M+K]+")
_ETHYLENE_OXIDE = {"C": 2, "H": 4, "O": 1}
# Polymers end near m/z 650: above, their ions lie within 10 ppm of phospholipids' (PEG 16 with
# ammonium and PC 30:2 with potassium, 740.46), and a lipid lost is worse than a polymer kept.
_POLYMERS: list[Compound] = [
    *_chain("PEG", _ETHYLENE_OXIDE, {"H": 2, "O": 1}, range(4, 14), _WITH_ALKALI),
    *_chain("PPG", {"C": 3, "H": 6, "O": 1}, {"H": 2, "O": 1}, range(4, 11), _WITH_ALKALI),
    *_chain(
        "Triton X", _ETHYLENE_OXIDE, {"C": 14, "H": 22, "O": 1}, range(4, 10), _WITH_ALKALI[1:3]
    ),
    *_chain(
        "polysiloxane",
        {"C": 2, "H": 6, "O": 1, "Si": 1},
        {},
        range(4, 9),
        ("[M+H-CH4]+", "[M+H]+", "[M+H4N]+"),
    ),
]
_SALTS_POSITIVE: list[Compound] = [
    _clusters("sodium formate", "CHO2Na", "Na", "+", range(1, 15)),
    _clusters("sodium acetate", "C2H3O2Na", "Na", "+", range(1, 12)),
    _clusters("sodium trifluoroacetate", "C2F3O2Na", "Na", "+", range(1, 8)),
]
_SALTS_NEGATIVE: list[Compound] = [
    _clusters("sodium formate", "CHO2Na", "CHO2", "-", range(1, 15)),
    _clusters("sodium acetate", "C2H3O2Na", "C2H3O2", "-", range(1, 12)),
    _clusters("sodium trifluoroacetate", "C2F3O2Na", "C2F3O2", "-", range(1, 8)),
]
_ACIDS: list[Compound] = [
    ("formic acid", "CH2O2", ("[M-H]-", "[2M-H]-"), _KELLER),
    ("acetic acid", "C2H4O2", ("[M-H]-", "[2M-H]-"), _KELLER),
    ("trifluoroacetic acid", "C2HF3O2", ("[M-H]-", "[2M-H]-"), _KELLER),
]
_SURFACTANTS: list[Compound] = [
    ("dodecyl sulfate", "C12H26O4S", ("[M-H]-", "[2M-2H+Na]-"), _KELLER),
    ("laureth sulfate 1", "C14H30O5S", ("[M-H]-",), _KELLER),
    ("laureth sulfate 2", "C16H34O6S", ("[M-H]-",), _KELLER),
    *_chain(
        "alkylbenzenesulfonate C",
        {"C": 1, "H": 2},
        {"C": 6, "H": 6, "O": 3, "S": 1},
        range(10, 15),
        ("[M-H]-",),
    ),
]
_COMPOUNDS: dict[str, list[Compound]] = {
    "dhb": [_DHB],
    "chca": [_CHCA],
    "9aa": [_AMINOACRIDINE],
    "dan": [_DIAMINONAPHTHALENE],
    "desi-positive": [*_PHTHALATES, *_PLASTICS, *_POLYMERS, *_SALTS_POSITIVE],
    "desi-negative": [*_ACIDS, *_SURFACTANTS, *_SALTS_NEGATIVE],
}
NAMES = tuple(_COMPOUNDS)
