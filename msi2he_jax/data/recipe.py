"""The choices of preprocessing, and the two presets: as the paper did it, and as is right."""

from __future__ import annotations

import dataclasses
from typing import Any

from msi2he_jax.errors import InputError

PAD_VALUES = {"white": 255, "black": 0}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides how samples become pairs.

    Attributes:
        preset: "recommended" or "paper", before changes.
        peaks: Most peaks to pick.
        duplicates: What to do with several spectra at one position, one of
            `msi.imzml.DUPLICATES`.
        axis_kind: One of `msi.axes.KINDS`.
        axis_step: ppm (at m/z 200 for "tof" and "orbitrap") or Da; None estimates it.
        mz_min: Lower end of the mass axis, m/z; None takes the data's.
        mz_max: Upper end, m/z; None takes the data's.
        method: "linear", "sum", or None to choose by spectrum type.
        smoothing: Of profile spectra, one of `msi.treatment.SMOOTHINGS`.
        smoothing_points: Width of its window, an odd number of points.
        baseline: What is taken from under profile spectra, one of `msi.treatment.BASELINES`.
        baseline_points: Width of its window, an odd number of points.
        recalibrate: "none", "sums" (each sample's mass shift against the cohort's peaks) or "lock"
            (against `lock_mz`).
        lock_mz: Lock masses, m/z; for "sums" filled in from the data.
        recalibrate_ppm: Largest shift that is looked for, ppm.
        limit_gaps: Whether wide gaps between profile points are left empty.
        statistics: "train" or "all": whose spectra and intensities decide peaks and scaling.
        mean_spectra: Adds each sample's TIC-normalised mean spectrum, instead of plain sums.
        tissue_only: Sums only the spectra on tissue.
        min_separation_steps: Least distance of two peaks, in axis steps; 0 for none.
        exclude_mz: m/z of solvent and matrix ions that must not become peaks.
        background: Names of known background ions (`msi.background`) to exclude as well.
        exclude_ppm: How near to them, ppm; at least one bin.
        prominence: Least prominence of a peak, as a fraction of its height.
        min_snr: Least height above the local level, in units of the noise.
        deisotope: Whether 13C isotopes are left out.
        listed_mz: A given list of m/z to take instead of picking peaks.
        listed_names: Their names, or none.
        listed_windows: (lower, upper) m/z of each, or none.
        listed_ppm: Half width of their windows where they have none, ppm.
        normalization: One of `msi.normalization.KINDS`; left out below 20 points per spectrum,
            except "reference".
        reference_mz: m/z of the reference ion.
        reference_ppm: How far from it signal counts, ppm.
        transform: "sqrt" or "none", applied with the scaling to [0, 1].
        target_um_per_px: Pixel size of all pairs, um; None for half the finest MSI pixel.
        fit_px: Longest side of every pair, px, instead of one shared pixel size; 0 for none.
        align: "landmarks", "auto", or "given": from a folder that register wrote.
        padding: "white" or "black", where the slide ends.
        view: "pca", "tsne", "umap", or "auto": the one that tells most about the histology.
        view_fit: "sample", or "train": fitted to the training split and applied to all.
        seed: For the split and the view.
        force: Goes on with mixed spectrum types, polarities or m/z ranges.
    """

    preset: str = "recommended"
    peaks: int = 50
    duplicates: str = "refuse"
    axis_kind: str = "ppm"
    axis_step: float | None = None
    mz_min: float | None = None
    mz_max: float | None = None
    method: str | None = None
    smoothing: str = "none"
    smoothing_points: int = 5
    baseline: str = "none"
    baseline_points: int = 101
    recalibrate: str = "none"
    lock_mz: tuple[float, ...] = ()
    recalibrate_ppm: float = 50.0
    limit_gaps: bool = True
    statistics: str = "train"
    mean_spectra: bool = True
    tissue_only: bool = True
    min_separation_steps: float = 3.0
    exclude_mz: tuple[float, ...] = ()
    background: tuple[str, ...] = ()
    exclude_ppm: float = 10.0
    prominence: float = 0.0
    min_snr: float = 0.0
    deisotope: bool = False
    listed_mz: tuple[float, ...] = ()
    listed_names: tuple[str, ...] = ()
    listed_windows: tuple[tuple[float, float], ...] = ()
    listed_ppm: float = 15.0
    normalization: str = "tic"
    reference_mz: float | None = None
    reference_ppm: float = 20.0
    transform: str = "sqrt"
    target_um_per_px: float | None = None
    fit_px: int = 0
    align: str = "landmarks"
    padding: str = "white"
    view: str = "pca"
    view_fit: str = "sample"
    seed: int = 0
    force: bool = False

    @property
    def pad_value(self) -> int:
        """The padding as 0..255."""
        return PAD_VALUES[self.padding]


# Published: interpolation rebinning, plain sum of all data, top 50 peaks, 256 px images. Assumed,
# since the text does not say: the bin width of 0.01 Da, no normalisation, the size itself, and the
# scale to [0, 1] by each channel's 99.5th percentile over all samples, clipped above.
# Interpolation presumes profiles: centroid spectra are summed into the same bins.
_PAPER = Recipe(
    preset="paper",
    axis_kind="fixed_da",
    axis_step=0.01,
    limit_gaps=False,
    statistics="all",
    mean_spectra=False,
    tissue_only=False,
    min_separation_steps=0.0,
    normalization="none",
    transform="none",
    fit_px=256,
)
PRESETS = {"recommended": Recipe(), "paper": _PAPER}


def make_recipe(preset: str, **changes) -> Recipe:
    """Returns a preset with changes; those that are None are left out.

    Raises:
        InputError: an unknown preset, or a target pixel size where the preset fits by side.

    Example:
        >>> make_recipe("recommended", peaks=30).peaks
        30
    """
    if preset not in PRESETS:
        raise InputError("preset", "", f"is {preset!r}", f"one of {', '.join(PRESETS)}")
    given = {name: value for name, value in changes.items() if value is not None}
    if "target_um_per_px" in given:
        given["fit_px"] = 0
    if given.get("axis_kind", PRESETS[preset].axis_kind) != PRESETS[preset].axis_kind:
        given.setdefault("axis_step", None)  # The preset's is in another unit.
    return dataclasses.replace(PRESETS[preset], **given)


# What another choice of leaves the paper's preset what it is.
_NOT_PAPER = ("preset", "padding", "seed", "force", "duplicates", "view", "view_fit")


def paper_differences(provenance: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Says how a data set was made otherwise than the paper's.

    Args:
        provenance: Of the data set.

    Returns:
        Differences that make it another recipe, and differences in size only (the number of peaks,
        the side of the images), each as `CHOICE VALUE (published: VALUE)`.
    """
    recipe, differing, sizes = recipe_of(provenance), [], []
    for field in dataclasses.fields(Recipe):
        found, meant = getattr(recipe, field.name), getattr(_PAPER, field.name)
        if field.name not in _NOT_PAPER and found != meant:
            words = f"{field.name} {found} (published: {meant})"
            (sizes if field.name in ("peaks", "fit_px") else differing).append(words)
    return differing, sizes


def recipe_of(provenance: dict[str, Any]) -> Recipe:
    """Returns the recipe a data set was made by; what it does not know is as by default.

    Args:
        provenance: Of the data set.
    """
    record = provenance.get("recipe", {})
    known = {field.name for field in dataclasses.fields(Recipe)} & set(record)
    return Recipe(**{name: _frozen(record[name]) for name in known})


def _frozen(value: Any) -> Any:
    """Turns JSON's lists back into tuples."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
