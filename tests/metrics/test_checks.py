"""Arguments outside their domains: an InputError that names them, or NaN where only jax can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import color, evaluation, information, intervals, nulls, similarity

KEY = jax.random.key(0)
A, B = np.random.default_rng(0).random((2, 2, 16, 16, 3), dtype=np.float32)
X, Y = A[..., 0], B[..., 0]
MASK = np.ones(X.shape, bool)
TRAIN = nulls.Training(A, A, MASK)
BINNED = {
    "mutual_information": {},
    "normalized_mutual_information": {},
    "corrected_mutual_information": {"mask": MASK, "key": KEY},
    "joint_histogram": {},
}
BAD_BINNED = {
    "bins": ({"bins": 0}, {"bins": 1}, {"bins": -3}, {"bins": 2.5}, {"bins": True}),
    "data_range": tuple(
        {"data_range": each}
        for each in ((1, 0), (0.5, 0.5), (0, np.inf), (0, np.nan), (1, 1 + 1e-12), 1.0, (0, 1, 2))
    ),
    "method": ({"method": "fast"},),
    "mask": ({"mask": MASK[:1]}, {"mask": MASK.astype(int)}, {"mask": MASK[..., None]}),
}


@pytest.mark.parametrize("name", BINNED)
@pytest.mark.parametrize("argument", BAD_BINNED)
def test_of_histograms(name, argument):
    function = getattr(information, name)
    for bad in BAD_BINNED[argument]:
        with pytest.raises(InputError) as caught:
            function(X, Y, **{"bins": 8, **BINNED[name], **bad})
        assert caught.value.path == name and caught.value.field == argument
    for images, field in (((X, Y[:1]), "y"), ((A, B), "x"), ((X[:, :0], Y[:, :0]), "x")):
        with pytest.raises(InputError) as caught:
            function(*images, **{"bins": 8, **BINNED[name]})
        assert caught.value.field == field


RANGES = (0.0, -1.0, np.nan, np.inf, np.ones(2))
BAD = [
    *((similarity.structural_similarity, {"data_range": each}, "data_range") for each in RANGES),
    *((similarity.psnr, {"data_range": each}, "data_range") for each in RANGES),
    *((similarity.ms_ssim, {"data_range": each, "scales": 1}, "data_range") for each in RANGES),
    *(
        (function, {"win_size": each}, "win_size")
        for function in (similarity.structural_similarity, similarity.structural_similarity_map)
        for each in (0, 1, -7, 4, 17, 7.0)
    ),
    *((similarity.ms_ssim, {"scales": each}, "scales") for each in (0, 6, -1, 1.5)),
    (similarity.ms_ssim, {"scales": 5}, "im1"),
    *(
        (function, {"mask": MASK[:1], **more}, "mask")
        for function, more in (
            (similarity.structural_similarity, {}),
            (similarity.ms_ssim, {"scales": 1}),
            (similarity.psnr, {}),
            (similarity.mae, {}),
        )
    ),
    *(
        (function, {"im2": B[:1], **more}, "im2")
        for function, more in (
            (similarity.structural_similarity, {}),
            (similarity.structural_similarity_map, {}),
            (similarity.ms_ssim, {"scales": 1}),
            (similarity.psnr, {}),
            (similarity.mae, {}),
        )
    ),
]


@pytest.mark.parametrize(("function", "bad", "field"), BAD)
def test_of_similarity(function, bad, field):
    given = {"im1": A, "im2": B, **({} if function is similarity.mae else {"data_range": 1.0})}
    with pytest.raises(InputError) as caught:
        function(**{**given, **bad})
    assert caught.value.field == field


CALLS = {
    "rgb": lambda: color.luminance(X),
    "rgb ": lambda: color.rgb_to_hed(np.uint8(A * 255)),
    "real": lambda: color.stain_correlation(A, np.uint8(B * 255), None),
    "fake": lambda: color.stain_correlation(A[..., :2], B[..., :2], None),
    "mask": lambda: color.correlation(X, Y, MASK[..., None]),
    "y": lambda: color.correlation(X, Y[:1], MASK),
    "mask ": lambda: evaluation.score_batch(A, B, MASK[:1]),
    "mask  ": lambda: evaluation.score_batch(A, B, MASK, MASK[:1]),
    "batch_size": lambda: evaluation.score_images(A, B, MASK, MASK, batch_size=0),
    "fake ": lambda: evaluation.score_images(A[:0], B[:0], MASK[:0], MASK[:0]),
    "image": lambda: evaluation.unit_float(np.uint16(A)),
    "values": lambda: intervals.bootstrap_mean(np.ones(3), "ab", seed=0),
    "draws": lambda: intervals.bootstrap_mean(np.ones(2), "ab", seed=0, draws=0),
    "tile_px": lambda: nulls.null_predictions(TRAIN, A, MASK, tile_px=0),
    "msi": lambda: nulls.null_predictions(TRAIN, A[..., :2], MASK),
    "train.msi": lambda: nulls.null_predictions(nulls.Training(A[:0], A[:0], MASK[:0]), A, MASK),
    "shuffles": lambda: information.corrected_mutual_information(
        X, Y, mask=MASK, key=KEY, shuffles=0
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_of_the_others(name):
    with pytest.raises(InputError) as caught:
        CALLS[name]()
    assert caught.value.field == name.strip()


def _scores(x, mask):
    """Every masked score of a grey and colour pair, by name; the second image is sound."""
    rgb = jnp.repeat(jnp.asarray(x)[..., None], 3, axis=-1)
    return {
        "mi": information.mutual_information(x, Y, bins=8, mask=mask),
        "nmi": information.normalized_mutual_information(x, Y, bins=8, mask=mask),
        "corrected": information.corrected_mutual_information(x, Y, bins=8, mask=mask, key=KEY),
        "ssim": similarity.structural_similarity(rgb, B, data_range=1.0, mask=mask),
        "ms_ssim": similarity.ms_ssim(rgb, B, data_range=1.0, mask=mask, scales=1),
        "psnr": similarity.psnr(rgb, B, data_range=1.0, mask=mask),
        "mae": similarity.mae(rgb, B, mask=mask),
        "r2": similarity.r2(rgb, B, mask=mask),
        **color.stain_correlation(rgb, B, mask),
    }


def test_nan_in_the_mask_and_an_empty_mask_are_nan_and_nothing_else_is():
    """The first image of the batch has the fault, the second shows that it stays there."""
    poisoned, empty = X.copy(), MASK.copy()
    poisoned[0, 8, 8], empty[0] = np.nan, False
    for name, score in {**_scores(poisoned, MASK)}.items():
        assert np.isnan(score[0]) and np.isfinite(score[1]), name
    for name, score in _scores(X, empty).items():
        assert np.isnan(score[0]) and np.isfinite(score[1]), name
    outside = MASK.copy()
    outside[:, :, 8:] = False
    poisoned = X.copy()
    poisoned[0, 0, 15] = np.nan
    for name, score in _scores(poisoned, outside).items():
        assert np.isfinite(score).all(), name


@pytest.mark.parametrize("found", [0.0, -1.0, np.nan])
def test_a_traced_range_outside_its_domain_is_nan(found):
    for function in (similarity.structural_similarity, similarity.psnr):
        score = jax.jit(lambda a, b, r, f=function: f(a, b, data_range=r))
        assert np.isnan(score(A, B, found)).all()
        np.testing.assert_allclose(score(A, B, 1.0), function(A, B, data_range=1.0), rtol=1e-5)


def test_nothing_within_the_bins_is_nan():
    assert np.isnan(information.mutual_information(X + 5, Y, bins=8)).all()
    assert np.isnan(information.normalized_mutual_information(X + 5, Y, bins=8)).all()
