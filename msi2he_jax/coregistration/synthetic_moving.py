"""The moving side of a registration: a picture of the MSI, by whatever means it was made."""

from __future__ import annotations

import numpy as np

from msi2he_jax.coregistration.moving import MovingImage, msi_picture
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.inference.model import Model
from msi2he_jax.inference.new_data import read_msi
from msi2he_jax.inference.spread import compared_generators, confidence, estimate_spread
from msi2he_jax.inference.tiled import synthesize_tiled, to_uint8
from msi2he_jax.registration.slide import optical_density

LARGEST_TILE_PX = 512


def moving_image(
    kind: str,
    sample: Sample,
    *,
    model: Model | None = None,
    ion_ppm: float | None = None,
    seed: int = 0,
    force: bool = False,
    samples: int = 0,
) -> MovingImage:
    """Makes the picture of a section's MSI that is to be registered.

    Args:
        kind: `synthetic` (needs `model`), a view (`pca`, `tsne`, `umap`) or `ion:MZ`.
        sample: The section.
        model: A trained generator.
        ion_ppm: Half width of an ion's window, ppm; None as `named_ion_images`.
        seed: For t-SNE and UMAP.
        force: Goes on where the file differs in kind from the model's training data.
        samples: Paintings with dropout that say how far each synthetic pixel is to be trusted; 0:
            all alike.

    Raises:
        InputError: an unknown kind, no generator or no dropout to sample, a damaged file, or one
            that does not fit the model.
    """
    if kind == "synthetic":
        return _synthetic(sample, model, force, samples)
    if samples:
        raise InputError("--dropout_samples", "", f"goes with --moving=synthetic, not {kind}")
    return msi_picture(kind, sample, ion_ppm=ion_ppm, seed=seed)


def _synthetic(sample: Sample, model: Model, force: bool, samples: int) -> MovingImage:
    arrays = read_msi(
        sample.imzml,
        model.provenance,
        um_per_px=sample.msi_um_per_px,
        um_per_px_y=sample.msi_um_per_px_y,
        roi=sample.msi_roi,
        force=force,
    )
    tile_px = max(LARGEST_TILE_PX, model.multiple_px)
    tiling = {"tile_px": tile_px, "overlap_px": 64}
    image, trust = synthesize_tiled(model.apply, arrays.msi, **tiling), None
    if samples:
        spread = estimate_spread(compared_generators(model, samples), arrays.msi, **tiling)
        trust = confidence(image, spread, arrays.mask)
    pixels = to_uint8(image)
    return MovingImage(
        kind="synthetic",
        picture=pixels,
        features=optical_density(pixels)[..., None],
        measured=arrays.mask,
        um_per_px=np.full(2, arrays.um_per_px),
        origin_um=np.asarray(arrays.origin_um, np.float64),
        native_um=np.asarray(arrays.native_um, np.float64),
        confidence=trust,
        warnings=arrays.warnings,
    )
