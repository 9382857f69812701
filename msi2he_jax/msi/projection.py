"""Three-channel views of many ion images: PCA, t-SNE and UMAP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.errors import InputError

METHODS = ("pca", "tsne", "umap")
_FEWEST_TO_EMBED = 16
_NEIGHBOURS = 15
PERCENTILES = (1.0, 99.0)


def project(
    images: np.ndarray,
    mask: np.ndarray,
    *,
    method: str = "pca",
    seed: int = 0,
    most_px: int = 10_000,
) -> np.ndarray:
    """Makes a colour view of ion images.

    Channels are brought to mean 0 and variance 1 over the mask, projected to three components, and
    each component is stretched from its 1st to its 99th percentile.

    Args:
        images: [H, W, K], finite.
        mask: bool [H, W]; only these pixels are used.
        method: "pca", "tsne" or "umap"; the last two fall back on PCA below 16 pixels, which they
            cannot embed.
        seed: For t-SNE and UMAP; PCA needs none, the largest loading of a component is positive.
        most_px: Above so many pixels, t-SNE and UMAP embed so many drawn ones, and all are placed
            among those (`place_by_neighbours`), since t-SNE would take hours for a large section.

    Returns:
        uint8 [H, W, 3]; 0 outside the mask, and in components that the data do not have.

    Raises:
        InputError: an unknown method, or shapes that do not fit.
    """
    if method not in METHODS:
        raise InputError("projection", "method", f"is {method!r}", f"one of {', '.join(METHODS)}")
    if images.ndim != 3 or images.shape[:2] != mask.shape:
        raise InputError("projection", "mask", f"{mask.shape} does not fit {images.shape}")
    if not np.isfinite(images[mask]).all():
        raise InputError("projection", "images", "hold values that are not finite")
    view = np.zeros((*mask.shape, 3), np.uint8)
    pixels = _standardize(images[mask].astype(np.float64))
    if len(pixels):
        components = _embed(pixels, method, seed, most_px)
        view[mask] = _stretch(components)
    return view


def _standardize(pixels: np.ndarray) -> np.ndarray:
    """Brings channels [n, K] to mean 0 and variance 1; drops those that do not vary."""
    centred = pixels - pixels.mean(axis=0) if len(pixels) else pixels
    spread = centred.std(axis=0) if len(pixels) else np.zeros(pixels.shape[1])
    varies = spread > 1e-12 * np.maximum(np.abs(pixels).max(axis=0, initial=0.0), 1e-300)
    return centred[:, varies] / spread[varies]


def _embed(pixels: np.ndarray, method: str, seed: int, most_px: int) -> np.ndarray:
    """Returns float64 [n, 3]."""
    if method == "pca" or len(pixels) < _FEWEST_TO_EMBED or pixels.shape[1] < 2:
        return principal_components(pixels, 3)
    embed = _tsne if method == "tsne" else umap_embedding
    most_px = max(most_px, _FEWEST_TO_EMBED)
    if len(pixels) <= most_px:
        return embed(pixels, seed)
    drawn = pixels[draw_rows(len(pixels), most_px, seed)]
    return place_by_neighbours(pixels, drawn, embed(drawn, seed))


def draw_rows(n: int, count: int, seed: int | Sequence[int]) -> np.ndarray:
    """Draws `count` of `n` rows without replacement, in order, int64 [count]; all if fewer."""
    if n <= count:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, count, replace=False))


def place_by_neighbours(pixels: np.ndarray, known: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """Places pixels in an embedding that was made of others.

    A pixel comes to the mean of its 15 nearest known ones, weighted by UMAP's membership
    exp(-(d - d_nearest) / scale), scale the mean of d - d_nearest. That is where UMAP's own
    `transform` starts from; its random refinement is left out, so that the result is the same
    everywhere, and a known pixel lands near, not exactly on, its own place.

    Args:
        pixels: float [n, K].
        known: float [m, K].
        embedding: float [m, 3].

    Returns:
        float64 [n, 3].

    Source:
        McInnes, Healy and Melville 2018.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(_NEIGHBOURS, len(known))
    neighbours = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(known)
    distance, index = neighbours.kneighbors(pixels)
    beyond = distance.astype(np.float64) - distance[:, :1]
    weight = np.exp(-beyond / np.maximum(beyond.mean(axis=1, keepdims=True), 1e-12))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.einsum("nk,nkc->nc", weight, embedding[index].astype(np.float64))


def component_images(images: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Returns the leading principal components of ion images, for arithmetic and not for the eye.

    Args:
        images: [H, W, K], finite.
        mask: bool [H, W]; only these pixels are used, each ion brought to mean 0 and variance 1.
        count: Number of components.

    Returns:
        float32 [H, W, count]; 0 outside the mask, and in components beyond the data's rank.
    """
    found = np.zeros((*mask.shape, count), np.float32)
    if mask.any():
        pixels = _standardize(images[mask].astype(np.float64))
        found[mask] = principal_components(pixels, count)
    return found


def principal_components(pixels: np.ndarray, count: int) -> np.ndarray:
    """Projects centred pixels on their leading principal axes, through the Gram matrix.

    Args:
        pixels: float64 [n, K], channels of mean 0.
        count: Number of components.

    Returns:
        float64 [n, count], by falling variance, each with its largest loading positive; components
        beyond the data's rank are 0.
    """
    return pixels @ principal_axes(pixels.T @ pixels, count)


def principal_axes(gram: np.ndarray, count: int) -> np.ndarray:
    """Returns the leading principal axes of a Gram matrix.

    Args:
        gram: float64 [K, K], of centred channels.
        count: Number of axes.

    Returns:
        float64 [K, count], by falling variance, each of length 1 with its largest loading
        positive; axes beyond the rank are 0.
    """
    found = np.zeros((len(gram), count))
    if len(gram) == 0:
        return found
    variance, axes = np.linalg.eigh(gram)
    real = variance > 1e-10 * max(variance[-1], 1e-300)
    axes = axes[:, real][:, ::-1][:, :count]
    if axes.shape[1]:
        largest = np.abs(axes).argmax(axis=0)
        found[:, : axes.shape[1]] = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
    return found


def _tsne(pixels: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(pixels) - 1) / 3)
    start = principal_components(pixels, 3)
    start *= 1e-4 / max(start[:, 0].std(), 1e-300)
    tsne = TSNE(n_components=3, perplexity=perplexity, init=start, random_state=seed)
    with threadpool_limits(1):  # Threads would add up in another order every time.
        return tsne.fit_transform(pixels).astype(np.float64)


def umap_embedding(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Embeds pixels by UMAP.

    Args:
        pixels: float [n, K], channels of mean 0 and variance 1.
        seed: Makes it deterministic.

    Returns:
        float64 [n, 3].
    """
    import umap

    reducer = umap.UMAP(
        n_components=3, n_neighbors=min(_NEIGHBOURS, len(pixels) - 1), random_state=seed, n_jobs=1
    )
    return np.asarray(reducer.fit_transform(pixels), np.float64)


def _stretch(components: np.ndarray) -> np.ndarray:
    """Maps each component [n, 3] from its 1st to 99th percentile on 0 to 255, uint8."""
    low, high = np.percentile(components, PERCENTILES, axis=0)
    varies = high > low
    width = np.where(varies, high - low, 1.0)
    level = np.where(varies, (components - low) / width, 0.0)
    return np.round(255 * np.clip(level, 0.0, 1.0)).astype(np.uint8)
