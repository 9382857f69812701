"""From tissue to clean ion images: nonnegative mixtures of latent abundance maps."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.ions import Ion, affinity_matrix
from msi2he_jax.phantom.textures import Canvas, smooth_noise
from msi2he_jax.registration.transforms import Transform

_OVERSAMPLE = 3
_SMOOTH_MAPS = 3


@dataclasses.dataclass(frozen=True)
class Chemistry:
    """How strongly each ion shows each compartment.

    Attributes:
        mixing: `[L + 1, K]` float64, intensity (counts) per abundance; the last row is glass.
        gradients: `[3, K]` float64, log change of each ion along three smooth maps of the section.
        rim: `[K]` float64, intensity (counts) on the rim of the tissue beyond the mixing, if any.
    """

    mixing: np.ndarray
    gradients: np.ndarray
    rim: np.ndarray | None = None


def draw_chemistry(rng: np.random.Generator, ions: tuple[Ion, ...]) -> Chemistry:
    """Draws the chemistry a whole cohort shares.

    Args:
        rng: Source of randomness.
        ions: K ions.

    Returns:
        Its mixing.
    """
    affinity = affinity_matrix(ions)
    level = np.exp(rng.uniform(np.log(1.6e3), np.log(1.6e5), len(ions)))
    strength = np.array([ion.strength for ion in ions])
    jitter = np.exp(rng.normal(0, 0.22, affinity.shape))
    jitter[-1] = np.exp(rng.normal(0, 0.4, len(ions)))
    return Chemistry(affinity * jitter * level * strength, rng.normal(0, 0.12, (3, len(ions))))


def patient_chemistry(rng: np.random.Generator, cohort: Chemistry) -> Chemistry:
    """Draws a patient's variation of the cohort's chemistry."""
    rows, count = cohort.mixing.shape
    factor = np.exp(rng.normal(0, 0.22, count) + rng.normal(0, 0.10, (rows, count)))
    rim = None if cohort.rim is None else cohort.rim * factor.mean(axis=0)
    return Chemistry(cohort.mixing * factor, cohort.gradients, rim)


def sample_latents(latents: np.ndarray, um_per_px: float, truth: Transform, raster: Raster, psf_px):
    """Looks at the slide's abundance maps through the MSI probe.

    Args:
        latents: `[h, w, L]` float32 in [0, 1], abundance of each compartment on the slide.
        um_per_px: Pixel size of the slide, um.
        truth: Where raster points lie on the slide.
        raster: The MSI stage.
        psf_px: Gaussian width of the probe, MSI pixels.

    Returns:
        `[H, W, L]` float32 in [0, 1].
    """
    fine = truth.warp(
        latents,
        source_um_per_px=um_per_px,
        out_shape=tuple(n * _OVERSAMPLE for n in raster.shape),
        out_um_per_px=np.asarray(raster.um) / _OVERSAMPLE,
    )
    sigma = psf_px * _OVERSAMPLE
    fine = ndimage.gaussian_filter(fine, (sigma, sigma, 0), mode="nearest")
    rows, columns = raster.shape
    blocks = fine.reshape(rows, _OVERSAMPLE, columns, _OVERSAMPLE, fine.shape[-1])
    return blocks.mean(axis=(1, 3))


def clean_images(
    rng: np.random.Generator, abundance: np.ndarray, chemistry: Chemistry
) -> np.ndarray:
    """Mixes abundance maps into ion images without noise.

    Args:
        rng: Source of randomness, for the smooth gradients.
        abundance: `[H, W, L]` float32 in [0, 1]; what is missing to 1 is glass. With a map of the
            rim behind them, `[H, W, L + 1]`, where the chemistry has a rim.
        chemistry: The mixing.

    Returns:
        `[H, W, K]` float32, expected counts.
    """
    rim = np.zeros((1, 1, 1), np.float32)
    if chemistry.rim is not None:
        abundance, rim = abundance[..., :-1], abundance[..., -1:] * chemistry.rim
    glass = np.clip(1.0 - abundance.sum(axis=-1, keepdims=True), 0.0, 1.0)
    images = np.concatenate([abundance, glass], axis=-1) @ chemistry.mixing.astype(np.float32)
    images = images + rim.astype(np.float32)
    grid = Canvas(abundance.shape[:2], 1.0)
    scale = max(abundance.shape[:2]) / 2.5
    maps = np.stack([smooth_noise(rng, grid, scale) for _ in range(_SMOOTH_MAPS)], axis=-1)
    return images * np.exp(maps @ chemistry.gradients.astype(np.float32))
