import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import mutual_info_score

from msi2he_jax.registration import measures, transforms

RNG = np.random.default_rng(0)


def members(values, mask, bins):
    return measures.memberships(jnp.asarray(values), jnp.asarray(mask), bins)


def test_memberships_share_each_pixel_out():
    found = np.asarray(members(RNG.random((2, 50)), RNG.random(50), 8))
    assert found.shape == (2, 9, 50)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_information_matches_sklearn_where_bins_are_hit_exactly():
    bins, x = 8, RNG.integers(0, 8, 400)
    y = np.where(RNG.random(400) < 0.6, (3 * x) % 8, RNG.integers(0, 8, 400))
    pair = [members(v[None] / (bins - 1.0), np.ones(400), bins) for v in (x, y)]
    found = measures.mutual_information(*pair, jnp.ones(400))
    np.testing.assert_allclose(found, mutual_info_score(x, y), rtol=1e-4)


def test_weight_leaves_pixels_out():
    x, weight = RNG.random((1, 200)), np.r_[np.ones(120), np.zeros(80)]
    y = np.concatenate([1 - x[:, :120], RNG.random((1, 80))], axis=1)
    whole = [members(v, np.ones(200), 6) for v in (x, y)]
    part = [m[..., :120] for m in whole]
    np.testing.assert_allclose(
        measures.mutual_information(*whole, jnp.asarray(weight)),
        measures.mutual_information(*part, jnp.ones(120)),
        rtol=1e-5,
    )


def test_correlation_matches_numpy_and_is_finite_on_flat_images():
    x, y = RNG.random(100), RNG.random(100)
    found = measures.normalized_cross_correlation(x[None], y[None], jnp.ones(100))
    np.testing.assert_allclose(found, np.corrcoef(x, y)[0, 1], rtol=1e-4)
    flat = jax.grad(lambda v: measures.normalized_cross_correlation(v, y[None], jnp.ones(100)))
    assert np.all(np.isfinite(flat(jnp.ones((1, 100)))))


def test_every_shift_scores_as_if_shifted_by_hand():
    n, bins = 16, 4
    image, mask = RNG.random((1, n, n)), np.zeros((n, n))
    mask[4:11, 3:12] = 1.0
    y = members(image.reshape(1, -1), mask.ravel(), bins).reshape(1, bins + 1, n, n)
    moving, moving_mask = (np.roll(v, (2, -3), (-2, -1)) for v in (image, mask))
    x = members(moving.reshape(1, -1), moving_mask.ravel(), bins).reshape(1, bins + 1, n, n)
    scores = np.asarray(measures.information_of_shifts(x, y))
    best = np.unravel_index(scores.argmax(), scores.shape)
    assert tuple(np.array(best) - n // 2) == (-2, 3)
    by_hand = measures.mutual_information(
        y.reshape(1, bins + 1, -1), y.reshape(1, bins + 1, -1), jnp.ones(n * n)
    )
    np.testing.assert_allclose(scores.max(), by_hand, rtol=2e-3)


def test_bilinear_matches_the_host_and_fades_to_zero():
    plane = RNG.random((1, 9, 7)).astype(np.float32)
    index = RNG.uniform(0, [8, 6], (40, 2)).astype(np.float32)
    found = measures.bilinear(jnp.asarray(plane), jnp.asarray(index))[0]
    field = transforms.Displacement(
        np.arange(9.0), np.arange(7.0), np.repeat(plane[0, ..., None], 2, axis=-1)
    )
    np.testing.assert_allclose(found, field(index)[:, 0], atol=1e-5)
    outside = measures.bilinear(jnp.asarray(plane), jnp.array([[-1.0, 3.0], [50.0, 50.0]]))
    np.testing.assert_allclose(outside, 0.0, atol=1e-6)


def test_information_has_a_true_gradient():
    target = members(RNG.random((1, 64)), np.ones(64), 6)
    x = jnp.asarray(RNG.uniform(0.02, 0.98, (1, 64)))

    def score(v):
        return measures.mutual_information(
            measures.memberships(v, jnp.ones(64), 6), target, jnp.ones(64)
        )

    step = 1e-3 * RNG.normal(size=x.shape)
    slope = (score(x + step) - score(x - step)) / 2
    np.testing.assert_allclose(jnp.sum(jax.grad(score)(x) * step), slope, rtol=0.1, atol=2e-5)


def plain_gradient_fields(x, y, weight, edge):
    """The formula, pixel by pixel."""
    total = 0.0
    fields = []
    for image in (x, y):
        g = np.stack(
            [np.gradient(np.pad(image, 1, mode="edge"), axis=k)[1:-1, 1:-1] for k in (0, 1)]
        )
        size = np.sum(g**2, axis=0)
        level = edge * np.sum(weight * np.sqrt(size)) / weight.sum()
        fields.append((g, size + level**2))
    (a, a_size), (b, b_size) = fields
    for i, j in np.ndindex(x.shape):
        total += weight[i, j] * (a[:, i, j] @ b[:, i, j]) ** 2 / (a_size[i, j] * b_size[i, j])
    return total / weight.sum()


def test_gradient_fields_match_the_plain_formula():
    x, y, weight = RNG.random((3, 20, 24))
    found = measures.normalized_gradient_fields(x[None], y[None], jnp.asarray(weight), edge=0.7)
    np.testing.assert_allclose(found, plain_gradient_fields(x, y, weight, 0.7), rtol=1e-4)


def test_gradient_fields_do_not_mind_contrast_and_mean_over_channels():
    x, y, ones = RNG.random((1, 20, 24)), RNG.random((1, 20, 24)), jnp.ones((20, 24))
    plain = measures.normalized_gradient_fields(x, y, ones)
    np.testing.assert_allclose(
        measures.normalized_gradient_fields(1 - 3 * x, y, ones), plain, rtol=1e-4
    )
    itself = measures.normalized_gradient_fields(x, x, ones)
    both = measures.normalized_gradient_fields(np.concatenate([x, y]), x, ones)
    np.testing.assert_allclose(both, (itself + plain) / 2, rtol=1e-4)
    assert itself > 2 * plain
    slope = jax.grad(lambda v: measures.normalized_gradient_fields(v, y, ones))
    assert np.isfinite(slope(jnp.zeros((1, 20, 24)))).all()


def test_local_correlation_is_correlation_under_a_window_as_wide_as_the_image():
    x, y, weight = RNG.random((3, 32, 32))
    options = {"sigma_px": 1e4}
    found = measures.local_correlation(x[None], y[None], jnp.asarray(weight), **options)
    cov = np.cov(x.ravel(), y.ravel(), aweights=weight.ravel(), ddof=0)
    cov[0, 0] += measures.FLAT
    cov[1, 1] += measures.FLAT
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_local_correlation_forgives_uneven_light_and_ignores_the_unknown():
    y, x = np.mgrid[:48, :48] / 48.0
    texture = 0.3 + 0.2 * np.sin(40 * x) * np.cos(30 * y)
    lit = texture * (0.5 + 0.5 * x) + 0.3 * y
    ones = np.ones((48, 48))
    near = measures.local_correlation(texture[None], lit[None], ones, sigma_px=3.0)
    assert near > 0.7 > measures.local_correlation(texture[None], lit[None], ones, sigma_px=1e4)
    spoilt = np.where(x < 0.4, 1.0 - texture, lit)
    known = (x >= 0.4).astype(float)
    clean = measures.local_correlation(texture[None], lit[None], known, sigma_px=3.0)
    found = measures.local_correlation(texture[None], spoilt[None], known, sigma_px=3.0)
    np.testing.assert_allclose(found, clean, atol=1e-6)
