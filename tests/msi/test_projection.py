"""Three-channel views."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from msi2he_jax.errors import InputError
from msi2he_jax.msi.projection import place_by_neighbours, principal_components, project


def stack(height=8, width=9, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.random((height, width, 3)) @ rng.random((3, channels))
    return mixed + 0.01 * rng.random((height, width, channels))


def test_components_equal_sklearn():
    pixels = stack(20, 20, 7).reshape(-1, 7)
    pixels -= pixels.mean(0)
    ours, theirs = principal_components(pixels, 3), PCA(3, svd_solver="full").fit_transform(pixels)
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-10)


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_views_are_seeded_and_masked(method):
    images = stack()
    mask = np.ones((8, 9), bool)
    mask[0] = False
    images[0] = 1e9  # Outside the mask: must not matter.
    view = project(images, mask, method=method, seed=1)
    assert view.shape == (8, 9, 3) and view.dtype == np.uint8
    assert (view[0] == 0).all()
    assert (view[mask].min(0) == 0).all() and (view[mask].max(0) == 255).all()
    np.testing.assert_array_equal(view, project(images, mask, method=method, seed=1))


@pytest.mark.filterwarnings("ignore")
def test_large_images_are_embedded_in_part():
    """Above `most_px` the drawn pixels' embedding colours all, and alike pixels alike."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.1, (20, 20, 4))
    images[:, 10:] += [3, -3, 3, 0]
    mask = np.ones((20, 20), bool)
    view = project(images, mask, method="tsne", seed=1, most_px=60).astype(float)
    assert view.max() == 255
    halves = view[:, :10].reshape(-1, 3), view[:, 10:].reshape(-1, 3)
    spread = max(half.std(axis=0).mean() for half in halves)
    assert np.linalg.norm(halves[0].mean(0) - halves[1].mean(0)) > 2 * spread
    again = project(images, mask, method="tsne", seed=1, most_px=60)
    np.testing.assert_array_equal(view, again)
    whole, most = (project(images, mask, method="tsne", most_px=n) for n in (400, 10_000))
    np.testing.assert_array_equal(whole, most)


def test_pixels_placed_by_neighbours_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    known, places, new = rng.random((40, 5)), rng.random((40, 3)), rng.random((6, 5))
    found = place_by_neighbours(new, known, places)
    for pixel, place in zip(new, found, strict=True):
        distance = np.linalg.norm(pixel - known, axis=1)
        near = np.argsort(distance)[:15]
        beyond = distance[near] - distance[near[0]]
        weights = np.exp(-beyond / beyond.mean())
        np.testing.assert_allclose(place, np.average(places[near], axis=0, weights=weights))
    same = place_by_neighbours(new, known[:3], places[:3])
    assert (same >= places[:3].min(0)).all() and (same <= places[:3].max(0)).all()


def test_channel_scales_do_not_matter():
    images, mask = stack(), np.ones((8, 9), bool)
    scaled = images * np.array([1, 10, 1e6, 1e-3, 1, 1])
    assert np.abs(project(images, mask).astype(int) - project(scaled, mask)).max() <= 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_few_channels(channels, method):
    view = project(stack(channels=channels), np.ones((8, 9), bool), method=method)
    assert view[..., 0].max() == 255
    if method == "pca" or channels == 1:
        assert (view[..., channels:] == 0).all()


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.parametrize("pixels", [0, 1, 2, 5])
def test_small_masks(method, pixels):
    mask = np.zeros((8, 9), bool)
    mask.flat[:pixels] = True
    view = project(stack(), mask, method=method)
    assert (view[~mask] == 0).all()
    assert view.max() == (255 if pixels > 1 else 0)


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_constant_images_give_black(method):
    assert project(np.ones((6, 6, 4)), np.ones((6, 6), bool), method=method).max() == 0


def test_refusals():
    mask = np.ones((8, 9), bool)
    with pytest.raises(InputError, match=r"method: is 'nmf' \(one of pca, tsne, umap\)"):
        project(stack(), mask, method="nmf")
    with pytest.raises(InputError, match=r"mask: \(9, 8\) does not fit \(8, 9, 6\)"):
        project(stack(), mask.T)
    images = stack()
    images[2, 3, 1] = np.nan
    with pytest.raises(InputError, match="images: hold values that are not finite"):
        project(images, mask)
