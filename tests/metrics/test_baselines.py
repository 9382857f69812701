import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import baselines, nulls


def _split(count, seed, mixture):
    random = np.random.default_rng(seed)
    msi = random.random((count, 12, 10, len(mixture)), dtype=np.float32)
    image = np.clip(msi @ mixture, 0, 1).astype(np.float32)
    return msi, image


@pytest.fixture
def mixture():
    return np.random.default_rng(0).dirichlet(np.ones(4), 3).T.astype(np.float32)


def test_a_straight_line_is_found(mixture):
    msi, image = _split(4, 1, mixture)
    train = nulls.Training(msi, image, np.ones(msi.shape[:3], bool))
    inside = np.ones(msi.shape[:3], bool)
    unseen, expected = _split(2, 2, mixture)
    found = baselines.linear_predictions(train, list("aabc"), inside, unseen)
    assert tuple(found) == tuple(baselines.LINEAR)
    for images in found.values():
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, expected, atol=1e-3)


def test_neighbours_help_where_they_know_more(mixture):
    """The image is the mean of the neighbours: a pixel's own channels do not tell."""
    from scipy.ndimage import uniform_filter

    msi, _ = _split(4, 1, mixture)
    image = uniform_filter(msi, (1, 3, 3, 1), mode="constant") @ mixture
    inside = np.ones(msi.shape[:3], bool)
    train = nulls.Training(msi, image, inside)
    found = baselines.linear_predictions(train, list("abcd"), inside, msi)
    errors = {name: np.abs(images - image).mean() for name, images in found.items()}
    assert max(errors["ridge_3x3"], errors["pls_3x3"]) < 0.1 * min(errors["ridge"], errors["pls"])


def test_padding_teaches_nothing(mixture):
    msi, image = _split(3, 1, mixture)
    inside = np.zeros(msi.shape[:3], bool)
    inside[:, :8, :7] = True
    spoilt = np.where(inside[..., None], image, 0.3).astype(np.float32)
    train = nulls.Training(msi, spoilt, inside)
    found = baselines.linear_predictions(train, list("abc"), inside, msi)
    np.testing.assert_allclose(found["ridge"], image, atol=1e-3)


def test_other_channels_are_refused(mixture):
    msi, image = _split(1, 1, mixture)
    inside = np.ones(msi.shape[:3], bool)
    with pytest.raises(InputError, match="has 3 channels"):
        baselines.linear_predictions(
            nulls.Training(msi, image, inside), ["a"], inside, msi[..., :3]
        )
