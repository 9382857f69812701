"""Slides cut out of real H&E pictures, with latent compartments that follow the picture.

A round piece is cut from the tissue of a picture and laid on glass, so that the MSI can hold all of
it. Its compartments are soft classes of the two stains' densities; they steer the simulated
molecules and are no diagnosis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.histology import (
    Histology,
    NoPixelSize,
    read_histology,
    resample_area,
    slide_um_per_px,
    tissue_mask,
)
from msi2he_jax.phantom import geometry, tissue
from msi2he_jax.phantom.outlines import Shape, outline
from msi2he_jax.phantom.slide import Slide
from msi2he_jax.phantom.staining import EOSIN, HAEMATOXYLIN
from msi2he_jax.phantom.textures import Canvas, smooth_noise

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".btf", ".tf8", ".ndpi", ".scn")
SUFFIXES += (".mrxs", ".vms", ".bif", ".svslide")
# Typical relative (haematoxylin, eosin) of each tissue compartment; 1 = the picture's darkest.
_ANCHORS = {
    "stroma": (0.22, 0.62),
    "adipose": (0.06, 0.08),
    "epithelium": (0.62, 0.62),
    "tumour": (0.85, 0.75),
    "necrosis": (0.42, 0.98),
    "vessel": (0.15, 1.05),
    "lumen": (0.02, 0.25),
    "immune": (0.98, 0.35),
}
_SOFTNESS = 0.13
_CLASS_BLUR_UM = 12.0
_LEAST_TISSUE = 0.3
_LEAST_IN_PIECE = 0.1  # however many pieces are cut, none is of next to nothing
_MOST_ENLARGED = 2.0


@dataclasses.dataclass(frozen=True)
class Picture:
    """A real H&E picture, ready to cut sections from.

    Attributes:
        path: Where it was read from.
        pixels: `[H, W, 3]` uint8 sRGB.
        mask: `[H, W]` bool, tissue without pen marks and labels.
        abundance: `[H, W, L]` float32 in [0, 1], soft compartments; 0 off tissue.
        glass_rgb: `[3]` float64, its empty slide, 0-255.
    """

    path: Path
    pixels: np.ndarray
    mask: np.ndarray
    abundance: np.ndarray
    glass_rgb: np.ndarray


def find_pictures(folder: Path) -> list[Path]:
    """Lists the images of a folder and its subfolders, by name.

    Raises:
        InputError: there are none.
    """
    found = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        why = f"holds no image ({', '.join(SUFFIXES)})"
        raise InputError(folder, "histology-dir", why, "name a folder of H&E images")
    return found


def read_pictures(
    folder: Path,
    *,
    um_per_px: float,
    radius_um: float,
    most: int,
    on_skip: Callable[[str], None] = lambda why: None,
) -> list[Picture]:
    """Reads the pictures that are large enough and show enough tissue.

    Args:
        folder: Holds the images.
        um_per_px: Pixel size of the slides to make, um; also taken as the pixel size of images
            that do not state theirs.
        radius_um: Radius of the pieces to cut, um.
        most: No more than that many are read.
        on_skip: Called with the reason for each image that cannot be used.

    Returns:
        The usable pictures, at least one.

    Raises:
        InputError: no picture is usable.
    """
    side = int(np.ceil(2.0 * radius_um / um_per_px))
    usable: list[Picture] = []
    for path in find_pictures(folder):
        if len(usable) == most:
            break
        try:
            usable.append(_usable_picture(path, um_per_px, side))
        except InputError as error:
            on_skip(str(error))
    if not usable:
        why = f"no image could be read that has {side} x {side} px with {_LEAST_TISSUE:.0%} tissue"
        hint = "use larger images, a smaller --grid or a larger --histology-um-per-px"
        raise InputError(folder, "histology-dir", why, hint)
    return usable


def _usable_picture(path: Path, um_per_px: float, side: int) -> Picture:
    pixels = _at_scale(path, um_per_px, side)
    mask = tissue_mask(pixels)
    share = _core_share(mask, side).max()
    if share < _LEAST_TISSUE:
        why = f"no window of {side} x {side} px shows more than {share:.0%} tissue"
        raise InputError(path, "histology", why)
    return _picture(path, pixels, mask, um_per_px)


def _at_scale(path: Path, um_per_px: float, side: int) -> np.ndarray:
    """Pixels at `um_per_px`, enlarged a little if they must be."""
    histology = _read(path, um_per_px)
    pixels = histology.pixels
    if histology.um_per_px < 0.999 * um_per_px:
        pixels = resample_area(pixels, histology.um_per_px, um_per_px)
    enlarge = (side + 1) / min(pixels.shape[:2])
    if enlarge > _MOST_ENLARGED:
        height, width = pixels.shape[:2]
        why = f"is {width} x {height} px at {um_per_px:g} um, {side} x {side} px are needed"
        raise InputError(path, "histology", why)
    if enlarge > 1.0:
        zoomed = ndimage.zoom(pixels.astype(np.float32), (enlarge, enlarge, 1), order=1)
        pixels = np.clip(np.rint(zoomed), 0, 255).astype(np.uint8)
    return pixels


def _read(path: Path, um_per_px: float) -> Histology:
    """By the file's own pixel size where it states one, else as if it had the wanted one."""
    try:
        own = slide_um_per_px(path)
    except NoPixelSize:
        own = um_per_px
    return read_histology(path, own, target_um_per_px=um_per_px)


def _picture(path: Path, pixels: np.ndarray, mask: np.ndarray, um_per_px: float) -> Picture:
    bright = pixels[~mask & (pixels.min(axis=-1) > 190)]
    glass = np.median(bright, axis=0) if len(bright) > 50 else np.array([243.0, 241.0, 244.0])
    return Picture(path, pixels, mask, soft_compartments(pixels, mask, glass, um_per_px), glass)


def soft_compartments(
    pixels: np.ndarray, mask: np.ndarray, glass_rgb: np.ndarray, um_per_px: float
) -> np.ndarray:
    """Guesses compartments from how much haematoxylin and eosin each pixel holds.

    Args:
        pixels: `[H, W, 3]` uint8 sRGB.
        mask: `[H, W]` bool, tissue.
        glass_rgb: `[3]` float, the empty slide, 0-255.
        um_per_px: Pixel size, um.

    Returns:
        `[H, W, L]` float32 in [0, 1], summing to 1 on tissue and to 0 elsewhere.
    """
    density = -np.log10(np.clip(pixels / glass_rgb, 0.01, 1.0)).astype(np.float32)
    to_stains = np.linalg.pinv(np.array([HAEMATOXYLIN, EOSIN])).astype(np.float32)
    stains = np.clip(density @ to_stains, 0.0, None)
    sigma = _CLASS_BLUR_UM / um_per_px
    stains = ndimage.gaussian_filter(stains, (sigma, sigma, 0))
    stains = stains / (np.quantile(stains[mask], 0.97, axis=0) + 1e-6)
    anchors = np.array([_ANCHORS[name] for name in tissue.COMPARTMENTS[1:]], np.float32)
    distance = ((stains[..., None, :] - anchors) ** 2).sum(axis=-1)
    score = np.exp(-(distance - distance.min(axis=-1, keepdims=True)) / (2 * _SOFTNESS**2))
    return score / score.sum(axis=-1, keepdims=True) * mask[..., None]


def cut_sections(
    rng: np.random.Generator,
    picture: Picture,
    shapes: Sequence[Shape],
    *,
    um_per_px: float,
    radius_um: float,
) -> Iterator[tuple[Slide, dict]]:
    """Cuts round pieces from different places of one picture and lays each on glass.

    Args:
        rng: Source of randomness.
        picture: The picture.
        shapes: The outlines of the sections.
        um_per_px: Pixel size, um.
        radius_um: Radius of a piece, um.

    Yields:
        The slide and where it came from.
    """
    side = int(np.ceil(2.0 * radius_um / um_per_px))
    share = _core_share(picture.mask, side)
    share[share < _LEAST_IN_PIECE] = -np.inf
    for shape in shapes:
        row, column = _best_corner(rng, share, side)
        window = slice(row, row + side), slice(column, column + side)
        turn = int(rng.integers(8))
        facts = {"source": picture.path.name, "crop_xywh": [column, row, side, side]}
        parts = [_turned(a[window], turn) for a in (picture.pixels, picture.abundance)]
        slide = _on_glass(rng, *parts, picture.glass_rgb, um_per_px, radius_um, shape)
        yield slide, facts | {"turned_90": turn % 4, "flipped": turn >= 4}


def _core_share(mask: np.ndarray, side: int) -> np.ndarray:
    """Share of tissue amid each window of `side` px, indexed by the window's first corner.

    Only the middle counts, which every round piece keeps.
    """
    core = max(1, int(0.6 * side))
    total = np.pad(np.cumsum(np.cumsum(mask, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
    boxes = total[core:, core:] - total[:-core, core:] - total[core:, :-core]
    share = (boxes + total[:-core, :-core]) / core**2
    rim = (side - core) // 2
    rows, columns = (size - side + 1 for size in mask.shape)
    return share[rim : rim + rows, rim : rim + columns]


def _best_corner(rng, share: np.ndarray, side: int) -> tuple[int, int]:
    """The window with most tissue, give or take; marks it so that the next lies elsewhere."""
    wobble = 0.05 * rng.standard_normal(share.shape)
    row, column = (int(v) for v in np.unravel_index(np.argmax(share + wobble), share.shape))
    y = np.abs(np.arange(share.shape[0]) - row)[:, None]
    x = np.abs(np.arange(share.shape[1]) - column)[None, :]
    share -= np.clip(1.0 - y / side, 0.0, None) * np.clip(1.0 - x / side, 0.0, None)
    return row, column


def _turned(array: np.ndarray, turn: int) -> np.ndarray:
    turned = np.rot90(array, turn % 4)
    return turned[:, ::-1] if turn >= 4 else turned


def _on_glass(
    rng, pixels, abundance, glass_rgb, um_per_px: float, radius_um: float, shape: Shape
) -> Slide:
    """Lays the round part of a crop on an empty slide, off-tissue pixels left out."""
    canvas, center = geometry.draw_canvas(rng, radius_um, um_per_px)
    corner = tuple(round((c - radius_um) / um_per_px) for c in center)
    inside = tuple(
        slice(max(0, c), min(n, c + s))
        for c, n, s in zip(corner, canvas.shape, pixels.shape, strict=False)
    )
    part = tuple(slice(i.start - c, i.stop - c) for i, c in zip(inside, corner, strict=True))
    piece = outline(rng, canvas, center, radius_um, shape)
    maps = np.zeros((*canvas.shape, abundance.shape[-1]), np.float32)
    maps[inside] = abundance[part]
    maps *= piece[..., None]
    cover = ndimage.gaussian_filter((maps.sum(axis=-1) > 0.5).astype(np.float32), 0.8)[..., None]
    slide = _empty_slide(rng, canvas, glass_rgb)
    slide[inside] += cover[inside] * (pixels[part] - slide[inside])
    return Slide(np.clip(np.rint(slide), 0, 255).astype(np.uint8), um_per_px, maps, center)


def _empty_slide(rng, canvas: Canvas, glass_rgb: np.ndarray) -> np.ndarray:
    shade = 1.0 + 0.006 * smooth_noise(rng, canvas, 900.0)
    slide = glass_rgb * shade[..., None] + rng.normal(0, 1.0, canvas.shape)[..., None]
    return slide.astype(np.float32)
