"""Three-channel views fitted once, to training samples, and applied alike to every sample.

PCA is fitted to a Gram sum, which adds over samples and machines; UMAP to pixels drawn from them.
t-SNE has no map for new pixels.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import atomic_file, existing_file
from msi2he_jax.msi.projection import (
    PERCENTILES,
    draw_rows,
    place_by_neighbours,
    principal_axes,
    umap_embedding,
)

_CHUNK_PX = 65_536
_UMAP_MOST_PX = 5000
_FEWEST_FOR_UMAP = 16


@dataclasses.dataclass(frozen=True, eq=False)
class GramSum:
    """What PCA needs to know of pixels; adding the sums of two sets gives that of both.

    The Gram matrix is kept about the mean, so that it loses no digits where channels vary little
    beside their mean.

    Attributes:
        n: Number of pixels.
        mean: float64 [K].
        scatter: float64 [K, K], sum of (x - mean) (x - mean)^T.
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    def __add__(self, other: GramSum) -> GramSum:
        if len(self.mean) != len(other.mean):
            why = f"{len(self.mean)} channels and {len(other.mean)} do not add"
            raise InputError("projection", "Gram sum", why)
        n = self.n + other.n
        shift = other.mean - self.mean
        share = other.n / max(n, 1)
        between = np.outer(shift, shift) * (self.n * share)
        return GramSum(n, self.mean + shift * share, self.scatter + other.scatter + between)


def gram_sum(pixels: np.ndarray) -> GramSum:
    """Sums pixels for `fit_pca`.

    Args:
        pixels: float [n, K], finite; n may be 0.

    Raises:
        InputError: values that are not finite.

    Source:
        Chan, Golub and LeVeque 1979, pairwise update of mean and scatter.
    """
    total = GramSum(0, np.zeros(pixels.shape[1]), np.zeros((pixels.shape[1],) * 2))
    for start in range(0, len(pixels), _CHUNK_PX):
        part = pixels[start : start + _CHUNK_PX].astype(np.float64)
        if not np.isfinite(part).all():
            raise InputError("projection", "images", "hold values that are not finite")
        mean = part.mean(axis=0)
        total += GramSum(len(part), mean, (part - mean).T @ (part - mean))
    return total


def draw_pixels(
    images: np.ndarray, mask: np.ndarray, *, count: int, seed: int | Sequence[int]
) -> np.ndarray:
    """Draws measured pixels, for the stretch of a view and for UMAP.

    Args:
        images: [H, W, K].
        mask: bool [H, W].
        count: How many; all where there are fewer.
        seed: One per sample, so that a draw does not depend on which machine or order it is in.

    Returns:
        float32 [n, K], in the order of the pixels.
    """
    where = np.flatnonzero(mask)
    where = where[draw_rows(len(where), count, seed)]
    return images.reshape(-1, images.shape[-1])[where].astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class PcaModel:
    """A view by PCA.

    Attributes:
        mean: float64 [K], taken from each channel.
        std: float64 [K], each channel is then divided by; 1 where it does not vary.
        axes: float64 [K, 3], principal axes; 0 for channels that do not vary.
        low: float64 [3], component that becomes black.
        high: float64 [3], component that becomes full; as `low` where it does not vary.
    """

    mean: np.ndarray
    std: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def to_record(self) -> dict[str, Any]:
        """Describes the model in plain lists, for JSON."""
        return {"method": "pca"} | {k: v.tolist() for k, v in vars(self).items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> PcaModel:
        """Makes the model that `to_record` described.

        Raises:
            InputError: a part is missing or has another shape.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if record.get("method") != "pca" or not set(names) <= set(record):
            raise InputError("view", "model", "is not a PCA view", "run preprocess again")
        model = cls(*(np.asarray(record[name], np.float64) for name in names))
        k = len(model.mean)
        shapes = [getattr(model, name).shape for name in names]
        if shapes != [(k,), (k,), (k, 3), (3,), (3,)]:
            raise InputError("view", "model", f"has shapes {shapes}", "run preprocess again")
        return model


def fit_pca(gram: GramSum, drawn: np.ndarray) -> PcaModel:
    """Fits a PCA view.

    Channels are brought to mean 0 and variance 1, as `projection.project` does for one sample.

    Args:
        gram: Over all training pixels.
        drawn: float [n, K], some of them (`draw_pixels`), whose 1st and 99th percentiles in each
            component become black and full.

    Raises:
        InputError: no pixel, or another number of channels.
    """
    if gram.n == 0 or len(drawn) == 0:
        raise InputError("view", "pixels", "there are none to fit a view to")
    if drawn.shape[1] != len(gram.mean):
        why = f"have {drawn.shape[1]} channels, the Gram sum {len(gram.mean)}"
        raise InputError("view", "pixels", why)
    std = np.sqrt(np.diag(gram.scatter) / gram.n)
    varies = std > 1e-12 * np.maximum(np.abs(gram.mean), 1e-300)
    std = np.where(varies, std, 1.0)
    correlation = (gram.scatter / np.outer(std, std))[np.ix_(varies, varies)]
    axes = np.zeros((len(std), 3))
    axes[varies] = principal_axes(correlation, 3)
    model = PcaModel(gram.mean, std, axes, np.zeros(3), np.ones(3))
    low, high = np.percentile(_components(model, drawn), PERCENTILES, axis=0)
    return dataclasses.replace(model, low=low, high=high)


def apply_pca(images: np.ndarray, mask: np.ndarray, model: PcaModel) -> np.ndarray:
    """Makes the view of a sample.

    Args:
        images: [H, W, K], finite inside the mask, treated as those the model was fitted to.
        mask: bool [H, W].
        model: From `fit_pca`.

    Returns:
        uint8 [H, W, 3]; 0 outside the mask.

    Raises:
        InputError: shapes that do not fit, or values that are not finite.
    """
    return _apply(images, mask, model, _components)


def _components(model: PcaModel, pixels: np.ndarray) -> np.ndarray:
    return ((pixels - model.mean) / model.std) @ model.axes


@dataclasses.dataclass(frozen=True, eq=False)
class UmapModel:
    """A view by UMAP: training pixels and where it put them.

    Attributes:
        mean: float64 [K].
        std: float64 [K]; 1 where a channel does not vary.
        pixels: float32 [n, K], standardised training pixels.
        embedding: float32 [n, 3].
        low: float64 [3], as in `PcaModel`.
        high: float64 [3].
    """

    mean: np.ndarray
    std: np.ndarray
    pixels: np.ndarray
    embedding: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model as npz."""
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> UmapModel:
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or not such a model.
        """
        try:
            with np.load(existing_file(path), allow_pickle=False) as arrays:
                model = cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(path, "", "is not a UMAP view", "run preprocess again") from error
        n, k = len(model.pixels), len(model.mean)
        fits = model.pixels.shape == (n, k) and model.embedding.shape == (n, 3)
        if not (fits and model.std.shape == (k,) and model.low.shape == model.high.shape == (3,)):
            raise InputError(path, "", "is not a UMAP view", "run preprocess again")
        return model


def fit_umap(drawn: np.ndarray, *, seed: int = 0) -> UmapModel:
    """Fits a UMAP view to training pixels.

    Args:
        drawn: float [n, K]; above 5,000, so many of them are drawn again.
        seed: For UMAP, and for that draw.

    Raises:
        InputError: fewer than 16 pixels, which UMAP cannot embed.
    """
    if len(drawn) < _FEWEST_FOR_UMAP:
        raise InputError(
            "view",
            "pixels",
            f"{len(drawn)} are too few for UMAP",
            "take pca: --view, or the manifest's column view",
        )
    drawn = drawn[draw_rows(len(drawn), _UMAP_MOST_PX, seed)]
    mean, std = drawn.mean(axis=0, dtype=np.float64), drawn.std(axis=0, dtype=np.float64)
    std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-300), std, 1.0)
    pixels = ((drawn - mean) / std).astype(np.float32)
    embedding = umap_embedding(pixels, seed).astype(np.float32)
    low, high = np.percentile(embedding.astype(np.float64), PERCENTILES, axis=0)
    return UmapModel(mean, std, pixels, embedding, low, high)


def apply_umap(images: np.ndarray, mask: np.ndarray, model: UmapModel) -> np.ndarray:
    """Makes the view of a sample by placing its pixels among the training pixels.

    See `projection.place_by_neighbours`.

    Args:
        images: [H, W, K], finite inside the mask, treated as those the model was fitted to.
        mask: bool [H, W].
        model: From `fit_umap`.

    Returns:
        uint8 [H, W, 3]; 0 outside the mask.

    Raises:
        InputError: shapes that do not fit, or values that are not finite.
    """
    return _apply(images, mask, model, _placed)


def _placed(model: UmapModel, pixels: np.ndarray) -> np.ndarray:
    standard = ((pixels - model.mean) / model.std).astype(np.float32)
    return place_by_neighbours(standard, model.pixels, model.embedding)


ViewModel = PcaModel | UmapModel


def fit_view(method: str, gram: GramSum, drawn: np.ndarray, *, seed: int = 0) -> ViewModel:
    """Fits a view by name.

    Args:
        method: "pca" or "umap".
        gram: Over all training pixels; PCA's.
        drawn: float [n, K], some of them.
        seed: For UMAP.

    Raises:
        InputError: t-SNE, which has no map for new pixels, or an unknown method.
    """
    if method == "tsne":
        hint = "fit --view=pca or umap, or --view_fit=sample"
        raise InputError("view", "method", "t-SNE cannot be applied to new pixels", hint)
    if method not in ("pca", "umap"):
        raise InputError("view", "method", f"is {method!r}", "one of pca, umap")
    return fit_pca(gram, drawn) if method == "pca" else fit_umap(drawn, seed=seed)


def apply_view(images: np.ndarray, mask: np.ndarray, model: ViewModel) -> np.ndarray:
    """Makes a sample's view with a fitted model, as `apply_pca` or `apply_umap`.

    Args:
        images: [H, W, K].
        mask: bool [H, W].
        model: Either kind.

    Returns:
        uint8 [H, W, 3].
    """
    return (apply_pca if isinstance(model, PcaModel) else apply_umap)(images, mask, model)


def _apply(images, mask, model, components) -> np.ndarray:
    """Stretches the components of the masked pixels, a chunk at a time."""
    if images.ndim != 3 or images.shape[:2] != mask.shape:
        raise InputError("projection", "mask", f"{mask.shape} does not fit {images.shape}")
    if images.shape[2] != len(model.mean):
        why = f"have {images.shape[2]} channels, the view {len(model.mean)}"
        raise InputError("projection", "images", why)
    pixels, where = images.reshape(-1, images.shape[2]), np.flatnonzero(mask)
    view = np.zeros((mask.size, 3), np.uint8)
    width = np.where(model.high > model.low, model.high - model.low, np.inf)
    for start in range(0, len(where), _CHUNK_PX):
        chosen = where[start : start + _CHUNK_PX]
        part = pixels[chosen].astype(np.float64)
        if not np.isfinite(part).all():
            raise InputError("projection", "images", "hold values that are not finite")
        level = (components(model, part) - model.low) / width
        view[chosen] = np.round(255 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
    return view.reshape(*mask.shape, 3)
