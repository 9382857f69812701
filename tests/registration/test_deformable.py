import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.registration import deformable, transforms, velocity
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.similarity import METRICS
from msi2he_jax.registration.transforms import Displacement

SLIDE_UM, MSI_UM, SHAPE = 25.0, 100.0, (48, 50)
MATRIX = transforms.rotation(25, mirrored=True, center_from=(2400, 2500), center_to=(2000, 2000))


def slide(seed=0, size=160):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    mask = np.hypot(y, 1.2 * x) < 0.4
    texture = ndimage.gaussian_filter(rng.normal(size=(size, size)), 4)
    return np.where(mask, 1 + 6 * texture, 0.02), mask


def wave(amplitude_um=220.0, seed=1):
    """A smooth displacement on MSI positions."""
    y, x = ((np.arange(n) + 0.5) * MSI_UM for n in SHAPE)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1) * (2 * np.pi / 3500.0)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
    return Displacement(y, x, amplitude_um * np.sin(grid[..., ::-1] + phase))


def planted(displacement, *, invert=False, shape=SHAPE):
    """What MSI would see of the slide through the affine and a displacement, as a checked pair."""
    density, mask = slide()
    options = {
        "source_um_per_px": SLIDE_UM,
        "matrix_out_to_source": MATRIX,
        "out_shape": shape,
        "out_um_per_px": MSI_UM,
        "displacement": displacement,
    }
    seen = transforms.warp_image(density, fill=0.02, **options)
    tissue = transforms.warp_image(mask, **options)
    seen = np.where(tissue, 3.0 - seen if invert else seen, 0.02)
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
    return make_pair(seen, density, tissue, mask, **sizes), tissue


def errors(tissue, truth, found):
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    there = transforms.apply_transform(MATRIX, truth, points)
    before = np.linalg.norm(transforms.apply_affine(MATRIX, points) - there, axis=1)
    after = np.linalg.norm(transforms.apply_transform(MATRIX, found, points) - there, axis=1)
    return np.median(before), np.median(after)


@pytest.mark.parametrize(("metric", "invert"), [("ncc", False), ("mi", True)])
def test_a_planted_warp_is_recovered_without_folding(metric, invert):
    truth = wave()
    pair, tissue = planted(truth, invert=invert)
    found = deformable.register_deformable(pair, MATRIX, metric=metric)
    before, after = errors(tissue, truth, found.displacement)
    assert before > 60 and after < before / 3
    assert 0 < found.det_min <= 1 <= found.det_max
    assert found.inverse_consistency_um < 0.02 * MSI_UM
    assert found.score > found.affine_score
    assert not found.kept_affine


def test_the_inverse_takes_histology_back_to_msi():
    pair, tissue = planted(wave())
    found = deformable.register_deformable(pair, MATRIX, metric="ncc")
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    there = transforms.apply_transform(MATRIX, found.displacement, points)
    q = transforms.apply_affine(transforms.invert(MATRIX), there)
    gap = np.linalg.norm(q + found.inverse(q) - points, axis=1)
    assert gap.mean() == pytest.approx(found.inverse_consistency_um, abs=1e-6)
    exact, _ = transforms.Transform(MATRIX, found.displacement).invert_points(there)
    np.testing.assert_allclose(exact, points, atol=1e-3)


def test_what_fits_already_stays_where_it_is():
    pair, tissue = planted(None)
    found = deformable.register_deformable(pair, MATRIX, metric="ncc")
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    moved = np.linalg.norm(found.displacement(points), axis=1)
    assert np.median(moved) < 0.1 * MSI_UM and moved.max() < 0.4 * MSI_UM


def test_what_is_unknown_does_not_pull():
    truth = wave()
    pair, _ = planted(truth)
    valid = np.ones(SHAPE, bool)
    valid[:, :20] = False
    image = np.where(valid, pair.moving.image[..., 0], 7.0)
    image[:, :20] += np.random.default_rng(0).normal(size=(48, 20))
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
    density, mask = slide()
    tissue = pair.moving.mask & valid
    spoilt = make_pair(image, density, tissue, mask, moving_valid=valid, **sizes)
    blank = make_pair(image * valid, density, tissue, mask, moving_valid=valid, **sizes)
    fields = [
        deformable.register_deformable(p, MATRIX, metric="ncc").displacement.disp_um
        for p in (spoilt, blank)
    ]
    np.testing.assert_allclose(fields[0], fields[1], atol=1e-6)
    found = deformable.register_deformable(spoilt, MATRIX, metric="ncc")
    before, after = errors(tissue, truth, found.displacement)
    assert after < before / 3


def test_a_cohort_comes_out_as_its_pairs_do():
    pairs = [planted(wave(seed=seed))[0] for seed in (1, 2)]
    together = deformable.deform_cohort(pairs, [MATRIX] * 2, metric="ncc", batch=2)
    alone = deformable.register_deformable(pairs[1], MATRIX, metric="ncc")
    np.testing.assert_allclose(
        together[1].displacement.disp_um, alone.displacement.disp_um, atol=0.02 * MSI_UM
    )


def test_folding_is_answered_by_stiffness_and_at_last_by_the_affine(monkeypatch):
    pair, _ = planted(wave())
    tried = []

    def fit(planes, coefficients, weight, level, metric):
        tried.append(float(weight))
        wild = np.random.default_rng(0).normal(size=coefficients.shape).astype(np.float32)
        scale = 0.01 if weight > limit else 1.0
        return scale * wild, np.zeros(1), np.ones(1)

    monkeypatch.setattr(deformable, "_fit", fit)
    usual = METRICS["ncc"].stiffness
    limit = 2 * usual
    found = deformable.register_deformable(pair, MATRIX, metric="ncc")
    assert (found.kept_affine, found.stiffness) == (False, 4.0)
    limit = np.inf
    found = deformable.register_deformable(pair, MATRIX, metric="ncc")
    assert found.kept_affine and found.displacement is None and found.inverse is None
    assert (found.det_min, found.score) == (1.0, 0.0)
    assert sorted({w / usual for w in tried}) == [1.0, 4.0, 16.0]


@pytest.mark.parametrize("options", [{"metric": "ssd"}, {"stiffness": 0.0}])
def test_unknown_options_are_refused(options):
    with pytest.raises(InputError):
        deformable.deform_cohort([], [], **options)


def test_gradients_are_finite_on_flat_images():
    blank = {
        "values": np.zeros((1, 64, 64), np.float32),
        "mask": np.zeros((64, 64), np.float32),
        "weight": np.ones((64, 64), np.float32),
        "fixed": np.zeros((2, 64, 64), np.float32),
        "fixed_known": np.ones((64, 64), np.float32),
        "msi_px": np.float32(1.0),
    }
    for metric in METRICS.values():
        score = deformable._scoring(blank, metric)
        slope = jax.jit(jax.grad(lambda c, score=score: sum(score(c))))(jnp.zeros((7, 7, 2)))
        assert np.isfinite(slope).all()


def test_splines_sum_to_one_and_refine_to_the_same_field():
    basis = velocity.spline_basis(40, 7)
    np.testing.assert_allclose(basis.sum(1), 1.0, atol=1e-6)
    coarse = np.random.default_rng(0).normal(size=(7, 7, 2)).astype(np.float32)
    fine = velocity.along_both(velocity.refine_basis(7, 11), coarse)
    fields = [velocity.along_both(velocity.spline_basis(40, len(c)), c) for c in (coarse, fine)]
    np.testing.assert_allclose(*fields, atol=1e-4)


def test_a_constant_velocity_shifts_and_a_turn_turns():
    shift = velocity.exponential(jnp.full((64, 64, 2), 0.1))
    np.testing.assert_allclose(shift, 0.1, atol=1e-6)
    axis = (np.arange(64) + 0.5) / 32 - 1
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    angle = 0.2
    turn = velocity.exponential(jnp.asarray(np.stack([-u[..., 1], u[..., 0]], -1) * angle))
    cos, sin = np.cos(angle), np.sin(angle)
    exact = np.stack([cos * u[..., 0] - sin * u[..., 1], sin * u[..., 0] + cos * u[..., 1]], -1)
    inner = np.s_[16:48, 16:48]
    np.testing.assert_allclose((u + turn)[inner], exact[inner], atol=2e-3)


def test_determinants_find_a_fold_of_one_cell():
    field = np.zeros((5, 6, 2))
    assert velocity.determinants(field, (1.0, 2.0)).shape == (4, 6, 7)
    np.testing.assert_allclose(velocity.determinants(field, (1.0, 2.0)), 1.0)
    field[2, 3, 0] = 1.2
    assert velocity.determinants(field, (1.0, 2.0)).min() == pytest.approx(-0.2)
