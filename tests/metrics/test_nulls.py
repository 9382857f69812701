import numpy as np
import pytest

from msi2he_jax.metrics import nulls


@pytest.fixture(scope="module")
def train():
    random = np.random.default_rng(0)
    msi = random.random((3, 20, 24, 4), dtype=np.float32)
    histology = random.random((3, 20, 24, 3), dtype=np.float32)
    mask = np.zeros((3, 20, 24), bool)
    mask[:, 4:16, 4:20] = True
    histology[~mask] = 0.9
    return nulls.Training(msi, histology, mask)


def test_what_was_seen_is_reproduced_exactly(train):
    found = nulls.null_predictions(train, train.msi, train.tissue_mask, tile_px=8)
    assert tuple(found) == nulls.NULL_NAMES
    np.testing.assert_array_equal(found["nearest_training_patch"], train.histology)
    np.testing.assert_array_equal(found["nearest_training_image"], train.histology)
    assert all(image.shape == (3, 20, 24, 3) for image in found.values())


def test_nearest_patch_equals_a_search_by_hand(train):
    msi = np.random.default_rng(1).random((1, 8, 16, 4), dtype=np.float32)
    found = nulls.nearest_training_patch(train.msi, train.histology, msi, tile_px=8)
    padded = [np.pad(v, ((0, 0), (0, 4), (0, 0), (0, 0))) for v in (train.msi, train.histology)]
    places = [(i, r, c) for i in range(3) for r in range(0, 24, 8) for c in range(0, 24, 8)]
    for column in (0, 8):
        tile = msi[0, :, column : column + 8]
        distances = [((padded[0][i, r : r + 8, c : c + 8] - tile) ** 2).sum() for i, r, c in places]
        i, r, c = places[int(np.argmin(distances))]
        np.testing.assert_array_equal(
            found[0, :, column : column + 8], padded[1][i, r : r + 8, c : c + 8]
        )


def test_simple_baselines(train):
    off, on = train.colors()
    np.testing.assert_allclose(off, 0.9, atol=1e-6)
    np.testing.assert_allclose(on, train.histology[train.tissue_mask].mean(axis=0), atol=1e-6)
    found = nulls.null_predictions(
        train, train.msi[:2, :16, :30], train.tissue_mask[:2, :16], tile_px=16
    )
    np.testing.assert_allclose(found["empty_slide"], 0.9, atol=1e-6)
    np.testing.assert_allclose(found["flat_silhouette"][0, 8, 8], on)
    np.testing.assert_allclose(found["flat_silhouette"][0, 0, 0], off)
    expected = train.histology.mean(axis=0)[:16]
    np.testing.assert_allclose(found["mean_training_image"][1], expected, atol=1e-6)


def test_frames_of_other_sizes_are_cropped_and_padded(train):
    framed = nulls.fit_frame(train.histology, (24, 10), np.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(framed[:, :20], train.histology[:, :, :10])
    np.testing.assert_allclose(
        framed[:, 20:], np.broadcast_to([0.1, 0.2, 0.3], (3, 4, 10, 3)), rtol=1e-6
    )


def test_no_tissue_or_no_background_has_a_colour(train):
    for mask in (np.zeros_like(train.tissue_mask), np.ones_like(train.tissue_mask)):
        colors = nulls.Training(train.msi, train.histology, mask).colors()
        assert np.isfinite(colors).all()


def test_memorisation_names_the_repeated_image(train):
    fake = train.histology[[2, 0]] + np.float32(0.01)
    real = np.full_like(fake, 0.5)
    found = nulls.memorisation(fake, real, train, ["a", "b", "c"])
    assert list(found["nearest_training_sample"]) == ["c", "a"]
    np.testing.assert_allclose(found["fake_to_training_rms"], 0.01, atol=1e-5)
    assert (found["real_to_training_rms"] > 0.1).all()
