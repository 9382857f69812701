"""Breast-like tissue laid out in micrometres: stroma, fat, glands, ducts, vessels, tumour."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.outlines import PLAIN, Shape, outline
from msi2he_jax.phantom.textures import Canvas, Cells, cells, smooth_noise

COMPARTMENTS = (
    "glass",
    "stroma",
    "adipose",
    "epithelium",
    "tumour",
    "necrosis",
    "vessel",
    "lumen",
    "immune",
)
GLASS, STROMA, ADIPOSE, EPITHELIUM, TUMOUR, NECROSIS, VESSEL, LUMEN, IMMUNE = range(9)
_FAT_CELL_UM = 78.0


@dataclasses.dataclass(frozen=True)
class Habit:
    """What one patient's tissue is made of; shared by all their sections.

    Attributes:
        adipose: Fraction of the area that is fat.
        tumour: Fraction of the area that is invaded by tumour.
        nest_um: Width of tumour nests, um.
        nest_fill: Fraction of the invaded area that is tumour cells.
        necrosis: Fraction of the invaded area that is dead.
        immune: Fraction of the area infiltrated by lymphocytes.
        lobules, ducts, vessels: Number per square millimetre.
        in_situ: Fraction of the ducts filled with tumour.
        cellularity: Factor on the number of nuclei.
    """

    adipose: float
    tumour: float
    nest_um: float
    nest_fill: float
    necrosis: float
    immune: float
    lobules: float
    ducts: float
    vessels: float
    in_situ: float
    cellularity: float


@dataclasses.dataclass(frozen=True)
class Tissue:
    """One section's tissue in the histology frame.

    Attributes:
        canvas: The slide's pixel grid.
        labels: `[H, W]` uint8, index into COMPARTMENTS.
        fat_wall: `[H, W]` float32 in [0, 1], how much of a pixel is wall of a fat cell.
        blood: `[H, W]` bool, red cells inside vessels.
        secretion: `[H, W]` bool, lumina that are not empty.
        cellularity: Factor on the number of nuclei.
    """

    canvas: Canvas
    labels: np.ndarray
    fat_wall: np.ndarray
    blood: np.ndarray
    secretion: np.ndarray
    cellularity: float

    @property
    def mask(self) -> np.ndarray:
        """Where there is tissue, `[H, W]` bool; lumina and fat belong to it."""
        return self.labels != GLASS


def draw_habit(rng: np.random.Generator) -> Habit:
    """Draws a patient: some mostly fat, some mostly tumour, some nearly normal."""
    normal = rng.random() < 0.2
    return Habit(
        adipose=float(rng.beta(2.0, 4.5)),
        tumour=float(rng.uniform(0.02, 0.1) if normal else rng.uniform(0.22, 0.6)),
        nest_um=float(rng.uniform(30.0, 75.0)),
        nest_fill=float(rng.uniform(0.45, 0.8)),
        necrosis=float(max(0.0, rng.uniform(-0.08, 0.14))),
        immune=float(rng.uniform(0.02, 0.1)),
        lobules=float(rng.uniform(0.5, 1.3)),
        ducts=float(rng.uniform(0.7, 2.0)),
        vessels=float(rng.uniform(1.2, 3.0)),
        in_situ=float(rng.uniform(0.0, 0.6)),
        cellularity=float(rng.uniform(0.8, 1.2)),
    )


def lay_out(
    rng: np.random.Generator,
    canvas: Canvas,
    habit: Habit,
    center_yx: tuple[float, float],
    radius_um: float,
    shape: Shape = PLAIN,
) -> Tissue:
    """Draws one section of a patient's tissue.

    Args:
        rng: Source of randomness.
        canvas: The slide's pixel grid.
        habit: What the patient's tissue is made of.
        center_yx: (y, x) of the circle that holds the tissue, um.
        radius_um: Its radius, um.
        shape: What is particular about its outline.

    Returns:
        The section.
    """
    mask = outline(rng, canvas, center_yx, radius_um, shape)
    labels = np.where(mask, STROMA, GLASS).astype(np.uint8)
    fat = cells(rng, canvas, _FAT_CELL_UM)
    labels[_fat_area(rng, canvas, habit, mask, fat) & mask] = ADIPOSE
    invaded = _paint_tumour(rng, canvas, habit, mask, labels)
    secretion = np.zeros(canvas.shape, bool)
    blood = np.zeros(canvas.shape, bool)
    taken: list[tuple[float, float, float]] = []
    area_mm2 = mask.sum() * canvas.um_per_px**2 / 1e6
    for _ in range(_count(rng, habit.lobules * area_mm2)):
        _paint_lobule(rng, canvas, labels, mask & ~invaded, taken)
    for _ in range(_count(rng, habit.ducts * area_mm2)):
        _paint_duct(rng, canvas, labels, mask, secretion, taken, habit.in_situ)
    for _ in range(_count(rng, habit.vessels * area_mm2)):
        _paint_vessel(rng, canvas, labels, mask, blood, taken)
    _paint_immune(rng, canvas, habit, labels)
    labels[~mask] = GLASS
    wall = _fat_wall(canvas, fat) * (labels == ADIPOSE)
    inside = labels == LUMEN
    return Tissue(canvas, labels, wall, blood & inside, secretion & inside, habit.cellularity)


def _count(rng: np.random.Generator, mean: float) -> int:
    return max(1, int(rng.poisson(mean)))


def _fat_area(rng, canvas: Canvas, habit: Habit, mask: np.ndarray, fat: Cells) -> np.ndarray:
    """Whole cells are fat or not, so that the border of fat is made of round cells."""
    field = smooth_noise(rng, canvas, 330.0) + 0.35 * smooth_noise(rng, canvas, 120.0)
    field = field[canvas.index(fat.center_yx_um)] + 0.4 * fat.dice
    return field > np.quantile(field[mask], 1.0 - habit.adipose)


def _fat_wall(canvas: Canvas, fat: Cells) -> np.ndarray:
    """Share of each pixel covered by cell walls about 3.5 um thick."""
    half_px = 0.5 * canvas.um_per_px
    cover = (1.75 + half_px - fat.wall_um) / (2.0 * half_px)
    return np.clip(cover, 0.0, min(1.0, 3.5 / canvas.um_per_px)).astype(np.float32)


def _paint_tumour(rng, canvas: Canvas, habit: Habit, mask: np.ndarray, labels: np.ndarray):
    """Nests and cords of tumour within an invaded area, dead in places; returns that area."""
    field = smooth_noise(rng, canvas, 420.0) + 0.3 * smooth_noise(rng, canvas, 110.0)
    invaded = (field > np.quantile(field[mask], 1.0 - habit.tumour)) & mask
    nests = smooth_noise(rng, canvas, habit.nest_um)
    nests = nests + 0.45 * smooth_noise(rng, canvas, 0.45 * habit.nest_um)
    solid = nests > np.quantile(nests, 1.0 - habit.nest_fill)
    labels[invaded & solid & (labels != ADIPOSE)] = TUMOUR
    labels[invaded & ~solid] = STROMA
    if habit.necrosis > 0 and invaded.any():
        depth = ndimage.distance_transform_edt(invaded) * canvas.um_per_px
        depth = depth + 35.0 * smooth_noise(rng, canvas, 60.0)
        dead = depth > max(60.0, float(np.quantile(depth[invaded], 1.0 - habit.necrosis)))
        labels[dead & invaded] = NECROSIS
    return invaded


def _paint_immune(rng, canvas: Canvas, habit: Habit, labels: np.ndarray) -> None:
    """Lymphocytes crowd in the stroma around tumour and glands."""
    crowd = ndimage.gaussian_filter(
        np.isin(labels, (TUMOUR, EPITHELIUM)).astype(np.float32), 70.0 / canvas.um_per_px
    )
    field = smooth_noise(rng, canvas, 75.0) + 0.5 * smooth_noise(rng, canvas, 22.0) + 2.2 * crowd
    stroma = labels == STROMA
    if stroma.any():
        share = min(0.5, habit.immune * np.count_nonzero(labels) / np.count_nonzero(stroma))
        labels[stroma & (field > np.quantile(field[stroma], 1.0 - share))] = IMMUNE


def _blob(rng, canvas: Canvas, center_yx, radius_um: float, *, aspect: float, wobble: float):
    """A wobbly ellipse: a window of the canvas and each pixel's relative radius (1 = its rim)."""
    reach = radius_um * (1.0 + 3.0 * wobble) / aspect**0.5 + canvas.um_per_px
    window = tuple(
        slice(
            max(0, int((c - reach) / canvas.um_per_px)),
            max(0, int((c + reach) / canvas.um_per_px) + 1),
        )
        for c in center_yx
    )
    dy = canvas.y_um[window[0]] - center_yx[0]
    dx = canvas.x_um[:, window[1]] - center_yx[1]
    tilt = rng.uniform(0, np.pi)
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) * aspect**0.5
    v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / aspect**0.5
    theta = np.arctan2(v, u)
    rim = np.ones_like(theta)
    for k in (2, 3, 5):
        rim += wobble * rng.normal(0, 0.6) * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    return window, np.hypot(u, v) / (radius_um * np.clip(rim, 0.5, 1.6))


def _free_place(rng, canvas: Canvas, allowed: np.ndarray, radius_um: float, taken: list):
    """A random allowed centre away from what was placed before, or None after some tries."""
    rows, columns = np.nonzero(allowed)
    for _ in range(25 if len(rows) else 0):
        pick = rng.integers(len(rows))
        y, x = (rows[pick] + 0.5) * canvas.um_per_px, (columns[pick] + 0.5) * canvas.um_per_px
        if all(np.hypot(y - py, x - px) > radius_um + pr for py, px, pr in taken):
            taken.append((y, x, radius_um))
            return y, x
    return None


def _paint_lobule(rng, canvas: Canvas, labels, allowed, taken) -> None:
    """A lobule: a rounded bed of loose stroma with a cluster of small glands."""
    radius = rng.uniform(150.0, 330.0)
    place = _free_place(rng, canvas, allowed, radius, taken)
    if place is None:
        return
    window, rho = _blob(rng, canvas, place, radius, aspect=rng.uniform(0.6, 1.0), wobble=0.12)
    bed = labels[window]
    bed[(rho < 1.0) & (bed != GLASS)] = STROMA
    gap = rng.uniform(62.0, 80.0)
    steps = np.arange(-radius, radius, gap)
    for y in steps:
        for x in steps + rng.uniform(0, gap):
            spot = np.array([y, x]) + rng.uniform(-0.3, 0.3, 2) * gap
            if np.hypot(*spot) < 0.82 * radius:
                _paint_gland(rng, canvas, labels, spot + place, rng.uniform(24.0, 38.0), 15.0)


def _paint_gland(rng, canvas: Canvas, labels, center_yx, radius_um: float, wall_um: float) -> None:
    """A ring of epithelium around a lumen."""
    shape = {"aspect": rng.uniform(0.6, 1.0), "wobble": 0.1}
    window, rho = _blob(rng, canvas, center_yx, radius_um, **shape)
    part = labels[window]
    tissue = part != GLASS
    part[(rho < 1.0) & tissue] = EPITHELIUM
    part[(rho < 1.0 - wall_um / radius_um) & tissue] = LUMEN


def _paint_duct(rng, canvas: Canvas, labels, allowed, secretion, taken, in_situ: float) -> None:
    """A duct with a thicker wall; empty, with secretion, or filled with tumour, dead inside."""
    radius = float(np.exp(rng.uniform(np.log(60.0), np.log(170.0))))
    place = _free_place(rng, canvas, allowed, radius, taken)
    if place is None:
        return
    aspect = rng.uniform(0.3, 1.0)
    window, rho = _blob(rng, canvas, place, radius, aspect=aspect, wobble=0.16)
    part = labels[window]
    tissue = part != GLASS
    part[(rho < 1.0 + 30.0 / radius) & tissue] = STROMA
    filled = rng.random() < in_situ
    part[(rho < 1.0) & tissue] = TUMOUR if filled else EPITHELIUM
    if filled:
        part[(rho < rng.uniform(0.2, 0.6)) & tissue] = NECROSIS
        return
    part[(rho < 1.0 - 24.0 / radius) & tissue] = LUMEN
    secretion[window] |= (rho < 0.55) & (rng.random() < 0.6)


def _paint_vessel(rng, canvas: Canvas, labels, allowed, blood, taken) -> None:
    """A vessel: a muscular wall around a lumen, often with blood."""
    radius = float(np.exp(rng.uniform(np.log(22.0), np.log(95.0))))
    place = _free_place(rng, canvas, allowed, radius, taken)
    if place is None:
        return
    aspect, wall = rng.uniform(0.45, 1.0), rng.uniform(0.25, 0.5)
    window, rho = _blob(rng, canvas, place, radius, aspect=aspect, wobble=0.08)
    part = labels[window]
    tissue = part != GLASS
    part[(rho < 1.0) & tissue] = VESSEL
    part[(rho < 1.0 - wall) & tissue] = LUMEN
    blood[window] |= (rho < 1.0 - wall) & (rng.random() < 0.7)
