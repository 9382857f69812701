"""Haematoxylin and eosin on laid-out tissue, as a bright-field scanner sees it.

Each pixel gets two amounts of stain; light is absorbed by Beer-Lambert. Source of the stain
directions: Macenko et al. 2009, the reference matrix of their published implementation.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom import tissue as t
from msi2he_jax.phantom.textures import Canvas, fibres, scatter, smooth_noise, splat

# Optical density per unit of stain in red, green, blue.
HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
EOSIN = (0.2159, 0.8012, 0.5581)
RED_CELLS = (0.1200, 0.7600, 0.6400)
_LATTICE_UM = 8.5


@dataclasses.dataclass(frozen=True)
class _Look:
    """How one compartment stains: amounts of stain, texture, and its nuclei.

    Attributes:
        haematoxylin, eosin: Mean amounts between nuclei.
        fibre, grain: Relative strength of streaks and of fine grain in the eosin.
        nuclei_mm2: Nuclei per square millimetre.
        radius_um: Radius of a nucleus, um.
        stretch_um: Half length of an elongated nucleus beyond its radius, um.
        darkness: Amount of haematoxylin in a nucleus.
    """

    haematoxylin: float
    eosin: float
    fibre: float
    grain: float
    nuclei_mm2: float
    radius_um: float
    stretch_um: float
    darkness: float


_LOOKS = {
    t.GLASS: _Look(0.0, 0.0, 0.0, 0.0, 0, 3.0, 0.0, 0.0),
    t.STROMA: _Look(0.035, 0.34, 0.30, 0.08, 1000, 2.2, 5.0, 0.85),
    t.ADIPOSE: _Look(0.0, 0.012, 0.0, 0.0, 0, 2.2, 3.0, 0.8),
    t.EPITHELIUM: _Look(0.17, 0.26, 0.0, 0.12, 8200, 3.5, 0.8, 0.95),
    t.TUMOUR: _Look(0.19, 0.29, 0.03, 0.14, 5600, 4.4, 0.8, 0.80),
    t.NECROSIS: _Look(0.08, 0.46, 0.03, 0.22, 900, 1.9, 0.0, 1.1),
    t.VESSEL: _Look(0.06, 0.44, 0.16, 0.08, 2600, 2.1, 4.5, 0.85),
    t.LUMEN: _Look(0.0, 0.015, 0.0, 0.02, 0, 2.0, 0.0, 0.5),
    t.IMMUNE: _Look(0.09, 0.17, 0.12, 0.1, 10500, 2.9, 0.0, 1.05),
}


@dataclasses.dataclass(frozen=True)
class Stain:
    """How one patient's slides were stained and scanned.

    Attributes:
        vectors: `[3, 3]` float64, optical density of haematoxylin, eosin, red cells in R, G, B.
        haematoxylin, eosin: Factors on the amounts.
        glass_rgb: `[3]` float64, empty slide, 0-255.
        blur_um: Gaussian width of the optics, um.
    """

    vectors: np.ndarray
    haematoxylin: float
    eosin: float
    glass_rgb: np.ndarray
    blur_um: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draws one laboratory day: stain directions and strengths, lamp and optics."""
    vectors = np.array([HAEMATOXYLIN, EOSIN, RED_CELLS]) + rng.normal(0, 0.035, (3, 3))
    vectors = np.clip(vectors, 0.02, None)
    return Stain(
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        haematoxylin=float(np.exp(rng.normal(0, 0.14))),
        eosin=float(np.exp(rng.normal(0, 0.17))),
        glass_rgb=np.clip(rng.normal((243.0, 241.0, 244.0), 2.5), 230, 252),
        blur_um=float(rng.uniform(1.5, 3.5)),
    )


def render(rng: np.random.Generator, tissue: t.Tissue, stain: Stain) -> np.ndarray:
    """Draws the H&E image of a section.

    Args:
        rng: Source of randomness.
        tissue: The section.
        stain: How it was stained.

    Returns:
        `[H, W, 3]` uint8 sRGB.
    """
    canvas = tissue.canvas
    streaks, across = _streaks(rng, canvas)
    haematoxylin = _cytoplasm_haematoxylin(rng, tissue) + _nuclei(rng, tissue, across)
    eosin = _eosin(rng, tissue, streaks)
    blood = tissue.blood * (0.55 + 0.12 * smooth_noise(rng, canvas, 9.0))
    thickness = 1.0 + 0.06 * smooth_noise(rng, canvas, 600.0)
    amounts = np.stack(
        [haematoxylin * stain.haematoxylin, eosin * stain.eosin, blood * stain.eosin]
    )
    density = np.tensordot(amounts * thickness, stain.vectors, axes=(0, 0))
    return _photograph(rng, np.clip(density, 0.0, None), canvas, stain)


def _look_table(name: str) -> np.ndarray:
    """One attribute of every compartment, indexed by label."""
    return np.array([getattr(_LOOKS[k], name) for k in range(len(_LOOKS))], np.float32)


def _streaks(rng, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Collagen: fine fibres, bundles and the clefts between them; and the bent coordinate."""
    fine, across = fibres(rng, canvas, thickness_um=11.0)
    bundles, _ = fibres(rng, canvas, thickness_um=42.0)
    cleft = np.clip(bundles + 0.5 * fine - 1.25, 0.0, 1.0)
    return 0.6 * fine + 0.5 * bundles - 3.2 * cleft, across


def _cytoplasm_haematoxylin(rng, tissue: t.Tissue) -> np.ndarray:
    base = _look_table("haematoxylin")[tissue.labels]
    return base * np.clip(1.0 + 0.25 * smooth_noise(rng, tissue.canvas, 18.0), 0.2, None)


def _eosin(rng, tissue: t.Tissue, streaks: np.ndarray) -> np.ndarray:
    """Eosin of every compartment with its texture, fat walls and secretions."""
    labels, canvas = tissue.labels, tissue.canvas
    texture = 1.0 + _look_table("fibre")[labels] * streaks
    texture += _look_table("grain")[labels] * smooth_noise(rng, canvas, 7.0)
    texture *= 1.0 + 0.10 * smooth_noise(rng, canvas, 150.0)
    eosin = _look_table("eosin")[labels] * np.clip(texture, 0.02, None)
    eosin += 0.42 * tissue.fat_wall
    return eosin + tissue.secretion * 0.2 * (1.0 + 0.15 * smooth_noise(rng, canvas, 12.0))


def _nuclei(rng, tissue: t.Tissue, across: np.ndarray) -> np.ndarray:
    """Haematoxylin of nuclei: points on a jittered lattice, thinned to each compartment's count."""
    canvas = tissue.canvas
    points = scatter(rng, canvas, _LATTICE_UM)
    rows, columns = canvas.index(points)
    labels = tissue.labels[rows, columns]
    share = _look_table("nuclei_mm2")[labels] * (tissue.cellularity * _LATTICE_UM**2 / 1e6)
    share += 0.035 * tissue.fat_wall[rows, columns]
    keep = rng.random(len(points)) < share
    points, labels, rows, columns = points[keep], labels[keep], rows[keep], columns[keep]
    size = np.exp(rng.normal(0, 0.16, len(points)))
    weight = _look_table("darkness")[labels] * np.exp(rng.normal(0, 0.22, len(points)))
    radius = _look_table("radius_um")[labels] * size
    stretch = (_look_table("stretch_um")[labels] * size)[:, None]
    along = _direction(rng, canvas, across, rows, columns, labels)
    total = np.zeros(canvas.shape)
    for offset in (-1.0, 0.0, 1.0):
        third = (
            weight
            * np.pi
            * radius**2
            / canvas.um_per_px**2
            * np.where(stretch[:, 0] > 2, 0.6, 1 / 3)
        )
        total += splat(points + offset * stretch * along, third, canvas)
    total = ndimage.gaussian_filter(total, 1.7 / canvas.um_per_px)
    return 1.15 * np.tanh(total / 1.15)


def _direction(rng, canvas: Canvas, across, rows, columns, labels) -> np.ndarray:
    """Unit vectors `[N, 2]`: along the fibres, except in cells that lie anyhow."""
    dy, dx = np.gradient(across, canvas.um_per_px)
    angle = np.arctan2(dy[rows, columns], dx[rows, columns]) + np.pi / 2
    free = ~np.isin(labels, (t.STROMA, t.VESSEL))
    angle = np.where(free, rng.uniform(0, np.pi, len(rows)), angle + rng.normal(0, 0.2, len(rows)))
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _photograph(rng, density: np.ndarray, canvas: Canvas, stain: Stain) -> np.ndarray:
    """Light through the stain, shading of the lamp, optics and sensor."""
    light = stain.glass_rgb * 10.0**-density
    shade = 1.0 + 0.008 * smooth_noise(rng, canvas, 900.0)
    light = light * shade[..., None]
    sigma = stain.blur_um / canvas.um_per_px
    light = ndimage.gaussian_filter(light, (sigma, sigma, 0))
    light += rng.normal(0, 1.1, canvas.shape)[..., None] + rng.normal(0, 0.7, light.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)
