"""One simulated section: a slide image, a measured MSI and how they belong together."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.phantom import geometry, molecules, noise
from msi2he_jax.phantom.geometry import Raster, Truth
from msi2he_jax.phantom.tissue import COMPARTMENTS
from msi2he_jax.registration.landmarks import Landmarks
from msi2he_jax.registration.transforms import warp_image


@dataclasses.dataclass(frozen=True)
class Slide:
    """A slide image and what is known of it.

    Attributes:
        pixels: `[h, w, 3]` uint8 sRGB.
        um_per_px: Pixel size, um.
        abundance: `[h, w, L]` float32 in [0, 1], share of each tissue compartment; 0 on glass.
        center_yx: Centre of the circle that holds the tissue (y, x), um.
    """

    pixels: np.ndarray
    um_per_px: float
    abundance: np.ndarray
    center_yx: tuple[float, float]

    @property
    def mask(self) -> np.ndarray:
        """Tissue, `[h, w]` bool."""
        return self.abundance.sum(axis=-1) > 0.5

    @property
    def labels(self) -> np.ndarray:
        """Strongest compartment, `[h, w]` uint8, index into COMPARTMENTS (0 = glass)."""
        strongest = self.abundance.argmax(axis=-1) + 1
        return np.where(self.mask, strongest, 0).astype(np.uint8)


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
    truth: Truth
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


def abundance_of(labels: np.ndarray) -> np.ndarray:
    """Turns labels into shares of compartments.

    Args:
        labels: `[h, w]` uint8, index into COMPARTMENTS.

    Returns:
        `[h, w, L]` float32, 0 or 1; L leaves out glass.
    """
    return (labels[..., None] == np.arange(1, len(COMPARTMENTS))).astype(np.float32)


def measure_slide(
    rng: np.random.Generator,
    slide: Slide,
    chemistry: molecules.Chemistry,
    probe: Probe,
    *,
    mirrored: bool,
) -> Section:
    """Puts a slide's tissue under the MSI probe.

    Args:
        rng: Source of randomness.
        slide: The slide.
        chemistry: The patient's chemistry.
        probe: The instrument.
        mirrored: Whether MSI sees the tissue upside down.

    Returns:
        The section.
    """
    raster = probe.raster
    truth = geometry.draw_truth(
        rng, raster, slide.center_yx, mirrored=mirrored, warp_um=probe.warp_um
    )
    abundance = molecules.sample_latents(
        slide.abundance, slide.um_per_px, truth, raster, probe.psf_px
    )
    tissue = _tissue_on_raster(slide, truth, raster)
    measured = geometry.draw_measured(rng, tissue)
    images = molecules.clean_images(rng, abundance, chemistry)
    counts = noise.measure(rng, images, probe.noise)
    pixels = np.argwhere(measured)
    corner_px = pixels.min(axis=0)
    landmarks = _pick_landmarks(rng, tissue & measured, truth, probe, corner_px)
    stage_offset = rng.integers(0, 6, 2)
    return Section(
        slide=slide,
        truth=truth.rebased(corner_px * np.asarray(raster.um)),
        positions_xy=(pixels + stage_offset + 1)[:, ::-1],
        intensity=counts[measured],
        shift_ppm=noise.mass_shifts_ppm(rng, len(pixels), probe.jitter_ppm),
        tissue=tissue[measured],
        landmarks=landmarks,
    )


def _tissue_on_raster(slide: Slide, truth: Truth, raster: Raster) -> np.ndarray:
    return warp_image(
        slide.mask,
        source_um_per_px=slide.um_per_px,
        matrix_out_to_source=truth.matrix,
        displacement=truth.displacement,
        out_shape=raster.shape,
        out_um_per_px=raster.um,
    )


def _pick_landmarks(rng, allowed, truth: Truth, probe: Probe, corner_px) -> Landmarks:
    """Points on tissue: every other one picked with a human's error, the rest exact."""
    um = np.asarray(probe.raster.um)
    points = geometry.draw_points(rng, allowed, 2 * probe.landmarks) * um
    histology = truth.to_histology(points)
    use = np.array(["fit", "eval"])[np.arange(len(points)) % 2]
    error = rng.normal(0, probe.picking_px, points.shape) * um
    picked = points + error * (use == "fit")[:, None]
    name = np.array([f"L{i + 1:02d}" for i in range(len(points))])
    return Landmarks(name, use, picked - corner_px * um, histology)
