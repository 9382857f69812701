"""First look at all files of a cohort: what they say of themselves, and which peaks they show."""

from __future__ import annotations

import dataclasses

import numpy as np

from msi2he_jax.data.alignment import LANDMARKS, align, read_slide
from msi2he_jax.data.cohort_axis import ppm_kind
from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um
from msi2he_jax.data.msi_warnings import msi_warnings
from msi2he_jax.data.pairs import slide_tissue
from msi2he_jax.data.reading import read_spectra, sampled_spectrum
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.io_safety import sha256
from msi2he_jax.msi import background
from msi2he_jax.msi.axes import (
    MassAxis,
    estimate_axis_step_ppm,
    estimate_gap_tol_da,
    ion_scatter_ppm,
    relative_spacing_ppm,
    scatter_bins,
)
from msi2he_jax.msi.normalization import size_weights, spectrum_sizes
from msi2he_jax.msi.open_msi import MsiFile, open_msi
from msi2he_jax.msi.overview import strong_ions
from msi2he_jax.msi.peak_list import PeakList, peaks_at
from msi2he_jax.msi.peaks import Peaks, pick_peaks
from msi2he_jax.msi.spectra import is_discrete, summed_spectrum
from msi2he_jax.registration.transforms import Transform

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
        warnings: What is odd in the imzML.
        spectra: How many the file holds.
        ibd_bytes: Size of the .ibd, bytes.
        uuid: Of the measurement, as its .ibd starts; empty where the imzML states none.
        scatter_ppm: Scatter of an ion's m/z over the spectra, ppm as `step_ppm`; None if not known.
        ions: Its strongest ions where they scatter, m/z.
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
    warnings: tuple[str, ...]
    spectra: int = 0
    ibd_bytes: int = 0
    uuid: str = ""
    scatter_ppm: float | None = None
    ions: tuple[float, ...] = ()


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
    msi = open_msi(sample.imzml, duplicates=recipe.duplicates)
    msi.verify_checksum()
    measured_region(msi, sample.msi_roi)
    size = msi_pixel_size_um(msi, sample.msi_um_per_px, sample.msi_um_per_px_y)
    files = {"imzml": msi.path, "ibd": msi.files[-1], "histology": sample.histology}
    files |= {"landmarks": sample.landmarks} if sample.landmarks else {}
    return survey_imzml(sample, msi, recipe, size, {n: sha256(path) for n, path in files.items()})


def survey_imzml(
    sample: Sample,
    msi: MsiFile,
    recipe: Recipe,
    pixel_size_um: tuple[float, float],
    contents: dict[str, str],
) -> Survey:
    """Notes down what an open file says.

    Args:
        sample: Whose file it is.
        msi: The file.
        recipe: Decides on the kind of mass axis.
        pixel_size_um: (y, x), um; NaN where not known.
        contents: Tells files apart by what they hold: `Survey.sha256`.
    """
    profile = msi.spectrum_type == "profile"
    return Survey(
        sample_id=sample.sample_id,
        mz_range=msi.mz_range,
        step_ppm=_step_ppm(msi, ppm_kind(recipe)),
        gap_tol_da=estimate_gap_tol_da(msi) if profile else float("inf"),
        spectrum_type=msi.spectrum_type,
        polarity=msi.polarity,
        discrete=is_discrete(msi),
        pixel_size_um=pixel_size_um,
        sha256=contents,
        warnings=tuple(
            msi_warnings(msi, sample.msi_um_per_px, sample.msi_um_per_px_y, sample.msi_roi)
        ),
        spectra=msi.n,
        ibd_bytes=msi.bytes,
        uuid=msi.uuid,
        scatter_ppm=ion_scatter_ppm(msi, ppm_kind(recipe)),
        ions=tuple(strong_ions(msi).tolist()),
    )


def _step_ppm(msi: MsiFile, kind: str) -> float:
    """Suggests a bin width; for channels a quarter of the least distance, so none are joined."""
    channels = is_discrete(msi) and ion_scatter_ppm(msi, kind) is None
    gaps = relative_spacing_ppm(msi) if channels else np.zeros(0)
    return max(1.0, float(gaps.min()) / 4) if len(gaps) else estimate_axis_step_ppm(msi, kind)


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
    msi, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    pixels = _counted_pixels(sample, msi, recipe)
    spectra = np.arange(*(bounds or (0, msi.n)))
    weight = np.zeros(msi.n)
    weight[spectra] = size_weights(_sizes(msi, recipe, spectra), floor)
    counted = spectra[pixels[tuple(msi.coordinates[spectra].T)]]
    options = {"method": recipe.method, "gap_tol_da": gap_tol_da}
    return summed_spectrum(msi, axis, weight=weight, pixels=counted, **options), len(counted)


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
    msi, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    return sampled_spectrum(msi, recipe, axis)


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
    msi, _ = read_spectra(sample.imzml, recipe, axis, gap_tol_da)
    return _sizes(msi, recipe, np.arange(*bounds))


def _sizes(msi: MsiFile, recipe: Recipe, spectra: np.ndarray) -> np.ndarray:
    kind = size_kind(recipe.normalization, is_discrete(msi)) if recipe.mean_spectra else "none"
    return spectrum_sizes(
        msi,
        kind,
        reference_mz=recipe.reference_mz,
        reference_ppm=recipe.reference_ppm,
        indices=spectra,
    )


def size_kind(normalization: str, discrete: bool) -> str:
    """Returns what spectra are divided by: of a few channels, nothing but a reference's signal."""
    return "none" if discrete and normalization != "reference" else normalization


def _counted_pixels(sample: Sample, msi: MsiFile, recipe: Recipe) -> np.ndarray:
    """Returns the pixels whose spectra are summed, bool [H, W]."""
    pixels = measured_region(msi, sample.msi_roi)
    if not recipe.tissue_only or (sample.landmarks is None and sample.alignment is None):
        return pixels
    tissue = pixels & _tissue_on_msi(sample, msi)
    return tissue if tissue.sum() >= _FEWEST_TISSUE_PIXELS else pixels


def _tissue_on_msi(sample: Sample, msi: MsiFile) -> np.ndarray:
    """Draws the slide's tissue mask on the MSI pixels, bool [H, W]."""
    size = msi_pixel_size_um(msi, sample.msi_um_per_px, sample.msi_um_per_px_y)
    slide = read_slide(sample, min(size))
    return slide_tissue(slide, Transform(align(sample).transform.matrix), msi.shape, size)


def choose_peaks(
    axis: MassAxis,
    spectrum: np.ndarray,
    recipe: Recipe,
    polarity: str | None = None,
    scatter_ppm: float | None = None,
) -> Peaks:
    """Picks the peaks of the cohort's summed spectrum, or takes those of the recipe's list.

    Args:
        axis: M bins.
        spectrum: float64 [M].
        recipe: A list of m/z, or else number, least distance, height and excluded m/z.
        polarity: Of the cohort, whose background ions are excluded; None for those of both.
        scatter_ppm: From `cohort_scatter_ppm`.

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
        smooth_bins=scatter_bins(axis, scatter_ppm),
        min_separation_ppm=recipe.min_separation_steps * axis.step_ppm(axis.mz[0]),
        prominence=recipe.prominence,
        min_snr=recipe.min_snr,
        exclude=(*recipe.exclude_mz, *ions),
        exclude_ppm=max(recipe.exclude_ppm, axis.step_ppm(axis.mz[0])),
        deisotope=recipe.deisotope,
    )
