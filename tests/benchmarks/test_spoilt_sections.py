"""Pairs spoilt on purpose are spoilt as they say; their truth is that of what is stated."""

import csv
import functools

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import spoilt_sections as spoilt
from msi2he_jax.phantom.cohort import Plan
from msi2he_jax.phantom.geometry import Raster
from msi2he_jax.phantom.section import Probe

UM = 80.0
PLAN = Plan(2, 1, 0, 20.0, "centroid", "png", Probe(Raster((36, 36), (UM, UM)), warp_um=UM))


@functools.cache
def _pairs(kind):
    return list(spoilt.spoilt_sections(PLAN, [kind]))


@pytest.mark.parametrize("kind", spoilt.KINDS)
def test_truth_is_that_of_the_stated_frame(kind):
    """Where the exact landmarks lie, and where the tissue of the MSI lies on the slide."""
    for pair in _pairs(kind):
        section, known = pair.section, spoilt.KINDS[kind]
        points = section.landmarks.select("eval")
        error = np.linalg.norm(section.truth(points.msi_yx_um) - points.histology_yx_um, axis=1)
        assert len(error) >= 2 and error.max() < 1e-6
        on = _slide_has(section, section.slide.met.sum(axis=-1) > 0.5, UM * known.um_factor)
        if known.belongs:
            assert np.mean(on == section.tissue) > 0.9
        else:
            assert np.mean(on == section.tissue) < 0.9


def _slide_has(section, mask, um):
    """Whether `[P]` the slide shows something where the truth puts each spectrum."""
    places = section.positions_xy[:, ::-1] - section.positions_xy[:, ::-1].min(axis=0)
    index = np.floor(section.truth((places + 0.5) * um) / section.slide.um_per_px).astype(int)
    inside = ((index >= 0) & (index < mask.shape)).all(axis=1)
    return inside & mask[tuple(np.clip(index, 0, np.array(mask.shape) - 1).T)]


def test_crop_and_part_leave_out_what_they_say():
    whole = [pair.section.tissue.sum() for pair in _pairs("as_it_is")]
    for pair, tissue in zip(_pairs("crop"), whole, strict=True):
        assert 0.25 * tissue < pair.section.tissue.sum() < 0.45 * tissue
        assert pair.section.tissue.mean() > 0.8
    for pair, tissue in zip(_pairs("part"), whole, strict=True):
        assert pair.section.tissue.sum() == pytest.approx(spoilt.PART_AREA * tissue, rel=0.1)


@pytest.mark.parametrize("kind", ["black_pen", "holes", "strip"])
def test_what_befalls_the_slide_is_on_the_slide(kind):
    for clean, pair in zip(_pairs("as_it_is"), _pairs(kind), strict=True):
        assert np.array_equal(clean.section.intensity, pair.section.intensity)
        before, after = (p.section.slide.pixels.min(axis=-1).astype(int) for p in (clean, pair))
        tissue = clean.section.slide.mask
        if kind == "black_pen":
            assert np.mean((after < 60)[tissue]) > 0.05
        else:
            gone = tissue & ~pair.section.slide.mask
            assert gone.sum() == pytest.approx(0.2 * tissue.sum(), rel=0.05)
            assert after[gone].mean() > before[gone].mean() + 20
            rim = tissue & ~ndimage.binary_erosion(tissue, iterations=3)
            on_rim = (gone & rim).sum() / rim.sum()
            assert on_rim < 0.03 if kind == "holes" else on_rim > 0.06


def test_symmetric_sections_are_seen_from_behind():
    for pair in _pairs("symmetric"):
        assert np.linalg.det(pair.section.truth.matrix[:2, :2]) < 0


def test_files_state_the_wrong_size_and_give_no_truth_where_there_is_none(tmp_path):
    spoilt.write_spoilt(tmp_path, PLAN, ["foreign", "half_size", "as_it_is"])
    with open(tmp_path / "manifest.csv", newline="") as file:
        rows = {row["sample_id"]: row for row in csv.DictReader(file)}
    with open(tmp_path / "spoilt.csv", newline="") as file:
        known = list(csv.DictReader(file))
    assert [row["kind"] for row in known] == ["foreign"] * 2 + ["half_size"] * 2 + ["as_it_is"] * 2
    for row in known:
        name, stated = row["sample_id"], rows[row["sample_id"]]
        assert stated["msi_um_per_px"] == ("40" if row["kind"] == "half_size" else "80")
        has_truth = (tmp_path / "truth" / name).exists()
        assert has_truth == bool(stated["landmarks"]) == (row["belongs"] == "true")
        assert has_truth == (row["kind"] != "foreign")
    assert len({row["group_id"] for row in known}) == 2
