"""Predictions that have learned nothing, or only by heart: what a model's scores are held against.

Images are histology as float in [0, 1]; training and test frames may differ in size, both padded
below and to the right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.checks import check_images, check_number

TILE_PX = 16
NULL_NAMES = (
    "empty_slide",
    "flat_silhouette",
    "mean_training_image",
    "nearest_training_patch",
    "nearest_training_image",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """What the baselines may know.

    Attributes:
        msi: `[M, h, w, K]` float in [0, 1].
        histology: `[M, h, w, 3]` float in [0, 1].
        tissue_mask: `[M, h, w]` bool.
    """

    msi: np.ndarray
    histology: np.ndarray
    tissue_mask: np.ndarray

    def colors(self) -> tuple[np.ndarray, np.ndarray]:
        """Median colour off the tissue and mean colour on it, `[3]` each; white where none."""
        background = self.histology[~self.tissue_mask]
        tissue = self.histology[self.tissue_mask]
        off = np.median(background, axis=0) if len(background) else np.ones(3)
        on = tissue.mean(axis=0, dtype=np.float64) if len(tissue) else np.ones(3)
        return off.astype(np.float32), on.astype(np.float32)


def null_predictions(
    train: Training, msi: np.ndarray, tissue_mask: np.ndarray, *, tile_px: int = TILE_PX
) -> dict[str, np.ndarray]:
    """All baselines' images for a test split.

    Args:
        train: The training split.
        msi: `[N, H, W, K]` float in [0, 1], test.
        tissue_mask: `[N, H, W]` bool, test; only the silhouette sees it.
        tile_px: Side of the tiles of `nearest_training_patch`, px.

    Returns:
        `[N, H, W, 3]` float32 in [0, 1] by name, in the order of `NULL_NAMES`.

    Raises:
        InputError: no training image, other channels than the training split has, or a tile below
            1 px.
    """
    where, known = "null_predictions", np.shape(train.msi)
    check_images(where, 4, tissue_mask, msi=msi)
    check_images(where, 4, train.tissue_mask, **{"train.msi": train.msi})
    check_number(where, "tile_px", tile_px, 1)
    if np.shape(train.histology) != (*known[:3], 3):
        why = f"has shape {np.shape(train.histology)}, the training MSI {known}"
        raise InputError(where, "train.histology", why)
    if msi.shape[-1] != known[-1]:
        why = f"has {msi.shape[-1]} channels, the training split {known[-1]}"
        raise InputError(where, "msi", why)
    background, tissue = train.colors()
    shape = msi.shape[:3]
    images = (
        empty_slide(shape, background),
        flat_silhouette(tissue_mask, tissue, background),
        mean_training_image(train.histology, shape, background),
        nearest_training_patch(train.msi, train.histology, msi, tile_px=tile_px),
        nearest_training_image(train.msi, train.histology, msi, background),
    )
    return dict(zip(NULL_NAMES, images, strict=True))


def empty_slide(shape: tuple[int, int, int], background: np.ndarray) -> np.ndarray:
    """A slide without tissue.

    Args:
        shape: (N, H, W).
        background: `[3]` float in [0, 1].

    Returns:
        `[N, H, W, 3]` float32.
    """
    return np.broadcast_to(np.asarray(background, np.float32), (*shape, 3))


def flat_silhouette(
    tissue_mask: np.ndarray, tissue: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """The true tissue outline filled with one colour.

    Args:
        tissue_mask: `[N, H, W]` bool.
        tissue: `[3]` float in [0, 1], colour inside.
        background: `[3]` float in [0, 1], colour outside.

    Returns:
        `[N, H, W, 3]` float32.
    """
    return np.where(tissue_mask[..., None], tissue, background).astype(np.float32)


def mean_training_image(
    histology: np.ndarray, shape: tuple[int, int, int], background: np.ndarray
) -> np.ndarray:
    """The mean of the training images, the same for every test image.

    Args:
        histology: `[M, h, w, 3]` float in [0, 1].
        shape: (N, H, W) of the test split.
        background: `[3]` float in [0, 1], where test frames are larger.

    Returns:
        `[N, H, W, 3]` float32.
    """
    mean = histology.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    return np.broadcast_to(fit_frame(mean, shape[1:], background), (*shape, 3))


def nearest_training_patch(
    train_msi: np.ndarray, train_histology: np.ndarray, msi: np.ndarray, *, tile_px: int = TILE_PX
) -> np.ndarray:
    """Pastes, tile by tile, the histology of the training tile whose MSI is nearest (Euclidean).

    One training image is compared with one test image at a time, so memory stays that of a pair.

    Args:
        train_msi: `[M, h, w, K]` float in [0, 1].
        train_histology: `[M, h, w, 3]` float in [0, 1].
        msi: `[N, H, W, K]` float in [0, 1].
        tile_px: Side of a tile, px; tiles do not overlap.

    Returns:
        `[N, H, W, 3]` float32.
    """
    pasted = np.zeros((*msi.shape[:3], 3), np.float32)
    for target, image in zip(pasted, msi, strict=True):
        tiles = _tiles(image, tile_px)
        flat = jnp.asarray(tiles.reshape(len(tiles), -1))
        best = np.full(len(tiles), np.inf)
        chosen = np.zeros((len(tiles), tile_px, tile_px, 3), np.float32)
        for source, histology in zip(train_msi, train_histology, strict=True):
            source = _tiles(source, tile_px)
            index, distance = _nearest(flat, jnp.asarray(source.reshape(len(source), -1)))
            better = np.asarray(distance) < best
            best = np.where(better, distance, best)
            chosen[better] = _tiles(histology, tile_px)[np.asarray(index)[better]]
        target[...] = _untile(chosen, target.shape[:2])
    return pasted


def nearest_training_image(
    train_msi: np.ndarray, train_histology: np.ndarray, msi: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """The whole training image whose MSI is nearest (Euclidean).

    Args:
        train_msi: `[M, h, w, K]` float in [0, 1].
        train_histology: `[M, h, w, 3]` float in [0, 1].
        msi: `[N, H, W, K]` float in [0, 1].
        background: `[3]` float in [0, 1], where test frames are larger.

    Returns:
        `[N, H, W, 3]` float32.
    """
    index, _ = nearest_image(msi, train_msi, 0.0)
    frame = msi.shape[1:3]
    return np.concatenate([fit_frame(train_histology[i : i + 1], frame, background) for i in index])


def nearest_image(
    images: np.ndarray, train: np.ndarray, background: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest training image, and how far it is: the memorisation check.

    A generator whose images lie much nearer to a training image than the real test images do is
    repeating what it has seen.

    Args:
        images: `[N, H, W, C]` float.
        train: `[M, h, w, C]` float, same unit.
        background: `[C]` float or scalar, where test frames are larger.

    Returns:
        `[N]` int index into `train`, and `[N]` float32 root mean square difference.
    """
    best = np.full(len(images), np.inf, np.float32)
    index = np.zeros(len(images), np.int64)
    for i in range(len(train)):
        other = fit_frame(train[i : i + 1], images.shape[1:3], background)[0]
        # One image against one: a batch of differences would be a copy of the whole split.
        rms = np.array([np.sqrt(np.mean((image - other) ** 2)) for image in images], np.float32)
        index = np.where(rms < best, i, index)
        best = np.minimum(best, rms)
    return index, best


def memorisation(
    fake: np.ndarray, real: np.ndarray, train: Training, train_ids: Sequence[str]
) -> dict[str, np.ndarray]:
    """Distance of each synthetic and each real test image to the nearest training image.

    Args:
        fake: `[N, H, W, 3]` float in [0, 1].
        real: `[N, H, W, 3]` float in [0, 1].
        train: The training split.
        train_ids: M names of training samples.

    Returns:
        `fake_to_training_rms` and `real_to_training_rms`, `[N]` float32, and
        `nearest_training_sample`, `[N]` names: the one nearest to the synthetic image.
    """
    background, _ = train.colors()
    index, distance = nearest_image(fake, train.histology, background)
    _, real_distance = nearest_image(real, train.histology, background)
    return {
        "fake_to_training_rms": distance,
        "real_to_training_rms": real_distance,
        "nearest_training_sample": np.array(train_ids)[index],
    }


def fit_frame(images: np.ndarray, shape: tuple[int, int], fill: np.ndarray | float) -> np.ndarray:
    """Crops or pads images below and to the right.

    Args:
        images: `[N, h, w, C]`.
        shape: (H, W).
        fill: `[C]` or scalar.

    Returns:
        `[N, H, W, C]` float32.
    """
    height, width = (min(a, b) for a, b in zip(shape, images.shape[1:3], strict=True))
    framed = np.empty((len(images), *shape, images.shape[3]), np.float32)
    framed[...] = fill
    framed[:, :height, :width] = images[:, :height, :width]
    return framed


@jax.jit
def _nearest(tiles, sources):
    """Index of and squared distance to the nearest row; `[P, D]` and `[Q, D]` -> `[P]`, `[P]`."""
    product = jnp.matmul(tiles, sources.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(sources**2, axis=1)[None] - 2 * product + jnp.sum(tiles**2, axis=1)[:, None]
    return jnp.argmin(norms, axis=1), jnp.min(norms, axis=1)


def _tiles(image: np.ndarray, tile_px: int) -> np.ndarray:
    """Cuts `[H, W, C]` into `[T, tile, tile, C]`, padded with 0 below and to the right."""
    height, width, channels = image.shape
    rows, columns = -(-height // tile_px), -(-width // tile_px)
    padding = ((0, rows * tile_px - height), (0, columns * tile_px - width), (0, 0))
    grid = np.pad(image, padding).reshape(rows, tile_px, columns, tile_px, channels)
    return grid.swapaxes(1, 2).reshape(-1, tile_px, tile_px, channels)


def _untile(tiles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Puts `_tiles` back together, cropped to (H, W)."""
    tile_px = tiles.shape[1]
    rows, columns = (-(-side // tile_px) for side in shape)
    grid = tiles.reshape(rows, columns, tile_px, tile_px, -1).swapaxes(1, 2)
    return grid.reshape(rows * tile_px, columns * tile_px, -1)[: shape[0], : shape[1]]
