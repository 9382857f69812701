"""First look at all files of a cohort: do they belong together, and which peaks do they show?"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.data.alignment import LANDMARKS, align, read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um
from msi2he_jax.data.pairs import slide_tissue
from msi2he_jax.data.reading import read_spectra, sampled_spectrum
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import sha256
from msi2he_jax.msi import background
from msi2he_jax.msi.axes import (
    MassAxis,
    estimate_axis_step_ppm,
    estimate_gap_tol_da,
    mass_axis,
    relative_spacing_ppm,
)
from msi2he_jax.msi.imzml import Imzml, open_imzml
from msi2he_jax.msi.normalization import size_weights, spectrum_sizes
from msi2he_jax.msi.peak_list import PeakList, peaks_at
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import is_discrete, summed_spectrum

_ROUND_MZ = 0.1
_FEWEST_TISSUE_PIXELS = 16


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one sample's files say about themselves.

    Attributes:
        sample_id: The sample.
        mz_range: Least and greatest m/z.
        step_ppm: Bin width that its spectra suggest, ppm.
        gap_tol_da: Widest gap between profile points that is interpolated, Da; inf for any.
        spectrum_type: "profile", "centroid" or None.
        polarity: "positive", "negative" or None.
        discrete: Whether it holds channels rather than spectra.
        pixel_size_um: (y, x), um.
        sha256: Of imzml, ibd, histology and landmarks.
        doubts: What is odd in the imzML.
        spectra: How many the file holds.
        ibd_bytes: Size of the .ibd, bytes.
        uuid: Of the measurement, as its .ibd starts; empty where the imzML states none.
    """

    sample_id: str
    mz_range: tuple[float, float]
    step_ppm: float
    gap_tol_da: float
    spectrum_type: str | None
    polarity: str | None
    discrete: bool
    pixel_size_um: tuple[float, float]
    sha256: dict[str, str]
    doubts: tuple[str, ...]
    spectra: int = 0
    ibd_bytes: int = 0
    uuid: str = ""


def survey_sample(sample: Sample, recipe: Recipe | None = None) -> Survey:
    """Opens a sample's MSI and hashes its files.

    Args:
        sample: One sample.
        recipe: Decides on duplicates and the kind of mass axis.

    Raises:
        InputError: the imzML is damaged, its pixel size is not known, or landmarks are no good.
    """
    recipe = recipe or Recipe()
    if recipe.align == LANDMARKS:
        align(sample)  # Hours before they are used, so that all landmark files are known good.
    imzml = open_imzml(sample.imzml, duplicates=recipe.duplicates)
    imzml.verify_checksum()
    measured_region(imzml, sample.msi_roi)
    files = {"imzml": imzml.path, "ibd": imzml.ibd_path, "histology": sample.histology}
    files |= {"landmarks": sample.landmarks} if sample.landmarks else {}
    profile = imzml.spectrum_type == "profile"
    return Survey(
        sample_id=sample.sample_id,
        mz_range=imzml.mz_range,
        step_ppm=_step_ppm(imzml, recipe.axis_kind),
        gap_tol_da=estimate_gap_tol_da(imzml) if profile else float("inf"),
        spectrum_type=imzml.spectrum_type,
        polarity=imzml.polarity,
        discrete=is_discrete(imzml),
        pixel_size_um=msi_pixel_size_um(imzml, sample.msi_um_per_px, sample.msi_um_per_px_y),
        sha256={name: sha256(path) for name, path in files.items()},
        doubts=tuple(imzml.doubts),
        spectra=imzml.n,
        ibd_bytes=imzml.ibd_path.stat().st_size,
        uuid=imzml.uuid,
    )


def _step_ppm(imzml: Imzml, kind: str) -> float:
    """Suggests a bin width; for channels a quarter of the least distance, so none are joined."""
    kind = "ppm" if kind == "fixed_da" else kind
    gaps = relative_spacing_ppm(imzml) if is_discrete(imzml) else np.zeros(0)
    return max(1.0, float(gaps.min()) / 4) if len(gaps) else estimate_axis_step_ppm(imzml, kind)


def mixtures(surveys: Sequence[Survey]) -> list[str]:
    """Lists in words why the files should not be put together; empty where they should."""
    found = []
    kinds = {
        "spectrum types": [s.spectrum_type for s in surveys],
        "polarities": [s.polarity for s in surveys],
        "files of single channels and of spectra": [str(s.discrete) for s in surveys],
    }
    for name, values in kinds.items():
        known = Counter(value for value in values if value is not None)
        if len(known) > 1:
            rarest = min(known, key=known.get)
            which = surveys[values.index(rarest)].sample_id
            counts = ", ".join(f"{count} {value}" for value, count in sorted(known.items()))
            found.append(f"{name} are mixed: {counts}; {which} is one of the fewer")
    low = max(surveys, key=lambda s: s.mz_range[0])
    high = min(surveys, key=lambda s: s.mz_range[1])
    if low.mz_range[0] > high.mz_range[1]:
        found.append(
            f"m/z ranges do not overlap: {high.sample_id} ends at {high.mz_range[1]:.4f}, "
            f"{low.sample_id} starts at {low.mz_range[0]:.4f}"
        )
    return found


def doubts(surveys: Sequence[Survey], recipe: Recipe) -> list[str]:
    """Lists in words what makes the data set less than it should be."""
    found = mixtures(surveys)
    centroid = sum(s.spectrum_type == "centroid" for s in surveys)
    if recipe.method == "linear" and centroid:
        found.append(
            f"{centroid} samples with centroid spectra were interpolated, as published, which "
            "invents signal between their peaks"
        )
    return found


def check_leakage(surveys: Sequence[Survey], splits: dict[str, str], samples: Sequence[Sample]):
    """Refuses a copy of one measurement or slide, under another name, in another split.

    Raises:
        InputError: names the two samples.
    """
    of = {sample.sample_id: sample for sample in samples}
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for survey in surveys:
        name = survey.sample_id
        for what, content, path in _identities(survey, of[name]):
            other, place = first.setdefault((what, content), (name, path.resolve()))
            if splits[other] != splits[name] and place != path.resolve():
                why = f"{other} ({splits[other]}) and {name} ({splits[name]}) hold the same {what}"
                raise InputError("manifest", "split", why, "give both the same group_id")


def _identities(survey: Survey, sample: Sample) -> list[tuple[str, str, Path]]:
    """Lists what tells a sample's files from all others, and the file."""
    found = [
        ("spectra", survey.sha256.get("ibd", ""), sample.imzml),
        ("measurement (by its UUID)", survey.uuid.strip("0-"), sample.imzml),
        ("slide", survey.sha256.get("histology", ""), sample.histology),
    ]
    return [each for each in found if each[1]]


def choose_axis(surveys: Sequence[Survey], recipe: Recipe) -> MassAxis:
    """Makes the mass axis: the recipe's range and step, or else the pooled range and least step.

    Args:
        surveys: Those whose spectra may decide.
        recipe: `mz_min`, `mz_max`, `axis_kind` and `axis_step` (None = from the data).
    """
    low = min(s.mz_range[0] for s in surveys) if recipe.mz_min is None else recipe.mz_min
    high = max(s.mz_range[1] for s in surveys) if recipe.mz_max is None else recipe.mz_max
    if recipe.mz_min is None:
        low = max(math.floor(low / _ROUND_MZ) * _ROUND_MZ, _ROUND_MZ)
    if recipe.mz_max is None:
        high = math.ceil(high / _ROUND_MZ) * _ROUND_MZ
    step = recipe.axis_step
    if step is None:
        ppm = min(s.step_ppm for s in surveys)
        step = ppm * 1e-6 * low if recipe.axis_kind == "fixed_da" else ppm
    return mass_axis(recipe.axis_kind, mz_min=low, mz_max=high, step=step)


def gap_tolerance_da(surveys: Sequence[Survey], recipe: Recipe) -> float | None:
    """Returns the widest gap that interpolation bridges, Da, or None for any."""
    widest = max(s.gap_tol_da for s in surveys)
    return widest if recipe.limit_gaps and math.isfinite(widest) else None


def sample_spectrum(
    sample: Sample,
    axis: MassAxis,
    recipe: Recipe,
    gap_tol_da: float | None,
    *,
    bounds: tuple[int, int] | None = None,
    floor: float | None = None,
) -> tuple[np.ndarray, int]:
    """Sums a sample's spectra, or a range of them, as the recipe says; sums of ranges add.

    Args:
        sample: One sample.
        axis: M bins.
        recipe: Decides rebinning, normalisation, and whether only tissue counts.
        gap_tol_da: Da, see `gap_tolerance_da`.
        bounds: The first spectrum and the one after the last; None for all.
        floor: `size_floor` of the `sample_sizes` of all ranges; None where all are summed here.

    Returns:
        float64 [M], and how many spectra went into it.
    """
    imzml, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    pixels = _counted_pixels(sample, imzml, recipe)
    spectra = np.arange(*(bounds or (0, imzml.n)))
    weight = np.zeros(imzml.n)
    weight[spectra] = size_weights(_sizes(imzml, recipe, spectra), floor)
    counted = spectra[pixels[tuple(imzml.coordinates[spectra].T)]]
    options = {"method": recipe.method, "gap_tol_da": gap_tol_da}
    return summed_spectrum(imzml, axis, weight=weight, pixels=counted, **options), len(counted)


def file_spectrum(
    sample: Sample, axis: MassAxis, recipe: Recipe, gap_tol_da: float | None
) -> np.ndarray:
    """Sums some spectra of a sample's file, to recalibrate by.

    Args:
        sample: One sample.
        axis: M bins.
        recipe: Decides rebinning and treatment.
        gap_tol_da: Da, see `gap_tolerance_da`.

    Returns:
        float64 [M], see `reading.sampled_spectrum`.
    """
    imzml, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    return sampled_spectrum(imzml, recipe, axis)


def sample_sizes(
    sample: Sample,
    axis: MassAxis,
    recipe: Recipe,
    gap_tol_da: float | None,
    *,
    bounds: tuple[int, int],
) -> np.ndarray:
    """Measures the spectra that the summed spectrum divides by their size, float64 [n].

    Args:
        sample: One sample.
        axis: M bins.
        recipe: Decides whether sizes count; where they do not, all are 1.
        gap_tol_da: Da, see `gap_tolerance_da`.
        bounds: The first spectrum and the one after the last.
    """
    imzml, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    return _sizes(imzml, recipe, np.arange(*bounds))


def _sizes(imzml: Imzml, recipe: Recipe, spectra: np.ndarray) -> np.ndarray:
    kind = size_kind(recipe.normalization, is_discrete(imzml)) if recipe.mean_spectra else "none"
    return spectrum_sizes(
        imzml,
        kind,
        reference_mz=recipe.reference_mz,
        reference_ppm=recipe.reference_ppm,
        indices=spectra,
    )


def size_kind(normalization: str, discrete: bool) -> str:
    """Returns what spectra are divided by: of a few channels, nothing but a reference's signal."""
    return "none" if discrete and normalization != "reference" else normalization


def _counted_pixels(sample: Sample, imzml: Imzml, recipe: Recipe) -> np.ndarray:
    """Returns the pixels whose spectra are summed, bool [H, W]."""
    pixels = measured_region(imzml, sample.msi_roi)
    if not recipe.tissue_only or (sample.landmarks is None and sample.alignment is None):
        return pixels
    tissue = pixels & _tissue_on_msi(sample, imzml)
    return tissue if tissue.sum() >= _FEWEST_TISSUE_PIXELS else pixels


def _tissue_on_msi(sample: Sample, imzml: Imzml) -> np.ndarray:
    """Draws the slide's tissue mask on the MSI pixels, bool [H, W]."""
    size = msi_pixel_size_um(imzml, sample.msi_um_per_px, sample.msi_um_per_px_y)
    slide = read_slide(sample, min(size))
    return slide_tissue(slide, align(sample).matrix, imzml.shape, size)


def choose_peaks(
    axis: MassAxis, spectrum: np.ndarray, recipe: Recipe, polarity: str | None = None
) -> Peaks:
    """Picks the peaks of the cohort's summed spectrum, or takes those of the recipe's list.

    Args:
        axis: M bins.
        spectrum: float64 [M].
        recipe: A list of m/z, or else number, least distance, height and excluded m/z.
        polarity: Of the cohort, whose background ions are excluded; None for those of both.

    Raises:
        InputError: no peak is left, or listed m/z are outside the axis.
    """
    if recipe.listed_mz:
        windows = np.array(recipe.listed_windows) if recipe.listed_windows else None
        listed = PeakList(np.array(recipe.listed_mz), recipe.listed_names, windows)
        return peaks_at(axis, listed, recipe.listed_ppm, spectrum=spectrum)
    ions = [mz for name in recipe.background for mz in background.named(name, polarity)]
    return pick_peaks(
        axis,
        spectrum,
        count=recipe.peaks,
        min_separation_ppm=recipe.min_separation_steps * axis.step_ppm(axis.mz[0]),
        prominence=recipe.prominence,
        min_snr=recipe.min_snr,
        exclude=(*recipe.exclude_mz, *ions),
        exclude_ppm=max(recipe.exclude_ppm, axis.step_ppm(axis.mz[0])),
        deisotope=recipe.deisotope,
    )
