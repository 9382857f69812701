"""What real slides hold: two pieces, pen marks, a pixel size that is a guess; and whole cohorts."""

import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.errors import InputError
from msi2he_jax.registration import automatic, transforms
from msi2he_jax.registration.automatic import (
    UNKNOWN_SCALE,
    batch_size,
    make_pair,
    register_affine,
    register_cohort,
)
from msi2he_jax.registration.similarity import LEVELS

SLIDE_UM, MSI_UM, SHAPE = 25.0, 100.0, (48, 50)
SIZES = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}


def piece(rng, size=160):
    """Lopsided tissue with structure: density `[size, size]` and mask."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = np.arctan2(y, x)
    waves = [0.04 * np.sin(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3)]
    mask = np.hypot(y, x) < 0.3 + sum(waves)
    return np.where(mask, 1 + 6 * ndimage.gaussian_filter(rng.normal(size=y.shape), 6), 0.02), mask


def measured(density, mask, matrix, seed=1):
    options = {
        "source_um_per_px": SLIDE_UM,
        "matrix_out_to_source": matrix,
        "out_shape": SHAPE,
        "out_um_per_px": MSI_UM,
    }
    seen = transforms.warp_image(density, fill=0.02, **options)
    tissue = transforms.warp_image(mask, **options)
    noise = np.random.default_rng(seed).normal(0, 0.05, SHAPE)
    return np.where(tissue, 3 * (seen - 0.9) ** 2 + 0.5 * seen, 0.3) + noise, tissue


def pose(degrees, mirrored, center=2000.0, scale=1.0):
    centers = {"center_from": (2400, 2500), "center_to": (2000.0, center)}
    return transforms.rotation(degrees, mirrored=mirrored, scale=scale, **centers)


def error_px(result, matrix, tissue):
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    there, true = (transforms.apply_affine(m, points) for m in (result.matrix, matrix))
    return np.median(np.linalg.norm(there - true, axis=1)) / MSI_UM


def test_one_of_two_pieces_is_found_on_the_slide():
    rng = np.random.default_rng(2)
    pieces = [piece(rng), piece(rng)]
    density, mask = (np.concatenate(parts, axis=1) for parts in zip(*pieces))
    matrix = pose(-70, True, center=6000.0)  # the piece on the right
    moving, tissue = measured(density, mask, matrix)
    result = register_affine(moving, density, tissue, mask, **SIZES)
    assert error_px(result, matrix, tissue) < 0.7


def test_a_pen_mark_taken_for_tissue_does_not_mislead():
    density, mask = piece(np.random.default_rng(4))
    matrix = pose(110, False)
    moving, tissue = measured(density, mask, matrix)
    density, mask = density.copy(), mask.copy()
    density[8:150, 132:138] = 3.0  # a line beside the tissue, and one across it
    mask[8:150, 132:138] = True
    density[60:64, 20:138], mask[60:64, 20:138] = 3.0, True
    result = register_affine(moving, density, None, mask, **SIZES)
    assert error_px(result, matrix, tissue) < 0.7


def test_a_wrong_pixel_size_is_found_where_it_may_be():
    density, mask = piece(np.random.default_rng(6))
    matrix = pose(65, True, scale=0.6)
    moving, tissue = measured(density, mask, matrix)
    known, guessed = (
        register_affine(moving, density, None, mask, scales=scales, **SIZES)
        for scales in ((1.0,), (0.55, 0.75, 1.0, 1.3))
    )
    assert error_px(guessed, matrix, tissue) < 0.5 < error_px(known, matrix, tissue)
    assert np.sqrt(abs(np.linalg.det(guessed.matrix[:2, :2]))) == pytest.approx(0.6, abs=0.02)
    assert (min(UNKNOWN_SCALE), max(UNKNOWN_SCALE)) == pytest.approx((0.8, 1.25))


def test_edges_alone_are_enough():
    density, mask = piece(np.random.default_rng(8))
    matrix = pose(150, True)
    moving, tissue = measured(density, mask, matrix)
    result = register_affine(moving, density, None, mask, metric="ngf", **SIZES)
    assert error_px(result, matrix, tissue) < 0.7
    assert 0 < result.score < 1


def test_a_cohort_comes_out_as_its_pairs_do_in_order():
    pairs, truths = [], []
    for seed in range(2):
        density, mask = piece(np.random.default_rng(seed))
        truths.append(pose(100 * seed, seed == 1))
        moving, tissue = measured(density, mask, truths[-1])
        pairs.append(make_pair(moving, density, None, mask, **SIZES))
    together = register_cohort(pairs)
    for found, truth in zip(together, truths):
        assert error_px(found, truth, tissue) < 0.5
    alone = register_cohort(pairs[1:])[0]
    assert error_px(together[1], alone.matrix, tissue) < 0.02
    assert together[1].score == pytest.approx(alone.score, abs=1e-3)


def test_only_what_fits_one_compilation_shares_a_batch():
    density, mask = piece(np.random.default_rng(0))
    moving, _ = measured(density, mask, pose(0, False))
    one = make_pair(moving, density, None, mask, **SIZES)
    three = make_pair(np.stack([moving] * 3, axis=-1), density, None, mask, **SIZES)
    guess = make_pair(moving, density, None, mask, start=pose(0, False), **SIZES)
    groups = automatic._batches([one, three, one, guess, one, three], 2, LEVELS)
    assert groups == [[0, 2], [4], [1, 5], [3]]
    assert [batch_size(n) for n in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]
    assert register_cohort([]) == []
    with pytest.raises(InputError, match="scales"):
        register_cohort([], scales=(0.0,))
