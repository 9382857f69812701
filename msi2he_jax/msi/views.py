"""Scores three-channel views against the histology, and picks one."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.color import REC_601
from msi2he_jax.metrics.information import corrected_mutual_information

# Colours of a view are told apart by three levels per channel or, where pixels are few, by two.
_BINS = 32
_FEWEST_PX = 64
_FEWEST_PX_FOR_THREE_LEVELS = 4096
_MOST_PX = 2**18


def score_views(
    views: Mapping[str, np.ndarray],
    histology: np.ndarray,
    tissue: np.ndarray,
    mask: np.ndarray,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Scores how much each view tells about the histology, in nats.

    The score is the mutual information of the view's colour and the histology's luminance (Rec.
    601) over measured tissue, less what shuffled pixels give. A colour is the triple of its
    channels' terciles (27 colours; below 4,096 pixels halves, 8 colours), so that all three
    channels count together and neither stretching nor inverting a channel matters; luminance is
    ranked into 32 equal shares. Unrelated noise and a constant view score 0 on average.

    Args:
        views: uint8 [H, W, 3] by name, on the common grid.
        histology: uint8 [H, W, 3], sRGB, aligned to it.
        tissue: bool [H, W].
        mask: bool [H, W], measured.
        seed: For the shuffles.

    Returns:
        A score per view, in the order given; 0 for all below 64 pixels of measured tissue. Above
        2**18 pixels, evenly spread ones are taken.

    Raises:
        InputError: no view, or shapes that differ.

    Source:
        The paper chose by eye; Viola and Wells 1997 for mutual information across modalities.
    """
    _check(views, histology, tissue, mask)
    where = np.flatnonzero(np.asarray(tissue, bool) & np.asarray(mask, bool))
    if len(where) < _FEWEST_PX:
        return dict.fromkeys(views, 0.0)
    if len(where) > _MOST_PX:
        where = where[np.linspace(0, len(where) - 1, _MOST_PX).astype(np.int64)]
    levels = 3 if len(where) >= _FEWEST_PX_FOR_THREE_LEVELS else 2
    grey = np.asarray(histology, np.float64).reshape(-1, 3)[where] @ REC_601
    shares = _shares(grey, _BINS)
    return {
        name: _information(_colours(np.asarray(view).reshape(-1, 3)[where], levels), shares, seed)
        for name, view in views.items()
    }


def best_view(scores: Mapping[str, float]) -> str:
    """Returns the name with the highest score; of equal ones the first."""
    return max(scores, key=scores.__getitem__)


def _check(views, histology, tissue, mask) -> None:
    if not views:
        raise InputError("views", "", "none is given")
    shape = mask.shape
    for name, image in {"histology": histology, **views}.items():
        if image.shape != (*shape, 3):
            raise InputError("views", name, f"{image.shape} does not fit the mask {shape}")
    if tissue.shape != shape:
        raise InputError("views", "tissue", f"{tissue.shape} does not fit the mask {shape}")


def _shares(values: np.ndarray, count: int) -> np.ndarray:
    """Ranks values [n] into `count` equal shares, int64; equal values stay together."""
    borders = np.quantile(values, np.arange(1, count) / count)
    return np.searchsorted(borders, values, "left")


def _colours(pixels: np.ndarray, levels: int) -> np.ndarray:
    """Numbers the colours of a view's pixels [n, 3], int64 below levels ** 3."""
    channels = [_shares(pixels[:, channel], levels) for channel in range(3)]
    return (channels[0] * levels + channels[1]) * levels + channels[2]


def _information(colours: np.ndarray, shares: np.ndarray, seed: int) -> float:
    """Corrected mutual information of two labellings [n], padded to few lengths to compile for."""
    length = 1 << max(len(colours) - 1, 1).bit_length()
    x, y = (
        np.pad((labels + 0.5) / _BINS, (0, length - len(labels))).astype(np.float32)[None, None]
        for labels in (colours, shares)
    )
    mask = (np.arange(length) < len(colours))[None, None]
    key = jax.random.key(seed)
    return float(corrected_mutual_information(x, y, bins=_BINS, mask=mask, key=key)[0])
