"""Ridge and PLS from sums, against scikit-learn on the pixels themselves."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import regression


def _images(count=3, channels=6, seed=0):
    random = np.random.default_rng(seed)
    msi = random.random((count, 9, 11, channels), dtype=np.float32)
    msi[..., 1] = 0.7 * msi[..., 0] + 0.3 * msi[..., 1]
    mixture = random.normal(0, 0.3, (channels, 3))
    image = (msi @ mixture + random.normal(0, 0.2, (*msi.shape[:3], 3))).astype(np.float32)
    return msi, image, random.random(msi.shape[:3]) < 0.8


def _pixels(msi, image, mask):
    x, y = msi[mask].astype(float), image[mask].astype(float)
    return (x - x.mean(0)) / x.std(0), x, y


@pytest.mark.parametrize("side", (3, 5))
def test_neighbours_are_the_mean_with_zeros_beyond_the_border(side):
    msi = _images()[0]
    found = np.asarray(regression.with_neighbours(msi, side))
    expected = uniform_filter(msi, (1, side, side, 1), mode="constant")
    np.testing.assert_array_equal(found[..., :6], msi)
    np.testing.assert_allclose(found[..., 6:], expected, atol=1e-6)
    assert regression.with_neighbours(msi, 1) is msi


def test_ridge_equals_scikit_learn():
    images = _images()
    standard, x, y = _pixels(*images)
    known = regression.moments(*images, neighbours_px=1)
    for fit in regression.ridge_path(known, (1e-3, 0.1, 10.0)):
        expected = Ridge(alpha=fit.chosen * len(x)).fit(standard, y)
        np.testing.assert_allclose(x @ fit.kernel + fit.bias, expected.predict(standard), atol=1e-9)


def test_partial_least_squares_equal_scikit_learn():
    images = _images()
    standard, x, y = _pixels(*images)
    known = regression.moments(*images, neighbours_px=1)
    for fit in regression.pls_path(known, 4):
        expected = PLSRegression(int(fit.chosen), scale=False, tol=1e-12, max_iter=5000)
        expected = expected.fit(standard, y).predict(standard)
        np.testing.assert_allclose(x @ fit.kernel + fit.bias, expected, atol=1e-7)


def test_all_components_are_least_squares():
    images = _images()
    known = regression.moments(*images, neighbours_px=1)
    *_, last = regression.pls_path(known)
    assert last.chosen == 6
    (plain,) = regression.ridge_path(known, (1e-12,))
    np.testing.assert_allclose(last.kernel, plain.kernel, atol=1e-6)


def test_sums_give_the_error_on_pixels_never_seen():
    known = regression.moments(*_images(), neighbours_px=3)
    msi, image, mask = _images(seed=1)
    other = regression.moments(msi, image, mask, neighbours_px=3)
    x = np.asarray(regression.with_neighbours(msi, 3))[mask]
    for fit in regression.ridge_path(known):
        residual = x @ fit.kernel + fit.bias - image[mask]
        assert regression.squared_error(fit, other) == pytest.approx((residual**2).sum(), rel=1e-5)


def test_blocks_of_pixels_add_up(monkeypatch):
    whole = regression.moments(*_images(), neighbours_px=3)
    monkeypatch.setattr(regression, "_BLOCK", 50)
    parts = regression.moments(*_images(), neighbours_px=3)
    np.testing.assert_allclose(parts.xx, whole.xx)
    assert parts.count == whole.count


@pytest.mark.parametrize("method", regression.METHODS)
def test_patients_left_out_choose(method):
    """The choice is that of a search by hand over patients left out."""
    patients = {
        name: regression.moments(*_images(1, seed=seed), neighbours_px=1)
        for seed, name in enumerate("abc")
    }
    path = regression.ridge_path if method == "ridge" else regression.pls_path
    errors = {}
    for name, own in patients.items():
        others = regression.sum_up(each for key, each in patients.items() if key != name)
        for fit in path(others):
            errors[fit.chosen] = errors.get(fit.chosen, 0) + regression.squared_error(fit, own)
    found = regression.fit_linear(patients, method)
    assert found.chosen == min(errors, key=errors.get)


def test_a_channel_that_never_varies_has_no_weight():
    msi, image, mask = _images()
    msi[..., 2] = 0.5
    known = {"a": regression.moments(msi, image, mask, neighbours_px=1)}
    for method in regression.METHODS:
        fit = regression.fit_linear(known, method)
        assert np.isfinite(fit.kernel).all() and not fit.kernel[2].any()


def test_one_colour_needs_no_channel():
    msi, image, mask = _images()
    known = {"a": regression.moments(msi, np.full_like(image, 0.4), mask, neighbours_px=1)}
    for method in regression.METHODS:
        fit = regression.fit_linear(known, method)
        np.testing.assert_allclose(fit.bias + msi[mask] @ fit.kernel, 0.4, atol=1e-6)


@pytest.mark.parametrize("side", (0, 2, 65))
def test_even_squares_are_refused(side):
    with pytest.raises(InputError, match="neighbours_px"):
        regression.moments(*_images(), neighbours_px=side)


def test_no_pixel_is_refused():
    msi, image, mask = _images()
    nothing = {"a": regression.moments(msi, image, mask & False, neighbours_px=1)}
    with pytest.raises(InputError, match="no pixel"):
        regression.fit_linear(nothing, "ridge")
    with pytest.raises(InputError, match="expected one of ridge, pls"):
        regression.fit_linear(nothing, "lasso")
