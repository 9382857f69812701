"""What all ions explain of the slide: held to plain NumPy, to its own gradients, and to a truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.registration import deformable, explained, measures, similarity, transforms
from msi2he_jax.registration.automatic import draw_pair, make_pair, register_affine
from msi2he_jax.registration.deformable import register_deformable
from msi2he_jax.registration.slide import Slide
from msi2he_jax.registration.transforms import Displacement, Transform
from tests.registration.ion_sections import (
    MATRIX,
    MSI_UM,
    SHAPE,
    SIZES,
    SLIDE_UM,
    error_px,
    pair_of,
    section,
)


@pytest.fixture(scope="module")
def drawn():
    pair, _ = pair_of()
    return {name: jnp.asarray(value) for name, value in draw_pair(pair, 32).items()}


@pytest.fixture(scope="module")
def ready(drawn):
    return explained.prepare(drawn)


def unmoved(drawn):
    n = drawn["mask"].shape[-1]
    values, mask = measures.unmultiplied(drawn["fixed"].reshape(-1, n * n))
    return values.reshape(-1, n, n), mask.reshape(n, n)


def test_columns_give_the_prediction_of_ridge_regression(drawn, ready):
    columns = np.asarray(ready["columns"], np.float64).reshape(len(ready["columns"]), -1)
    weight = np.asarray(ready["weight"], np.float64).ravel()
    y = np.random.default_rng(1).normal(size=columns.shape[1])
    known = explained._standardized(drawn["values"], ready["weight"])
    near = explained._local_mean(
        known, ready["weight"], explained.NEIGHBOURS_PX * float(drawn["msi_px"])
    )
    design = np.concatenate(
        [
            np.ones((1, known[0].size)),
            *(np.asarray(each, np.float64).reshape(len(each), -1) for each in (known, near)),
        ]
    )
    gram = (design * weight) @ design.T + explained.RIDGE * weight.sum() * np.eye(len(design))
    expected = design.T @ np.linalg.solve(gram, (design * weight) @ y)
    found = columns.T @ ((columns * weight) @ y / weight.sum())
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["classes_explained", "detail_explained"])
def test_gradients_equal_finite_differences(drawn, name):
    with jax.enable_x64(True):
        known = {key: jnp.asarray(value, jnp.float64) for key, value in drawn.items()}
        fitted, n = explained.prepare(known), known["mask"].shape[-1]
        slide = jnp.concatenate([known["fixed"], known["fixed_known"][None]])

        def score(pose):
            where = measures.grid(n) @ (jnp.eye(2) + pose[:4].reshape(2, 2)).T + pose[None, 4:]
            planes = measures.bilinear(slide, measures.to_index(where, n))
            values, mask = measures.unmultiplied(planes[:-1])
            shape = (values.reshape(-1, n, n), mask.reshape(n, n), planes[-1].reshape(n, n))
            return getattr(explained, name)(fitted, *shape)

        pose = jnp.asarray([0.031, -0.017, 0.023, -0.012, 0.0137, -0.0211])
        found = np.asarray(jax.grad(score)(pose))
        step = 1e-6 * np.eye(6)
        expected = [(score(pose + e) - score(pose - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(found).max())


@pytest.mark.parametrize("name", ["classes_explained", "detail_explained"])
def test_nothing_is_explained_where_there_is_no_slide(drawn, ready, name):
    nowhere = jnp.zeros_like(drawn["mask"])
    score = getattr(explained, name)(ready, *unmoved(drawn), nowhere)
    np.testing.assert_allclose(score, 0.0, atol=1e-5)


@pytest.mark.parametrize("name", ["classes_explained", "detail_explained"])
def test_turning_the_slide_away_explains_less(name):
    pair, _ = pair_of(matrix=transforms.rotation(0))
    known = {key: jnp.asarray(value) for key, value in draw_pair(pair, 48).items()}
    fitted, slide = explained.prepare(known), unmoved(known)
    here, away = (
        getattr(explained, name)(fitted, *(jnp.rot90(v, k, (-2, -1)) for v in slide), seen)
        for k, seen in ((0, known["fixed_known"]), (2, known["fixed_known"]))
    )
    assert here > away + 0.02


def test_shifts_score_as_if_shifted_by_hand(drawn):
    planes, slide = explained.class_planes(drawn)
    n = planes.shape[-1]
    found = np.asarray(explained.explained_at_shifts(planes, slide))
    for dy, dx in ((0, 0), (3, -2), (-5, 1)):
        rows, columns = np.arange(n) + dy, np.arange(n) + dx
        inside = np.outer((rows >= 0) & (rows < n), (columns >= 0) & (columns < n))
        there = np.asarray(slide)[:, np.clip(rows, 0, n - 1)][:, :, np.clip(columns, 0, n - 1)]
        products = np.einsum("kij,cij->kc", np.asarray(planes[:-1]), there * inside)
        expected = np.sum(products**2) / float(planes[-1].sum()) ** 2
        np.testing.assert_allclose(found[n // 2 + dy, n // 2 + dx], expected, rtol=2e-3)


def test_classes_are_of_the_whole_slide_whatever_the_pose(ready):
    shares = np.asarray(ready["mixture"]["shares"])
    assert len(shares) == explained.CLASSES
    np.testing.assert_allclose(shares.sum(), 1.0, atol=0.02)


def test_rounds_of_the_mixture_raise_its_likelihood(drawn):
    values, mask = unmoved(drawn)
    features = explained._features(values.reshape(len(values), -1), mask.ravel())
    center, scale = explained._moments(features, drawn["fixed_known"].ravel())
    features = (features - center[:, None]) / scale[:, None]
    weight = drawn["fixed_known"].ravel()
    start = explained._nearest(features, explained._apart(features, weight))
    mixture, likelihood = explained._maximize(features, weight, start), []
    for _ in range(6):
        logs = explained._log_densities(mixture, features)
        total = jnp.sum(weight * jax.scipy.special.logsumexp(logs, axis=0))
        likelihood.append(float(total / weight.sum()))
        mixture = explained._maximize(features, weight, jax.nn.softmax(logs, axis=0))
    # the floor under the covariances is not part of the likelihood that is raised
    assert np.all(np.diff(likelihood) > -2e-2) and likelihood[-1] > likelihood[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_any_pose_is_found_from_all_ions(seed):
    ions, stains, tissue, inside = section(seed)
    found = register_affine(ions, stains, None, tissue, metric="explained", **SIZES)
    assert error_px(Transform(found.matrix), inside) < 0.25


def shown(stains, tissue, kind):
    """The slide as another staining or microscope shows it, `[H, W, 3]` uint8."""
    first, second = np.moveaxis(stains, -1, 0)
    if kind == "fluorescence":  # dark where there is nothing
        return np.clip(40 + 90 * first * tissue, 0, 255)[..., None].repeat(3, -1).astype(np.uint8)
    absorbed = {
        "H&E": np.multiply.outer(first, (0.65, 0.70, 0.29))
        + second[..., None] * (0.07, 0.99, 0.11),
        "DAB": np.multiply.outer(first, (0.27, 0.57, 0.78))
        + second[..., None] * (0.65, 0.70, 0.29),
        "toluidine blue": np.multiply.outer(first, (0.85, 0.45, 0.10)),
        "grey": np.multiply.outer(first, (0.6, 0.6, 0.6)),
    }[kind]
    return np.clip(255 * 10 ** (-0.5 * absorbed), 0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["H&E", "DAB", "toluidine blue", "grey", "fluorescence"])
def test_no_stain_need_be_known(kind):
    ions, stains, tissue, inside = section()
    pixels = shown(stains, tissue, kind)
    slide = Slide(pixels, None, tissue, SLIDE_UM, np.zeros(2))
    found = register_affine(ions, slide.channels, None, tissue, metric="explained", **SIZES)
    assert error_px(Transform(found.matrix), inside) < 0.25


@pytest.mark.slow
def test_the_deformable_step_comes_nearer():
    axes = [(np.arange(n) + 0.5) * MSI_UM for n in SHAPE]
    waves = np.sin(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[..., ::-1] / 350.0)
    truth = Displacement(*axes, 90.0 * waves)
    pair, inside = pair_of(displacement=truth)
    found = register_deformable(pair, MATRIX, metric="explained")
    before = error_px(Transform(MATRIX), inside, Transform(MATRIX, truth))
    after = error_px(Transform(MATRIX, found.displacement), inside, Transform(MATRIX, truth))
    assert after < before / 2
    assert found.det_min > 0


def held_out_gain(pair):
    metric = similarity.METRICS["explained"]
    weight = np.float32(metric.stiffness)
    return float(
        deformable._held_out_gains([(pair, MATRIX)], deformable.LEVELS[0], weight, metric)[0]
    )


@pytest.mark.slow
def test_bending_gains_on_pixels_held_out_where_there_is_something_to_bend():
    axes = [(np.arange(n) + 0.5) * MSI_UM for n in SHAPE]
    waves = np.sin(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[..., ::-1] / 350.0)
    bent, _ = pair_of(displacement=Displacement(*axes, 40.0 * waves))
    _, stains, tissue, _ = section()
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 15)).astype(np.float32)
    gain = held_out_gain(make_pair(noise, stains, None, tissue, **SIZES))
    assert abs(gain) < 0.1 and held_out_gain(bent) > 0.4  # 0.03 nats is what chance does to noise


@pytest.mark.slow
@pytest.mark.parametrize("gain", [-0.01, 0.01])
def test_the_affine_stays_unless_the_score_of_pixels_held_out_rises(monkeypatch, gain):
    monkeypatch.setattr(deformable, "_held_out_gains", lambda pairs, *_: np.full(len(pairs), gain))
    found = register_deformable(pair_of()[0], MATRIX, metric="explained")
    assert found.kept_affine == (gain < 0)
    assert found.kept_affine == (found.displacement is None)
