"""Ridge and partial least squares from sums over pixels: one pass over the data, of any size.

Both are solved on channels of mean 0 and variance 1. How strongly ridge shrinks, and how many
components PLS keeps, is decided by patients left out in turn.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics.checks import check_choice, check_images, check_mask, check_number

METHODS = ("ridge", "pls")
PENALTIES = tuple(10.0**power for power in np.arange(-5, 2.5, 0.5))
MOST_COMPONENTS = 20
WIDEST_PX = 63
_BLOCK = 65_536  # pixels taken at once, in float64
_TOO_FLAT = 1e-12  # variance, of channels in [0, 1], below which one says nothing


def with_neighbours(msi: jax.Array, side_px: int) -> jax.Array:
    """Appends to each channel its mean over a square around the pixel.

    Beyond the border lie zeros, as where nothing was measured.

    Args:
        msi: `[B, H, W, K]` float in [0, 1].
        side_px: Side of the square, px, odd; 1 appends nothing.

    Returns:
        `[B, H, W, 2 K]`, or `[B, H, W, K]`, of the same dtype.
    """
    if side_px == 1:
        return msi
    mean = msi
    for window in ((1, side_px, 1, 1), (1, 1, side_px, 1)):
        mean = jax.lax.reduce_window(mean, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME")
    return jnp.concatenate([msi, mean / side_px**2], axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Sums over pixels of channels x and colours y; those of two sets of pixels add up.

    Attributes:
        count: Pixels.
        x: `[F]` float64.
        y: `[C]` float64.
        xx: `[F, F]` float64, of products.
        xy: `[F, C]` float64.
        yy: Scalar float64, of squares of all colours.
    """

    count: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: float

    def __add__(self, other: Moments) -> Moments:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Moments(*(mine + theirs for mine, theirs in pairs))

    def first(self, channels: int) -> Moments:
        """Returns the sums of the first `channels` channels alone."""
        part = slice(channels)
        x, xx, xy = self.x[part], self.xx[part, part], self.xy[part]
        return Moments(self.count, x, self.y, xx, xy, self.yy)


def moments(msi: np.ndarray, image: np.ndarray, mask: np.ndarray, *, neighbours_px: int) -> Moments:
    """Sums a few images up.

    Args:
        msi: `[B, H, W, K]` float in [0, 1].
        image: `[B, H, W, C]` float.
        mask: `[B, H, W]` bool, the pixels that count.
        neighbours_px: As `side_px` of `with_neighbours`.

    Raises:
        InputError: shapes that do not fit, or a square of even side.
    """
    check_images("moments", 4, mask, msi=msi)
    check_mask("moments", mask, np.shape(image)[:3])
    if check_number("moments", "neighbours_px", neighbours_px, 1, WIDEST_PX) % 2 == 0:
        raise InputError("moments", "neighbours_px", f"is {neighbours_px}, expected an odd number")
    x = np.asarray(_features(jnp.asarray(msi, jnp.float32), neighbours_px))[mask]
    y = np.asarray(image)[mask]
    starts = range(0, max(len(x), 1), _BLOCK)
    return sum_up(_sums(*(part[n : n + _BLOCK].astype(float) for part in (x, y))) for n in starts)


def _sums(x: np.ndarray, y: np.ndarray) -> Moments:
    return Moments(float(len(x)), x.sum(0), y.sum(0), x.T @ x, x.T @ y, float((y**2).sum()))


def sum_up(parts: Iterable[Moments]) -> Moments:
    """Returns the sums over all pixels of one part at least."""
    return functools.reduce(lambda one, other: one + other, parts)


_features = jax.jit(with_neighbours, static_argnames="side_px")


@dataclasses.dataclass(frozen=True, eq=False)
class LinearFit:
    """A linear map of channels to colours, `x @ kernel + bias`.

    Attributes:
        kernel: `[F, C]` float64.
        bias: `[C]` float64.
        chosen: The penalty of ridge, or the components of PLS.
    """

    kernel: np.ndarray
    bias: np.ndarray
    chosen: float


def fit_linear(patients: Mapping[str, Moments], method: str) -> LinearFit:
    """Fits to all patients, as strongly shrunk as patients left out in turn ask for.

    Args:
        patients: Sums of each patient's pixels, by name. One alone leaves nobody out: its own
            pixels choose, which is the weakest shrinkage.
        method: One of `METHODS`.

    Raises:
        InputError: another method, or no pixel.
    """
    check_choice("fit_linear", "method", method, METHODS)
    known = [each for each in patients.values() if each.count]
    if not known:
        raise InputError("fit_linear", "patients", "hold no pixel to fit to")
    path = ridge_path if method == "ridge" else pls_path
    errors: dict[float, list[float]] = {}
    for index, left_out in enumerate(known):
        rest = [each for n, each in enumerate(known) if n != index] or known
        for fit in path(sum_up(rest)):
            errors.setdefault(fit.chosen, []).append(squared_error(fit, left_out))
    everywhere = {each: sum(found) for each, found in errors.items() if len(found) == len(known)}
    best = min(everywhere, key=everywhere.get)
    return next(fit for fit in path(sum_up(known)) if fit.chosen == best)


def squared_error(fit: LinearFit, known: Moments) -> float:
    """Sum of squared residuals over the pixels of `known`, from their sums alone."""
    n, bias, kernel = known.count, fit.bias, fit.kernel
    explained = (
        np.sum(kernel * (known.xx @ kernel)) + n * bias @ bias + 2 * bias @ (known.x @ kernel)
    )
    return float(known.yy - 2 * np.sum(kernel * known.xy) - 2 * bias @ known.y + explained)


def ridge_path(known: Moments, penalties: tuple[float, ...] = PENALTIES) -> Iterator[LinearFit]:
    """Solves ridge regression for each penalty.

    Args:
        known: Sums of the pixels to fit to.
        penalties: Weights of the squared kernel beside the mean squared error, on channels of
            variance 1.

    Yields:
        A fit for each penalty. Source: Hoerl and Kennard 1970; as `sklearn.linear_model.Ridge` on
        standardised channels, with alpha = penalty * pixels.
    """
    covariance, cross, spread = _standardised(known)
    values, vectors = np.linalg.eigh(covariance)
    turned = vectors.T @ cross
    for penalty in penalties:
        kernel = vectors @ (turned / (np.maximum(values, 0.0) + penalty)[:, None])
        yield _fit(known, kernel / spread[:, None], penalty)


def pls_path(known: Moments, most: int = MOST_COMPONENTS) -> Iterator[LinearFit]:
    """Solves partial least squares (PLS2) with 1, 2, ... components.

    Args:
        known: Sums of the pixels to fit to.
        most: Largest number of components; fewer where the channels have no more.

    Yields:
        A fit for each number. Source: Dayal and MacGregor 1997, algorithm 2; as
        `sklearn.cross_decomposition.PLSRegression` on standardised channels, colours not scaled.
    """
    covariance, cross, spread = _standardised(known)
    rest, kernel = cross.copy(), np.zeros_like(cross)
    weights, loadings = [], []
    for number in range(1, min(most, int(np.isfinite(spread).sum())) + 1):
        weight = np.linalg.svd(rest, full_matrices=False)[0][:, 0]
        for before, loading in zip(weights, loadings, strict=True):
            weight = weight - (loading @ weight) * before
        power = weight @ covariance @ weight
        if power < _TOO_FLAT:
            return
        loading, colours = covariance @ weight / power, weight @ rest / power
        rest = rest - power * np.outer(loading, colours)
        weights.append(weight)
        loadings.append(loading)
        kernel = kernel + np.outer(weight, colours)
        yield _fit(known, kernel / spread[:, None], float(number))


def _standardised(known: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance [F, F] and cross-covariance [F, C] of channels of variance 1; their spreads [F].

    A channel that does not vary has an infinite spread, and so no weight.
    """
    mean_x, mean_y = known.x / known.count, known.y / known.count
    covariance = known.xx / known.count - np.outer(mean_x, mean_x)
    cross = known.xy / known.count - np.outer(mean_x, mean_y)
    variance = np.diag(covariance)
    spread = np.where(variance > _TOO_FLAT, np.sqrt(np.maximum(variance, _TOO_FLAT)), np.inf)
    return covariance / np.outer(spread, spread), cross / spread[:, None], spread


def _fit(known: Moments, kernel: np.ndarray, chosen: float) -> LinearFit:
    bias = (known.y - known.x @ kernel) / known.count
    return LinearFit(kernel, bias, float(chosen))


def patient_moments(
    examples: Iterable[tuple[str, np.ndarray, np.ndarray, np.ndarray]], *, neighbours_px: int
) -> dict[str, Moments]:
    """Sums images up by patient, one image at a time.

    Args:
        examples: The patient's name, and `[H, W, K]`, `[H, W, C]` and `[H, W]` as `moments` takes
            them, of each image.
        neighbours_px: As there.
    """
    found: dict[str, Moments] = {}
    for patient, *image in examples:
        new = moments(*(part[None] for part in image), neighbours_px=neighbours_px)
        found[patient] = found[patient] + new if patient in found else new
    return found
