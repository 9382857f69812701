"""How much all ions together explain of the slide: a similarity of all channels (JAX).

docs/registration.md derives it. The slide's channels y are predicted from the ions x by ridge
regression, fitted to this very section at every pose, so that no reference is needed:

- `classes_explained`, to find a pose: y as soft classes of the whole slide, whose shares are fixed.
- `detail_explained`, to place it exactly: x and y less their local means, Gaussian information.
- `explained_at_shifts`, to begin: the first in its linear form, at every shift at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from msi2he_jax.registration import measures

CLASSES = 6
RIDGE = 1e-2  # of the channels' variance
LOWEST_SHARE = 0.02  # of a class' share: what a prediction is never below
NEIGHBOURS_PX = 0.8  # MSI pixels: about a mean of 3 x 3
LOCAL_PX = 2.6  # MSI pixels: about a mean of 9 x 9
_MOST_OF_MIXTURE = 64  # canvas pixels per side that the classes are found on
_ROUNDS = 12


def prepare(pair: dict) -> dict:
    """Does what the slide's pose does not change.

    Args:
        pair: Canvases as `similarity.Similarity.prepare` takes them.

    Returns:
        `columns` `[1 + 2 C, n, n]`, orthonormal over the measured pixels but for the ridge;
        `detail` `[2 C, n, n]`, likewise without their local means; `weight`; `msi_px`; `mixture`,
        the slide's classes; `center` and `scale`, `[D + 1]`.
    """
    weight = pair["weight"] * pair["mask"]
    ions = _standardized(pair["values"], weight)
    near = _local_mean(ions, weight, NEIGHBOURS_PX * pair["msi_px"])
    columns = jnp.concatenate([jnp.ones_like(ions[:1]), ions, near])
    detail = columns[1:] - _local_mean(columns[1:], weight, LOCAL_PX * pair["msi_px"])
    known = pair["fixed_known"]
    features = _features(*measures.unmultiplied(pair["fixed"].reshape(len(pair["fixed"]), -1)))
    center, scale = _moments(features, known.ravel())
    features = ((features - center[:, None]) / scale[:, None]).reshape(-1, *known.shape)
    return {
        "columns": _orthonormal(columns, weight),
        "detail": _orthonormal(detail, weight),
        "weight": weight,
        "msi_px": pair["msi_px"],
        "mixture": _mixture(features, known),
        "center": center,
        "scale": scale,
    }


def classes_explained(ready: dict, values, mask, known) -> jax.Array:
    """Says how much better the ions predict the slide's classes than their shares do.

    Args:
        ready: What `prepare` returned.
        values: `[D, n, n]` float in [0, 1], the slide as drawn at a pose.
        mask: `[n, n]` float in [0, 1], its tissue.
        known: `[n, n]` float in [0, 1], where there is any slide.

    Returns:
        Scalar float, nats per MSI pixel: the mean of log sum_k q_k r_k / pi_k, where r are the
        pixel's classes, q those predicted and pi their shares in the whole slide.
    """
    shares, classes = _classes_of(ready, values, mask, known)
    weight = ready["weight"].ravel()
    total = jnp.maximum(weight.sum(), measures.EPSILON)
    columns = ready["columns"].reshape(len(ready["columns"]), -1)
    predicted = (classes * weight[None]) @ columns.T / total @ columns
    predicted = jnp.maximum(predicted, LOWEST_SHARE * shares[:, None])
    predicted = predicted / predicted.sum(0, keepdims=True)
    gain = jnp.sum(predicted * classes / shares[:, None], axis=0)
    return jnp.sum(weight * jnp.log(jnp.maximum(gain, 1e-4))) / total


def detail_explained(ready: dict, values, mask, known) -> jax.Array:
    """Says how much the ions tell of the slide, both less their local means.

    Args:
        ready: What `prepare` returned.
        values: `[D, n, n]` float in [0, 1], the slide as drawn at a pose.
        mask: `[n, n]` float in [0, 1], its tissue.
        known: `[n, n]` float in [0, 1], where there is any slide.

    Returns:
        Scalar float, nats per MSI pixel: half the log determinant of the channels' covariance less
        that of what ridge regression leaves.
    """
    shape = known.shape
    features = _features(values.reshape(len(values), -1), mask.ravel())
    features = (features - ready["center"][:, None]) / ready["scale"][:, None]
    seen = ready["weight"] * known
    total = jnp.maximum(ready["weight"].sum(), measures.EPSILON)
    y = features.reshape(-1, *shape)
    y = (y - _local_mean(y, seen, LOCAL_PX * ready["msi_px"])).reshape(len(features), -1)
    seen, columns = seen.ravel(), ready["detail"].reshape(len(ready["detail"]), -1)
    left = y - ((y * seen[None]) @ columns.T / total) @ columns
    least = RIDGE * jnp.eye(len(y))
    before, after = (
        jnp.linalg.slogdet((v * seen[None]) @ v.T / total + least)[1] for v in (y, left)
    )
    return 0.5 * (before - after)


def both_explained(ready: dict, values, mask, known) -> jax.Array:
    """Returns the sum of `classes_explained`, which leads far, and `detail_explained`, which tells.

    Args:
        ready: What `prepare` returned.
        values: `[D, n, n]` float in [0, 1], the slide as drawn at a pose.
        mask: `[n, n]` float in [0, 1], its tissue.
        known: `[n, n]` float in [0, 1], where there is any slide.

    Returns:
        Scalar float, nats per MSI pixel.
    """
    drawn = values, mask, known
    return classes_explained(ready, *drawn) + detail_explained(ready, *drawn)


def detail_planes(pair: dict) -> tuple[jax.Array, jax.Array]:
    """Prepares `explained_at_shifts` of what `detail_explained` compares.

    Args:
        pair: Canvases as `similarity.Similarity.prepare` takes them.

    Returns:
        As `class_planes`, `[k + 1, n, n]` and `[D + 1, n, n]`: both less their local means.
    """
    ready = prepare(pair)
    n, known = pair["mask"].shape[-1], pair["fixed_known"]
    weight = ready["weight"][None]
    columns = ready["detail"][: len(pair["values"])] * weight
    slide = measures.unmultiplied(pair["fixed"].reshape(-1, n * n))
    y = (_features(*slide) - ready["center"][:, None]) / ready["scale"][:, None]
    y = y.reshape(-1, n, n)
    y = (y - _local_mean(y, known, LOCAL_PX * ready["msi_px"])) * known[None]
    _, spread = _moments(y.reshape(len(y), -1), known.ravel())
    return jnp.concatenate([columns, weight]), y / spread[:, None, None]


def class_planes(pair: dict) -> tuple[jax.Array, jax.Array]:
    """Prepares `explained_at_shifts` of what `classes_explained` compares.

    Args:
        pair: Canvases as `similarity.Similarity.prepare` takes them.

    Returns:
        What is turned, `[k + 1, n, n]`: orthonormal columns times weight, then weight. And of the
        slide, `[K, n, n]`: memberships less shares, over the shares' roots.
    """
    ready = prepare(pair)
    n = pair["mask"].shape[-1]
    weight = ready["weight"][None]
    columns = ready["columns"][1 : 1 + len(pair["values"])] * weight
    slide = measures.unmultiplied(pair["fixed"].reshape(-1, n * n))
    values, mask = slide[0].reshape(-1, n, n), slide[1].reshape(n, n)
    shares, classes = _classes_of(ready, values, mask, pair["fixed_known"])
    apart = (classes - shares[:, None]) / jnp.sqrt(shares)[:, None]
    return jnp.concatenate([columns, weight]), apart.reshape(-1, n, n)


def explained_at_shifts(planes, slide) -> jax.Array:
    """Returns how much of the slide the ions explain, at every whole-pixel shift at once.

    Args:
        planes: `[k + 1, n, n]` float, from `class_planes` or `detail_planes`, turned.
        slide: `[K, n, n]` float, from the same; 0 where there is no slide.

    Returns:
        `[n, n]` float, chi-square over the number of pixels; entry (i, j) is for a shift by
        (i - n // 2, j - n // 2) pixels.
    """
    n = planes.shape[-1]
    before = n // 2
    around = jnp.pad(slide, ((0, 0), (before, n - before), (before, n - before)))
    fx = jnp.conj(jnp.fft.rfft2(planes[:-1], s=(2 * n, 2 * n)))
    fy = jnp.fft.rfft2(around)
    found = jnp.fft.irfft2(fx[:, None] * fy[None], s=(2 * n, 2 * n))[..., :n, :n]
    return jnp.sum(found**2, axis=(0, 1)) / jnp.maximum(planes[-1].sum(), measures.EPSILON) ** 2


def _features(values, mask) -> jax.Array:
    return jnp.concatenate([values * mask[None], mask[None]])


def _moments(planes, weight):
    share = weight / jnp.maximum(weight.sum(), measures.EPSILON)
    center = jnp.sum(planes * share[None], axis=-1)
    spread = jnp.sum((planes - center[:, None]) ** 2 * share[None], axis=-1)
    return center, jnp.sqrt(spread + 1e-6)


def _standardized(planes, weight) -> jax.Array:
    center, scale = _moments(planes.reshape(len(planes), -1), weight.ravel())
    return (planes - center[:, None, None]) / scale[:, None, None]


def _local_mean(planes, weight, sigma_px) -> jax.Array:
    window = measures.gaussian_window(weight.shape[-1], sigma_px)
    total = jnp.maximum(window @ weight @ window, 1e-3)
    return (window @ (planes * weight[None]) @ window) / total[None]


def _orthonormal(columns, weight) -> jax.Array:
    """Turns columns so that ridge regression is two products with them."""
    flat = columns.reshape(len(columns), -1)
    total = jnp.maximum(weight.sum(), measures.EPSILON)
    gram = (flat * weight.ravel()[None]) @ flat.T / total + RIDGE * jnp.eye(len(flat))
    lower = jnp.linalg.cholesky(gram)
    return jax.scipy.linalg.solve_triangular(lower, flat, lower=True).reshape(columns.shape)


def _classes_of(ready, values, mask, known):
    """Shares `[K]` and memberships `[K, P]`; where there is no slide, the shares."""
    features = _features(values.reshape(len(values), -1), mask.ravel())
    features = (features - ready["center"][:, None]) / ready["scale"][:, None]
    return _memberships(ready["mixture"], features, known.ravel())


def _memberships(mixture: dict, features, known):
    """Returns a mixture's shares `[K]` and the memberships `[K, P]` of features `[D, P]`."""
    shares = mixture["shares"]
    found = jax.nn.softmax(_log_densities(mixture, features), axis=0)
    return shares, known[None] * found + (1.0 - known[None]) * shares[:, None]


def _log_densities(mixture: dict, features) -> jax.Array:
    """Log of weight times normal density, `[K, P]`, but for a constant."""
    whiten = mixture["whiten"]
    center = jnp.einsum("kij,kj->ki", whiten, mixture["means"])
    # one product for all classes: batched over poses, one a class is slow
    scaled = (whiten.reshape(-1, len(features)) @ features).reshape(*center.shape, -1)
    squared = jnp.sum((scaled - center[:, :, None]) ** 2, axis=1)
    return mixture["log_weights"][:, None] - 0.5 * squared


def _mixture(features, known) -> dict:
    """A Gaussian mixture of the slide's pixels by expectation and maximisation."""
    step = max(1, features.shape[-1] // _MOST_OF_MIXTURE)
    points = features[:, ::step, ::step].reshape(len(features), -1)
    weight = known[::step, ::step].ravel()
    start = _maximize(points, weight, _nearest(points, _apart(points, weight)))

    def step_once(mixture, _):
        return _maximize(points, weight, jax.nn.softmax(_log_densities(mixture, points), 0)), None

    mixture, _ = jax.lax.scan(step_once, start, None, length=_ROUNDS)
    found = jax.nn.softmax(_log_densities(mixture, features.reshape(len(features), -1)), axis=0)
    shares = jnp.sum(found * known.ravel()[None], axis=1) / jnp.maximum(
        known.sum(), measures.EPSILON
    )
    return mixture | {"shares": jnp.maximum(shares, 3e-3)}


def _apart(points, weight) -> jax.Array:
    """Centres far from each other, `[CLASSES, D]`: each is the point farthest from those before."""
    total = jnp.maximum(weight.sum(), measures.EPSILON)
    center = jnp.sum(points * weight[None], axis=1) / total

    def add(distance, _):
        chosen = points[:, jnp.argmax(jnp.where(weight > 0.5, distance, -1.0))]
        nearer = jnp.minimum(distance, jnp.sum((points - chosen[:, None]) ** 2, axis=0))
        return nearer, chosen

    first = jnp.sum((points - center[:, None]) ** 2, axis=0)
    first = jnp.where(weight > 0.5, -first, -jnp.inf)  # the pixel nearest to the mean
    chosen = points[:, jnp.argmax(first)]
    distance = jnp.sum((points - chosen[:, None]) ** 2, axis=0)
    _, others = jax.lax.scan(add, distance, None, length=CLASSES - 1)
    return jnp.concatenate([chosen[None], others])


def _nearest(points, centers) -> jax.Array:
    """Memberships `[K, P]` after a few rounds of k-means."""
    for _ in range(6):
        distance = jnp.sum((points[None] - centers[:, :, None]) ** 2, axis=1)
        chosen = jax.nn.one_hot(jnp.argmin(distance, axis=0), CLASSES, axis=0)
        count = jnp.maximum(chosen.sum(1, keepdims=True), 1.0)
        centers = chosen @ points.T / count
    return chosen


def _maximize(points, weight, members) -> dict:
    """Weights, means and whitening matrices from memberships."""
    members = members * weight[None]
    count = jnp.maximum(members.sum(1), 1e-3)
    means = members @ points.T / count[:, None]
    apart = points[None] - means[:, :, None]
    spread = jnp.einsum("kp,kip,kjp->kij", members, apart, apart) / count[:, None, None]
    lower = jnp.linalg.cholesky(spread + 1e-2 * jnp.eye(len(points))[None])
    eye = jnp.broadcast_to(jnp.eye(len(points)), spread.shape)
    whiten = jax.scipy.linalg.solve_triangular(lower, eye, lower=True)
    size = jnp.sum(jnp.log(jnp.diagonal(whiten, axis1=1, axis2=2)), axis=1)
    return {"means": means, "whiten": whiten, "log_weights": jnp.log(count / count.sum()) + size}
