"""Everything that preprocess would say of a cohort, row by row, before any data set is made.

The rules and their words are those of preprocess: the same functions are called here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from msi2he_jax.data.alignment import align, read_slide
from msi2he_jax.data.consistency import cohort_warnings, leaks, mixtures, refuse_mixtures, target_um
from msi2he_jax.data.copies import content_keys
from msi2he_jax.data.manifest import Row, Sample, read_rows, with_one_spelling
from msi2he_jax.data.msi_arrays import grid_mask, measured_region, msi_pixel_size_um
from msi2he_jax.data.msi_warnings import msi_warnings, shared_file_warnings
from msi2he_jax.data.pairs import slide_warnings
from msi2he_jax.data.patients import spelling_warnings
from msi2he_jax.data.recipe import Recipe
from msi2he_jax.data.split import assign_splits, empty_split_warnings, no_train
from msi2he_jax.data.survey import Survey, survey_imzml
from msi2he_jax.errors import InputError
from msi2he_jax.histology import Histology, require_tissue, slide_um_per_px, tissue_mask
from msi2he_jax.msi.open_msi import MsiFile, open_msi
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.landmarks import read_landmarks

_UNKNOWN_UM = (math.nan, math.nan)
_GLANCE_PX = 16.0  # Of a full slide, to a pixel that is looked at.


@dataclasses.dataclass
class CheckedRow:
    """What the files of one row say; None is what is not known.

    Attributes:
        sample_id: Its name, or its line in words.
        line: Line of the manifest.
        group_id: The patient.
        pixels: Measured ones, in the row's region.
        msi_um_per_px: [x, y], um.
        histology_um_per_px: Of the full slide, um.
        spectra: Their kind and polarity, in words.
        mz_range: Least and greatest m/z.
        fit: Landmarks to fit by.
        eval: Landmarks kept for scoring.
        split: "train", "validation" or "test".
        warnings: What is odd.
        faults: Why preprocess would refuse it.
    """

    sample_id: str
    line: int
    group_id: str | None = None
    pixels: int | None = None
    msi_um_per_px: list[float] | None = None
    histology_um_per_px: float | None = None
    spectra: str | None = None
    mz_range: list[float] | None = None
    fit: int | None = None
    eval: int | None = None
    split: str | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)

    @property
    def state(self) -> str:
        """Returns "fault", "warning" or "ok"."""
        return "fault" if self.faults else "warning" if self.warnings else "ok"


@dataclasses.dataclass
class CheckedCohort:
    """What is known of a cohort.

    Attributes:
        rows: One of each row, in the manifest's order.
        warnings: What is odd about the cohort as a whole.
        faults: Why preprocess would refuse it as a whole.
    """

    rows: list[CheckedRow]
    warnings: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Files:
    """What the slide's check needs of the others, and the cohort's of each row.

    Attributes:
        sample: The row.
        survey: What its imzML says, or None where that cannot be opened.
        ibd: The imzML's binary file, or None.
        mask: bool [H, W], measured pixels of its region on the imzML's grid, or None.
        alignment: By its landmarks, or None.
    """

    sample: Sample
    survey: Survey | None = None
    ibd: Path | None = None
    mask: np.ndarray | None = None
    alignment: TransformRecord | None = None


def check_cohort(
    manifest: str | os.PathLike,
    recipe: Recipe | None = None,
    *,
    checksum: bool = False,
    on_row: Callable[[str, int, int, str], object] = lambda *_: None,
) -> CheckedCohort:
    """Opens every file of every row; what is wrong with one row does not hide the others.

    Args:
        manifest: The manifest.
        recipe: As preprocess would get it; None is its default.
        checksum: Reads each .ibd as a whole: its checksum, and every spectrum.
        on_row: Called with what is read next, how many were, of how many, and the row's name.

    Raises:
        InputError: the table itself cannot be read.
    """
    recipe, rows = recipe or Recipe(), read_rows(manifest)
    cohort = CheckedCohort([_begun(row) for row in rows])
    of = {checked.sample_id: checked for checked in cohort.rows}
    found = [_Files(row.sample) for row in rows if row.sample]
    for done, each in enumerate(found):
        on_row("sample", done, len(found), each.sample.sample_id)
        _check_landmarks(each, of[each.sample.sample_id])
        _check_msi(each, of[each.sample.sample_id], recipe, checksum)
    _check_splits(manifest, found, cohort, recipe)
    sized = [each.survey for each in found if each.survey and _is_sized(each.survey)]
    um = target_um(sized, recipe) if sized else None
    for done, each in enumerate(found):
        on_row("slide", done, len(found), each.sample.sample_id)
        _check_slide(each, of[each.sample.sample_id], um)
    for name, said in shared_file_warnings([each.sample for each in found]).items():
        of[name].warnings += said
    for checked in cohort.rows:
        checked.warnings = list(dict.fromkeys(checked.warnings))
        checked.faults = list(dict.fromkeys(checked.faults))
    return cohort


def _begun(row: Row) -> CheckedRow:
    checked = CheckedRow(row.name, row.line, row.sample and row.sample.group_id)
    checked.faults += map(str, row.faults)
    return checked


@contextlib.contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    """Writes a user's mistake down and goes on."""
    try:
        yield
    except InputError as error:
        faults.append(str(error))
    except OSError as error:
        if not error.filename:
            raise
        faults.append(f"{error.filename}: {error.strerror}")


def _check_landmarks(files: _Files, checked: CheckedRow) -> None:
    path = files.sample.landmarks
    if path is None or not path.is_file():  # Which has been said.
        return
    with _noting(checked.faults):
        points = read_landmarks(path)
        checked.fit, checked.eval = (len(points.select(use)) for use in ("fit", "eval"))
        files.alignment = align(files.sample)
        checked.warnings += files.alignment.scores["warnings"]


def _check_msi(files: _Files, checked: CheckedRow, recipe: Recipe, checksum: bool) -> None:
    sample = files.sample
    if not sample.imzml.is_file():
        return
    with _noting(checked.faults):
        msi = open_msi(sample.imzml, duplicates=recipe.duplicates)
        sizes = sample.msi_um_per_px, sample.msi_um_per_px_y
        checked.warnings += msi_warnings(msi, *sizes, sample.msi_roi)
        size = _UNKNOWN_UM
        with _noting(checked.faults):
            size = msi_pixel_size_um(msi, *sizes)
            checked.msi_um_per_px = list(size[::-1])
        with _noting(checked.faults):
            files.mask = measured_region(msi, sample.msi_roi)
            checked.pixels = int(files.mask.sum())
        files.survey, files.ibd = survey_imzml(sample, msi, recipe, size, {}), msi.files[-1]
        checked.spectra = _kind(files.survey)
        checked.mz_range = list(files.survey.mz_range)
        if checksum:
            _read_whole(msi, checked)


def _kind(survey: Survey) -> str:
    kind = "channels" if survey.discrete else survey.spectrum_type or "unknown"
    return f"{kind}, {survey.polarity}" if survey.polarity else kind


def _read_whole(msi: MsiFile, checked: CheckedRow) -> None:
    with _noting(checked.faults):
        if msi.verify_checksum() is None:
            checked.warnings.append("states no checksum of its .ibd")
    with _noting(checked.faults):
        if not msi.tic().any():
            checked.warnings.append("every spectrum is empty or zero")


def _is_sized(survey: Survey) -> bool:
    return not math.isnan(survey.pixel_size_um[0])


def _check_slide(files: _Files, checked: CheckedRow, um: float | None) -> None:
    """Reads a slide as fine as pairs will need it, and asks where the MSI lies on it.

    Args:
        files: What was found of the row.
        checked: What is said of it.
        um: Pixel size of all pairs, um, or None where no MSI pixel size is known.
    """
    sample, sizes = files.sample, checked.msi_um_per_px
    if not sample.histology.is_file():
        return
    with _noting(checked.faults):
        given = sample.histology_um_per_px
        checked.histology_um_per_px = slide_um_per_px(sample.histology, given)
    with _noting(checked.faults):
        if checked.histology_um_per_px is None or um is None or sizes is None:
            slide = _glance(sample)
        else:
            slide = read_slide(sample, um)
            if files.alignment is not None and files.mask is not None:
                checked.warnings += _placed(files, slide, (sizes[1], sizes[0]), um)
                return
        checked.warnings += slide.warnings
        require_tissue(slide.path, tissue_mask(slide.pixels))


def _placed(
    files: _Files, slide: Histology, native_um: tuple[float, float], um: float
) -> list[str]:
    """Lays the measured pixels on the slide as their pair will be; returns what is odd."""
    height, width = files.mask.shape
    x, y, w, h = files.sample.msi_roi or (0, 0, width, height)
    mask = grid_mask(files.mask[y : y + h, x : x + w], native_um, um, files.sample.imzml)
    on_grid = files.alignment.transform.in_images((y * native_um[0], x * native_um[1]))
    return slide_warnings(files.sample, slide, on_grid, mask, um)


def _glance(sample: Sample) -> Histology:
    """Reads a slide coarsely, without knowing its pixel size."""
    return read_slide(dataclasses.replace(sample, histology_um_per_px=1.0), _GLANCE_PX)


def _check_splits(
    manifest: str | os.PathLike, found: Sequence[_Files], cohort: CheckedCohort, recipe: Recipe
) -> None:
    """Asks what concerns several rows: patients, splits, copies, mixtures, what is lacking."""
    samples, splits = [each.sample for each in found], {}
    surveys = _with_contents([each for each in found if each.survey])
    with _noting(cohort.faults):
        splits = assign_splits(samples, recipe.seed, manifest=manifest, force=recipe.force)
        if samples and "train" not in splits.values():
            raise no_train(manifest)
    for checked in cohort.rows:
        checked.split = splits.get(checked.sample_id)
    cohort.warnings += spelling_warnings([s.group_id for s in samples], force=recipe.force)
    if splits:
        samples = with_one_spelling(samples)
        cohort.faults += map(str, leaks(surveys, splits, samples, manifest))
        cohort.warnings += empty_split_warnings(set(splits.values()))
    if recipe.force:
        cohort.warnings += mixtures(surveys)
    else:
        with _noting(cohort.faults):
            refuse_mixtures(surveys, manifest)
    sized = [survey for survey in surveys if _is_sized(survey)]
    cohort.warnings += cohort_warnings(sized, recipe) if sized else []
    cohort.warnings += _lacking(cohort.rows, found)


def _with_contents(found: Sequence[_Files]) -> list[Survey]:
    """Returns the surveys, with what tells copies of their files from others."""
    ibds = content_keys(each.ibd for each in found)
    slides = content_keys(s for s in (f.sample.histology for f in found) if s.is_file())
    surveys = []
    for each in found:
        contents = {"ibd": ibds[each.ibd], "histology": slides.get(each.sample.histology, "")}
        surveys.append(dataclasses.replace(each.survey, sha256=contents))
    return surveys


def _lacking(rows: Sequence[CheckedRow], found: Sequence[_Files]) -> list[str]:
    """Says which rows have no landmarks, and which none to score by."""
    without = [each.sample.sample_id for each in found if each.sample.landmarks is None]
    unscored = [row.sample_id for row in rows if row.fit and not row.eval]
    said = []
    if without:
        said.append(f"no landmarks for {', '.join(without)}: they cannot be training pairs")
    if unscored:
        why = "a fit cannot be judged by the points it was made of"
        said.append(f"no `eval` points for {', '.join(unscored)}: {why}")
    return said
