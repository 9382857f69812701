import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.errors import InputError
from msi2he_jax.inference.tiled import plan_tiles, synthesize_tiled


def _msi(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _blur(batch):
    """A generator of receptive field 5 px: box blur of the first two channels, three out."""
    blurred = scipy.ndimage.uniform_filter(batch, (0, 5, 5, 0), mode="constant")
    return np.stack([blurred[..., 0], blurred[..., 1], blurred.sum(-1)], -1)


class _Recorder:
    def __init__(self, apply):
        self.apply, self.shapes = apply, []

    def __call__(self, batch):
        self.shapes.append(batch.shape)
        return self.apply(batch)


@pytest.mark.parametrize("shape", [(50, 64), (33, 32), (97, 40)])
def test_tiled_equals_whole_inside_the_receptive_field(shape):
    """Where tiles overlap by much more than the field, only the faintly weighted rim differs."""
    msi = _msi(*shape, 3)
    whole = _blur(msi[None])[0]
    tiled = synthesize_tiled(_blur, msi, tile_px=32, overlap_px=16, batch_size=3)
    assert tiled.dtype == np.float32 and tiled.shape == (*shape, 3)
    assert np.abs(tiled - whole).max() < 0.03
    cut = synthesize_tiled(_blur, msi, tile_px=32, overlap_px=0, batch_size=3)
    assert np.abs(tiled - whole).max() < 0.2 * np.abs(cut - whole).max()


def test_tiled_equals_whole_for_a_pointwise_generator():
    msi = _msi(70, 45, 3)
    tiled = synthesize_tiled(lambda x: 2 * x - 1, msi, tile_px=16, overlap_px=5)
    assert np.allclose(tiled, 2 * msi - 1, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile_px=st.integers(1, 40),
    overlap=st.floats(0, 0.99),
    batch_size=st.integers(1, 5),
)
def test_any_size_has_no_seam_and_one_shape(height, width, tile_px, overlap, batch_size):
    apply = _Recorder(lambda x: np.full((*x.shape[:3], 1), 0.7, np.float32))
    options = {"tile_px": tile_px, "overlap_px": int(overlap * tile_px)}
    msi = np.zeros((height, width, 2))
    image = synthesize_tiled(apply, msi, **options, batch_size=batch_size)
    assert image.shape == (height, width, 1)
    assert np.allclose(image, 0.7, atol=1e-5)
    assert len(set(apply.shapes)) == 1


@pytest.mark.parametrize("overlap_px", [0, 3, 7, 15])
def test_weights_sum_to_one_and_neighbours_overlap_enough(overlap_px):
    tiles = plan_tiles((50, 37), tile_px=16, overlap_px=overlap_px)
    total = np.zeros((50, 37))
    for rows, columns, weights in tiles:
        assert weights.min() >= 0
        total[rows, columns] += weights
    assert np.allclose(total, 1, atol=1e-6)
    starts = sorted({rows.start for rows, _, _ in tiles})
    assert starts[0] == 0 and starts[-1] == 50 - 16
    assert max(np.diff(starts)) <= 16 - overlap_px


def test_what_fits_goes_through_whole_and_unpadded():
    apply = _Recorder(_blur)
    msi = _msi(20, 31, 3)
    image = synthesize_tiled(apply, msi, tile_px=64, overlap_px=8)
    assert apply.shapes == [(1, 20, 31, 3)]
    assert np.array_equal(image, _blur(msi[None])[0])


@pytest.mark.parametrize(
    "options, field",
    [
        ({"tile_px": 0}, "tile_px"),
        ({"overlap_px": 8}, "overlap_px"),
        ({"overlap_px": -1}, "overlap_px"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_tiled_is_refused(options, field):
    with pytest.raises(InputError, match=field):
        synthesize_tiled(_blur, _msi(9, 9, 3), **{"tile_px": 8, "overlap_px": 2, **options})
    with pytest.raises(InputError, match="shape"):
        synthesize_tiled(_blur, _msi(9, 9), tile_px=8, overlap_px=2)


def test_the_next_batch_is_sent_before_the_last_is_read():
    order = []

    class Late:
        """An output that tells when it is read, as jax's would be waited for."""

        def __init__(self, batch):
            self.value, self.number = batch, len([x for x in order if x[0] == "sent"])
            order.append(("sent", self.number))

        def __array__(self, dtype=None, copy=None):
            order.append(("read", self.number))
            return np.asarray(self.value, dtype)

    msi = _msi(24, 8, 2)
    image = synthesize_tiled(Late, msi, tile_px=8, overlap_px=0, batch_size=1)
    np.testing.assert_allclose(image, msi, atol=1e-6)
    steps = [("sent", 0), ("sent", 1), ("read", 0), ("sent", 2), ("read", 1), ("read", 2)]
    assert order == steps
