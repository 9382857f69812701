"""Regions of a run are the connected components of its mask."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from msi2he_jax.msi.regions import MeasuredRegion, connected_regions, separate_regions


def test_two_sections_and_a_crumb():
    mask = np.zeros((6, 9), bool)
    mask[1:5, 0:3] = True
    mask[0:6, 5:8] = True
    mask[2, 6] = False
    mask[5, 4] = True  # touches the second section at no side, but at its corner
    mask[0, 0] = True
    labels, regions = connected_regions(mask)
    assert regions == [
        MeasuredRegion(label=1, x=4, y=0, w=4, h=6, pixels=18),
        MeasuredRegion(label=2, x=0, y=0, w=3, h=5, pixels=13),
    ]
    assert [region.roi for region in regions] == ["4,0,4,6", "0,0,3,5"]
    assert labels[5, 4] == 1 and labels[0, 0] == 2 and labels[2, 6] == 0
    assert not regions[0].overlaps(regions[1])


def test_boxes_that_overlap():
    mask = np.zeros((6, 6), bool)
    mask[0, :] = mask[:, 0] = True  # an L around a square
    mask[3:, 3:] = True
    one, two = connected_regions(mask)[1]
    assert (one.roi, two.roi) == ("0,0,6,6", "3,3,3,3")
    assert one.overlaps(two) and two.overlaps(one)
    a, b = MeasuredRegion(1, 0, 0, 3, 3, 5), MeasuredRegion(2, 2, 2, 3, 3, 5)
    assert a.overlaps(b) and not a.overlaps(MeasuredRegion(3, 3, 0, 2, 9, 4))


def test_nothing_measured():
    labels, regions = connected_regions(np.zeros((3, 4), bool))
    assert regions == [] and labels.shape == (3, 4) and not labels.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_equals_scikit_image(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    labels, regions = connected_regions(mask)
    theirs = measure.regionprops(measure.label(mask, connectivity=2))
    boxes = [(r.bbox[1], r.bbox[0], r.bbox[3] - r.bbox[1], r.bbox[2] - r.bbox[0]) for r in theirs]
    expected = sorted((*box, int(r.area)) for box, r in zip(boxes, theirs))
    assert sorted((r.x, r.y, r.w, r.h, r.pixels) for r in regions) == expected
    assert np.array_equal(labels > 0, mask)
    assert [r.pixels for r in regions] == sorted((r.pixels for r in regions), reverse=True)
    assert all((labels == r.label).sum() == r.pixels for r in regions)


def test_separate_regions_ignore_gaps_and_specks():
    mask = np.zeros((40, 60), bool)
    mask[:20, :24] = True
    mask[:, 10:12] = False  # two columns that were not measured part nothing
    mask[25:40, 40:60] = True
    mask[39, 0] = True
    assert [(each.roi, each.pixels) for each in separate_regions(mask)] == [
        ("0,0,24,20", 440),
        ("40,25,20,15", 300),
    ]
    mask[:20, 10:12] = True
    large = np.repeat(np.repeat(mask, 9, 0), 9, 1)
    assert [each.roi for each in separate_regions(large)] == ["0,0,216,180", "360,225,180,135"]
    assert separate_regions(np.zeros((3, 3), bool)) == []
