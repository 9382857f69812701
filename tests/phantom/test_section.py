"""The physics of one section: what lies where, and whether the noise is DESI's."""

import dataclasses

import numpy as np
import pytest

from msi2he_jax.phantom import cohort, molecules
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.ions import ion_table
from msi2he_jax.phantom.section import Probe, measure_slide
from msi2he_jax.registration.control_points import estimate_affine

RASTER = Raster((64, 64), (50.0, 50.0))
IONS = ion_table()
BACKGROUND = np.array([ion.family == "background" for ion in IONS])


def _plan(**probe):
    return cohort.Plan(2, 1, 0, 12.5, "profile", "png", Probe(RASTER, **probe))


@pytest.fixture(scope="module")
def slides():
    return [member.slide for member in cohort.procedural_members(_plan())]


def _measure(slide, *, mirrored=False, seed=0, **probe):
    chemistry = molecules.draw_chemistry(np.random.default_rng(1), IONS)
    rng = np.random.default_rng(seed)
    return measure_slide(rng, slide, chemistry, _plan(**probe).probe, mirrored=mirrored)


@pytest.fixture(scope="module")
def sections(slides):
    return [_measure(slide, mirrored=bool(i)) for i, slide in enumerate(slides)]


def _rows_columns(section):
    yx = section.positions_xy[:, ::-1]
    return yx - yx.min(axis=0)


def _image(section, values):
    places = _rows_columns(section)
    image = np.full((*(places.max(axis=0) + 1), *values.shape[1:]), np.nan)
    image[tuple(places.T)] = values
    return image


def test_about_eighty_ions_apart_enough_for_profile_spectra():
    mz = np.array([ion.mz for ion in IONS])
    assert 75 <= len(mz) <= 90 and mz.min() > 100 and mz.max() < 1000
    assert (np.diff(mz) / mz[:-1]).min() * 1e6 > 150
    by_name = {ion.name: ion.mz for ion in IONS}
    assert by_name["PI 38:4"] == 885.5499 and by_name["FA 18:1"] == 281.2486
    assert BACKGROUND.sum() >= 8


def test_eval_landmarks_are_exact_and_fit_ones_are_not(sections):
    for section in sections:
        points = section.landmarks
        error = np.linalg.norm(section.truth(points.msi_yx_um) - points.histology_yx_um, axis=1)
        assert error[points.use == "eval"].max() < 1e-6
        assert 5.0 < np.median(error[points.use == "fit"]) < 50.0
        assert (points.use == "fit").sum() == (points.use == "eval").sum() == 8


def test_landmarks_lie_on_tissue(sections):
    for section in sections:
        points = section.landmarks.select("eval").histology_yx_um
        index = np.floor(points / section.slide.um_per_px).astype(int)
        assert section.slide.mask[tuple(index.T)].mean() > 0.7


def test_the_matrix_is_what_landmarks_recover_without_warp(slides):
    section = _measure(slides[0], warp_um=0.0, picking_px=0.0)
    points = section.landmarks
    found = estimate_affine(points.msi_yx_um, points.histology_yx_um, kind="affine")
    assert np.allclose(found, section.truth.matrix, atol=1e-6)


def _tissue_seen(section):
    """Tissue by the ions alone: tissue ions against solvent, both by rank."""
    intensity = section.intensity
    ratio = np.log1p(intensity[:, ~BACKGROUND]).mean(1) - np.log1p(intensity[:, BACKGROUND]).mean(1)
    return ratio > 0.5 * (np.quantile(ratio, 0.1) + np.quantile(ratio, 0.9))


def _dice(section, shift_px=(0.0, 0.0)):
    centers = (_rows_columns(section) + 0.5 + shift_px) * RASTER.um
    landed = section.truth(centers) / section.slide.um_per_px
    index = np.clip(np.floor(landed).astype(int), 0, np.array(section.slide.mask.shape) - 1)
    slide, seen = section.slide.mask[tuple(index.T)], _tissue_seen(section)
    return 2 * (slide & seen).sum() / (slide.sum() + seen.sum())


def test_ions_lie_on_the_tissue_the_truth_says(sections):
    for section in sections:
        best = _dice(section)
        assert best > 0.9
        for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)):
            assert _dice(section, shift) < best - 0.01


def test_compartments_drive_the_ions(sections):
    section = sections[0]
    centers = (_rows_columns(section) + 0.5) * RASTER.um
    index = np.floor(section.truth(centers) / section.slide.um_per_px).astype(int)
    index = np.clip(index, 0, np.array(section.slide.mask.shape) - 1)
    labels = section.slide.labels[tuple(index.T)]
    names = [ion.name for ion in IONS]
    share = section.intensity / section.intensity[:, ~BACKGROUND].sum(1, keepdims=True)
    fat = share[:, names.index("TG 52:2")]
    assert np.median(fat[labels == 2]) > 1.5 * np.median(fat[labels == 1])


def test_measured_region_is_irregular_and_its_corner_is_the_origin(sections):
    for section in sections:
        first = section.positions_xy.min(axis=0)
        assert (first >= 1).all()
        grid = section.positions_xy.max(axis=0) - first + 1
        assert len(section.positions_xy) < grid.prod()
        assert (section.landmarks.msi_yx_um > 0).all()
        assert (section.landmarks.msi_yx_um < grid[::-1] * RASTER.um).all()


def _lag1(log_image, axis):
    a, b = np.moveaxis(log_image, axis, 0)[:-1], np.moveaxis(log_image, axis, 0)[1:]
    both = np.isfinite(a) & np.isfinite(b)
    return np.corrcoef(a[both], b[both])[0, 1]


def test_noise_is_within_what_was_measured_on_desi(sections):
    """Bounds are the sample data's README: ranges over the channels of a real DESI lung."""
    for section in sections:
        on, off = section.intensity[section.tissue], section.intensity[~section.tissue]
        on, off = on[:, ~BACKGROUND], off[:, ~BACKGROUND]
        zeros_on, zeros_off = (on == 0).mean(axis=0), (off == 0).mean(axis=0)
        assert np.quantile(zeros_on, 0.95) <= 0.066
        assert 0.001 < np.median(zeros_off) < 0.74 and zeros_off.max() < 0.95
        cv = on.std(axis=0) / on.mean(axis=0)
        assert 0.51 <= np.median(cv) <= 0.88
        tail = np.quantile(on, 0.99, axis=0) / np.median(on, axis=0)
        assert 1.8 <= np.median(tail) <= 4.3
        log = np.where(section.tissue[:, None], np.log1p(section.intensity), np.nan)[:, ~BACKGROUND]
        image = _image(section, log)
        along = [_lag1(image[..., k], 1) for k in range(image.shape[-1])]
        across = [_lag1(image[..., k], 0) for k in range(image.shape[-1])]
        assert 0.30 <= np.median(along) <= 0.85
        assert 0.17 <= np.median(across) <= 0.80
        assert np.median(along) > np.median(across)
        correlation = np.corrcoef(np.log1p(on).T)[np.triu_indices(on.shape[1], 1)]
        assert 0.27 <= np.median(correlation) <= 0.89


def test_solvent_ions_are_stronger_off_tissue(sections):
    section = sections[0]
    on = np.median(section.intensity[section.tissue][:, BACKGROUND], axis=0)
    off = np.median(section.intensity[~section.tissue][:, BACKGROUND], axis=0)
    assert (off > on).mean() > 0.9


def test_mass_errors_are_as_asked(sections):
    shifts = np.concatenate([section.shift_ppm for section in sections])
    assert 2.0 < shifts.std() < 6.0


def test_same_seed_same_measurement(slides, sections):
    again = _measure(slides[0])
    assert np.array_equal(again.intensity, sections[0].intensity)
    assert np.array_equal(again.positions_xy, sections[0].positions_xy)
    assert not np.array_equal(_measure(slides[0], seed=9).positions_xy, again.positions_xy)


def test_plan_is_plain_data():
    assert dataclasses.asdict(_plan())["probe"]["raster"]["shape"] == (64, 64)
