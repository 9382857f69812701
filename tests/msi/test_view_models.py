"""Views fitted on training pixels: sums that add in any order, the same colours everywhere."""

import functools
import json
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from msi2he_jax.errors import InputError
from msi2he_jax.msi import projection, view_models
from msi2he_jax.msi.view_models import PcaModel, UmapModel


def cohort(samples=3, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    basis = rng.random((3, channels))
    return [
        rng.random((7 + i, 9, 3)) @ basis + 0.05 * rng.random((7 + i, 9, channels)) + 5
        for i in range(samples)
    ]


def fitted(samples):
    pixels = np.concatenate([sample.reshape(-1, sample.shape[-1]) for sample in samples])
    return view_models.fit_pca(view_models.gram_sum(pixels), pixels), pixels


def test_components_equal_sklearn():
    model, pixels = fitted(cohort())
    scaled = StandardScaler().fit_transform(pixels)
    theirs = PCA(3, svd_solver="full").fit(scaled)
    signs = np.sign((model.axes * theirs.components_.T).sum(0))
    np.testing.assert_allclose(model.axes, theirs.components_.T * signs, atol=1e-9)
    ours = view_models._components(model, pixels)
    np.testing.assert_allclose(ours, theirs.transform(scaled) * signs, atol=1e-9)
    np.testing.assert_allclose(model.low, np.percentile(ours, 1, axis=0), atol=1e-9)


def test_one_sample_looks_as_projected_alone():
    (sample,) = cohort(1)
    mask = np.ones(sample.shape[:2], bool)
    mask[0] = False
    gram = view_models.gram_sum(sample[mask])
    model = view_models.fit_pca(gram, view_models.draw_pixels(sample, mask, count=999, seed=0))
    view = view_models.apply_pca(sample, mask, model)
    assert np.abs(view.astype(int) - projection.project(sample, mask)).max() <= 1
    assert (view[0] == 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6), st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_same_sum(cuts, random):
    pixels = 1e4 + np.random.default_rng(0).normal(size=(60, 4)) * [1, 2, 3, 1e-3]
    parts = [view_models.gram_sum(part) for part in np.split(pixels, sorted(cuts))]
    random.shuffle(parts)
    total = functools.reduce(operator.add, parts)
    assert total.n == 60
    np.testing.assert_allclose(total.mean, pixels.mean(0), rtol=1e-13)
    expected = np.cov(pixels.T, bias=True) * 60
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(total.scatter / scale, expected / scale, atol=1e-7)


def test_large_inputs_are_summed_in_chunks(monkeypatch):
    pixels = np.random.default_rng(0).random((1000, 3)).astype(np.float32)
    whole = view_models.gram_sum(pixels)
    monkeypatch.setattr(view_models, "_CHUNK_PX", 64)
    chunked = view_models.gram_sum(pixels)
    np.testing.assert_allclose(chunked.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
    model = view_models.fit_pca(whole, pixels)
    images, mask = pixels.reshape(40, 25, 3), np.ones((40, 25), bool)
    small = view_models.apply_pca(images, mask, model)
    monkeypatch.undo()
    np.testing.assert_array_equal(small, view_models.apply_pca(images, mask, model))


def test_samples_share_their_colours():
    """The same chemistry is the same colour in every sample, which `project` does not promise."""
    first, second = cohort(2)
    second = second[:7]
    second[0, 0] = first[0, 0]
    model, _ = fitted([first, second])
    mask = np.ones(first.shape[:2], bool)
    views = [view_models.apply_view(images, mask, model) for images in (first, second)]
    np.testing.assert_array_equal(views[0][0, 0], views[1][0, 0])


def test_channels_that_do_not_vary_count_for_nothing():
    first = cohort(1)[0]
    more = np.concatenate([first, np.full((*first.shape[:2], 2), 3.0)], axis=2)
    model, _ = fitted([more])
    assert (model.axes[-2:] == 0).all() and (model.std[-2:] == 1).all()
    mask = np.ones(first.shape[:2], bool)
    alone = view_models.apply_pca(first, mask, fitted([first])[0])
    np.testing.assert_array_equal(view_models.apply_pca(more, mask, model), alone)


def test_few_channels_leave_components_black():
    model, pixels = fitted(cohort(1, channels=2))
    view = view_models.apply_pca(pixels.reshape(7, 9, 2), np.ones((7, 9), bool), model)
    assert view[..., 0].max() == 255 and (view[..., 2] == 0).all()


def test_record_survives_json():
    model, pixels = fitted(cohort())
    again = PcaModel.from_record(json.loads(json.dumps(model.to_record())))
    images, mask = pixels[:60].reshape(6, 10, 6), np.ones((6, 10), bool)
    for name, value in vars(model).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(
        view_models.apply_pca(images, mask, again), view_models.apply_pca(images, mask, model)
    )
    with pytest.raises(InputError, match="is not a PCA view"):
        PcaModel.from_record({"method": "pca"})
    with pytest.raises(InputError, match="has shapes"):
        PcaModel.from_record(model.to_record() | {"axes": [[1.0]]})


def test_drawn_pixels_do_not_depend_on_the_other_samples():
    (sample,) = cohort(1)
    mask = np.ones(sample.shape[:2], bool)
    mask[3] = False
    drawn = view_models.draw_pixels(sample, mask, count=20, seed=[7, 1])
    assert drawn.shape == (20, 6) and drawn.dtype == np.float32
    np.testing.assert_array_equal(
        drawn, view_models.draw_pixels(sample, mask, count=20, seed=[7, 1])
    )
    other = view_models.draw_pixels(sample, mask, count=20, seed=[7, 2])
    assert not np.array_equal(drawn, other)
    assert len(np.unique(drawn, axis=0)) == 20
    masked = sample[mask].astype(np.float32)
    assert all((masked == row).all(axis=1).any() for row in drawn)
    np.testing.assert_array_equal(view_models.draw_pixels(sample, mask, count=999, seed=0), masked)


def made_umap(n=200, seed=0):
    """A model whose embedding is known: the first three standardised channels."""
    drawn = np.random.default_rng(seed).normal(3, 2, (n, 5))
    mean, std = drawn.mean(0), drawn.std(0)
    pixels = ((drawn - mean) / std).astype(np.float32)
    low, high = np.percentile(pixels[:, :3], (1, 99), axis=0)
    return UmapModel(mean, std, pixels, pixels[:, :3].copy(), low, high), drawn


def test_new_pixels_come_near_their_neighbours():
    model, drawn = made_umap(2000)
    images, mask = drawn[:400].reshape(20, 20, 5), np.ones((20, 20), bool)
    view = view_models.apply_umap(images, mask, model)
    own = projection._stretch(model.embedding[:400].astype(np.float64)).reshape(view.shape)
    correlation = np.corrcoef(view[..., 0].ravel(), own[..., 0].ravel())[0, 1]
    assert correlation > 0.9
    np.testing.assert_array_equal(view, view_models.apply_view(images, mask, model))


def test_umap_file(tmp_path):
    model, drawn = made_umap()
    model.save(tmp_path / "view.npz")
    again = UmapModel.load(tmp_path / "view.npz")
    images, mask = drawn[:40].reshape(5, 8, 5), np.ones((5, 8), bool)
    np.testing.assert_array_equal(
        view_models.apply_umap(images, mask, again), view_models.apply_umap(images, mask, model)
    )
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", mean=np.ones(2))
    np.savez(tmp_path / "shape.npz", **(vars(model) | {"embedding": np.ones((3, 3))}))
    np.savez(tmp_path / "objects.npz", **(vars(model) | {"low": np.array([None] * 3)}))
    for name in ("text", "other", "shape", "objects"):
        with pytest.raises(InputError, match=f"{name}.npz: is not a UMAP view"):
            UmapModel.load(tmp_path / f"{name}.npz")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_umap_fits_and_repeats():
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.normal(0, 0.1, (40, 4)), rng.normal(5, 0.1, (40, 4))])
    model = view_models.fit_view("umap", view_models.gram_sum(drawn), drawn, seed=3)
    again = view_models.fit_umap(drawn, seed=3)
    np.testing.assert_array_equal(model.embedding, again.embedding)
    new = np.concatenate([rng.normal(0, 0.1, (1, 9, 4)), rng.normal(5, 0.1, (1, 9, 4))])
    view = view_models.apply_view(new, np.ones((2, 9), bool), model).astype(float)
    within = np.linalg.norm(view - view.mean(1, keepdims=True), axis=-1).mean()
    assert np.linalg.norm(view[0].mean(0) - view[1].mean(0)) > 2 * within


def test_refusals():
    model, pixels = fitted(cohort())
    gram = view_models.gram_sum(pixels)
    with pytest.raises(InputError, match="method: t-SNE cannot be applied to new pixels"):
        view_models.fit_view("tsne", gram, pixels)
    with pytest.raises(InputError, match=r"method: is 'nmf' \(one of pca, umap\)"):
        view_models.fit_view("nmf", gram, pixels)
    with pytest.raises(InputError, match="there are none to fit a view to"):
        view_models.fit_pca(view_models.gram_sum(pixels[:0]), pixels)
    with pytest.raises(InputError, match="have 5 channels, the Gram sum 6"):
        view_models.fit_pca(gram, pixels[:, :5])
    with pytest.raises(InputError, match="6 channels and 5 do not add"):
        gram + view_models.gram_sum(pixels[:, :5])
    with pytest.raises(InputError, match="hold values that are not finite"):
        view_models.gram_sum(np.full((3, 2), np.nan))
    with pytest.raises(InputError, match="15 are too few for UMAP"):
        view_models.fit_umap(pixels[:15])
    mask = np.ones((2, 3), bool)
    with pytest.raises(InputError, match="have 4 channels, the view 6"):
        view_models.apply_pca(np.ones((2, 3, 4)), mask, model)
    with pytest.raises(InputError, match=r"mask: \(2, 3\) does not fit \(3, 2, 6\)"):
        view_models.apply_pca(np.ones((3, 2, 6)), mask, model)
    with pytest.raises(InputError, match="hold values that are not finite"):
        view_models.apply_pca(np.full((2, 3, 6), np.inf), mask, model)
