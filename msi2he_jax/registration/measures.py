"""The arithmetic of similarities: how alike two images are, with gradients (JAX).

An image enters as fuzzy memberships: each pixel belongs partly to `background` and partly to one or
two neighbouring grey bins (linear Parzen windows), so a histogram is a matrix product and mutual
information is differentiable in whatever moved the pixels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

EPSILON = 1e-8
FLAT = 1e-3  # variance below which a window shows no contrast


def over_pairs(function, *trees):
    """Applies a function to every pair: all at once on an accelerator, one by one on a CPU.

    A second batch dimension, beside that of the poses, turns XLA's matrix products on a CPU into
    plain loops: three times as slow.

    Args:
        function: Of one pair; takes as many trees of arrays as there are `trees`.
        *trees: Arrays `[B, ...]`.

    Returns:
        What `function` returns, `[B, ...]`.
    """
    count = len(jax.tree.leaves(trees)[0])
    batch = None if jax.default_backend() == "cpu" else count
    return jax.lax.map(lambda one: function(*one), trees, batch_size=batch)


def memberships(values: jax.Array, mask: jax.Array, bins: int) -> jax.Array:
    """Spreads each pixel over a background class and grey bins.

    Args:
        values: `[C, P]` float in [0, 1].
        mask: `[P]` float in [0, 1], the share of the pixel that is tissue.
        bins: Number of grey bins, at least 2.

    Returns:
        `[C, bins + 1, P]` float; sums to 1 over axis 1; row 0 is the background.
    """
    position = jnp.clip(values, 0.0, 1.0) * (bins - 1)
    hats = jnp.maximum(0.0, 1.0 - jnp.abs(position[:, None] - jnp.arange(bins)[None, :, None]))
    background = jnp.broadcast_to(1.0 - mask, (values.shape[0], 1, values.shape[1]))
    return jnp.concatenate([background, hats * mask[None, None]], axis=1)


def information_of_joint(joint: jax.Array) -> jax.Array:
    """Returns the mutual information of joint histograms.

    Args:
        joint: `[..., A, B]` float, not negative, of any total.

    Returns:
        `[...]` float, nats.
    """
    joint = jnp.maximum(joint, 0.0)
    p = joint / jnp.maximum(joint.sum((-2, -1), keepdims=True), EPSILON)
    return -_entropy(p, (-2, -1)) + _entropy(p.sum(-1), -1) + _entropy(p.sum(-2), -1)


def _entropy(p: jax.Array, axis) -> jax.Array:
    return -jnp.sum(p * jnp.log(p + EPSILON), axis=axis)


def mutual_information(x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the mean mutual information over all pairs of channels.

    Args:
        x: `[C, A, P]` memberships.
        y: `[D, B, P]` memberships.
        weight: `[P]` float, what each pixel counts.

    Returns:
        Scalar float, nats.

    Source: Parzen-window mutual information, Mattes et al. 2003 (IEEE TMI 22:120), with linear
        windows on both sides.
    """
    joint = jnp.einsum("cap,dbp->cdab", x * weight[None, None], y)
    return information_of_joint(joint).mean()


def normalized_cross_correlation(x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the weighted correlation coefficient, averaged over channels.

    Args:
        x: `[C, P]` float.
        y: `[C, P]` or `[1, P]` float.
        weight: `[P]` float, what each pixel counts.

    Returns:
        Scalar float in [-1, 1].
    """
    share = weight[None] / jnp.maximum(weight.sum(), EPSILON)
    x, y = (v - jnp.sum(v * share, axis=-1, keepdims=True) for v in (x, y))
    covariance = jnp.sum(x * y * share, axis=-1)
    spread = jnp.sum(x * x * share, axis=-1) * jnp.sum(y * y * share, axis=-1)
    return jnp.mean(covariance / jnp.sqrt(spread + EPSILON))


def local_correlation(
    x: jax.Array, y: jax.Array, weight: jax.Array, *, sigma_px: float
) -> jax.Array:
    """Returns the correlation coefficient within a Gaussian window, averaged over the image.

    Args:
        x: `[C, n, n]` float in [0, 1].
        y: `[C, n, n]` or `[1, n, n]` float in [0, 1].
        weight: `[n, n]` float, what each pixel counts.
        sigma_px: Standard deviation of the window, pixels.

    Returns:
        Scalar float in [-1, 1]; windows without contrast count as 0.

    Source: local cross-correlation, Avants et al. 2008 (Med. Image Anal. 12:26), with a Gaussian
        window and signed.
    """
    window = gaussian_window(weight.shape[-1], sigma_px)

    def blur(planes):
        return window @ planes @ window

    total = blur(weight)
    norm = 1.0 / jnp.maximum(total, EPSILON)
    y = jnp.broadcast_to(y, x.shape)
    products = jnp.stack([x, y, x * x, y * y, x * y])
    mx, my, mxx, myy, mxy = blur(products * weight[None, None]) * norm[None, None]
    spread = (mxx - mx * mx + FLAT) * (myy - my * my + FLAT)
    local = (mxy - mx * my) * jax.lax.rsqrt(jnp.maximum(spread, FLAT**2))
    weighted = jnp.sum(local * weight[None], axis=(-2, -1))
    return jnp.mean(weighted / jnp.maximum(weight.sum(), EPSILON))


def gaussian_window(n: int, sigma_px) -> jax.Array:
    """Returns a Gaussian as a dense matrix: unlike a convolution, fast also inside a scan.

    Args:
        n: Pixels.
        sigma_px: Standard deviation, pixels.

    Returns:
        `[n, n]` float; rows are not normalised.
    """
    apart = jnp.arange(n)
    return jnp.exp(-0.5 * ((apart[:, None] - apart[None]) / sigma_px) ** 2)


def _blur(planes: jax.Array, sigma_px: float) -> jax.Array:
    """Gaussian blur of `[C, n, m]`, renormalised at the border."""
    rows, columns = (gaussian_window(n, sigma_px) for n in planes.shape[-2:])
    norm = rows.sum(1)[:, None] * columns.sum(1)[None]
    return rows @ planes @ columns / norm[None]


def normalized_gradient_fields(
    x: jax.Array, y: jax.Array, weight: jax.Array, *, edge: float = 1.0, sigma_px: float = 0.0
) -> jax.Array:
    """Returns how parallel the gradients of two images are, whichever way they point.

    Args:
        x: `[C, n, m]` float.
        y: `[D, n, m]` float.
        weight: `[n, m]` float, what each pixel counts.
        edge: Gradients count from about this many times their weighted mean magnitude.
        sigma_px: Standard deviation of a blur before gradients are taken, against noise, pixels.

    Returns:
        Scalar float in [0, 1), the mean over all pairs of channels.

    Source: normalised gradient fields, Haber & Modersitzki 2006 (MICCAI, LNCS 4191:726), with their
        automatic choice of the edge parameter.
    """
    share = weight / jnp.maximum(weight.sum(), EPSILON)
    if sigma_px:
        x, y = (_blur(v, sigma_px) for v in (x, y))
    (xg, x_size), (yg, y_size) = (_gradient(v, share, edge) for v in (x, y))
    dot = jnp.einsum("gcij,gdij->cdij", xg, yg)
    alike = share[None, None] * dot**2 / (x_size[:, None] * y_size[None])
    return jnp.mean(jnp.sum(alike, axis=(-2, -1)))


def _gradient(planes: jax.Array, share: jax.Array, edge: float):
    """Central differences `[2, C, n, m]` and their regularised squared magnitude `[C, n, m]`."""
    around = jnp.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (around[:, 2:, 1:-1] - around[:, :-2, 1:-1]) / 2
    columns = (around[:, 1:-1, 2:] - around[:, 1:-1, :-2]) / 2
    squared = rows**2 + columns**2
    level = edge * jnp.sum(share[None] * jnp.sqrt(squared + EPSILON), axis=(-2, -1), keepdims=True)
    return jnp.stack([rows, columns]), squared + level**2 + EPSILON


def information_of_shifts(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the mutual information at every whole-pixel shift at once, by Fourier transform.

    What lies outside `y` counts as its background, so a shift out of the image is never cheap.

    Args:
        x: `[C, A, n, n]` memberships times weight; it is what shifts.
        y: `[D, B, n, n]` memberships; row 0 is the background.

    Returns:
        `[n, n]` float, nats; entry (i, j) is for `x` shifted by (i - n // 2, j - n // 2) pixels.

    Source: Öfverstedt, Lindblad & Sladoje 2022 (Pattern Recognition Letters 159:196).
    """
    n = x.shape[-1]
    before = n // 2
    around = jnp.pad(y, ((0, 0), (0, 0), (before, n - before), (before, n - before)))
    outside = jnp.pad(jnp.zeros((n, n)), ((before, n - before),) * 2, constant_values=1.0)
    around = around.at[:, 0].add(outside[None])
    fx = jnp.fft.rfft2(x, s=(2 * n, 2 * n))
    fy = jnp.fft.rfft2(around)
    spectrum = jnp.einsum("cahw,dbhw->cdabhw", jnp.conj(fx), fy)
    joint = jnp.fft.irfft2(spectrum, s=(2 * n, 2 * n))[..., :n, :n]
    return information_of_joint(jnp.moveaxis(joint, (-2, -1), (0, 1))).mean((-2, -1))


def bilinear(planes: jax.Array, index: jax.Array) -> jax.Array:
    """Samples planes at fractional indices; zero beyond their edge.

    Args:
        planes: `[C, n, m]` float.
        index: `[P, 2]` float (row, column), pixel centres at whole numbers.

    Returns:
        `[C, P]` float.
    """
    channels, n, m = planes.shape
    around = jnp.pad(planes, ((0, 0), (1, 2), (1, 2)))
    # the four neighbours of a place lie together, so that one look-up finds them all
    four = [around[:, i : i + n + 2, j : j + m + 2] for i in (0, 1) for j in (0, 1)]
    rows = jnp.concatenate(four).reshape(4 * channels, -1).T
    index = jnp.clip(index + 1.0, 0.0, jnp.array([[n + 0.999, m + 0.999]]))
    corner = jax.lax.stop_gradient(jnp.floor(index))
    fraction = (index - corner).T
    corner = corner.astype(jnp.int32)
    found = rows[corner[:, 0] * (m + 2) + corner[:, 1]].T.reshape(2, 2, channels, -1)
    (wy, wx), total = jnp.stack([1.0 - fraction, fraction], axis=1), 0.0
    for i in (0, 1):
        for j in (0, 1):
            total = total + found[i, j] * (wy[i] * wx[j])[None]
    return total


def slide_at(slide: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws a slide at positions.

    Args:
        slide: `[D + 2, n, n]` float: values times mask, mask, and where there is any slide.
        where: `[n * n, 2]` float (y, x), half widths.

    Returns:
        values `[D, n, n]`, mask `[n, n]` and known `[n, n]`, as `similarity.Similarity` takes them.
    """
    n = slide.shape[-1]
    planes = bilinear(slide, to_index(where, n))
    values, mask = unmultiplied(planes[:-1])
    return values.reshape(-1, n, n), mask.reshape(n, n), planes[-1].reshape(n, n)


def unmultiplied(planes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits values times mask, then mask, into values and mask.

    Args:
        planes: `[C + 1, P]` float.

    Returns:
        values `[C, P]` and mask `[P]`.
    """
    mask = jnp.clip(planes[-1], 0.0, 1.0)
    return planes[:-1] / jnp.maximum(mask, 1e-3)[None], mask


def grid(n: int) -> jax.Array:
    """Returns the canvas coordinates of all pixels, `[n * n, 2]` (y, x) in (-1, 1)."""
    axis = (jnp.arange(n) + 0.5) * (2.0 / n) - 1.0
    return jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def to_index(u: jax.Array, n: int) -> jax.Array:
    """Turns canvas coordinates into fractional pixel indices.

    Args:
        u: `[..., 2]` float (y, x), half widths.
        n: Canvas pixels per side.

    Returns:
        `[..., 2]` float.
    """
    return (u + 1.0) * (n / 2.0) - 0.5
