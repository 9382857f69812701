"""Mass axes: the bins that spectra of different files are brought to."""

from __future__ import annotations

import dataclasses
import functools
import weakref

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.msi.mass_scatter import last_digit, mass_scatter
from msi2he_jax.msi.open_msi import MsiFile

KINDS = ("ppm", "fixed_da", "tof", "orbitrap")
REFERENCE_MZ = 200.0
# Relative bin width grows as this power of m/z.
_POWERS = {"ppm": 0.0, "tof": -0.5, "orbitrap": 0.5}
_MOST_BINS = 50_000_000
_SAMPLED_SPECTRA = 200
_SLACK_BINS = 1e-6
_LEAST_PPM, _MOST_PPM = 0.5, 100.0
_scatters: weakref.WeakKeyDictionary[MsiFile, dict[str, float | None]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, eq=False)
class MassAxis:
    """Increasing m/z values; a bin reaches half-way to its neighbours.

    Attributes:
        kind: "ppm" (each bin the same relative step from the one before), "fixed_da", "tof"
            (uniform in sqrt(m/z)) or "orbitrap" (uniform in 1 / sqrt(m/z)).
        mz: float64 [M], bin centres; the last is not below the range's end.
        step: Bin width: Da for "fixed_da", else ppm; for "tof" and "orbitrap" at m/z 200.
    """

    kind: str
    mz: np.ndarray
    step: float

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """Borders between bins, float64 [M + 1]; the outer ones lie half a bin outside."""
        middle = (self.mz[1:] + self.mz[:-1]) / 2
        first = self.mz[0] - (middle[0] - self.mz[0] if len(middle) else self.half_width)
        last = self.mz[-1] + (self.mz[-1] - middle[-1] if len(middle) else self.half_width)
        return np.concatenate([[first], middle, [last]])

    @property
    def half_width(self) -> float:
        """Half the step at the lower end, in Da."""
        if self.kind == "fixed_da":
            return self.step / 2
        return self.step_ppm(self.mz[0]) / 2 * (self.mz[0] * 1e-6)

    def step_ppm(self, mz):
        """Returns the bin width at an m/z.

        Args:
            mz: m/z, a scalar or float64 [...].

        Returns:
            ppm, the same shape.
        """
        if self.kind == "fixed_da":
            return self.step / mz * 1e6
        return self.step * (mz / REFERENCE_MZ) ** _POWERS[self.kind]

    def first_not_below(self, mz: np.ndarray) -> np.ndarray:
        """Returns the first bin whose centre is >= each m/z (M where none is), int64, any shape."""
        return _refine(self.mz, mz, _bins_above(self.kind, self.mz[0], self.step, mz))

    def nearest(self, mz: np.ndarray) -> np.ndarray:
        """Returns the bin each m/z falls in, int64, any shape; -1 outside the axis.

        A value on a border belongs to the upper bin, at the axis' very end to none.
        """
        above = self.first_not_below(mz)
        below = np.maximum(above - 1, 0)
        bins = np.where(mz < self.edges[np.minimum(above, len(self.mz) - 1)], below, above)
        bins = np.minimum(bins, len(self.mz) - 1)
        outside = (mz < self.edges[0]) | (mz >= self.edges[-1])
        return np.where(outside, -1, bins)


def _refine(centres: np.ndarray, mz: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Corrects a computed position, which may be one off, against the centres themselves."""
    size = len(centres)
    index = np.ceil(np.clip(guess, 0, size)).astype(np.int64)
    index -= (index > 0) & (centres[np.maximum(index - 1, 0)] >= mz)
    return index + ((index < size) & (centres[np.minimum(index, size - 1)] < mz))


def _root_step(kind: str, step: float) -> float:
    """Returns the step in sqrt(m/z), or 1 / sqrt(m/z), that is `step` ppm wide at m/z 200."""
    root = np.sqrt(REFERENCE_MZ)
    return step * 1e-6 / 2 * (root if kind == "tof" else 1 / root)


def _bins_above(kind: str, mz_min: float, step: float, mz) -> np.ndarray:
    """Returns how many steps each m/z lies above the first centre, float64, any shape."""
    if kind == "fixed_da":
        return (mz - mz_min) / step
    with np.errstate(divide="ignore"):
        if kind == "ppm":
            return np.log(np.maximum(mz, 0) / mz_min) / np.log1p(step * 1e-6)
        root = np.sqrt(np.maximum(mz, 0))
        if kind == "tof":
            return (root - np.sqrt(mz_min)) / _root_step(kind, step)
        return (1 / np.sqrt(mz_min) - 1 / root) / _root_step(kind, step)


def _centres(kind: str, mz_min: float, step: float, count: int) -> np.ndarray:
    """Returns the first `count` centres, float64 [count]; infinite beyond an Orbitrap's end."""
    steps = np.arange(count)
    if kind == "ppm":
        return mz_min * np.exp(steps * np.log1p(step * 1e-6))
    if kind == "fixed_da":
        return mz_min + steps * step
    steps = steps * _root_step(kind, step) * np.sqrt(mz_min)
    if kind == "tof":
        return mz_min * (1 + steps / mz_min) ** 2
    with np.errstate(divide="ignore"):
        return mz_min / np.maximum(1 - steps, 0) ** 2


def mass_axis(kind: str = "ppm", *, mz_min: float, mz_max: float, step: float) -> MassAxis:
    """Makes a mass axis.

    Args:
        kind: "ppm": m[i + 1] = m[i] * (1 + step * 1e-6); "fixed_da": m[i + 1] = m[i] + step;
            "tof": uniform in sqrt(m/z); "orbitrap": uniform in 1 / sqrt(m/z).
        mz_min: First centre, m/z.
        mz_max: The last centre is the first one that is not below this (by a millionth of a bin).
        step: Da for "fixed_da", ppm for the others; for "tof" and "orbitrap" it is the bin width at
            m/z 200, and the relative width goes as sqrt(200 / mz), or sqrt(mz / 200).

    Raises:
        InputError: an unknown kind, an empty range, a step that is not positive, too many bins, or
            bins too wide for the range.

    Source:
        SpectralAnalysis, InterpolationPPMRebinZeroFilling and InterpolationRebinZeroFilling, which
        stop at the last centre not above the range's end; one more is kept here, so that a channel
        at the end of the range has a bin. "tof" and "orbitrap" are its axes of those names.

    Example:
        >>> axis = mass_axis("fixed_da", mz_min=100.0, mz_max=101.0, step=0.25)
        >>> axis.mz.round(3).tolist()
        [100.0, 100.25, 100.5, 100.75, 101.0]
    """
    if kind not in KINDS:
        raise InputError("mass axis", "kind", f"is {kind!r}", f"one of {', '.join(KINDS)}")
    if not (np.isfinite([mz_min, mz_max]).all() and 0 < mz_min <= mz_max):
        raise InputError("mass axis", "range", f"{mz_min} to {mz_max} m/z is not a range")
    if not 0 < step < np.inf:
        raise InputError("mass axis", "step", f"is {step}, must be positive")
    # A millionth of a bin is spared, so that a range ending on a centre gains none by rounding.
    span = _bins_above(kind, mz_min, step, mz_max) - _SLACK_BINS
    count = max(int(np.ceil(span)), 0) + 1
    if count > _MOST_BINS:
        hint = "a larger --axis_step, or a smaller range: --mz_min, --mz_max"
        raise InputError("mass axis", "step", f"{step} makes {count} bins", hint)
    mz = _centres(kind, mz_min, step, count)
    if not (np.isfinite(mz[-1]) and (np.diff(mz) > 0).all()):
        raise InputError("mass axis", "step", f"{step} does not suit {mz_min} to {mz_max} m/z")
    return MassAxis(kind, mz, float(step))


def estimate_axis_step_ppm(msi: MsiFile, kind: str = "ppm") -> float:
    """Suggests a relative bin width from up to 200 spectra spread over the file.

    Profile spectra: the 10th percentile of their relative spacing, so that few apexes are lost.
    Centroid spectra: half of `ion_scatter_ppm`, so that ions three scatters apart stay apart and an
    apex is known to a quarter of the scatter; not finer than the last digit m/z were written with,
    between which bins would be empty. Where no scatter is found (channels, one spectrum): a quarter
    of the 5th percentile of the spacing within a spectrum. Rounded to two digits, at least 0.5 (no
    instrument is better) and at most 500 (profile) or 100 ppm (none is worse).

    Args:
        msi: An open file.
        kind: "ppm", "tof" or "orbitrap", the axis it is for.

    Returns:
        ppm; for "tof" and "orbitrap" at m/z 200.
    """
    scatter = ion_scatter_ppm(msi, kind)
    if scatter is not None:
        return scatter_step_ppm(scatter)
    most = 500 if msi.spectrum_type == "profile" else _MOST_PPM
    return _two_digits(np.clip(_spacing_step_ppm(msi, kind), _LEAST_PPM, most))


def scatter_step_ppm(scatter_ppm: float) -> float:
    """Returns the bin width for a scatter, ppm: half of it, from 0.5 to 100, to two digits.

    Args:
        scatter_ppm: From `ion_scatter_ppm`, or of several files.
    """
    return _two_digits(np.clip(scatter_ppm / 2, _LEAST_PPM, _MOST_PPM))


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _spacing_step_ppm(msi: MsiFile, kind: str) -> float:
    mz, gaps = _sampled_gaps(msi)
    if not len(gaps):
        return 100.0
    gaps = _relative_ppm(kind, mz, gaps)
    profile = msi.spectrum_type == "profile"
    return float(np.percentile(gaps, 10) if profile else np.percentile(gaps, 5) / 4)


def _relative_ppm(kind: str, mz: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Returns widths in Da as ppm of the m/z, at m/z 200 of an axis of that kind."""
    mz = np.maximum(mz, 1e-12)
    return width / mz * 1e6 / (mz / REFERENCE_MZ) ** _POWERS[kind]


def ion_scatter_ppm(msi: MsiFile, kind: str = "ppm") -> float | None:
    """Estimates how far the m/z of one ion scatter over up to 200 spectra of a file.

    They are read once for an open file and kind.

    Args:
        msi: An open file.
        kind: "ppm", "tof" or "orbitrap", the axis it is for.

    Returns:
        Standard deviation, ppm; for "tof" and "orbitrap" at m/z 200; at least twice the last digit
        of the m/z. None for profiles, and where m/z repeat exactly or no ion is in two spectra.
    """
    known = _scatters.setdefault(msi, {})
    if kind not in known:
        known[kind] = _sampled_scatter_ppm(msi, kind)
    return known[kind]


def _sampled_scatter_ppm(msi: MsiFile, kind: str) -> float | None:
    if msi.spectrum_type == "profile" or msi.shares_mz:
        return None
    spectra = [pair for block in msi.packed(sample_indices(msi)) for pair in block.spectra()]
    mz = np.concatenate([mz for mz, _ in spectra])
    digit = last_digit(mz)
    if digit:  # Spread evenly, so that the scatter below the last digit is not taken for none.
        mz = mz + np.random.default_rng(0).uniform(-digit / 2, digit / 2, len(mz))
    above = in_steps(kind, mz)
    parts = np.split(above, np.cumsum([len(each) for each, _ in spectra])[:-1])
    ordered = [np.argsort(part) for part in parts]
    scatter = mass_scatter(
        [
            (part[order], y[order])
            for part, order, (_, y) in zip(parts, ordered, spectra, strict=True)
        ]
    )
    least = 2 * float(np.median(_relative_ppm(kind, mz, digit))) if digit else 0.0
    return max(scatter or 0.0, least) or None


def in_steps(kind: str, mz: np.ndarray) -> np.ndarray:
    """Returns how many steps of 1 ppm, at m/z 200 of an axis of that kind, m/z lie above 200.

    Args:
        kind: One of `KINDS` but "fixed_da".
        mz: float64 [P], m/z.

    Returns:
        float64 [P].
    """
    return _bins_above(kind, REFERENCE_MZ, 1.0, np.maximum(mz, 1e-12))


def scatter_bins(axis: MassAxis, scatter_ppm: float | None) -> float:
    """Returns by how much a summed spectrum is smoothed before peaks are picked: half the scatter.

    Args:
        axis: M bins.
        scatter_ppm: From `ion_scatter_ppm` for the axis' kind, or None.

    Returns:
        Standard deviation, bins; 0 without scatter, and for bins of a fixed width in Da.
    """
    return 0.0 if scatter_ppm is None or axis.kind == "fixed_da" else scatter_ppm / 2 / axis.step


def estimate_gap_tol_da(msi: MsiFile) -> float:
    """Suggests the widest distance between profile points that is still to be interpolated.

    Three times the median spacing where that is largest: spacing grows with m/z in most analysers,
    so the median is taken in each tenth of the points, from up to 200 spectra.

    Args:
        msi: An open file of profile spectra.

    Returns:
        Da; infinite where no spectrum has two points.
    """
    mz, gaps = _sampled_gaps(msi)
    if not len(gaps):
        return float("inf")
    parts = np.array_split(gaps[np.argsort(mz, kind="stable")], min(10, len(gaps)))
    return 3.0 * max(float(np.median(part)) for part in parts)


def relative_spacing_ppm(msi: MsiFile) -> np.ndarray:
    """Returns the positive distances of neighbouring points of some spectra, ppm, float64 [n]."""
    mz, gaps = _sampled_gaps(msi)
    return gaps / np.maximum(mz, 1e-12) * 1e6


def _sampled_gaps(msi: MsiFile) -> tuple[np.ndarray, np.ndarray]:
    """Returns m/z and positive distance to the next point in the same spectrum, of a sample."""
    chosen = sample_indices(msi, 1 if msi.shares_mz else _SAMPLED_SPECTRA)
    all_mz, gaps = [np.zeros(0)], [np.zeros(0)]
    for block in msi.packed(chosen):
        for mz, _ in block.spectra():
            all_mz.append(mz[:-1])
            gaps.append(np.diff(mz))
    mz, gap = np.concatenate(all_mz), np.concatenate(gaps)
    return mz[gap > 0], gap[gap > 0]


def sample_indices(msi: MsiFile, count: int = _SAMPLED_SPECTRA) -> np.ndarray:
    """Returns at most `count` numbers of spectra, spread evenly over the file, int64 [n]."""
    return np.unique(np.linspace(0, msi.n - 1, min(count, msi.n)).astype(np.int64))
