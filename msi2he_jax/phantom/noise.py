"""Makes clean ion images look like a DESI measurement.

Calibrated on real DESI images of lung tissue (50 um pixels): zeros inside tissue up to 7 %, outside
up to 74 %; coefficient of variation 0.5-0.9; lag-1 autocorrelation of log intensity 0.3-0.85 along
scan lines and 0.2-0.8 across them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, signal

from msi2he_jax.phantom.hardness import Hardness


@dataclasses.dataclass(frozen=True)
class Noise:
    """How a measurement departs from the expected counts.

    Attributes:
        drift: Standard deviation of the slow change of the total ion current, log.
        line: Of the gain of a scan line, log.
        flicker: Of the spray along a line, log; correlated over a few pixels.
        flicker_memory: Correlation of the spray from one pixel to the next.
        channel: Of each channel's own multiplicative noise, log.
        shot_counts: Counts at which counting noise alone has a relative width of 1.
        detection_counts: Counts below which nothing is recorded, on average.
        chemical_counts: Mean of the chemical noise added to every channel.
        carry_over: Share of a pixel's signal that is washed into the next of its line.
        ion_drift: Standard deviation of the slow change of each ion beside the others, log.
        dropout: Share of the pixels without spray.
    """

    drift: float = 0.22
    line: float = 0.12
    flicker: float = 0.20
    flicker_memory: float = 0.65
    channel: float = 0.25
    shot_counts: float = 250.0
    detection_counts: float = 160.0
    chemical_counts: float = 60.0
    carry_over: float = 0.12
    ion_drift: float = 0.0
    dropout: float = 0.0


_WORST = Noise(
    drift=0.6,
    line=0.35,
    flicker=0.35,
    channel=0.85,
    detection_counts=1300.0,
    carry_over=0.25,
    ion_drift=0.5,
    dropout=0.12,
)
_KNOB_OF = {
    "drift": "gain",
    "line": "gain",
    "flicker": "gain",
    "ion_drift": "gain",
    "channel": "noise",
    "detection_counts": "noise",
    "carry_over": "point_spread",
    "dropout": "dropouts",
}


def harder(noise: Noise, levels: Hardness) -> Noise:
    """Moves a measurement towards the worst.

    Args:
        noise: How noisy it is at level 0.
        levels: Those of one section.

    Returns:
        How noisy it is then; the same at level 0.
    """
    worse = {}
    for name, knob in _KNOB_OF.items():
        here = getattr(noise, name)
        worse[name] = here + getattr(levels, knob) * max(0.0, getattr(_WORST, name) - here)
    return dataclasses.replace(noise, **worse)


def measure(rng: np.random.Generator, images: np.ndarray, noise: Noise) -> np.ndarray:
    """Draws one measurement; lines are rows, scanned from left to right.

    Args:
        rng: Source of randomness.
        images: `[H, W, K]` float32, expected counts.
        noise: How noisy.

    Returns:
        `[H, W, K]` float32, counts; 0 where nothing was detected.
    """
    own = rng.spawn(1)[0]
    share = noise.carry_over
    washed = signal.lfilter([1.0 - share], [1.0, -share], images, axis=1).astype(np.float32)
    expected = washed * total_gain(rng, images.shape[:2], noise)[..., None]
    if noise.ion_drift or noise.dropout:
        expected = _unsteady(own, expected, noise)
    width = np.sqrt(noise.channel**2 + noise.shot_counts / (expected + noise.shot_counts))
    draws = rng.standard_normal(images.shape, dtype=np.float32)
    counts = expected * np.exp(width * draws - 0.5 * width**2)
    counts += noise.chemical_counts * rng.standard_exponential(images.shape, dtype=np.float32)
    limit = noise.detection_counts * np.exp(0.25 * rng.standard_normal(images.shape[-1]))
    return np.where(counts >= limit, counts, 0.0).astype(np.float32)


def total_gain(rng: np.random.Generator, shape: tuple[int, int], noise: Noise) -> np.ndarray:
    """Draws what multiplies a whole spectrum: drift, line streaks and spray flicker.

    Args:
        rng: Source of randomness.
        shape: (lines, pixels per line).
        noise: How noisy.

    Returns:
        `[H, W]` float32, about 1.
    """
    steps = rng.standard_normal(shape[0] + 32)
    drift = ndimage.gaussian_filter1d(steps, 8.0)[16:-16]
    drift = noise.drift * (drift - drift.mean()) / (drift.std() + 1e-9)
    lines = noise.line * rng.standard_normal(shape[0])
    memory = noise.flicker_memory
    white = rng.standard_normal((shape[0], shape[1] + 16))
    spray = signal.lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], white, axis=1)[:, 16:]
    return np.exp((drift + lines)[:, None] + noise.flicker * spray).astype(np.float32)


def _unsteady(rng: np.random.Generator, expected: np.ndarray, noise: Noise) -> np.ndarray:
    """Lets each ion drift in its own way, and the spray stop."""
    drifting, stopping = rng.spawn(2)
    lines, _, ions = expected.shape
    steps = drifting.standard_normal((lines + 32, 3))
    courses = ndimage.gaussian_filter1d(steps, 5.0, axis=0)[16:-16]
    courses = (courses - courses.mean(axis=0)) / (courses.std(axis=0) + 1e-9)
    courses = courses + 0.5 * drifting.standard_normal(courses.shape)
    weights = drifting.standard_normal((3, ions)) * (noise.ion_drift / np.sqrt(3.0))
    drift = np.exp(courses @ weights).astype(np.float32)
    spray = 1.0 - draw_dropouts(stopping, expected.shape[:2], noise.dropout).astype(np.float32)
    return expected * drift[:, None] * np.maximum(spray, 0.02)[..., None]


def draw_dropouts(rng: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """Draws where the spray stops: runs along lines, one in eight of them a whole line.

    Args:
        rng: Source of randomness.
        shape: (lines, pixels per line).
        share: Share of the pixels to lose. The same draws with a larger share lose more.

    Returns:
        `[H, W]` bool.
    """
    lost = np.zeros(shape, bool)
    while lost.mean() < share:
        line, start = rng.integers(shape[0]), rng.integers(-3, shape[1])
        length = int(np.ceil(shape[1] * rng.beta(1.2, 5.0)))
        run = slice(None) if rng.random() < 0.125 else slice(max(0, start), max(0, start + length))
        lost[line, run] = True
    return lost


def mass_shifts_ppm(rng: np.random.Generator, count: int, jitter_ppm: float) -> np.ndarray:
    """Draws the mass error of every spectrum, in the order of acquisition.

    Args:
        rng: Source of randomness.
        count: How many spectra.
        jitter_ppm: Standard deviation from spectrum to spectrum, ppm; a slow drift adds to it.

    Returns:
        `[count]` float64, ppm.
    """
    slow = ndimage.gaussian_filter1d(rng.standard_normal(count), max(1.0, count / 12.0))
    slow = slow / (slow.std() + 1e-9)
    return jitter_ppm * (rng.standard_normal(count) + 0.7 * slow)
