"""Linear maps to try on outside sections: how they see the MSI, and what teaches them."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.data.loader import Arrays
from msi2he_jax.data.patients import one_spelling
from msi2he_jax.metrics import baselines, regression
from msi2he_jax.metrics.evaluation import unit_float


@dataclasses.dataclass(frozen=True)
class Line:
    """A linear map to try.

    Attributes:
        name: Of its row.
        method: `ridge` or `pls`.
        neighbours_px: Side of the square of neighbours, px.
        tissue: Whether pixels of the tissue alone teach.
        standardised: Whether each section's channels are first brought to mean 0 and variance 1.
        evened: Whether each section's channels are first divided by their mean intensity, weighted
            by itself: background, whose share says how much tissue there is, then does not count.
        squares: Whether the squares of the channels stand beside them.
        bagged: Whether images are averaged over fits that each leave a training patient out.
    """

    name: str
    method: str = "ridge"
    neighbours_px: int = 3
    tissue: bool = False
    standardised: bool = False
    evened: bool = False
    squares: bool = False
    bagged: bool = False


LINES = (
    Line("ridge, pixel alone", neighbours_px=1),
    Line("ridge, 3x3"),
    Line("ridge, 7x7", neighbours_px=7),
    Line("PLS, pixel alone", "pls", neighbours_px=1),
    Line("PLS, 3x3", "pls"),
    Line("PLS, 7x7", "pls", neighbours_px=7),
    Line("ridge, 15x15", neighbours_px=15),
    Line("PLS, 15x15", "pls", neighbours_px=15),
    Line("ridge, 3x3: tissue teaches alone", tissue=True),
    Line("ridge, 3x3: each section standardised", standardised=True),
    Line("PLS, 3x3: each section standardised", "pls", standardised=True),
    Line("PLS, 7x7: each section standardised", "pls", 7, standardised=True),
    Line("ridge, 3x3: each section's gains evened", evened=True),
    Line("ridge, 7x7: each section's gains evened", neighbours_px=7, evened=True),
    Line("PLS, 3x3: each section's gains evened", "pls", evened=True),
    Line("ridge, 7x7: gains evened, mean of fits", neighbours_px=7, evened=True, bagged=True),
    Line("ridge, 7x7: mean of fits without one patient", neighbours_px=7, bagged=True),
    Line("ridge, 3x3: squares of the channels, too", squares=True),
    Line("ridge, 3x3: mean of fits without one patient", bagged=True),
)


def linear_images(line: Line, train: Arrays, test: Arrays) -> np.ndarray:
    """Images of the test split by one linear map, `[N, H, W, 3]` float32 in [0, 1]."""
    mask = train.tissue_mask if line.tissue else train.inside
    known, unseen = (channels(line, split) for split in (train, test))
    patients = one_spelling(train.group_ids)
    examples = zip(patients, known, unit_float(train.histology), mask, strict=True)
    sums = regression.patient_moments(examples, neighbours_px=line.neighbours_px)
    without = [{k: v for k, v in sums.items() if k != name} for name in sums]
    fits = [
        regression.fit_linear(part, line.method) for part in (without if line.bagged else [sums])
    ]
    images = [baselines.apply_linear(fit, unseen, line.neighbours_px) for fit in fits]
    return np.mean(images, axis=0).astype(np.float32)


def channels(line: Line, split: Arrays) -> np.ndarray:
    """What a linear map sees, `[N, H, W, F]` float32; nothing where nothing was measured."""
    msi = split.msi
    if line.standardised:
        inside = split.valid_mask[..., None]
        count = inside.sum(axis=(1, 2), keepdims=True)
        mean = np.sum(msi * inside, axis=(1, 2), keepdims=True) / count
        variance = np.sum((msi - mean) ** 2 * inside, axis=(1, 2), keepdims=True) / count
        msi = np.where(inside, (msi - mean) / np.sqrt(variance + 1e-8), 0.0).astype(np.float32)
    if line.evened:
        total, squares = (np.sum(x, axis=(1, 2), keepdims=True) for x in (msi, msi**2))
        msi = (msi * total / np.maximum(squares, 1e-3)).astype(np.float32)
    return np.concatenate([msi, msi**2], axis=-1) if line.squares else msi
