"""The simulated ions: negative-mode lipids and metabolites of breast tissue, and contaminants.

Lipids are given as (carbons, double bonds); their m/z follows from the formula of the family.
"""

from __future__ import annotations

import dataclasses

import numpy as np

MASS_DA = {
    "C": 12.0,
    "H": 1.00782503207,
    "N": 14.0030740048,
    "O": 15.99491461956,
    "P": 30.97376163,
    "S": 31.972071,
    "Cl": 34.96885268,
}
ELECTRON_DA = 0.00054857990946
_ISOTOPE_DA = 1.0033548378

# Affinity to stroma, adipose, epithelium, tumour, necrosis, vessel, lumen, immune; then to glass.
AFFINITIES = {
    "saturated": (0.55, 0.90, 0.80, 1.00, 1.10, 0.60, 0.30, 0.70, 0.060),
    "unsaturated": (0.45, 1.30, 0.75, 1.00, 0.80, 0.55, 0.25, 0.60, 0.030),
    "polyunsaturated": (0.35, 0.30, 0.80, 1.10, 0.60, 0.60, 0.20, 1.00, 0.012),
    "metabolite": (0.40, 0.18, 0.90, 1.20, 0.35, 0.50, 0.35, 1.00, 0.020),
    "antioxidant": (0.35, 0.20, 0.70, 0.95, 0.25, 0.60, 0.25, 1.30, 0.015),
    "PE": (0.30, 0.22, 0.95, 1.20, 0.55, 0.45, 0.18, 0.80, 0.010),
    "plasmalogen": (0.30, 0.25, 0.75, 1.05, 0.50, 0.60, 0.18, 1.20, 0.010),
    "PS": (0.50, 0.25, 0.90, 1.00, 0.45, 0.75, 0.22, 0.95, 0.010),
    "PI": (0.25, 0.20, 1.25, 0.90, 0.35, 0.45, 0.22, 0.80, 0.010),
    "PG": (0.30, 0.20, 0.85, 1.30, 0.50, 0.35, 0.22, 0.60, 0.010),
    "PA": (0.45, 0.35, 0.70, 1.00, 0.75, 0.60, 0.22, 0.70, 0.012),
    "sphingo": (0.95, 0.30, 0.60, 0.70, 1.30, 0.90, 0.22, 0.60, 0.010),
    "sulfatide": (0.50, 0.18, 1.35, 0.55, 0.40, 0.55, 0.60, 0.35, 0.010),
    "lyso": (0.50, 0.30, 0.70, 0.90, 1.40, 0.70, 0.35, 0.70, 0.012),
    "triglyceride": (0.22, 1.60, 0.30, 0.35, 0.50, 0.25, 0.20, 0.22, 0.015),
    "matrix": (1.20, 0.25, 0.45, 0.40, 0.60, 1.00, 0.30, 0.40, 0.012),
    "blood": (0.40, 0.20, 0.45, 0.50, 1.00, 1.50, 0.80, 0.55, 0.012),
    "background": (0.35, 0.50, 0.32, 0.30, 0.35, 0.35, 0.60, 0.32, 1.000),
    "salt": (0.12, 0.12, 0.12, 0.12, 0.12, 0.12, 0.12, 0.12, 0.080),
    "coating": (0.30, 0.45, 0.28, 0.26, 0.30, 0.30, 0.50, 0.28, 1.000),
}

_FORMULAE = {
    "FA": lambda n, d: {"C": n, "H": 2 * n - 2 * d, "O": 2},
    "PE": lambda n, d: {"C": n + 5, "H": 2 * n + 10 - 2 * d, "N": 1, "O": 8, "P": 1},
    "PE P-": lambda n, d: {"C": n + 5, "H": 2 * n + 10 - 2 * d, "N": 1, "O": 7, "P": 1},
    "PS": lambda n, d: {"C": n + 6, "H": 2 * n + 10 - 2 * d, "N": 1, "O": 10, "P": 1},
    "PI": lambda n, d: {"C": n + 9, "H": 2 * n + 15 - 2 * d, "O": 13, "P": 1},
    "PG": lambda n, d: {"C": n + 6, "H": 2 * n + 11 - 2 * d, "O": 10, "P": 1},
    "PA": lambda n, d: {"C": n + 3, "H": 2 * n + 5 - 2 * d, "O": 8, "P": 1},
    "LPE": lambda n, d: {"C": n + 5, "H": 2 * n + 12 - 2 * d, "N": 1, "O": 7, "P": 1},
    "LPI": lambda n, d: {"C": n + 9, "H": 2 * n + 17 - 2 * d, "O": 12, "P": 1},
    "SM": lambda n, d: {"C": n + 5, "H": 2 * n + 13 - 2 * d, "N": 2, "O": 6, "P": 1},
    "Cer": lambda n, d: {"C": n, "H": 2 * n + 1 - 2 * d, "N": 1, "O": 3},
    "SHexCer": lambda n, d: {"C": n + 6, "H": 2 * n + 11 - 2 * d, "N": 1, "O": 11, "S": 1},
    "TG": lambda n, d: {"C": n + 3, "H": 2 * n + 2 - 2 * d, "O": 6},
    "LAS": lambda n, d: {"C": n + 6, "H": 2 * n + 6 - 2 * d, "O": 3, "S": 1},
}
_CHLORIDE = {"SM", "Cer", "TG"}

# (family, lipid class, strength, species)
_LIPIDS = (
    ("saturated", "FA", 3.0, ((14, 0), (16, 0), (18, 0), (20, 0), (22, 0), (24, 0))),
    ("unsaturated", "FA", 3.0, ((16, 1), (18, 1), (18, 2), (20, 1), (24, 1))),
    ("polyunsaturated", "FA", 2.0, ((20, 3), (20, 4), (22, 4), (22, 5), (22, 6))),
    ("PE", "PE", 1.0, ((34, 1), (36, 2), (36, 1), (38, 4), (40, 6))),
    ("plasmalogen", "PE P-", 1.0, ((36, 2), (36, 4), (38, 4), (38, 6), (40, 5))),
    ("PS", "PS", 1.2, ((34, 1), (36, 2), (36, 1), (38, 4), (38, 1), (40, 6))),
    ("PI", "PI", 1.5, ((34, 1), (36, 2), (36, 4), (38, 5), (38, 4), (38, 3), (40, 6))),
    ("PG", "PG", 0.7, ((34, 1), (36, 1))),
    ("PA", "PA", 0.7, ((34, 1), (36, 2), (36, 1))),
    ("lyso", "LPE", 0.6, ((18, 0), (20, 4))),
    ("lyso", "LPI", 0.6, ((18, 0),)),
    ("sphingo", "SM", 0.8, ((34, 1), (42, 2))),
    ("sphingo", "Cer", 0.8, ((34, 1), (42, 2))),
    ("sulfatide", "SHexCer", 0.6, ((34, 1), (42, 2))),
    ("triglyceride", "TG", 0.8, ((50, 1), (52, 2), (54, 3))),
    ("background", "LAS", 1.5, ((10, 0), (11, 0), (12, 0), (13, 0))),
)

# (name, m/z of the ion, family, strength)
_OTHERS = (
    ("taurine", 124.0074, "metabolite", 1.0),
    ("aspartate", 132.0302, "metabolite", 0.7),
    ("glutamate", 146.0459, "metabolite", 1.2),
    ("ascorbate", 175.0248, "antioxidant", 1.0),
    ("hexose chloride", 215.0328, "metabolite", 1.2),
    ("glutathione", 306.0765, "antioxidant", 0.9),
    ("N-acetylaspartate", 174.0408, "metabolite", 0.5),
    ("uronic acid", 193.0354, "matrix", 0.8),
    ("sialic acid", 308.0987, "matrix", 0.6),
    ("sulfated disaccharide", 458.0610, "matrix", 0.7),
    ("cholesterol sulfate", 465.3044, "sulfatide", 0.8),
    ("haem", 615.1700, "blood", 0.6),
    ("urate", 167.0211, "blood", 0.8),
    ("trifluoroacetate", 112.9856, "background", 2.0),
    ("formate cluster", 180.9730, "background", 1.2),
    ("nitrobenzoate", 166.0146, "background", 0.6),
    ("butylbenzenesulfonamide", 212.0751, "background", 1.0),
    ("dodecyl sulfate", 265.1479, "background", 1.5),
    ("solvent cluster", 248.9604, "background", 0.8),
    ("fluorinated surfactant", 498.9302, "background", 0.5),
    ("siloxane", 355.0699, "background", 0.8),
)
_ISOTOPES = ("FA 18:1", "PI 38:4", "PS 36:1")
_ISOTOPE_RATIO = 0.35


@dataclasses.dataclass(frozen=True)
class Ion:
    """One simulated ion.

    Attributes:
        name: What it is.
        mz: Its m/z.
        family: Key of AFFINITIES: where it is found.
        strength: Typical intensity relative to the others.
    """

    name: str
    mz: float
    family: str
    strength: float


def ion_table() -> tuple[Ion, ...]:
    """Returns all simulated ions, ordered by m/z."""
    ions = [Ion(*row) for row in _OTHERS]
    for family, kind, strength, species in _LIPIDS:
        for carbons, bonds in species:
            mz = _lipid_mz(kind, carbons, bonds)
            joint = "" if kind.endswith("-") else " "
            ions.append(Ion(f"{kind}{joint}{carbons}:{bonds}", mz, family, strength))
    parents = [ion for ion in ions if ion.name in _ISOTOPES]
    for ion in parents:
        strength = ion.strength * _ISOTOPE_RATIO
        ions.append(Ion(f"{ion.name} 13C", ion.mz + _ISOTOPE_DA, ion.family, strength))
    return tuple(sorted(ions, key=lambda ion: ion.mz))


def affinity_matrix(ions: tuple[Ion, ...]) -> np.ndarray:
    """Looks up where each ion is found.

    Args:
        ions: K ions.

    Returns:
        `[L + 1, K]` float64: L tissue compartments, then glass.
    """
    return np.array([AFFINITIES[ion.family] for ion in ions]).T


def _lipid_mz(kind: str, carbons: int, bonds: int) -> float:
    """Deprotonated, or with chloride for the classes that hardly lose a proton."""
    neutral = sum(MASS_DA[e] * n for e, n in _FORMULAE[kind](carbons, bonds).items())
    change = MASS_DA["Cl"] if kind in _CHLORIDE else -MASS_DA["H"]
    return round(neutral + change + ELECTRON_DA, 4)
