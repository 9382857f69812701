import numpy as np
from PIL import Image
from skimage.color import rgb2hed

from msi2he_jax.metrics.color import luminance, rgb_to_hed, stain_correlation


def _image(shape=(2, 12, 16, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_luminance_is_pillows():
    pixels = _image()
    expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pixels])
    np.testing.assert_allclose(luminance(pixels / 255.0) * 255, expected, atol=0.51)
    np.testing.assert_allclose(luminance(np.ones((1, 3))), 1.0, atol=1e-6)


def test_hed_is_scikit_images():
    pixels = _image() / 255.0
    np.testing.assert_allclose(rgb_to_hed(pixels), rgb2hed(pixels), atol=1e-6)
    assert np.isfinite(rgb_to_hed(np.zeros((1, 3)))).all()


def test_stain_correlation():
    first, second = _image() / 255.0, _image(seed=1) / 255.0
    mask = np.random.default_rng(2).random(first.shape[:3]) < 0.5
    found = stain_correlation(first, second, mask)
    a, b = rgb2hed(first), rgb2hed(second)
    for stain, name in enumerate("he"):
        for i in range(2):
            pair = (v[i, ..., stain][mask[i]] for v in (a, b))
            np.testing.assert_allclose(found[name][i], np.corrcoef(*pair)[0, 1], atol=1e-5)
    np.testing.assert_allclose(stain_correlation(first, first, None)["h"], 1.0, atol=1e-5)


def test_constant_stain_is_zero_and_an_empty_mask_nan():
    image = _image() / 255.0
    flat = np.full(image.shape, 0.83)
    whole = np.ones(image.shape[:3], bool)
    for scores in stain_correlation(image, flat, whole).values():
        assert (np.asarray(scores) == 0).all()
    for scores in stain_correlation(image, image, ~whole).values():
        assert np.isnan(scores).all()
