"""Sections whose ions are unknown mixtures of a slide's stains and of other things."""

import numpy as np
from scipy import ndimage

from msi2he_jax.registration import transforms
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.transforms import Transform

SLIDE_UM, MSI_UM, SHAPE = 12.5, 50.0, (40, 44)
SIZES = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
MATRIX = transforms.rotation(140, mirrored=True, center_from=(1000, 1100), center_to=(1000, 1000))


def blobs(rng, count, size, sigma):
    return ndimage.gaussian_filter(rng.normal(size=(count, size, size)), (0, sigma, sigma))


def section(seed=0, noise=0.3, matrix=MATRIX, displacement=None, round_outline=False):
    """A slide of two stains, and ions that are unknown mixtures of both and of other things."""
    rng, size = np.random.default_rng(seed), 160
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = np.arctan2(y, x)
    lobes = 0.04 * np.sin(angle) + 0.04 * np.sin(2 * angle + 1)
    tissue = np.hypot(y, x) < 0.33 + (0 if round_outline else lobes)
    kinds = blobs(rng, 2, size, 7)
    stains = np.where(tissue, 1.0 + kinds / kinds.std((1, 2), keepdims=True) / 4, 0.05)
    seen = Transform(matrix, displacement).warp(
        np.moveaxis(np.concatenate([stains, tissue[None]]), 0, -1).astype(np.float32),
        source_um_per_px=SLIDE_UM,
        out_shape=SHAPE,
        out_um_per_px=MSI_UM,
    )
    causes = np.concatenate([seen, rng.normal(size=(*SHAPE, 3))], axis=-1)
    ions = causes @ rng.normal(size=(6, 15)) + noise * rng.normal(size=(*SHAPE, 15))
    return ions.astype(np.float32), np.moveaxis(stains, 0, -1), tissue, seen[..., 2] > 0.5


def pair_of(seed=0, **options):
    ions, stains, tissue, inside = section(seed, **options)
    return make_pair(ions, stains, None, tissue, **SIZES), inside


def error_px(transform, inside, truth=None):
    points = (np.argwhere(inside) + 0.5) * MSI_UM
    apart = transform(points) - (truth or Transform(MATRIX))(points)
    return float(np.median(np.linalg.norm(apart, axis=1)) / MSI_UM)
