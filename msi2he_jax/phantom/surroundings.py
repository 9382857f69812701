"""Ions that are not the tissue's: salts on its rim, matrix around it; tissue made alike."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.cuts import radius_of
from msi2he_jax.phantom.hardness import Hardness
from msi2he_jax.phantom.ions import ELECTRON_DA, MASS_DA, Ion, ion_table
from msi2he_jax.phantom.molecules import Chemistry, draw_chemistry
from msi2he_jax.phantom.slide import Slide
from msi2he_jax.phantom.textures import Canvas, smooth_noise

_MOST_RIM, _MOST_MATRIX = 16, 28
_LEAST_APART = 2e-4  # Relative distance of m/z, so that profile peaks stay apart.
_SODIUM_DA = 22.98976928
_ON_RIM = 8.0  # How much brighter a salt is on the rim than elsewhere.
_BRIGHTER = 1 / 3  # Share of the tissue's ions that are brighter at the rim.


def section_ions(hardness: Hardness) -> tuple[Ion, ...]:
    """Lists all ions of a cohort.

    Args:
        hardness: The cohort's levels; `rim_ions` and `matrix_ions` matter here.

    Returns:
        The ions, ordered by m/z; those of a lower level are among those of a higher one.
    """
    return tuple(sorted(ion_table() + foreign_ions(hardness), key=lambda ion: ion.mz))


def foreign_ions(hardness: Hardness) -> tuple[Ion, ...]:
    """Lists the salt clusters (family `salt`) and matrix clusters (`coating`) of a cohort."""
    taken = [ion.mz for ion in ion_table()]
    wanted = {
        "salt": round(_MOST_RIM * hardness.rim_ions),
        "coating": round(_MOST_MATRIX * hardness.matrix_ions),
    }
    # Both lists are walked in full, so that one level does not move the other's ions.
    found: dict[str, list[Ion]] = {family: [] for family in wanted}
    for family, name, mz in (*_salts(), *_coatings()):
        apart = min(abs(mz - other) / mz for other in taken)
        if 100.0 < mz < 1000.0 and apart > _LEAST_APART:
            taken.append(mz)
            found[family].append(Ion(name, round(mz, 4), family, 1.0))
    return tuple(ion for family, count in wanted.items() for ion in found[family][:count])


def _salts():
    """Clusters of sodium chloride, formate and acetate with one more anion."""
    anions = {"Cl": {"Cl": 1}, "HCOO": {"C": 1, "H": 1, "O": 2}, "AcO": {"C": 2, "H": 3, "O": 2}}
    for pairs in range(1, 12):
        for name, atoms in anions.items():
            anion = _mass(atoms)
            mz = pairs * (_SODIUM_DA + anion) + anion + ELECTRON_DA
            yield "salt", f"(Na{name}){pairs}{name}", mz


def _coatings():
    """Clusters of 2,5-dihydroxybenzoic acid that lost water and a proton, some with sodium."""
    acid, water = _mass({"C": 7, "H": 6, "O": 4}), _mass({"H": 2, "O": 1})
    for count in range(1, 7):
        for dry in range(count):
            for sodium in (0, 1):
                mz = count * acid - dry * water - MASS_DA["H"] + ELECTRON_DA
                mz += sodium * (_SODIUM_DA - MASS_DA["H"])
                yield "coating", f"{count} DHB - {dry} H2O" + " + Na" * sodium, mz


def _mass(atoms: dict[str, int]) -> float:
    return sum(MASS_DA[element] * count for element, count in atoms.items())


def surround(rng: np.random.Generator, tissue: Chemistry, hardness: Hardness) -> Chemistry:
    """Adds foreign ions to a cohort's chemistry and makes its kinds of tissue alike.

    Args:
        rng: Source of randomness.
        tissue: The chemistry of `ion_table()`.
        hardness: The cohort's levels.

    Returns:
        The chemistry of `section_ions(hardness)`; `tissue` itself where no knob asks for more.
    """
    if not (hardness.rim_ions or hardness.matrix_ions or hardness.bland_ions):
        return tissue
    streams = rng.spawn(4)
    mixing = _bland(tissue.mixing, 0.9 * hardness.bland_ions)
    rim = hardness.rim_ions * _brightening(streams[0], mixing)
    parts = [Chemistry(mixing, tissue.gradients, rim)]
    extra = foreign_ions(hardness)
    if extra:
        parts.append(_foreign(streams[1], extra, hardness))
    joined = Chemistry(*(np.concatenate(a, axis=-1) for a in zip(*map(_fields, parts))))
    order = np.argsort([ion.mz for ion in ion_table() + extra], kind="stable")
    return Chemistry(*(array[..., order] for array in _fields(joined)))


def _fields(chemistry: Chemistry):
    return chemistry.mixing, chemistry.gradients, chemistry.rim


def _bland(mixing: np.ndarray, share: float) -> np.ndarray:
    """Shrinks the log contrast between kinds of tissue; glass, the last row, is left alone."""
    log = np.log(mixing[:-1])
    log = log + share * (log.mean(axis=0) - log)
    return np.concatenate([np.exp(log), mixing[-1:]])


def _brightening(rng, mixing: np.ndarray) -> np.ndarray:
    """What the rim adds to each of the tissue's ions, `[K]`."""
    chosen = rng.random(mixing.shape[1]) < _BRIGHTER
    return chosen * rng.uniform(0.3, 1.0, mixing.shape[1]) * mixing[:-1].mean(axis=0)


def _foreign(rng, ions: tuple[Ion, ...], hardness: Hardness) -> Chemistry:
    """Salts live on the rim alone; matrix off the tissue, unevenly, stronger by its level."""
    drawn = draw_chemistry(rng, ions)
    salt = np.array([ion.family == "salt" for ion in ions])
    strength = np.where(salt, 1.0, np.exp(1.1 * hardness.matrix_ions))
    uneven = rng.normal(0, np.where(salt, 0.12, 0.4), drawn.gradients.shape)
    return Chemistry(drawn.mixing * strength, uneven, _ON_RIM * salt * drawn.mixing.max(axis=0))


def rim_map(rng: np.random.Generator, slide: Slide) -> np.ndarray:
    """Draws where salt gathers: along the tissue's border, here more and there less.

    Args:
        rng: Source of randomness.
        slide: Its `met` tissue, what MSI meets, has the border.

    Returns:
        `[h, w]` float32, about 1 on the border and 0 far from it.
    """
    mask, um = slide.met.sum(axis=-1) > 0.5, slide.um_per_px
    radius = radius_of(slide)
    solid = ndimage.binary_closing(np.pad(mask, 8), iterations=6)[8:-8, 8:-8]
    inside, outside = (ndimage.distance_transform_edt(a) * um for a in (solid, ~solid))
    within, beyond = rng.uniform(0.05, 0.14) * radius, rng.uniform(0.03, 0.16) * radius
    band = np.exp(-0.5 * (inside / within) ** 2 - 0.5 * (outside / beyond) ** 2)
    uneven = np.exp(0.5 * smooth_noise(rng, Canvas(mask.shape, um), 0.5 * radius))
    return (band * uneven).astype(np.float32)
