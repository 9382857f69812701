import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import normalized_mutual_information as skimage_nmi
from sklearn.metrics import mutual_info_score

from msi2he_jax.metrics.information import (
    bin_index,
    corrected_mutual_information,
    joint_histogram,
    mutual_information,
    normalized_mutual_information,
)

METHODS = ["scatter", "matmul"]


def _pair(seed=0, shape=(3, 32, 40)):
    """Related images, one of them on the very edges of ten bins, some values out of range."""
    random = np.random.default_rng(seed)
    x = random.random(shape).astype(np.float32)
    x[0] = np.round(x[0] * 10) / 10
    y = (0.5 * x + 0.55 * random.random(shape) - 0.02).astype(np.float32)
    x[0, 0], x[1, 0, 0], y[1, 0, 1] = 1.0, np.nan, 1.2
    return x, y


def _histogram(x, y, bins, data_range=(0.0, 1.0)):
    keep = ~np.isnan(x)
    pair = (v[keep].astype(np.float64) for v in (x, y))
    return np.histogram2d(*pair, bins, [data_range, data_range])[0]


def _information(counts):
    share = counts / counts.sum()
    independent = share.sum(1)[:, None] * share.sum(0)
    held = share > 0
    return (share[held] * np.log(share[held] / independent[held])).sum()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bins", [7, 10, 32, 256])
def test_equals_numpy(method, bins):
    x, y = _pair()
    counts = joint_histogram(x, y, bins=bins, method=method)
    found = mutual_information(x, y, bins=bins, method=method)
    for i in range(len(x)):
        expected = _histogram(x[i], y[i], bins)
        np.testing.assert_array_equal(counts[i], expected)
        if np.isnan(x[i]).any():
            assert np.isnan(found[i])
        else:
            np.testing.assert_allclose(found[i], _information(expected), atol=1e-6)


def test_other_ranges_have_numpy_edges():
    x, y = _pair()
    counts = joint_histogram(x, y, bins=9, data_range=(-0.3, 0.7))
    for i in range(len(x)):
        np.testing.assert_array_equal(counts[i], _histogram(x[i], y[i], 9, (-0.3, 0.7)))


def test_equals_scikit_learn_and_scikit_image():
    random = np.random.default_rng(1)
    x = random.random((1, 30, 30)).astype(np.float32)
    y = np.clip(x + random.normal(0, 0.1, x.shape), 0, 1).astype(np.float32)
    x[0, 0, :2], y[0, 0, :2] = (0, 1), (0, 1)  # so that the data's own range is [0, 1]
    labels = (np.minimum(v * 10, 9).astype(int).ravel() for v in (x, y))
    np.testing.assert_allclose(
        mutual_information(x, y, bins=10), mutual_info_score(*labels), atol=1e-6
    )
    expected = skimage_nmi(x[0].astype(float), y[0].astype(float), bins=20)
    np.testing.assert_allclose(normalized_mutual_information(x, y, bins=20), expected, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), levels=st.integers(1, 40))
def test_properties(seed, levels):
    random = np.random.default_rng(seed)
    x, y = (random.integers(0, levels, (2, 1, 12, 12)) / 40).astype(np.float32)
    found = float(mutual_information(x, y, bins=16)[0])
    assert found >= 0
    np.testing.assert_allclose(mutual_information(y, x, bins=16), found, atol=1e-6)
    order = random.permutation(x.size)
    shuffled = (v.reshape(-1)[order].reshape(x.shape) for v in (x, y))
    np.testing.assert_allclose(mutual_information(*shuffled, bins=16), found, atol=1e-6)
    own = float(mutual_information(x, x, bins=16)[0])
    assert found <= own + 1e-6
    assert 1.0 - 1e-6 <= normalized_mutual_information(x, y, bins=16)[0] <= 2.0 + 1e-6


def test_mask_equals_selecting():
    x, y = _pair(2)
    mask = (np.random.default_rng(3).random(x.shape) < 0.4) & ~np.isnan(x)
    found = mutual_information(x, y, bins=16, mask=mask)
    for i in range(len(x)):
        expected = _information(_histogram(x[i][mask[i]], y[i][mask[i]], 16))
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_constant_images_and_empty_masks_are_defined(method):
    x, y = np.full((1, 8, 8), 0.5, np.float32), np.random.default_rng(0).random((1, 8, 8))
    nothing = np.zeros(x.shape, bool)
    options = {"bins": 16, "method": method}
    assert mutual_information(x, y, **options)[0] == 0
    assert np.isnan(mutual_information(y, y, mask=nothing, **options)[0])
    assert normalized_mutual_information(x, x, **options)[0] == 1
    assert normalized_mutual_information(x, y, **options)[0] == 1
    key = jax.random.key(0)
    assert corrected_mutual_information(x, y, mask=~nothing, key=key, method=method)[0] == 0
    assert np.isnan(corrected_mutual_information(x, y, mask=nothing, key=key, method=method)[0])


def test_correction_removes_the_bias():
    random = np.random.default_rng(4)
    x, y = random.random((2, 8, 24, 24)).astype(np.float32)
    mask = random.random(x.shape) < 0.5
    key = jax.random.key(0)
    plain = mutual_information(x, y, bins=32, mask=mask)
    corrected = corrected_mutual_information(x, y, mask=mask, key=key)
    assert plain.min() > 0.5  # 288 pixels in 1,024 cells: almost all of it is bias
    assert abs(float(corrected.mean())) < 0.05
    related = corrected_mutual_information(x, x, mask=mask, key=key)
    assert related.min() > 1.0


def test_correction_ignores_what_is_outside_the_mask_and_the_batch():
    random = np.random.default_rng(5)
    x, y = random.random((2, 3, 16, 16)).astype(np.float32)
    mask = random.random(x.shape) < 0.5
    key = jax.random.key(0)
    found = corrected_mutual_information(x, y, mask=mask, key=key)
    spoilt = np.where(mask, y, 0).astype(np.float32)
    np.testing.assert_array_equal(
        corrected_mutual_information(x, spoilt, mask=mask, key=key), found
    )
    alone = corrected_mutual_information(x[1:2], y[1:2], mask=mask[1:2], key=key)
    np.testing.assert_allclose(alone, found[1:2], atol=1e-6)
    same = corrected_mutual_information(x, y, mask=mask, key=key, method="matmul")
    np.testing.assert_allclose(same, found, atol=1e-6)


@pytest.mark.parametrize("data_range", [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.7), (0.0, 255.0)])
@pytest.mark.parametrize("bins", [2, 30, 64, 256])
def test_bins_at_their_edges_are_numpys(bins, data_range):
    """Where the product alone is taken for exact it must be, one step beside every edge too."""
    edges = np.linspace(*data_range, bins + 1).astype(np.float32)
    steps = [np.nextafter(edges, np.float32(way)) for way in (-np.inf, np.inf)]
    values = np.concatenate([edges, *steps])
    values = values[(values == 0) | (np.abs(values) > 1e-30)]  # XLA takes subnormals for 0
    expected = np.array([np.histogram(v, bins, data_range)[0] for v in values.astype(np.float64)])
    found = np.asarray(bin_index(values, bins, data_range))
    counted = expected.sum(1) == 1
    np.testing.assert_array_equal(found[counted], expected.argmax(1)[counted])
    assert (found[values < data_range[0]] == bins).all()


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
def test_sharing_a_batch_over_cores_changes_no_score(monkeypatch, cores):
    x, y = np.random.default_rng(0).random((2, 5, 17, 9), dtype=np.float32)
    alone = [mutual_information(*each, bins=8)[0] for each in zip(x[:, None], y[:, None])]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    jax.clear_caches()  # the number of cores is read while a call is traced
    shared = mutual_information(x, y, bins=8, method="scatter")
    np.testing.assert_allclose(shared, alone, rtol=1e-6)
