"""Ion images of a list of peaks, their normalisation and their scaling to [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import MassAxis
from msi2he_jax.msi.normalization import KINDS, size_weights
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.peaks import Peaks
from msi2he_jax.msi.ranges import spectrum_ranges
from msi2he_jax.msi.rebinning import check_method, interpolate
from msi2he_jax.msi.spectra import is_discrete, rebin_method

PERCENTILE = 99.5


def ion_images(
    msi: MsiFile,
    peaks: Peaks,
    axis: MassAxis,
    *,
    window: str | float = "bounds",
    method: str | None = None,
    gap_tol_da: float | None = None,
) -> np.ndarray:
    """Reads the images of all peaks in one pass.

    A pixel's value is the sum of its rebinned spectrum over the axis bins whose centres lie in the
    peak's window, ends included; where the window holds no centre, the bin nearest to the peak is
    taken. With "linear" that is a sum of interpolated values, as SpectralAnalysis does it, and so
    grows with the number of bins; with "sum" it is the signal measured inside those bins. Only the
    bins in the windows are computed, and values are float64 until the end.

    Args:
        msi: An open file.
        peaks: K peaks.
        axis: M bins, the axis the peaks were picked on.
        window: "bounds", from `peaks.lower` to `peaks.upper`; or +- so many ppm around the m/z.
        method: "linear" or "sum"; None: `rebin_method`.
        gap_tol_da: Da; for "linear", wider gaps between points are not interpolated.

    Returns:
        float32 [H, W, K]; 0 where nothing was measured. Spectra at one pixel are added.

    Raises:
        InputError: a damaged spectrum, or an unknown option.

    Source:
        SpectralAnalysis, DatacubeReduction.
    """
    image = np.zeros((*msi.shape, len(peaks)))
    options = {"window": window, "method": method, "gap_tol_da": gap_tol_da}
    for indices in spectrum_ranges(msi):
        values = ion_values(msi, peaks, axis, **options, indices=indices)
        add_to_grid(image, msi, indices, values)
    return image.astype(np.float32)


def ion_values(
    msi: MsiFile,
    peaks: Peaks,
    axis: MassAxis,
    *,
    window: str | float = "bounds",
    method: str | None = None,
    gap_tol_da: float | None = None,
    indices: np.ndarray | None = None,
) -> np.ndarray:
    """Reads what `ion_images` shows, spectrum by spectrum.

    Args:
        msi: An open file.
        peaks: K peaks.
        axis: M bins, as for `ion_images`.
        window: As for `ion_images`.
        method: As for `ion_images`.
        gap_tol_da: Da, as for `ion_images`.
        indices: int64 [n], numbers of spectra; None for all.

    Returns:
        float64 [n, K], in the order of `indices`.

    Raises:
        InputError: a damaged spectrum, or an unknown option.
    """
    method = method or rebin_method(msi)
    check_method(method)
    first, last = _window_bins(axis, peaks, window)
    indices = np.arange(msi.n) if indices is None else indices
    if msi.shares_mz:
        return _read_shared(msi, indices, axis, method, first, last, gap_tol_da)
    if method == "linear":
        return _read_linear(msi, indices, axis, first, last, gap_tol_da)
    return _read_sum(msi, indices, axis, first, last)


def _window_bins(axis: MassAxis, peaks: Peaks, window: str | float) -> tuple[np.ndarray, ...]:
    """Returns the first and last bin of each window, int64 [K] each."""
    if window == "bounds":
        lower, upper = peaks.lower, peaks.upper
    elif isinstance(window, int | float) and window > 0:
        lower, upper = peaks.mz * (1 - window * 1e-6), peaks.mz * (1 + window * 1e-6)
    else:
        raise InputError("ion images", "window", f"is {window!r}", "bounds, or a number of ppm")
    slack = 1e-12  # A bound is itself a bin's centre; it must not be lost to rounding.
    first = np.searchsorted(axis.mz, lower * (1 - slack))
    last = np.searchsorted(axis.mz, upper * (1 + slack), "right") - 1
    nearest = np.searchsorted((axis.mz[1:] + axis.mz[:-1]) / 2, peaks.mz, "right")
    empty = last < first
    return np.where(empty, nearest, first), np.where(empty, nearest, last)


def _read_shared(msi, indices, axis, method, first, last, gap_tol_da) -> np.ndarray:
    """One m/z array: each image is one fixed combination of the intensities, found once."""
    mz = msi.shared_mz()
    weight = _shared_weights(mz, axis, method, first, last, gap_tol_da)
    used = np.flatnonzero(weight.any(axis=1))
    values, row = np.zeros((len(indices), len(first))), 0
    with threadpool_limits(1):  # How a product is shared out decides its last bits.
        for block in msi.packed(indices):
            intensity = block.intensity.reshape(-1, len(mz))[:, used]
            values[row : row + len(intensity)] = intensity @ weight[used]
            row += len(intensity)
    return values


def _shared_weights(mz, axis, method, first, last, gap_tol_da) -> np.ndarray:
    """Returns what each point of the m/z array adds to each image, float64 [P, K]."""
    weight = np.zeros((len(mz), len(first)))
    if method == "sum":
        bins = axis.nearest(mz)[:, None]
        return ((bins >= first) & (bins <= last)).astype(np.float64)
    for k, (low, high) in enumerate(zip(first, last, strict=True)):
        weight[:, k] = _line_weights(axis.mz[low : high + 1], mz, gap_tol_da)
    return weight


def _line_weights(at: np.ndarray, mz: np.ndarray, gap_tol_da: float | None) -> np.ndarray:
    """Returns what each point adds to the sum of `interpolate` over `at`, float64 [P]."""
    at = at[(at >= mz[0]) & (at <= mz[-1])]
    left = np.searchsorted(mz, at, "right") - 1
    right = np.minimum(left + 1, len(mz) - 1)
    width = mz[right] - mz[left]
    part = np.divide(at - mz[left], width, out=np.zeros(len(at)), where=width > 0)
    tolerance = np.inf if gap_tol_da is None else gap_tol_da
    kept = (width <= tolerance) | (at == mz[left])
    left, right, part = left[kept], right[kept], part[kept]
    return np.bincount(left, 1 - part, len(mz)) + np.bincount(right, part, len(mz))


def _read_linear(msi, indices, axis, first, last, gap_tol_da) -> np.ndarray:
    """Interpolates each spectrum at the bins of the windows only."""
    bins = np.unique(np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last)]))
    at = axis.mz[bins]
    cuts = np.stack([np.searchsorted(bins, first), np.searchsorted(bins, last) + 1], 1).ravel()
    values, row = np.zeros((len(indices), len(first))), np.zeros(len(at) + 1)
    for i, (mz, intensity) in enumerate(_spectra(msi, indices)):
        row[:-1] = interpolate(at, mz, intensity, gap_tol_da)
        values[i] = np.add.reduceat(row, cuts)[::2]
    return values


def _read_sum(msi, indices, axis, first, last) -> np.ndarray:
    """Adds each spectrum's points between the outer borders of a window's bins."""
    borders = np.stack([axis.edges[first], axis.edges[last + 1]], 1).ravel()
    values = np.zeros((len(indices), len(first)))
    for i, (mz, intensity) in enumerate(_spectra(msi, indices)):
        cuts = np.searchsorted(mz, borders)
        sums = np.add.reduceat(np.append(intensity, 0.0), cuts)[::2]
        values[i] = np.where(cuts[1::2] > cuts[::2], sums, 0.0)
    return values


def _spectra(msi: MsiFile, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for block in msi.packed(indices):
        yield from block.spectra()


def add_to_grid(image: np.ndarray, msi: MsiFile, indices: np.ndarray, values: np.ndarray) -> None:
    """Adds each spectrum's values to its pixel, in place.

    Args:
        image: float64 [H, W, ...], the file's grid.
        msi: Says where each spectrum lies.
        indices: int64 [n], numbers of spectra.
        values: float64 [n, ...].
    """
    np.add.at(image, tuple(msi.coordinates[indices].T), values)


def tic_image(msi: MsiFile) -> np.ndarray:
    """Returns the total ion count over the whole spectrum, float64 [H, W], 0 where not measured."""
    image = np.zeros(msi.shape)
    add_to_grid(image, msi, np.arange(msi.n), msi.tic())
    return image


def tic_is_meaningful(msi: MsiFile) -> bool:
    """Tells whether spectra have the 20 points below which a total is no measure of size."""
    return not is_discrete(msi)


def normalize(
    images: np.ndarray, size_image: np.ndarray, mask: np.ndarray, kind: str = "tic"
) -> np.ndarray:
    """Divides ion images by the size of each pixel's spectrum, floored.

    Args:
        images: [H, W, K].
        size_image: [H, W], sizes of the spectra, such as total ion counts.
        mask: bool [H, W], measured pixels.
        kind: "none": unchanged; any other of `normalization.KINDS`: value / max(size, 5 % of the
            mask's median positive size).

    Returns:
        float32 [H, W, K], 0 outside the mask; fractions of the total for "tic".

    Raises:
        InputError: an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(
            "ion images", "normalization", f"is {kind!r}", f"one of {', '.join(KINDS)}"
        )
    weight = np.zeros(mask.shape)
    weight[mask] = 1.0 if kind == "none" else size_weights(size_image[mask].astype(np.float64))
    return (images * weight[..., None]).astype(np.float32)


def intensity_scale(images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Finds each channel's 99.5th percentile over the masked pixels of all images together.

    Args:
        images: Each [H, W, K], normalised.
        masks: Each bool [H, W].

    Returns:
        float64 [K]; where that percentile is 0 the channel's maximum, where that is 0 too, 1.

    Example:
        >>> image = np.arange(1000.0).reshape(1, 1000, 1)
        >>> intensity_scale([image], [np.ones((1, 1000), bool)]).round(1).tolist()
        [994.0]
    """
    if not any(mask.any() for mask in masks):
        raise InputError("ion images", "mask", "holds no pixel to take a scale from")
    pairs = list(zip(images, masks, strict=True))
    channels = range(images[0].shape[-1])
    # One channel at a time: a whole cohort need not be held twice.
    return np.array([_scale([image[mask, k] for image, mask in pairs]) for k in channels])


def _scale(pixels: list[np.ndarray]) -> float:
    pooled = np.concatenate(pixels).astype(np.float64)
    return float(np.percentile(pooled, PERCENTILE)) or float(pooled.max()) or 1.0


def apply_scale(images: np.ndarray, scale: np.ndarray, transform: str = "sqrt") -> np.ndarray:
    """Scales ion images to [0, 1].

    Args:
        images: [..., K], normalised as those the scale was taken from.
        scale: [K], from `intensity_scale`.
        transform: "sqrt": sqrt(clip(images / scale)); "none": clip(images / scale).

    Returns:
        float32 [..., K] in [0, 1].

    Raises:
        InputError: an unknown transform, or another number of channels.

    Example:
        >>> apply_scale(np.array([[[1.0]], [[16.0]]]), [4.0]).ravel().tolist()
        [0.5, 1.0]
    """
    if transform not in ("sqrt", "none"):
        raise InputError("ion images", "transform", f"is {transform!r}", "one of sqrt, none")
    scale = np.asarray(scale, np.float64)  # a whole number of 300 digits would stay an object
    if images.shape[-1:] != scale.shape:
        why = f"has {scale.size} channels, the images have {images.shape[-1]}"
        raise InputError("ion images", "scale", why)
    scaled = np.clip(images / scale, 0.0, 1.0)
    return (np.sqrt(scaled) if transform == "sqrt" else scaled).astype(np.float32)
