"""Every knob does what its name says, more at a higher level; the truth stays the truth."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.phantom import cohort, tissue
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.hardness import (
    KNOBS,
    PRESETS,
    Hardness,
)
from msi2he_jax.phantom.section import Probe

RASTER = Raster((40, 40), (50.0, 50.0))
LEVELS = (0.0, 0.5, 1.0)
ON_THE_SLIDE_ALONE = ("folds", "pen", "lost_tissue")


def _plan(sections=1, **levels):
    probe = Probe(RASTER)
    return cohort.Plan(sections, 1, 0, 12.5, "profile", "png", probe, Hardness(**levels))


@functools.cache
def _cohort(sections=1, **levels):
    plan = _plan(sections, **levels)
    measured = cohort.measured_sections(plan, cohort.procedural_members(plan))
    return [section for _, section, _ in measured]


def _section(**levels):
    return _cohort(**levels)[0]


def _places(section):
    yx = section.positions_xy[:, ::-1]
    return yx - yx.min(axis=0)


def _image(section, values, missing=np.nan):
    places = _places(section)
    image = np.full((*(places.max(axis=0) + 1), *values.shape[1:]), missing, float)
    image[tuple(places.T)] = values
    return image


def _log(section):
    """`[H, W, K]` log intensity; NaN off the tissue."""
    log = np.log1p(section.intensity.astype(float))
    return _image(section, np.where(section.tissue[:, None], log, np.nan))


def _families(level):
    plan = _plan(rim_ions=level, matrix_ions=level)
    return np.array([ion.family for ion in plan.ions])


def _zones(section):
    """Spectra on the rim, well inside and well outside of the tissue under MSI."""
    on = _image(section, section.tissue, 0) > 0
    depth = ndimage.distance_transform_edt(on) - ndimage.distance_transform_edt(~on)
    depth = depth[tuple(_places(section).T)]
    return np.abs(depth) <= 1.5, depth > 5, depth < -3


def _rim_ions(section):
    rim, inside, outside = _zones(section)
    mean = [section.intensity[zone].mean(axis=0) for zone in (rim, inside, outside)]
    return np.sum(mean[0] > 1.3 * np.maximum(mean[1], mean[2]))


def _off_tissue_ions(section):
    _, inside, outside = _zones(section)
    return np.sum(section.intensity[outside].mean(0) > 1.5 * section.intensity[inside].mean(0))


def _labels(section):
    centers = (_places(section) + 0.5) * RASTER.um
    index = np.floor(section.truth(centers) / section.slide.um_per_px).astype(int)
    index = np.clip(index, 0, np.array(section.slide.mask.shape) - 1)
    return section.slide.labels[tuple(index.T)]


def _sameness(section):
    """Minus the variance of log ions between kinds of tissue, as a share of all of it."""
    labels, log = _labels(section), np.log1p(section.intensity)
    inside = labels > 0
    labels, log = labels[inside], log[inside] - log[inside].mean(axis=0)
    means = [np.sum(labels == k) * log[labels == k].mean(0) ** 2 for k in np.unique(labels)]
    return -np.median(np.sum(means, axis=0) / (log**2).sum(axis=0))


def _halo(section):
    """What the tissue's ions show beyond the tissue, as a share of what they show in it."""
    on = _image(section, section.tissue, 0) > 0
    away = ndimage.distance_transform_edt(~on)[tuple(_places(section).T)]
    lipid = np.isin(_families(0.0), ("PI", "PE", "PS", "PG"))
    total = section.intensity[:, lipid].sum(axis=1)
    return np.median(total[(away >= 2) & (away < 4)]) / np.median(total[away == 0])


def _steps_between_lines(section):
    """How much lines differ, in all ions together and in each beside the others."""
    image = _log(section)
    image = image[np.isfinite(image[..., 0]).sum(axis=1) > 5]
    lines = np.nanmedian(image, axis=1)
    own = lines - lines.mean(axis=1, keepdims=True)
    return lines.mean(axis=1).std() + np.diff(own, axis=0).std()


def _roughness(section):
    return np.nanstd(np.diff(_log(section), axis=1))


def _silent(section):
    total = section.intensity[section.tissue].sum(axis=1)
    return np.mean(total < 0.15 * np.median(total))


def _emptiness(sections):
    """Share of the regions' bounding boxes that was not measured."""
    return np.mean([np.mean(_image(s, np.ones(len(s.tissue)), 0) == 0) for s in sections])


def _without_outline(sections):
    return sum(section.tissue.mean() > 0.9 for section in sections)


def _in_pieces(sections):
    count = 0
    for section in sections:
        labels, _ = ndimage.label(section.slide.met.sum(-1) > 0.5, np.ones((3, 3)))
        area = np.bincount(labels.ravel())[1:]
        count += np.sum(area > 0.08 * area.sum()) == 2
    return count


def _gone_from_the_slide(section):
    slide = section.slide
    met = slide.met.sum(axis=-1) > 0.5
    bare = slide.pixels.min(axis=-1) > 215
    return np.mean(bare[met] & ~slide.mask[met])


def _new_on_the_slide(section):
    return np.mean(section.slide.met.sum(axis=-1)[section.slide.mask] < 0.5)


def _darkness(section):
    return -section.slide.pixels[section.slide.mask].mean()


def _marked(sections):
    """Slides that are much darker somewhere than without a knob."""
    dark = [
        worn.slide.pixels.min(axis=-1) < clean.slide.pixels.min(axis=-1) - 60.0
        for worn, clean in zip(sections, _cohort(MANY), strict=True)
    ]
    return sum(mask.sum() > 20 for mask in dark)


def _mirror_likeness(sections):
    """Overlap of each outline with its best mirror image, mean."""
    best = []
    for section in sections:
        met = section.slide.met.sum(axis=-1)[::2, ::2] > 0.5
        mask = ndimage.binary_closing(np.pad(met, 20), iterations=2)
        mask = np.roll(
            mask, np.array(mask.shape) // 2 - np.argwhere(mask).mean(0).astype(int), (0, 1)
        )
        turned = [
            ndimage.rotate(mask.astype(float), a, reshape=False) > 0.5 for a in range(0, 180, 6)
        ]
        best.append(max(np.sum(t & t[::-1]) / np.sum(t | t[::-1]) for t in turned))
    return np.mean(best)


def _bend(section):
    return np.abs(section.truth.displacement.disp_um).max()


OF_ONE = {
    "rim_ions": _rim_ions,
    "matrix_ions": _off_tissue_ions,
    "bland_ions": _sameness,
    "point_spread": _halo,
    "gain": _steps_between_lines,
    "noise": _roughness,
    "dropouts": _silent,
    "lost_tissue": _gone_from_the_slide,
    "new_tissue": _new_on_the_slide,
    "folds": _darkness,
    "warp": _bend,
}
OF_MANY = {
    "margin": _emptiness,
    "crop": _without_outline,
    "two_pieces": _in_pieces,
    "pen": _marked,
    "symmetry": _mirror_likeness,
}
MANY = 6


def test_every_knob_has_its_test():
    assert {*OF_ONE, *OF_MANY} == set(KNOBS)


@pytest.mark.parametrize("knob", OF_ONE)
def test_a_higher_level_is_more_of_it(knob):
    none, half, full = (OF_ONE[knob](_section(**{knob: level})) for level in LEVELS)
    assert none < half < full


@pytest.mark.parametrize("knob", OF_MANY)
def test_a_higher_level_is_more_of_it_in_a_cohort(knob):
    none, half, full = (OF_MANY[knob](_cohort(MANY, **{knob: level})) for level in LEVELS)
    assert none < half < full
    if knob in ("crop", "two_pieces", "pen"):
        assert (none, full) == (0, MANY)


@pytest.mark.parametrize("knob", ON_THE_SLIDE_ALONE)
def test_what_happens_to_the_slide_is_unknown_to_msi(knob):
    plain, worn = _section(), _section(**{knob: 1.0})
    assert np.array_equal(plain.intensity, worn.intensity)
    assert np.array_equal(_places(plain), _places(worn))
    assert not np.array_equal(plain.slide.pixels, worn.slide.pixels)


def test_pen_comes_in_colours_and_black_beside_the_tissue_and_across_it():
    black = coloured = across = beside = 0
    plain = _cohort(12)
    for clean, worn in zip(plain, _cohort(12, pen=1.0), strict=True):
        inked = np.abs(clean.slide.pixels.astype(int) - worn.slide.pixels).sum(axis=-1) > 150
        assert inked.any()
        spread = np.ptp(worn.slide.pixels[inked].astype(int), axis=-1)
        black, coloured = black + (np.median(spread) < 40), coloured + (np.median(spread) >= 40)
        across += inked[clean.slide.mask].mean() > 0.01
        beside += inked[~clean.slide.mask].sum() > 20
    assert min(black, coloured, across, beside) >= 2


def test_a_margin_holds_the_tissue_and_a_crop_lies_in_it():
    for plain, drawn in zip(_cohort(MANY), _cohort(MANY, margin=1.0), strict=True):
        assert drawn.tissue.sum() > 0.97 * plain.tissue.sum()
    for plain, drawn in zip(_cohort(MANY), _cohort(MANY, crop=1.0), strict=True):
        assert 0.15 * plain.tissue.sum() < drawn.tissue.sum() < 0.9 * plain.tissue.sum()


def test_msi_may_see_one_piece_of_two():
    share = []
    for section in _cohort(12, two_pieces=1.0):
        seen = section.tissue.sum() * np.prod(RASTER.um)
        share.append(seen / (section.slide.mask.sum() * section.slide.um_per_px**2))
    assert min(share) < 0.75 and np.median(share) > 0.9


def test_level_0_is_the_simulator_as_it_was():
    """Recorded before there were knobs."""
    section = _recorded()
    assert section.slide.pixels.shape == (121, 130, 3)
    assert section.slide.pixels.sum(dtype=np.int64) == pytest.approx(10_498_501, abs=200)
    assert len(section.positions_xy) == 474 and section.tissue.sum() == 278
    assert section.positions_xy.sum(axis=0).tolist() == [10226, 9211]
    assert section.intensity.sum(dtype=float) == pytest.approx(629867351.96, rel=1e-5)
    assert section.shift_ppm.sum() == pytest.approx(675.2042352, rel=1e-7)
    assert section.landmarks.msi_yx_um.sum() == pytest.approx(18659.3531047, rel=1e-7)
    first = [-0.6445111232, -0.7284832979, 1581.3384103917]
    assert section.truth.matrix[0] == pytest.approx(first, rel=1e-9)


def _recorded():
    from msi2he_jax.phantom import molecules
    from msi2he_jax.phantom.ions import ion_table
    from msi2he_jax.phantom.section import measure_slide

    probe = Probe(Raster((32, 32), (50.0, 50.0)))
    plan = cohort.Plan(1, 1, 0, 12.5, "profile", "png", probe)
    slide = cohort.procedural_member(plan, 0).slide
    chemistry = molecules.draw_chemistry(np.random.default_rng(1), ion_table())
    return measure_slide(np.random.default_rng(0), slide, chemistry, probe, mirrored=False)


@pytest.mark.parametrize("levels", [*({knob: 1.0} for knob in KNOBS), *PRESETS], ids=str)
def test_exact_landmarks_stay_exact(levels):
    if isinstance(levels, str):
        levels = vars(PRESETS[levels])
    section = _section(**levels)
    points = section.landmarks.select("eval")
    error = np.linalg.norm(section.truth(points.msi_yx_um) - points.histology_yx_um, axis=1)
    assert len(error) >= 4 and error.max() < 1e-6


@pytest.mark.parametrize("knob", KNOBS)
def test_a_planted_spot_is_found_where_the_truth_says(knob):
    """Spots of fat are laid into plain stroma; ions of fat are brightest where they map to."""
    plan = _plan(1, **{knob: 1.0})
    member = cohort.procedural_member(plan, 0)
    spots = member.slide.center_yx + 60.0 * np.array([[-4, -3], [4, 3], [-3, 4], [3, -4], [0, 0]])
    slide = dataclasses.replace(
        member.slide,
        abundance=_planted(member.slide, member.slide.abundance, spots),
        measured=_planted(member.slide, member.slide.met, spots),
    )
    member = dataclasses.replace(member, slide=slide)
    _, section, _ = next(cohort.measured_sections(plan, iter([member])))
    fat = np.array([ion.family == "triglyceride" for ion in plan.ions])
    other = np.array([ion.family in ("PI", "PE", "PS", "PG") for ion in plan.ions])
    share = np.log(
        (section.intensity[:, fat].sum(1) + 50) / (section.intensity[:, other].sum(1) + 50)
    )
    error = [_distance_px(section, share, spot) for spot in spots]
    error = [e for e in error if e is not None]
    assert len(error) >= 3 and np.median(error) < 0.75


def _planted(slide, abundance, spots):
    """Stroma wherever there is tissue, fat within 90 um of each spot."""
    on = abundance.sum(axis=-1) > 0.5
    y, x = (np.indices(on.shape) + 0.5) * slide.um_per_px
    near = np.any([np.hypot(y - s[0], x - s[1]) < 90.0 for s in spots], axis=0)
    labels = np.where(on, np.where(near, tissue.ADIPOSE, tissue.STROMA), tissue.GLASS)
    return cohort.abundance_of(labels)


def _distance_px(section, share, spot):
    """Distance of the spot's centroid in the MSI from where the truth puts it, MSI pixels."""
    centers = (_places(section) + 0.5) * RASTER.um
    away = np.linalg.norm(section.truth(centers) - spot, axis=1)
    near = (away < 200.0) & section.tissue
    if near.sum() < 35:
        return None
    weight = np.clip(share[near] - np.quantile(share[near], 0.6), 0, None)
    found = (weight[:, None] * section.truth(centers)[near]).sum(0) / weight.sum()
    return np.linalg.norm(found - spot) / RASTER.um[0]


def test_sections_are_the_same_however_many_there_are():
    few, more = _cohort(2, **vars(PRESETS["hard"])), _cohort(3, **vars(PRESETS["hard"]))
    for a, b in zip(few, more[:2], strict=True):
        assert np.array_equal(a.intensity, b.intensity)
        assert np.array_equal(a.slide.pixels, b.slide.pixels)
    plan = _plan(3, **vars(PRESETS["hard"]))
    assert np.array_equal(cohort.procedural_member(plan, 1).slide.pixels, few[1].slide.pixels)


def test_a_slide_that_lost_everything_has_landmarks_and_truth():
    plan = _plan(1)
    member = cohort.procedural_member(plan, 0)
    bare = dataclasses.replace(
        member.slide, abundance=0.0 * member.slide.abundance, measured=member.slide.abundance
    )
    member = dataclasses.replace(member, slide=bare)
    _, section, _ = next(cohort.measured_sections(plan, iter([member])))
    points = section.landmarks.select("eval")
    error = np.linalg.norm(section.truth(points.msi_yx_um) - points.histology_yx_um, axis=1)
    assert len(error) == 8 and error.max() < 1e-6


def test_foreign_ions_of_a_level_are_among_those_of_a_higher_one():
    names = [{ion.name for ion in _plan(rim_ions=a, matrix_ions=a).ions} for a in (0, 0.4, 1)]
    assert names[0] < names[1] < names[2]
    assert np.sum(_families(1.0) == "salt") == 16 and np.sum(_families(1.0) == "coating") == 28
    mz = np.array([ion.mz for ion in _plan(rim_ions=1.0, matrix_ions=1.0).ions])
    assert (np.diff(mz) / mz[:-1]).min() * 1e6 > 150
