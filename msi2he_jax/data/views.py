"""The three-channel view of a pair: of a given kind, or the kind that says most of the slide."""

from __future__ import annotations

from typing import Any

import numpy as np

from msi2he_jax.data.msi_arrays import MsiArrays
from msi2he_jax.msi import view_models
from msi2he_jax.msi.projection import METHODS, project
from msi2he_jax.msi.view_models import GramSum, PcaModel, UmapModel

_DRAWN_PX = 2000  # Of each training sample, to stretch a fitted view and to fit UMAP.
_TRIED_PX = 2000  # Embedded by "auto", which places the other pixels among them.
FITTED = ("pca", "umap")


def make_view(
    arrays: MsiArrays,
    histology: np.ndarray,
    tissue: np.ndarray,
    *,
    method: str,
    seed: int,
    models: dict[str, dict[str, Any]],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Makes the view of a section.

    Args:
        arrays: Its MSI on the common grid.
        histology: uint8 [H, W, 3], the slide on the same grid.
        tissue: bool [H, W].
        method: "pca", "tsne", "umap", or "auto" for the one with the highest score.
        seed: For t-SNE, UMAP and scoring.
        models: Records of views fitted to the training split, by method; used where there is one.

    Returns:
        uint8 [H, W, 3], 0 outside the mask; and what to record: `view`, and for "auto"
        `view_scores`, nats.

    Source:
        The paper chose each sample's view by eye.
    """
    if method != "auto":
        return _view(arrays, method, seed, models), {"view": method}
    # Here, since every process of a pool would otherwise load jax for scores that none asks for.
    from msi2he_jax.msi.views import best_view, score_views

    quick = {"most_px": _TRIED_PX}
    views = {name: _view(arrays, name, seed, models, **quick) for name in METHODS}
    scores = score_views(views, histology, tissue, arrays.mask, seed=seed)
    best = best_view(scores)
    return views[best], {"view": best, "view_scores": scores}


def _view(arrays: MsiArrays, method: str, seed: int, models, **options) -> np.ndarray:
    images = _stabilised(arrays)
    if method in models:
        return view_models.apply_view(images, arrays.mask, _model(models[method]))
    return project(images, arrays.mask, method=method, seed=seed, **options)


def _stabilised(arrays: MsiArrays) -> np.ndarray:
    """Square roots: counts then vary about as much in bright pixels as in dark ones."""
    return np.sqrt(arrays.msi)


def pixels_to_fit(arrays: MsiArrays, *, seed: int) -> dict[str, Any]:
    """Takes from a training sample what fitting a view needs; sums over samples add.

    Args:
        arrays: Its MSI on the common grid.
        seed: One for the data set.

    Returns:
        `n`, `mean` float64 [K] and `scatter` float64 [K, K] of a `GramSum`, and `drawn`
        float32 [n, K], some pixels.
    """
    images = _stabilised(arrays)
    drawn = view_models.draw_pixels(images, arrays.mask, count=_DRAWN_PX, seed=seed)
    return vars(view_models.gram_sum(images[arrays.mask])) | {"drawn": drawn}


def fit_views(parts: list[dict[str, Any]], *, method: str, seed: int) -> dict[str, dict[str, Any]]:
    """Fits views to the training split.

    Args:
        parts: `pixels_to_fit` of each training sample.
        method: "pca", "umap", or "auto" for both.
        seed: For UMAP.

    Returns:
        For each method its record, as `make_view` takes it.

    Raises:
        InputError: t-SNE, which cannot be applied to new pixels.
    """
    grams = [GramSum(part["n"], part["mean"], part["scatter"]) for part in parts]
    drawn = np.concatenate([part["drawn"] for part in parts])
    total = grams[0]
    for gram in grams[1:]:
        total = total + gram
    names = FITTED if method == "auto" else (method,)
    fitted = {name: view_models.fit_view(name, total, drawn, seed=seed) for name in names}
    return {name: {"method": name} | _plain(vars(model)) for name, model in fitted.items()}


def _plain(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    return {name: array.tolist() for name, array in arrays.items()}


def _model(record: dict[str, Any]) -> PcaModel | UmapModel:
    if record["method"] == "pca":
        return PcaModel.from_record(record)
    kinds = {"pixels": np.float32, "embedding": np.float32}
    parts = {name: value for name, value in record.items() if name != "method"}
    return UmapModel(**{n: np.asarray(v, kinds.get(n, np.float64)) for n, v in parts.items()})
