"""Treats spectra as they are read: recalibrated m/z, smoothed intensities, baseline removed.

Smoothing and baseline removal work on the measured points of profile spectra, before any rebinning,
and count their windows in points. Where a file leaves out zeros, a gap is taken to hold as many
zeros as the filter reaches over, so that no peak leaks into the next one; at its ends a spectrum is
continued by its last value, except for SNIP, whose windows must fit into the spectrum.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage, signal

from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import estimate_gap_tol_da
from msi2he_jax.msi.block import BLOCK_POINTS, Block, packed_blocks
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.spectra import is_discrete, rebin_method

SMOOTHINGS = ("none", "savgol", "gaussian")
BASELINES = ("none", "snip", "tophat", "median")
_SAVGOL_ORDER = 2
_FWHM = 2.3548200450309493  # Full width at half maximum of a Gaussian, in standard deviations.
_TRUNCATE = 4.0
_MOST_POINTS = 1001
_WALL = 1e300  # Halved 500 times it is still above any intensity, and twice it is finite.


@dataclasses.dataclass(frozen=True)
class Treatment:
    """What is done to the spectra of one file, in this order; the default does nothing.

    Attributes:
        shift_ppm: How much too high the file's m/z are, ppm: each is divided by 1 + shift * 1e-6.
        smoothing: "none", "savgol" (Savitzky-Golay, second order; what becomes negative is set to
            0) or "gaussian".
        smoothing_points: Window of "savgol", odd, 5 or more; full width at half maximum of
            "gaussian"; points.
        baseline: "none", "snip" (peak clipping with decreasing windows), "tophat" (morphological
            opening) or "median" (running median); what becomes negative is set to 0.
        baseline_points: Full width of the window, odd, 3 to 1001 points; wider than any peak.

    Raises:
        InputError: an unknown method, a shift or window that makes no sense.
    """

    shift_ppm: float = 0.0
    smoothing: str = "none"
    smoothing_points: int = 5
    baseline: str = "none"
    baseline_points: int = 101

    def __post_init__(self):
        _check_choice("smoothing", self.smoothing, SMOOTHINGS)
        _check_choice("baseline", self.baseline, BASELINES)
        _check_points("smoothing_points", self.smoothing_points, 5)
        _check_points("baseline_points", self.baseline_points, 3)
        if not abs(self.shift_ppm) < 1e5:
            raise InputError("treatment", "shift_ppm", f"is {self.shift_ppm}", "less than 100000")

    @property
    def filters(self) -> bool:
        """Whether intensities are changed."""
        return self.smoothing != "none" or self.baseline != "none"


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError("treatment", name, f"is {value!r}", f"one of {', '.join(known)}")


def _check_points(name: str, value: int, least: int) -> None:
    if not (isinstance(value, int) and least <= value <= _MOST_POINTS and value % 2):
        hint = f"an odd number from {least} to {_MOST_POINTS}"
        raise InputError("treatment", name, f"is {value!r}", hint)


def treat(msi: MsiFile, treatment: Treatment) -> MsiFile:
    """Returns a view of a file whose spectra are treated whenever they are read.

    Args:
        msi: An open file; it is left as it is.
        treatment: What to do.

    Returns:
        The file itself where there is nothing to do, else an object with the same interface.

    Raises:
        InputError: smoothing or baseline removal of anything but profile spectra, or "snip" where
            pybaselines is not installed.

    Source:
        scipy.signal.savgol_filter; scipy.ndimage's gaussian_filter1d, grey_opening and
        median_filter; pybaselines' snip (Ryan et al. 1988; Morhac and Matousek 2008).
    """
    if treatment.shift_ppm == 0 and not treatment.filters:
        return msi
    if treatment.filters and rebin_method(msi) != "linear":
        name = "smoothing" if treatment.smoothing != "none" else "baseline"
        kind = "single channels" if is_discrete(msi) else "centroid spectra"
        if msi.spectrum_type is None and not is_discrete(msi):
            kind = "spectra that are not known to be profiles"
        hint = "--smoothing=none --baseline=none"
        raise InputError(msi.path, name, f"needs profile spectra, the file holds {kind}", hint)
    if treatment.baseline == "snip":
        _pybaselines()
    return TreatedMsi(msi, treatment)


def _pybaselines():
    """Imports the one library that not every installation has."""
    try:
        return importlib.import_module("pybaselines")
    except ImportError as error:
        hint = "pip install 'msi2he_jax[baseline]', or choose tophat or median"
        raise InputError("treatment", "baseline", "snip needs pybaselines", hint) from error


class TreatedMsi:
    """An open file seen through a treatment; see `MsiFile` for its attributes."""

    def __init__(self, source: MsiFile, treatment: Treatment):
        self._source, self.treatment = source, treatment
        self._factor = 1.0 + treatment.shift_ppm * 1e-6
        self._gap_tol_da = estimate_gap_tol_da(source) if treatment.filters else np.inf
        self.path, self.files, self.bytes = source.path, source.files, source.bytes
        self.n, self.points, self.shares_mz = source.n, source.points, source.shares_mz
        self.coordinates, self.origin_px = source.coordinates, source.origin_px
        self.shape, self.mask = source.shape, source.mask
        self.pixel_size_um, self.polarity = source.pixel_size_um, source.polarity
        self.spectrum_type, self.uuid = source.spectrum_type, source.uuid
        self.warnings = source.warnings

    @property
    def checksum_recorded(self) -> str | None:
        """When an earlier run found the checksum to agree; see `MsiFile`."""
        return self._source.checksum_recorded

    def verify_checksum(self, *, recheck: bool = False) -> str | None:
        """Compares the file with its checksum; see `MsiFile.verify_checksum`."""
        return self._source.verify_checksum(recheck=recheck)

    def describe(self) -> dict[str, Any]:
        """Returns what the untreated file says of itself."""
        return self._source.describe()

    def packed(
        self, indices: np.ndarray | None = None, points: int = BLOCK_POINTS
    ) -> Iterator[Block]:
        """Yields treated spectra in blocks of about `points` points; see `packed_blocks`."""
        return packed_blocks(self, indices, points)

    def spectrum(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads one treated spectrum: m/z float64 [P], intensity float32 [P]."""
        block = self.block(np.array([index]))
        return block.mz, block.intensity.astype(np.float32)

    def block(self, indices: np.ndarray) -> Block:
        """Reads several spectra at once, checked and treated; see `MsiFile.block`.

        Args:
            indices: int64 [n], numbers of spectra.
        """
        block = self._source.block(indices)
        intensity = block.intensity
        if self.treatment.filters and len(intensity):
            intensity = filter_intensity(block, self.treatment, self._gap_tol_da)
        mz = self.shared_mz() if block.shared else block.mz / self._factor
        return dataclasses.replace(block, mz=mz, intensity=intensity)

    def shared_mz(self) -> np.ndarray:
        """Returns the one recalibrated m/z array of a file that `shares_mz`, float64 [P]."""
        return self._source.shared_mz() / self._factor

    def tic(self) -> np.ndarray:
        """Returns each spectrum's total over all its treated points, float64 [n]."""
        if not self.treatment.filters:
            return self._source.tic()
        sums = [block.per_spectrum(block.intensity) for block in self.packed()]
        return np.concatenate(sums)

    @property
    def mz_range(self) -> tuple[float, float]:
        """The least and greatest recalibrated m/z of any spectrum."""
        low, high = self._source.mz_range
        return low / self._factor, high / self._factor


def filter_intensity(block: Block, treatment: Treatment, gap_tol_da: float) -> np.ndarray:
    """Smooths spectra and removes their baselines.

    Args:
        block: n spectra, P points in all.
        treatment: Its smoothing, then its baseline.
        gap_tol_da: Da; where neighbouring points lie further apart, zeros are taken to be missing.

    Returns:
        float64 [P], not negative.
    """
    mz = np.tile(block.mz, len(block.indices)) if block.shared else block.mz
    wide = np.concatenate([[False], np.diff(mz) > gap_tol_da])
    y = block.intensity
    if treatment.smoothing != "none":
        # Negative lobes go at once: a baseline would follow them down and lift all around them.
        y = np.maximum(_smooth(y, block.starts, wide, treatment), 0.0)
    if treatment.baseline != "none":
        y = np.maximum(y - _baseline(y, block.starts, wide, treatment), 0.0)
    return y


def _smooth(y, starts, wide, treatment) -> np.ndarray:
    points = treatment.smoothing_points
    sigma = points / _FWHM
    savgol = treatment.smoothing == "savgol"
    reach = points // 2 if savgol else int(_TRUNCATE * sigma + 0.5)
    laid = _Layout(starts, wide, reach, reach)
    line = laid.lay(y)
    if savgol:
        return laid.take(signal.savgol_filter(line, points, _SAVGOL_ORDER, mode="nearest"))
    return laid.take(ndimage.gaussian_filter1d(line, sigma, mode="nearest", truncate=_TRUNCATE))


def _baseline(y, starts, wide, treatment) -> np.ndarray:
    points = treatment.baseline_points
    half = points // 2
    # An opening reaches two windows far, but never over a single zero: it stays below its signal.
    reaches = (2 * half, 1) if treatment.baseline == "tophat" else (half, half)
    laid = _Layout(starts, wide, *reaches)
    if treatment.baseline == "snip":
        line = laid.lay(y, wall=_WALL)
        fitter = _pybaselines().Baseline(check_finite=False, assume_sorted=True)
        options = {"max_half_window": half, "decreasing": True}
        return laid.take(fitter.snip(line, **options, pad_kwargs={"mode": "edge"})[0])
    if treatment.baseline == "tophat":
        return laid.take(ndimage.grey_opening(laid.lay(y), size=points, mode="nearest"))
    return laid.take(ndimage.median_filter(laid.lay(y), size=points, mode="nearest"))


class _Layout:
    """Spectra end to end with so much room between them that a filter cannot reach across.

    Args:
        starts: int64 [n + 1], where spectra start.
        wide: bool [P], whether zeros are missing before a point.
        reach: How far the filter reaches beyond the ends of a spectrum, points.
        gap: How many zeros keep it from reaching over a gap.
    """

    def __init__(self, starts: np.ndarray, wide: np.ndarray, reach: int, gap: int):
        size = len(wide)
        filled = np.diff(starts) > 0
        first, last = starts[:-1][filled], starts[1:][filled] - 1
        before, after = np.where(wide, gap, 0), np.zeros(size, np.int64)
        before[first] = after[last] = reach
        self.place = np.arange(size) + np.cumsum(before) + np.cumsum(after) - after
        self.source = np.full(size + before.sum() + after.sum(), size)
        self.source[self.place] = np.arange(size)
        step = np.arange(1, reach + 1)
        self.outside = np.concatenate(
            [self.place[first][:, None] - step, self.place[last][:, None] + step]
        )
        self.ends = np.concatenate([first, last])[:, None]

    def lay(self, y: np.ndarray, wall: float | None = None) -> np.ndarray:
        """Lays values [P] out; outside spectra lies `wall`, or else their end values."""
        line = np.append(y, 0.0)[self.source]
        line[self.outside] = y[self.ends] if wall is None else wall
        return line

    def take(self, line: np.ndarray) -> np.ndarray:
        """Takes the points [P] back out."""
        return line[self.place]
