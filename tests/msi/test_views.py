"""Which view shows the histology: truth before noise, whatever its colours."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msi2he_jax.errors import InputError
from msi2he_jax.msi import views


def section(size, seed=0):
    """A tissue's structure in [0, 1] and its H&E."""
    rng = np.random.default_rng(seed)
    structure = gaussian_filter(rng.normal(size=(size, size)), size / 30)
    structure = (structure - structure.min()) / np.ptp(structure)
    colours = np.stack([255 - 150 * structure, 200 - 180 * structure, 220 - 60 * structure], -1)
    return structure, byte(colours + rng.normal(0, 10, colours.shape))


def byte(image):
    return np.clip(image, 0, 255).astype(np.uint8)


def noise(size, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


def truth(structure, seed=2, spread=30):
    channels = 255 * np.stack([structure, 1 - structure, structure**2], -1)
    return byte(channels + np.random.default_rng(seed).normal(0, spread, channels.shape))


@pytest.mark.parametrize("size", [20, 48, 100])
def test_truth_wins_over_noise_and_over_nothing(size):
    structure, histology = section(size)
    inside = np.ones((size, size), bool)
    candidates = {
        "noise": noise(size),
        "constant": np.full((size, size, 3), 128, np.uint8),
        "truth": truth(structure),
    }
    scores = views.score_views(candidates, histology, inside, inside)
    assert list(scores) == list(candidates)
    assert views.best_view(scores) == "truth"
    assert scores["constant"] == 0
    assert abs(scores["noise"]) < scores["truth"] / 3
    assert scores == views.score_views(candidates, histology, inside, inside)


def test_noise_scores_nothing_on_average():
    _, histology = section(64)
    inside = np.ones((64, 64), bool)
    many = {str(seed): noise(64, seed) for seed in range(12)}
    scores = np.array(list(views.score_views(many, histology, inside, inside).values()))
    assert abs(scores.mean()) < 0.005 and np.abs(scores).max() < 0.02


def test_colours_may_be_inverted_stretched_or_swapped():
    structure, histology = section(100)
    inside = np.ones((100, 100), bool)
    view = truth(structure)
    stretched = np.round(255 * (view / 255.0) ** 0.9).astype(np.uint8)
    shown = {"as it is": view, "inverted": 255 - view, "swapped": view[..., ::-1]}
    scores = views.score_views(shown | {"gamma": stretched}, histology, inside, inside)
    for name in ("inverted", "swapped", "gamma"):
        assert scores[name] == pytest.approx(scores["as it is"], rel=0.05), name


def test_one_telling_channel_is_enough_and_more_tell_more():
    structure, histology = section(100)
    inside = np.ones((100, 100), bool)
    one = noise(100)
    one[..., 2] = truth(structure)[..., 0]
    scores = views.score_views(
        {"noise": noise(100), "one": one, "all": truth(structure)}, histology, inside, inside
    )
    assert scores["noise"] + 0.02 < scores["one"] < scores["all"]


def test_only_measured_tissue_counts():
    structure, histology = section(100)
    tissue, mask = np.zeros((2, 100, 100), bool)
    tissue[:, :80], mask[:, 20:] = True, True
    view, counted = truth(structure), tissue & mask
    changed = np.where(counted[..., None], view, 255 * noise(100) % 7)
    altered = np.where(counted[..., None], histology, 0).astype(np.uint8)
    a = views.score_views({"v": view}, histology, tissue, mask)
    assert a == views.score_views({"v": changed}, altered, tissue, mask)
    assert a != views.score_views({"v": view}, histology, mask, mask)


def test_too_few_pixels_score_nothing_and_the_first_view_is_taken():
    structure, histology = section(20)
    mask = np.zeros((20, 20), bool)
    mask.flat[:63] = True
    shown = {"pca": noise(20), "umap": truth(structure)}
    scores = views.score_views(shown, histology, np.ones((20, 20), bool), mask)
    assert scores == {"pca": 0.0, "umap": 0.0}
    assert views.best_view(scores) == "pca"


def test_large_sections_are_thinned(monkeypatch):
    structure, histology = section(100)
    inside = np.ones((100, 100), bool)
    view = {"v": truth(structure)}
    whole = views.score_views(view, histology, inside, inside)["v"]
    monkeypatch.setattr(views, "_MOST_PX", 5000)
    thinned = views.score_views(view, histology, inside, inside)["v"]
    assert thinned != whole and thinned == pytest.approx(whole, rel=0.1)


def test_refusals():
    _, histology = section(20)
    inside = np.ones((20, 20), bool)
    with pytest.raises(InputError, match="views: none is given"):
        views.score_views({}, histology, inside, inside)
    with pytest.raises(InputError, match=r"views: pca: \(9, 9, 3\) does not fit the mask \(20, 20"):
        views.score_views({"pca": noise(9)}, histology, inside, inside)
    with pytest.raises(InputError, match=r"views: tissue: \(2, 2\) does not fit"):
        views.score_views({"pca": noise(20)}, histology, np.ones((2, 2), bool), inside)
