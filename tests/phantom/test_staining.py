import numpy as np
import pytest

from msi2he_jax.phantom import tissue as t
from msi2he_jax.phantom.staining import draw_stain, render
from msi2he_jax.phantom.textures import Canvas

CANVAS = Canvas((180, 180), 8.0)
RADIUS_UM = 600.0


def _drawn(seed=0):
    rng = np.random.default_rng(seed)
    habit, stain = t.draw_habit(rng), draw_stain(rng)
    laid = t.lay_out(rng, CANVAS, habit, (720.0, 720.0), RADIUS_UM)
    return laid, render(rng, laid, stain)


@pytest.fixture(scope="module")
def drawn():
    return _drawn()


def test_tissue_stays_in_its_circle(drawn):
    y, x = np.nonzero(drawn[0].mask)
    reach = np.hypot((y + 0.5) * 8.0 - 720.0, (x + 0.5) * 8.0 - 720.0).max()
    assert 0.8 * RADIUS_UM < reach <= RADIUS_UM + 1e-6


def test_sections_are_varied():
    seen = np.zeros(len(t.COMPARTMENTS), bool)
    for seed in range(4):
        labels = _drawn(seed)[0].labels
        seen |= np.bincount(labels.ravel(), minlength=len(seen)) > 0
    assert seen.all()


def test_colours_are_those_of_haematoxylin_and_eosin(drawn):
    laid, pixels = drawn
    mean = {k: pixels[laid.labels == k].mean(axis=0) for k in np.unique(laid.labels)}
    assert mean[t.GLASS].min() > 225 and np.ptp(mean[t.GLASS]) < 15
    red, green, blue = mean[t.STROMA]
    assert red > blue > green
    cells = np.isin(laid.labels, (t.TUMOUR, t.EPITHELIUM, t.IMMUNE))
    assert pixels[cells].mean(axis=0)[0] < red - 20
    assert mean[t.ADIPOSE].mean() > mean[t.STROMA].mean() + 30


def test_compartments_are_textured_not_flat(drawn):
    laid, pixels = drawn
    for label in (t.STROMA, t.TUMOUR, t.EPITHELIUM):
        if (laid.labels == label).sum() > 50:
            assert pixels[laid.labels == label].std(axis=0).min() > 5


def test_stains_differ_between_patients():
    means = []
    for seed in range(3):
        laid, pixels = _drawn(seed)
        means.append(pixels[laid.labels == t.STROMA].mean(axis=0))
    assert np.std(means, axis=0).max() > 3


def test_same_seed_same_pixels(drawn):
    assert np.array_equal(drawn[1], _drawn()[1])
