"""A few points of stated error lead an alignment, and images refine it."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.registration import automatic, canvas, point_prior, similarity, transforms
from msi2he_jax.registration.automatic import make_pair, register_cohort
from msi2he_jax.registration.landmarks import Landmarks
from msi2he_jax.registration.point_prior import PointPrior
from msi2he_jax.registration.transforms import Transform
from msi2he_jax.registration.uncertainty import estimate_uncertainty

SLIDE_UM, MSI_UM, SHAPE = 25.0, 100.0, (48, 50)
MARKED = np.array([[1500.0, 1600.0], [3300.0, 1900.0], [2400.0, 3500.0], [1700.0, 2900.0]])


def truth(mirrored=True):
    return Transform(
        transforms.rotation(
            155, mirrored=mirrored, center_from=(2400, 2500), center_to=(2000, 2100)
        )
    )


def pair(mirrored=True, change=lambda image, rng: image):
    """A round section, whose outline tells no angle, and what MSI saw of it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160] / 160 - 0.5
    mask = np.hypot(y, x) < 0.42
    density = np.where(mask, 1 + 6 * ndimage.gaussian_filter(rng.normal(size=(160, 160)), 4), 0)
    grid = {"source_um_per_px": SLIDE_UM, "out_shape": SHAPE, "out_um_per_px": MSI_UM}
    seen, tissue = (truth(mirrored).warp(image, **grid) for image in (density, mask))
    seen = change(3.0 - seen + rng.normal(0, 0.05, SHAPE), rng)
    return make_pair(seen, density, tissue, mask, moving_um_per_px=MSI_UM, fixed_um_per_px=SLIDE_UM)


def noise(image, rng):
    return rng.normal(size=SHAPE)


def points(sd_um, count=4, mirrored=True, seed=0):
    error = np.random.default_rng(seed).normal(0, sd_um, (count, 2))
    return PointPrior(MARKED[:count], truth(mirrored)(MARKED[:count]) + error, sd_um)


def found(images):
    return register_cohort([images])[0]


def error_um(matrix, mirrored=True):
    inner = np.stack(np.meshgrid([1200.0, 2400, 3600], [1300.0, 2500, 3700]), -1).reshape(-1, 2)
    return np.median(np.linalg.norm(Transform(matrix)(inner) - truth(mirrored)(inner), axis=1))


def test_points_alone_decide_where_images_say_nothing():
    """Noise on a round section: lost without points, as near as four points of 50 um with them."""
    blind = pair(change=noise)
    assert error_um(found(blind).matrix) > 500
    assert error_um(found(blind.holding(points(50.0))).matrix) < 100


def test_points_lead_the_first_search_already(monkeypatch):
    """With points on the second piece of a slide, no pose is begun on the first, which matches."""
    images, far = pair(), Transform(transforms.translation((0.0, 160 * SLIDE_UM)))
    both = np.tile(images.fixed.image, (1, 2, 1)), np.tile(images.fixed.mask, 2)
    images = dataclasses.replace(images, fixed=canvas.make_side(*both, SLIDE_UM, name="fixed"))
    there, begun = truth().then(far), []

    def refine(drawn, linears, shifts, *_):
        begun.append((linears[0], shifts[0]))
        raise StopIteration

    monkeypatch.setattr(automatic.refinement, "refine", refine)
    with pytest.raises(StopIteration):
        found(images.holding(PointPrior(MARKED, there(MARKED), 30.0)))
    ((linears, shifts),) = begun
    radius, middle = images.radius_um, MARKED.mean(axis=0)
    inner = (middle - images.moving.center_um) / radius
    landing = (linears @ inner + shifts) * radius + images.fixed.center_um
    assert np.linalg.norm(landing - there(middle), axis=1).max() < 1000


@pytest.mark.parametrize(("count", "mirrored"), [(2, True), (2, False), (4, True)])
def test_images_refine_points(count, mirrored):
    """Points that are off by two MSI pixels each: the images bring the section nearer than these.

    Two points cannot tell a section from its mirror image; the images can.
    """
    prior = points(2 * MSI_UM, count, mirrored, seed=1)
    result = found(pair(mirrored).holding(prior))
    assert error_um(result.matrix, mirrored) < 0.5 * MSI_UM
    assert prior.rms_um(Transform(result.matrix)) < 2 * prior.sd_um
    assert not prior.warnings(Transform(result.matrix))


def test_surer_points_weigh_more():
    """Points shifted by 3 MSI pixels on purpose draw the section after them as they are trusted."""
    moved = truth()(MARKED) + np.array([3 * MSI_UM, 0.0])
    off = [PointPrior(MARKED, moved, sd_um) for sd_um in (5.0, 1000.0)]
    trusted, doubted = (found(pair().holding(each)).matrix for each in off)
    assert error_um(trusted) > 2.5 * MSI_UM and error_um(doubted) < 0.5 * MSI_UM
    tight = dataclasses.replace(off[1], sd_um=50.0)
    assert "times the stated standard deviation" in tight.warnings(Transform(doubted))[0]


def test_pairs_with_and_without_points_are_batched_apart():
    images = pair()
    held = images.holding(points(50.0))
    levels = similarity.METRICS["mi"].levels
    assert automatic._batches([images, held, images, held], 8, levels) == [[0, 2], [1, 3]]
    assert "points" not in images.points_on_canvas(64)  # the program without is the same as ever


def test_points_are_in_the_uncertainty():
    """Where images say nothing, what is left open is what the points leave open."""
    blind, prior = pair(change=noise), points(40.0)
    alone = estimate_uncertainty(blind, truth())
    told = estimate_uncertainty(blind.holding(prior), truth())
    inside = np.isfinite(told.spread_um)
    centers = transforms.pixel_centers(SHAPE, MSI_UM)
    there, sd_um = point_prior.predicted(prior, centers, mirrored=True)
    off = np.linalg.norm(there - truth()(centers), axis=-1) / np.sqrt(2)
    expected = np.median(np.hypot(sd_um, off)[inside])
    assert told.median_um < 0.5 * alone.median_um
    assert told.median_um == pytest.approx(expected, rel=0.5)
    assert told.limit_um == alone.limit_um and told.undetermined < alone.undetermined


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_points_predict(mirrored):
    """Exact points give the truth, surest in their middle, by a similarity or an affine."""
    for count in (2, 3, 4):
        exact = PointPrior(MARKED[:count], truth(mirrored)(MARKED[:count]), 10.0)
        places = np.stack([MARKED[:count].mean(axis=0), MARKED[0] + 5000])
        there, sd_um = point_prior.predicted(exact, places, mirrored=mirrored)
        np.testing.assert_allclose(there, truth(mirrored)(places), atol=1e-6)
        assert sd_um[0] == pytest.approx(10 / np.sqrt(count)) and sd_um[1] > 20


def _landmarks(moving, fixed):
    count = len(moving)
    names = np.array([f"p{k}" for k in range(count)])
    return Landmarks(names, np.full(count, "fit"), np.array(moving), np.array(fixed), "p.csv")


@pytest.mark.parametrize(
    ("moving", "fixed", "sd_um", "said"),
    [
        (MARKED[:1], MARKED[:1], 50.0, "p.csv: points: holds 1 of use fit, 2 are needed"),
        (MARKED[[0, 0]], MARKED[:2], 50.0, "p.csv: points: lie in one place"),
        (MARKED, 40 * MARKED, 50.0, "the histology is 40 to 40 times as large as the MSI"),
        (MARKED, MARKED, 0.0, "points_sd_um: is 0.0, must be positive"),
    ],
)
def test_points_that_make_no_sense(moving, fixed, sd_um, said):
    with pytest.raises(InputError, match=said):
        point_prior.point_prior(_landmarks(moving, fixed), sd_um)


def test_eval_points_are_never_looked_at():
    marked = _landmarks(MARKED, MARKED)
    marked.use[2:] = "eval"
    assert len(point_prior.point_prior(marked, 50.0)) == 2
