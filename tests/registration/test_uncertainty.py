import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax.registration import transforms
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.transforms import Displacement, Transform
from msi2he_jax.registration.uncertainty import estimate_uncertainty

SLIDE_UM, MSI_UM, SHAPE = 25.0, 100.0, (48, 50)
MATRIX = transforms.rotation(25, mirrored=True, center_from=(2400, 2500), center_to=(2000, 2000))


def pair(change=lambda image, rng: image, valid=None, displacement=None):
    """A textured section on a slide and what MSI saw of it, changed before it is handed over."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160] / 160 - 0.5
    mask = np.hypot(y, 1.2 * x) < 0.42
    density = np.where(mask, 1 + 6 * ndimage.gaussian_filter(rng.normal(size=(160, 160)), 3), 0)
    options = {
        "source_um_per_px": SLIDE_UM,
        "matrix_out_to_source": MATRIX,
        "out_shape": SHAPE,
        "out_um_per_px": MSI_UM,
        "displacement": displacement,
    }
    seen, tissue = (transforms.warp_image(image, **options) for image in (density, mask))
    seen = change(3.0 - seen + rng.normal(0, 0.05, SHAPE), rng)
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
    return make_pair(seen, density, tissue, mask, moving_valid=valid, **sizes)


def inner(spread, columns, margin=5):
    """Of some columns, what lies well within the tissue."""
    inside = ndimage.binary_erosion(np.isfinite(spread), iterations=margin)
    return spread[:, columns][inside[:, columns]]


def half_empty(image, rng):
    return np.where(np.arange(SHAPE[1]) < 25, rng.normal(1.0, 0.05, SHAPE), image)


def test_the_empty_half_is_uncertain_and_the_other_is_not():
    found = estimate_uncertainty(pair(half_empty), Transform(MATRIX))
    empty, full = (inner(found.spread_um, s) for s in (slice(0, 19), slice(31, 50)))
    assert np.median(full) < 0.5 * MSI_UM
    assert np.median(empty) > max(0.5 * found.limit_um, 4 * np.median(full))
    assert 0.02 < found.undetermined < 0.5
    whole = estimate_uncertainty(pair(), Transform(MATRIX))
    assert whole.undetermined == 0.0
    assert whole.median_um < found.median_um <= found.limit_um


def test_noise_alone_determines_nothing_within():
    found = estimate_uncertainty(pair(lambda image, rng: rng.normal(size=SHAPE)), Transform(MATRIX))
    values = inner(found.spread_um, slice(None))
    assert np.median(values) > 0.75 * found.limit_um
    outline = found.spread_um[np.isfinite(found.spread_um)].min()
    assert outline < 0.5 * found.limit_um  # the tissue's edge still says something


def test_unmeasured_pixels_say_nothing():
    valid = np.ones(SHAPE, bool)
    valid[20:28, 20:30] = False
    found = estimate_uncertainty(pair(valid=valid), Transform(MATRIX))
    assert np.isnan(found.spread_um[20:28, 20:30]).all()
    assert np.isfinite(found.spread_um[18, 24])


def test_a_misplaced_section_is_not_called_certain():
    known = estimate_uncertainty(pair(), Transform(MATRIX))
    shift = transforms.from_parts(np.eye(2), (150.0, 0.0))
    moved = estimate_uncertainty(pair(), Transform(transforms.compose(shift, MATRIX)))
    assert np.nanmedian(moved.spread_um) > 2 * np.nanmedian(known.spread_um)


def test_a_displacement_is_honoured():
    y, x = ((np.arange(n) + 0.5) * MSI_UM for n in SHAPE)
    bent = Displacement(y, x, np.tile([150.0, -100.0], (*SHAPE, 1)))
    images = pair(displacement=bent)
    found, without = (
        estimate_uncertainty(images, Transform(MATRIX, field)) for field in (bent, None)
    )
    assert found.median_um < 0.6 * without.median_um


def test_the_unit_is_of_the_slide():
    images, one = pair(), estimate_uncertainty(pair(), Transform(MATRIX))
    sizes = {"moving_um_per_px": MSI_UM / 2, "fixed_um_per_px": SLIDE_UM}
    small = make_pair(
        images.moving.image, images.fixed.image, images.moving.mask, images.fixed.mask, **sizes
    )
    scaled = transforms.compose(MATRIX, np.diag([2.0, 2.0, 1.0]))
    other = estimate_uncertainty(small, Transform(scaled))
    assert other.limit_um == pytest.approx(one.limit_um, rel=0.02)
    assert other.median_um == pytest.approx(one.median_um, rel=0.2)
