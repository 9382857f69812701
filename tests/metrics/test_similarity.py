import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as reference

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import similarity
from msi2he_jax.metrics.similarity import (
    mae,
    ms_ssim,
    psnr,
    structural_similarity,
    structural_similarity_map,
    window_mask,
)

GAUSSIAN = {"gaussian_weights": True, "use_sample_covariance": False}


def _pair(kind, shape, seed=0):
    random = np.random.default_rng(seed)
    first = random.random(shape).astype(np.float32)
    second = np.clip(first + random.normal(0, 0.2, shape), 0, 1).astype(np.float32)
    if kind == "flat":
        first[:], second[:] = 239 / 255, 0.97
    if kind == "margin":  # flat where E[x^2] - E[x]^2 in float32 is worst
        first[:, :, 20:], second[:, :, 20:] = 239 / 255, 0.97
        first[:, :12], second[:, :10] = 0.01, 0.0
    return first, second


def _reference_map(first, second, data_range, **options):
    options |= {"channel_axis": -1, "full": True, "data_range": data_range}
    pairs = zip(first.astype(np.float64), second.astype(np.float64), strict=True)
    scores, maps = zip(*(reference(x, y, **options) for x, y in pairs), strict=True)
    return np.array(scores), np.stack(maps)


@pytest.mark.parametrize("kind", ["noise", "flat", "margin"])
@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("shape", [(2, 80, 41, 3), (1, 33, 70, 1)])
def test_whole_map_equals_scikit_image(kind, gaussian, shape):
    first, second = _pair(kind, shape)
    score, expected = _reference_map(first, second, 1.0, **(GAUSSIAN if gaussian else {}))
    found = structural_similarity_map(first, second, data_range=1.0, gaussian=gaussian)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = structural_similarity(first, second, data_range=1.0, gaussian=gaussian)
    np.testing.assert_allclose(found, score, atol=1e-5)


@settings(max_examples=5, deadline=None)
@given(
    height=st.integers(13, 40),
    width=st.integers(13, 40),
    win_size=st.sampled_from([3, 5, 9, 13]),
    data_range=st.sampled_from([0.5, 2.0, 255.0]),
    seed=st.integers(0, 99),
)
def test_map_equals_scikit_image_for_any_setting(height, width, win_size, data_range, seed):
    first, second = (x * data_range for x in _pair("noise", (1, height, width, 2), seed))
    _, expected = _reference_map(first, second, data_range, win_size=win_size)
    found = structural_similarity_map(first, second, data_range=data_range, win_size=win_size)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_backends_barriers_change_nothing(monkeypatch):
    """The border between the passes, which depends on the backend, is no part of the function."""
    first, second = _pair("noise", (2, 80, 41, 3))
    on_cpu = structural_similarity_map(first, second, data_range=1.0)
    monkeypatch.setattr(similarity.jax, "default_backend", lambda: "gpu")
    window = np.ones(7) / 7
    whole = similarity._valid_map(jnp.array(first), jnp.array(second), window, 1.0, False)
    np.testing.assert_allclose(whole, on_cpu[:, 3:-3, 3:-3], atol=1e-6)
    total = lambda x: similarity._valid_map(x, second, window, 1.0, False).sum()  # noqa: E731
    assert np.isfinite(jax.grad(total)(jnp.array(first))).all()


def test_lower_bound():
    """Images of opposite sign whose every window has mean zero reach almost -1."""
    stripes = np.broadcast_to(np.tile([1.0, 0.0, -1.0], 6), (18, 18))
    image = stripes[None, ..., None].astype(np.float32)
    score = structural_similarity(image, -image, data_range=2.0, win_size=9)
    assert -1.0 <= score[0] < -0.99
    expected = reference(stripes, -stripes, data_range=2.0, win_size=9)
    np.testing.assert_allclose(score[0], expected, atol=1e-5)


@pytest.mark.parametrize("gaussian", [False, True])
def test_gradient_is_finite_on_flat_images(gaussian):
    flat = jnp.full((1, 20, 20, 1), 0.9)

    def score(image):
        return structural_similarity(image, flat, data_range=1.0, gaussian=gaussian).sum()

    assert np.isfinite(jax.grad(score)(flat)).all()
    assert np.abs(jax.grad(score)(flat + 0.3)).max() > 0


@pytest.mark.parametrize("gaussian", [False, True])
def test_an_image_is_like_itself(gaussian):
    image, _ = _pair("margin", (1, 32, 32, 3))
    assert structural_similarity(image, image, data_range=1.0, gaussian=gaussian)[0] == 1.0


def test_batched_and_single_agree():
    first, second = _pair("noise", (3, 24, 24, 3))
    batch = structural_similarity(first, second, data_range=1.0)
    single = [
        structural_similarity(first[i : i + 1], second[i : i + 1], data_range=1.0)[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(batch, single, atol=1e-6)


def test_mask_equals_cropping():
    first, second = _pair("noise", (1, 40, 40, 3))
    mask = np.zeros((1, 40, 40), bool)
    mask[:, 5:30, 8:36] = True
    spoilt = np.where(mask[..., None], second, 0.3).astype(np.float32)
    cropped = (x[:, 5:30, 8:36] for x in (first, second))
    expected = structural_similarity(*cropped, data_range=1.0)
    for image in (second, spoilt):
        masked = structural_similarity(first, image, data_range=1.0, mask=mask)
        np.testing.assert_allclose(masked, expected, atol=1e-6)
    for score in (lambda x, y, **o: psnr(x, y, data_range=1.0, **o), mae):
        expected = score(first[:, 5:30, 8:36], second[:, 5:30, 8:36])
        np.testing.assert_allclose(score(first, spoilt, mask=mask), expected, rtol=1e-5)


def test_thin_and_empty_masks():
    first, second = _pair("noise", (2, 32, 32, 1))
    mask = np.zeros((2, 32, 32), bool)
    mask[0, 10:13] = True
    assert (np.asarray(window_mask(jnp.array(mask), 7))[0] == mask[0]).all()
    score = structural_similarity(first, second, data_range=1.0, mask=mask)
    expected = structural_similarity_map(first, second, data_range=1.0)[0, 10:13].mean()
    np.testing.assert_allclose(score[0], expected, atol=1e-6)
    assert np.isnan(score[1])


def test_psnr_and_mae():
    first, second = _pair("noise", (2, 16, 16, 3))
    expected = [
        peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(psnr(first, second, data_range=1.0), expected, rtol=1e-5)
    expected = np.abs(first - second).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mae(first, second), expected, rtol=1e-5)
    assert np.isposinf(psnr(first, first, data_range=1.0)).all()


def _reference_ms_ssim(first, second, scales):
    """Wang's definition, on scikit-image's filters in float64."""
    from scipy.ndimage import gaussian_filter

    weights = np.array(similarity.MS_SSIM_WEIGHTS[:scales])
    score = 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        blur = lambda x: gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]  # noqa: E731
        mx, my = blur(first), blur(second)
        vx, vy = blur(first**2) - mx**2, blur(second**2) - my**2
        value = (2 * (blur(first * second) - mx * my) + 9e-4) / (vx + vy + 9e-4)
        if scale == scales - 1:
            value = value * (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        score *= value.mean() ** weight
        first, second = (
            x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))
            for x in (first, second)
        )
    return score


def test_ms_ssim():
    first, second = _pair("noise", (1, 48, 64, 1))
    found = ms_ssim(first, second, data_range=1.0, scales=3)
    expected = _reference_ms_ssim(*(x[0, ..., 0].astype(np.float64) for x in (first, second)), 3)
    np.testing.assert_allclose(found, [expected], atol=1e-5)
    whole = np.ones((1, 48, 64), bool)
    masked = ms_ssim(first, second, data_range=1.0, scales=3, mask=whole)
    np.testing.assert_allclose(masked, found, atol=1e-6)
    np.testing.assert_allclose(ms_ssim(first, first, data_range=1.0, scales=3), 1.0, atol=1e-6)
    assert np.isnan(ms_ssim(first, second, data_range=1.0, scales=3, mask=~whole))


def test_what_does_not_fit_is_refused():
    image = np.zeros((1, 12, 12, 3), np.float32)
    with pytest.raises(InputError, match="im2: has shape"):
        structural_similarity(image, image[:, 1:], data_range=1.0)
    with pytest.raises(InputError, match="odd"):
        structural_similarity(image, image, data_range=1.0, win_size=8)
    with pytest.raises(InputError, match="win_size"):
        structural_similarity(image, image, data_range=1.0, win_size=13)
    with pytest.raises(InputError, match="176"):
        ms_ssim(image, image, data_range=1.0)
    with pytest.raises(TypeError, match="data_range"):
        structural_similarity(image, image)


def test_r2_equals_scikit_learn_inside_the_mask():
    """Beside the mean colour: channels share one denominator, hence variance weighting."""
    from sklearn.metrics import r2_score

    random = np.random.default_rng(0)
    real = random.random((2, 8, 9, 3), dtype=np.float32)
    fake = (real + random.normal(0, 0.1, real.shape)).astype(np.float32)
    mask = random.random((2, 8, 9)) < 0.6
    for chosen, found in (
        (mask, similarity.r2(fake, real, mask=mask)),
        (mask | True, similarity.r2(fake, real)),
    ):
        for one in range(2):
            pixels = real[one][chosen[one]], fake[one][chosen[one]]
            expected = r2_score(*pixels, multioutput="variance_weighted")
            assert float(found[one]) == pytest.approx(expected, abs=1e-5)
    assert np.isnan(similarity.r2(fake, np.full_like(real, 0.5))).all()
