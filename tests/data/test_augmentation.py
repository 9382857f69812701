"""Warps move MSI, histology and masks alike; intensities vary as asked; zero ranges are nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from msi2he_jax.data import augmentation, loader, sampling
from msi2he_jax.data.augmentation import MOST_ELASTIC, Augmentation, draw_positions, vary_msi
from msi2he_jax.data.loader import sample_batch

SIDE = 24
EVERY = Augmentation(
    rotation_deg=15.0,
    scaling=0.1,
    elastic_px=1.5,
    elastic_cell_px=8.0,
)
_options = ("seed", "batch_size", "crop_px", "flip", "rotate", "augmentation", "pad_value")
_draw = jax.jit(sample_batch, static_argnames=_options)


@pytest.fixture
def arrays():
    """MSI, histology and mask show the same thing: row, column and a half-plane."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    msi = np.stack([rows, columns], -1)[None].repeat(3, 0) / 255.0
    histology = np.stack([rows, columns, 0 * rows + 200], -1)[None].repeat(3, 0).astype(np.uint8)
    half = np.tile((columns < SIDE // 2)[None], (3, 1, 1))
    everywhere = np.ones_like(half)
    return {
        "msi": jnp.asarray(msi),
        "histology": jnp.asarray(histology),
        "tissue_mask": jnp.asarray(half),
        "valid_mask": jnp.asarray(everywhere),
        "extent_px": jnp.full((3, 2), SIDE, jnp.int32),
    }


@pytest.mark.parametrize("crop_px", [0, 16])
def test_all_arrays_move_alike(arrays, crop_px):
    drawn = _draw(
        arrays,
        step=0,
        seed=0,
        batch_size=8,
        crop_px=crop_px,
        flip=True,
        rotate=True,
        augmentation=EVERY,
        pad_value=0,
    )
    msi = np.asarray(drawn["msi"]) * 255.0
    histology = (np.asarray(drawn["image"]) + 1.0) * 127.5
    np.testing.assert_allclose(msi, histology[..., :2], atol=1e-3)
    inside = np.asarray(drawn["valid_mask"])
    assert inside.mean() > 0.5 and (crop_px or inside.mean() < 1.0)
    inner = histology[..., 2] > 200 - 1e-3  # nothing of the padding is mixed in
    assert inner.mean() > 0.5 and not inner[~inside].any()
    left = msi[..., 1] < SIDE // 2 - 0.5
    np.testing.assert_array_equal(np.asarray(drawn["tissue_mask"])[inner], left[inner])
    plain = _draw(arrays, step=0, seed=0, batch_size=8, crop_px=crop_px, flip=True, rotate=True)
    assert np.abs(np.asarray(plain["msi"]) * 255.0 - msi).max() > 1.0


def test_zero_ranges_are_nothing(arrays):
    """A warp too small to see goes through the whole path and still changes next to nothing."""
    options = {"step": 3, "seed": 1, "batch_size": 4, "crop_px": 16, "flip": True}
    plain = _draw(arrays, **options)
    none = _draw(arrays, **options, augmentation=Augmentation())
    tiny = _draw(arrays, **options, augmentation=Augmentation(rotation_deg=1e-30))
    for name in plain:
        np.testing.assert_array_equal(plain[name], none[name])
        np.testing.assert_allclose(np.float32(tiny[name]), np.float32(plain[name]), atol=1e-6)


def test_draws_are_a_function_of_seed_and_step(arrays):
    options = {"seed": 1, "batch_size": 2, "augmentation": EVERY}
    first, again = (_draw(arrays, step=5, **options)["msi"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = _draw(arrays, step=6, **options)["msi"]
    assert np.abs(np.asarray(first - other)).max() > 0
    assert np.abs(np.asarray(first[0] - first[1])).max() > 0
    # Batch 5 of two holds the positions 10 and 11 of the order, however it is cut.
    alone = _draw(arrays, step=11, seed=1, batch_size=1, augmentation=EVERY)["msi"]
    np.testing.assert_allclose(alone[0], first[1], atol=1e-6)


def test_what_comes_from_outside_is_padding(arrays, monkeypatch):
    far = jnp.full((SIDE, SIDE, 2), 1e6)
    monkeypatch.setattr(loader, "draw_positions", lambda *inputs: far)
    options = {"augmentation": Augmentation(rotation_deg=1.0), "pad_value": 255}
    drawn = sample_batch(arrays, step=0, seed=0, batch_size=4, **options)
    assert (drawn["msi"] == 0).all()
    np.testing.assert_allclose(drawn["image"], 1.0, atol=1e-6)
    assert not drawn["valid_mask"].any() and not drawn["tissue_mask"].any()


def _jacobians(ranges, shape, count=40):
    centre, start = jnp.array(shape) / 2 - 0.5, jnp.zeros(2)
    draw = jax.jit(jax.vmap(lambda key: draw_positions(key, ranges, shape, start, centre)))
    where = np.asarray(draw(jax.random.split(jax.random.key(0), count)))
    down, across = np.diff(where, axis=1)[:, :, :-1], np.diff(where, axis=2)[:, :-1]
    return where, down[..., 0] * across[..., 1] - down[..., 1] * across[..., 0]


def test_affine_ranges_are_kept():
    where, areas = _jacobians(Augmentation(rotation_deg=20.0, scaling=0.25), (9, 9))
    sizes = np.sqrt(areas[:, 0, 0])
    assert 0.8 - 1e-4 <= sizes.min() < 0.9 and 1.1 < sizes.max() <= 1.25 + 1e-4
    across = where[:, 4, 8] - where[:, 4, 0]
    angles = np.rad2deg(np.arctan2(across[:, 0], across[:, 1]))
    assert np.abs(angles).max() <= 20.01 and angles.min() < -10 and angles.max() > 10
    np.testing.assert_allclose(where[:, 4, 4], 4.0, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 48), (12, 12)])
def test_the_strongest_elastic_warp_does_not_fold(shape):
    strongest = Augmentation(elastic_px=16 * MOST_ELASTIC, elastic_cell_px=16.0)
    where, areas = _jacobians(strongest, shape)
    assert areas.min() > 0 and np.std(areas) > 0.05
    moved = np.abs(where - np.asarray(sampling.positions(shape)))
    assert 0.5 < moved.max() < 16 * MOST_ELASTIC * 1.6


def _varied(**ranges):
    msi = jnp.full((8, 400, 3, 50), 0.5).at[:, 0].set(0.0)
    valid = jnp.ones((8, 400, 3), bool).at[:, 0].set(False)
    keys = jax.random.split(jax.random.key(0), 8)
    vary = jax.jit(jax.vmap(lambda *one: vary_msi(*one, Augmentation(**ranges))))
    varied = np.asarray(vary(keys, msi, valid))
    assert varied.min() >= 0.0 and varied.max() <= 1.0
    assert (varied[:, 0] == 0.0).all(), "what was not measured stays 0"
    return varied[:, 1:]


def test_gain_is_one_number_per_channel_and_example():
    varied = _varied(channel_gain=0.2)
    assert np.ptp(varied, axis=(1, 2)).max() == 0.0
    logs = np.log(varied[:, 0, 0] / 0.5)
    assert abs(logs.mean()) < 0.03 and logs.std() == pytest.approx(0.2, rel=0.15)


def test_dropout_takes_whole_channels():
    varied = _varied(channel_dropout=0.3)
    assert np.ptp(varied, axis=(1, 2)).max() == 0.0
    assert (varied[:, 0, 0] == 0.0).mean() == pytest.approx(0.3, abs=0.07)


def test_noise():
    varied = _varied(noise_additive=0.05)
    assert varied.mean() == pytest.approx(0.5, abs=1e-3)
    assert varied.std() == pytest.approx(0.05, rel=0.02)


def test_types_are_kept(arrays):
    varying = Augmentation(rotation_deg=5.0, channel_gain=0.1)
    arrays["msi"] = arrays["msi"].astype(jnp.bfloat16)
    assert (
        _draw(arrays, step=0, seed=0, batch_size=2, augmentation=varying)["msi"].dtype == "bfloat16"
    )
    arrays["msi"] = (arrays["msi"].astype(jnp.float32) * 65535).astype(jnp.uint16)
    drawn = _draw(arrays, step=0, seed=0, batch_size=2, augmentation=varying)["msi"]
    assert drawn.dtype == jnp.float32 and 0.0 < drawn.max() <= 1.0


def test_bilinear_gradient_and_border():
    image = jnp.asarray(np.random.default_rng(0).random((5, 6, 2)), jnp.float32)
    plain = sampling.positions((5, 6))
    np.testing.assert_array_equal(sampling.bilinear(image, plain), image)
    half = sampling.bilinear(image, plain + jnp.array([[[0.0, 0.5]]]))
    np.testing.assert_allclose(half[:, :-1], (image[:, 1:] + image[:, :-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(half[:, -1], image[:, -1], atol=1e-6)
    slope = jax.grad(lambda d: sampling.bilinear(image, plain + d[None, None])[2, 2, 0])(
        jnp.full(2, 0.25)
    )
    across = 0.75 * (image[2, 3, 0] - image[2, 2, 0]) + 0.25 * (image[3, 3, 0] - image[3, 2, 0])
    assert slope[1] == pytest.approx(float(across), abs=1e-5)


def _pil_enlarged(image, side):
    """Bicubic as the original's loader has it, float channel by channel."""
    channels = [
        Image.fromarray(image[..., c]).resize((side, side), Image.BICUBIC) for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)


def test_jitter_enlarges_as_pix2pix_does():
    image = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    found = augmentation.enlarged(jnp.asarray(image), 30 / 256)
    expected = np.clip(_pil_enlarged(image, 18), 0, 1)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    # PIL rounds and clips 8-bit images between rows and columns as well: that costs noise more.
    rows, columns = np.mgrid[:16, :16]
    smooth = 128 + 100 * np.sin(rows[..., None] / 5 + columns[..., None] / [3, 4, 5])
    pixels = np.round(smooth).astype(np.uint8)
    bytes_found = augmentation.enlarged(jnp.asarray(pixels), 30 / 256)
    assert bytes_found.dtype == np.uint8
    expected = _pil_enlarged(pixels, 18).astype(int)
    assert np.abs(np.asarray(bytes_found).astype(int) - expected).max() <= 1
    assert augmentation.enlarged_sides((256, 256), 30 / 256) == (286, 286)


def test_jittered_crops_are_of_the_enlarged_image_and_reach_all_of_it(arrays):
    """Also beyond a pair's own extent: the padding is part of pix2pix' images."""
    arrays["extent_px"] = arrays["extent_px"] - 8
    jitter = Augmentation(jitter=0.25)  # 24 px to 30
    drawn = _draw(arrays, step=0, seed=0, batch_size=64, augmentation=jitter)
    large = np.asarray(augmentation.enlarged(arrays["histology"][0], 0.25))
    grey = np.asarray(augmentation.enlarged(arrays["msi"][0], 0.25))
    half = np.asarray(augmentation.enlarged(arrays["tissue_mask"][0], 0.25))
    seen = set()
    for image, msi, mask in zip(drawn["image"], drawn["msi"], drawn["tissue_mask"], strict=True):
        picture = (np.asarray(image) + 1) * 127.5
        starts = [
            (row, column)
            for row in range(7)
            for column in range(7)
            if np.allclose(msi, grey[row : row + SIDE, column : column + SIDE], atol=1e-5)
        ]
        assert len(starts) == 1
        part = tuple(slice(at, at + SIDE) for at in starts[0])
        np.testing.assert_allclose(picture, large[part], atol=1.01)  # halves round either way
        np.testing.assert_array_equal(mask, half[part])
        seen.add(starts[0])
    assert {row for row, _ in seen} == {column for _, column in seen} == set(range(7))


def test_a_mirror_is_left_right_only(arrays):
    options = ("seed", "batch_size", "mirror")
    drawn = jax.jit(sample_batch, static_argnames=options)(
        arrays, step=0, seed=0, batch_size=32, mirror=True
    )
    rows, columns = np.asarray(drawn["msi"][..., 0]) * 255, np.asarray(drawn["msi"][..., 1]) * 255
    np.testing.assert_allclose(rows, np.mgrid[:SIDE, :SIDE][0][None].repeat(32, 0), atol=1e-4)
    turned = columns[:, 0, 0] > 0
    assert 0 < turned.sum() < 32
    plain = np.arange(SIDE, dtype=np.float32)
    for each, flipped in zip(columns, turned, strict=True):
        np.testing.assert_allclose(each[0], plain[::-1] if flipped else plain, atol=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, bool])
def test_a_crop_of_an_enlarged_image_is_that_of_jax_image_resize(kind):
    """Bicubic and nearest, at every border, with an odd size."""
    image = np.random.default_rng(0).random((17, 13, 3))
    image = image > 0.5 if kind is bool else (image * (255 if kind is np.uint8 else 1)).astype(kind)
    sides, start, crop = augmentation.enlarged_sides((17, 13), 30 / 256), (1, 2), (17, 13)
    method, wide = ("nearest", bool) if kind is bool else ("cubic", np.float32)
    whole = np.asarray(jax.image.resize(image.astype(wide), (*sides, 3), method))
    if kind is not bool:
        whole = whole.clip(0, 255 if kind is np.uint8 else 1)
    for where, size in ((start, crop), ((0, 0), sides)):
        found = augmentation.enlarged(jnp.asarray(image), 30 / 256, where, size)
        expected = whole[where[0] : where[0] + size[0], where[1] : where[1] + size[1]]
        assert found.dtype == kind
        # 8 bits: half a step from rounding.
        np.testing.assert_allclose(found, expected, atol=0.501 if kind is np.uint8 else 1e-6)
