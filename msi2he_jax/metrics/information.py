"""Mutual information from a joint histogram, in nats, one number per image.

Bins are those of `numpy.histogram2d` with `range`: equal widths, the last one closed, values
outside the range (and outside the mask) not counted. Counts are integers, so results do not depend
on the order of summation: scatter on CPU, one-hot matrix products elsewhere.
"""

from __future__ import annotations

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.metrics.checks import (
    check_bounds,
    check_choice,
    check_images,
    check_mask,
    check_number,
)

# Pixels per one-hot product: 8,192 x 256 bf16 is 4 MiB per image, small beside the image batch.
CHUNK_PX = 8192


METHODS = (None, "scatter", "matmul")


def mutual_information(x, y, *, bins, data_range=(0.0, 1.0), mask=None, method=None):
    """Mutual information of two images' grey values.

    Args:
        x: `[B, H, W]` float.
        y: `[B, H, W]` float.
        bins: Number of bins per image, at least 2.
        data_range: (low, high) of the bins; values outside do not count.
        mask: `[B, H, W]` bool or None.
        method: "scatter", "matmul" or None for the backend's own.

    Returns:
        `[B]` float32, nats, >= 0; NaN where nothing is counted or a pixel (in the mask) is NaN.

    Raises:
        InputError: an argument of another shape or outside its domain.

    Source: equals the plug-in estimate from `numpy.histogram2d` (and scikit-learn's
    `mutual_info_score` of the bin labels).

    Example:
        >>> import numpy as np
        >>> halves = np.float32([[[0.25, 0.75], [0.25, 0.75]]])
        >>> round(float(mutual_information(halves, 1.0 - halves, bins=2)[0]), 4)  # ln 2
        0.6931
    """
    how = _checked("mutual_information", x, y, mask, bins, data_range, method)
    return _mutual_information(x, y, mask, *how)


def normalized_mutual_information(x, y, *, bins, data_range=(0.0, 1.0), mask=None, method=None):
    """Studholme's normalised mutual information, (H(X) + H(Y)) / H(X, Y).

    Args:
        x: `[B, H, W]` float.
        y: `[B, H, W]` float.
        bins: Number of bins per image, at least 2.
        data_range: (low, high) of the bins.
        mask: `[B, H, W]` bool or None.
        method: As in `mutual_information`.

    Returns:
        `[B]` float32 in [1, 2]; 1 (no information) where both images are constant, NaN as in
        `mutual_information`.

    Raises:
        InputError: as `mutual_information`.

    Source: Studholme, Hill and Hawkes 1999, as scikit-image computes it, on a stated range.

    Example:
        >>> import numpy as np
        >>> halves = np.float32([[[0.25, 0.75], [0.25, 0.75]]])
        >>> normalized_mutual_information(halves, 1.0 - halves, bins=2).round(4).tolist()
        [2.0]
    """
    how = _checked("normalized_mutual_information", x, y, mask, bins, data_range, method)
    return _normalized_information(x, y, mask, *how)


def corrected_mutual_information(
    x, y, *, bins=32, data_range=(0.0, 1.0), mask, key, shuffles=8, method=None
):
    """Mutual information inside a mask, minus its mean when the pixels of `y` are shuffled there.

    What is left is 0 on average for unrelated images, however few pixels the mask has. All images
    use the same random numbers, so a score does not depend on the batch the image is in. The
    shuffles are one random permutation, turned by equal steps.

    Args:
        x: `[B, H, W]` float.
        y: `[B, H, W]` float.
        bins: Number of bins per image, at least 2.
        data_range: (low, high) of the bins.
        mask: `[B, H, W]` bool.
        key: jax PRNG key.
        shuffles: Number of shuffles, at least 1.
        method: As in `mutual_information`.

    Returns:
        `[B]` float32, nats; may be slightly negative; NaN as in `mutual_information`.

    Raises:
        InputError: as `mutual_information`.
    """
    where = "corrected_mutual_information"
    how = _checked(where, x, y, mask, bins, data_range, method)
    check_mask(where, mask, np.shape(x))
    return _corrected_information(
        x, y, mask, key, check_number(where, "shuffles", shuffles, 1), *how
    )


def joint_histogram(x, y, *, bins, data_range=(0.0, 1.0), mask=None, method=None):
    """Joint histogram of two images, as `numpy.histogram2d(x, y, bins, [range, range])`.

    Args:
        x: `[B, H, W]` float.
        y: `[B, H, W]` float.
        bins: Number of bins per image, at least 2.
        data_range: (low, high) of the bins, last bin closed.
        mask: `[B, H, W]` bool or None.
        method: As in `mutual_information`.

    Returns:
        `[B, bins, bins]` int32, rows are `x`; pixels that are NaN are not counted.

    Raises:
        InputError: as `mutual_information`.

    Example:
        >>> import numpy as np
        >>> halves = np.float32([[[0.25, 0.75], [0.25, 0.75]]])
        >>> joint_histogram(halves, 1.0 - halves, bins=2).tolist()
        [[[0, 2], [2, 0]]]
    """
    how = _checked("joint_histogram", x, y, mask, bins, data_range, method)
    return _joint_histogram(x, y, mask, *how)


def _checked(where, x, y, mask, bins, data_range, method):
    """Returns bins, range and method once all arguments are within their domains."""
    check_images(where, 3, mask, x=x, y=y)
    check_choice(where, "method", method, METHODS)
    return (
        check_number(where, "bins", bins, 2),
        check_bounds(where, "data_range", data_range),
        method,
    )


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _mutual_information(x, y, mask, bins, data_range, method):
    known = _known(x, y, mask)
    x, y = (_flat(bin_index(image, bins, data_range)) for image in (x, y))
    keep = None if mask is None else _flat(mask)
    return _where_known(known, _information_of(x, y, keep, bins, method), x, y, keep, bins)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _normalized_information(x, y, mask, bins, data_range, method):
    counts = _joint_histogram(x, y, mask, bins, data_range, method)
    joint = _entropy(counts.reshape(counts.shape[0], -1))
    found = jnp.where(joint > 0, 1 + _information(counts) / jnp.where(joint > 0, joint, 1), 1.0)
    return jnp.where(_known(x, y, mask) & jnp.any(counts > 0, axis=(1, 2)), found, jnp.nan)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _corrected_information(x, y, mask, key, shuffles, bins, data_range, method):
    known = _known(x, y, mask)
    x, y = (_flat(bin_index(image, bins, data_range)) for image in (x, y))
    keep = _flat(mask)
    plain = _information_of(x, y, keep, bins, method)
    plain = _where_known(known, plain, x, y, keep, bins)
    x, y, count = _shuffled(x, y, keep, key)
    positions = jnp.arange(x.shape[1])[None]

    def shuffle_score(turn):
        source = (positions + turn * count // shuffles) % jnp.maximum(count, 1)
        turned = jnp.take_along_axis(y, source, axis=1)
        return _information_of(x, turned, positions < count, bins, method)

    return plain - jnp.mean(jax.lax.map(shuffle_score, jnp.arange(shuffles)), axis=0)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _joint_histogram(x, y, mask, bins, data_range, method):
    x, y = (_flat(bin_index(image, bins, data_range)) for image in (x, y))
    return _counts(x, y, None if mask is None else _flat(mask), bins, method)


def _known(x, y, mask):
    """Whether no pixel in the mask is NaN, `[B]` bool."""
    bad = jnp.isnan(x) | jnp.isnan(y)
    return ~jnp.any(bad if mask is None else bad & mask, axis=(1, 2))


def _where_known(known, score, x, y, keep, bins):
    """The score, NaN where it is not known or no pair of bins `[B, P]` is counted."""
    inside = (x < bins) & (y < bins)
    counted = jnp.any(inside if keep is None else inside & keep, axis=1)
    return jnp.where(known & counted, score, jnp.nan)


def bin_index(image, bins, data_range):
    """Bin of every value, exactly as numpy's: compared with the float64 edges, not only divided.

    Args:
        image: Array of float, read as float32.
        bins: Number of bins, checked.
        data_range: (low, high), checked.

    Returns:
        int32 of the same shape, `bins` where the value is outside the range or NaN.
    """
    low, high = data_range
    image = jnp.asarray(image, jnp.float32)
    edges = jnp.asarray(_float32_edges(low, high, bins))
    guess = jnp.clip(((image - low) * (bins / (high - low))).astype(jnp.int32), 0, bins - 1)
    index = guess
    if not _product_is_exact(low, high, bins):
        # The product may be rounded across an edge by one float32 step: the guess is off by one.
        index = guess + (image >= edges[guess + 1]) - (image < edges[guess])
    inside = (image >= edges[0]) & (image <= np.float32(high))
    return jnp.where(inside, jnp.clip(index, 0, bins - 1), bins)


def _float32_edges(low: float, high: float, bins: int) -> np.ndarray:
    """The smallest float32 not below each of numpy's float64 bin edges, `[bins + 1]`."""
    edges = np.linspace(low, high, bins + 1)
    rounded = edges.astype(np.float32)
    up = np.nextafter(rounded, np.float32(np.inf))
    return np.where(rounded < edges, up, rounded)


def _product_is_exact(low: float, high: float, bins: int) -> bool:
    """Whether the product alone tells the bin: it rises with the value, so its edges decide."""
    edges = _float32_edges(low, high, bins)[1:-1]
    below = np.nextafter(edges, np.float32(-np.inf))
    factor = np.float32(bins / (high - low))
    above, under = (((x - np.float32(low)) * factor).astype(np.int32) for x in (edges, below))
    return bool(np.all(above == np.arange(1, bins)) and np.all(under == np.arange(bins - 1)))


def _flat(image):
    return image.reshape(image.shape[0], -1)


def _information_of(x, y, keep, bins, method):
    """Mutual information of bin numbers `[B, P]`, `[B]` nats; a CPU's cores share the images.

    XLA scatters on one core; several scatters that do not depend on each other run side by side.
    """
    parts = len(os.sched_getaffinity(0)) if _method(method) == "scatter" else 1
    keep = jnp.ones(x.shape, bool) if keep is None else keep
    pieces = zip(*(jnp.array_split(v, min(parts, len(v))) for v in (x, y, keep)))
    return jnp.concatenate([_information(_counts(*each, bins, method)) for each in pieces])


def _method(method: str | None) -> str:
    return method or ("scatter" if jax.default_backend() == "cpu" else "matmul")


def _counts(x, y, keep, bins, method):
    """Joint counts of bin numbers `[B, P]` (`bins` = not counted), `[B, bins, bins]` int32."""
    inside = (x < bins) & (y < bins)
    inside = inside if keep is None else inside & keep
    return (_scatter_counts if _method(method) == "scatter" else _matmul_counts)(x, y, inside, bins)


def _scatter_counts(x, y, inside, bins):
    """Counts by integer scatter-add; what is not inside falls into a cell cut off afterwards."""
    batch = x.shape[0]
    cells = bins * bins + 1
    cell = jnp.where(inside, x * bins + y, cells - 1) + cells * jnp.arange(batch)[:, None]
    counts = jnp.zeros(batch * cells, jnp.int32).at[cell.ravel()].add(1, mode="promise_in_bounds")
    return counts.reshape(batch, cells)[:, :-1].reshape(batch, bins, bins)


def _matmul_counts(x, y, inside, bins):
    """Counts by products of one-hot rows, exact: 0 and 1 in bf16, sums below 2^24 in float32."""
    batch, pixels = x.shape
    x, y = jnp.where(inside, x, -1), jnp.where(inside, y, -1)
    pad = -pixels % CHUNK_PX
    chunks = (
        jnp.pad(v, ((0, 0), (0, pad)), constant_values=-1).reshape(batch, -1, CHUNK_PX)
        for v in (x, y)
    )

    def add_chunk(total, pair):
        one_hot_x, one_hot_y = (jax.nn.one_hot(v, bins, dtype=jnp.bfloat16) for v in pair)
        product = jnp.einsum(
            "bpx,bpy->bxy", one_hot_x, one_hot_y, preferred_element_type=jnp.float32
        )
        return total + product.astype(jnp.int32), None

    start = jnp.zeros((batch, bins, bins), jnp.int32)
    return jax.lax.scan(add_chunk, start, tuple(jnp.moveaxis(v, 1, 0) for v in chunks))[0]


def _shuffled(x, y, keep, key):
    """Moves the kept pixels to the front: of `x` in order, of `y` in random order.

    Args:
        x: `[B, P]` int32.
        y: `[B, P]` int32.
        keep: `[B, P]` bool.
        key: jax PRNG key.

    Returns:
        `x` and `y` so ordered, and the number kept, `[B, 1]` int32.
    """
    noise = jax.random.uniform(key, (1, x.shape[1]))
    random_order = jnp.argsort(jnp.where(keep, noise, 2.0), axis=1)
    order = jnp.argsort(~keep, axis=1, stable=True)
    count = jnp.sum(keep, axis=1, keepdims=True)
    x, y = jnp.take_along_axis(x, order, axis=1), jnp.take_along_axis(y, random_order, axis=1)
    return x, y, count


def _information(counts):
    """Plug-in mutual information of joint counts `[B, bins, bins]`, `[B]` nats."""
    counts = counts.astype(jnp.float32)
    rows, columns = counts.sum(axis=2, keepdims=True), counts.sum(axis=1, keepdims=True)
    total = jnp.maximum(counts.sum(axis=(1, 2), keepdims=True), 1)
    safe_rows, safe_columns = jnp.maximum(rows, 1), jnp.maximum(columns, 1)
    # The ratio to independence is near 1, so that no large entropies cancel.
    ratio = jnp.maximum(counts, 1) / safe_rows * (total / safe_columns)
    terms = jnp.where(counts > 0, counts / total * jnp.log(ratio), 0)
    return jnp.maximum(terms.sum(axis=(1, 2)), 0)


def _entropy(counts):
    """Entropy of counts `[B, N]`, `[B]` nats."""
    share = counts / jnp.maximum(counts.sum(axis=1, keepdims=True), 1)
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-30)), 0), axis=1)
