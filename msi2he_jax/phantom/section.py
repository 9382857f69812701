"""One simulated section: a slide image, a measured MSI and how they belong together."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.phantom import geometry, molecules, noise, regions, surroundings
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.hardness import NONE, Hardness
from msi2he_jax.phantom.slide import Slide
from msi2he_jax.registration.landmarks import Landmarks
from msi2he_jax.registration.transforms import Transform

_WORST_PSF_PX = 2.4
_MORE_WARP_PX = 4.0
_MOST_WARP = 12.0  # The warp stays below this part of the stage.


@dataclasses.dataclass(frozen=True)
class Section:
    """One simulated section.

    Attributes:
        slide: The H&E image.
        truth: Maps MSI um, from the outer corner of the first measured row and column, to slide um.
        positions_xy: `[P, 2]` int64, 1-based imzML positions, line by line.
        intensity: `[P, K]` float32, counts.
        shift_ppm: `[P]` float64, mass error of each spectrum, ppm.
        tissue: `[P]` bool, spectra of tissue.
        landmarks: Points picked by hand (`fit`) and exact ones (`eval`).
    """

    slide: Slide
    truth: Transform
    positions_xy: np.ndarray
    intensity: np.ndarray
    shift_ppm: np.ndarray
    tissue: np.ndarray
    landmarks: Landmarks


@dataclasses.dataclass(frozen=True)
class Probe:
    """The MSI instrument.

    Attributes:
        raster: The stage.
        psf_px: Gaussian width of the probe, MSI pixels.
        noise: Departure from expected counts.
        jitter_ppm: Mass error from spectrum to spectrum, ppm.
        warp_um: Largest displacement of the warp between MSI and slide, um.
        landmarks: How many of each use.
        picking_px: Error of a hand-picked landmark, MSI pixels.
    """

    raster: Raster
    psf_px: float = 0.45
    noise: noise.Noise = dataclasses.field(default_factory=noise.Noise)
    jitter_ppm: float = 3.0
    warp_um: float = 50.0
    landmarks: int = 8
    picking_px: float = 0.3


def harder(probe: Probe, levels: Hardness) -> Probe:
    """Makes an instrument as much worse as some levels say.

    Args:
        probe: The instrument.
        levels: Those of a section, or of a cohort for what its sections do not exceed.

    Returns:
        The instrument; the same at level 0.
    """
    raster = probe.raster
    room_um = float(max(raster.size_um)) / _MOST_WARP - probe.warp_um
    more_um = levels.warp * min(_MORE_WARP_PX * max(raster.um), max(0.0, room_um))
    return dataclasses.replace(
        probe,
        psf_px=probe.psf_px + levels.point_spread * (_WORST_PSF_PX - probe.psf_px),
        noise=noise.harder(probe.noise, levels),
        warp_um=probe.warp_um + more_um,
    )


def measure_slide(
    rng: np.random.Generator,
    slide: Slide,
    chemistry: molecules.Chemistry,
    probe: Probe,
    *,
    mirrored: bool,
    levels: Hardness = NONE,
) -> Section:
    """Puts a slide's tissue under the MSI probe.

    Args:
        rng: Source of randomness.
        slide: The slide.
        chemistry: The patient's chemistry.
        probe: The instrument.
        mirrored: Whether MSI sees the tissue upside down.
        levels: How hard this section is.

    Returns:
        The section.
    """
    probe, own = harder(probe, levels), rng.spawn(1)[0]
    raster = probe.raster
    truth = geometry.draw_truth(
        rng, raster, slide.center_yx, mirrored=mirrored, warp_um=probe.warp_um
    )
    latents = slide.met
    if chemistry.rim is not None:
        latents = np.concatenate([latents, surroundings.rim_map(own, slide)[..., None]], axis=-1)
    abundance = molecules.sample_latents(latents, slide.um_per_px, truth, raster, probe.psf_px)
    tissue = _on_raster(slide.met.sum(axis=-1) > 0.5, slide, truth, raster)
    measured = regions.draw_measured(rng, tissue, levels)
    images = molecules.clean_images(rng, abundance, chemistry)
    counts = noise.measure(rng, images, probe.noise)
    pixels = np.argwhere(measured)
    corner_px = pixels.min(axis=0)
    shared = measured & tissue
    if slide.measured is not None:
        shared &= _on_raster(slide.mask, slide, truth, raster)
    landmarks = _pick_landmarks(rng, shared if shared.any() else measured, truth, probe, corner_px)
    stage_offset = rng.integers(0, 6, 2)
    return Section(
        slide=slide,
        truth=truth.in_images(corner_px * np.asarray(raster.um)),
        positions_xy=(pixels + stage_offset + 1)[:, ::-1],
        intensity=counts[measured],
        shift_ppm=noise.mass_shifts_ppm(rng, len(pixels), probe.jitter_ppm),
        tissue=tissue[measured],
        landmarks=landmarks,
    )


def _on_raster(mask: np.ndarray, slide: Slide, truth: Transform, raster: Raster) -> np.ndarray:
    return truth.warp(
        mask,
        source_um_per_px=slide.um_per_px,
        out_shape=raster.shape,
        out_um_per_px=raster.um,
    )


def _pick_landmarks(rng, allowed, truth: Transform, probe: Probe, corner_px) -> Landmarks:
    """Points on tissue: every other one picked with a human's error, the rest exact."""
    um = np.asarray(probe.raster.um)
    points = geometry.draw_points(rng, allowed, 2 * probe.landmarks) * um
    histology = truth(points)
    use = np.array(["fit", "eval"])[np.arange(len(points)) % 2]
    error = rng.normal(0, probe.picking_px, points.shape) * um
    picked = points + error * (use == "fit")[:, None]
    name = np.array([f"L{i + 1:02d}" for i in range(len(points))])
    return Landmarks(name, use, picked - corner_px * um, histology)
