"""Spread of images: what it is, what is refused, and that registration heeds it."""

import types

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.inference import spread
from msi2he_jax.registration import canvas

TILING = {"tile_px": 16, "overlap_px": 4}
MSI = np.random.default_rng(0).random((12, 10, 2), dtype=np.float32)


def _model(dropout=0.5, peaks=(1.0, 2.0), name="run"):
    return types.SimpleNamespace(
        apply=lambda msi: np.zeros((*msi.shape[:3], 3), np.float32),
        sample=lambda msi, number: np.full((*msi.shape[:3], 3), 0.2 * number, np.float32),
        provenance={"peaks": list(peaks), "scaling": {}},
        config=types.SimpleNamespace(model=types.SimpleNamespace(dropout=dropout)),
        run_dir=name,
    )


def test_spread_is_the_standard_deviation_over_images():
    random = np.random.default_rng(1)
    images = random.uniform(-1, 1, (5, 12, 10, 3)).astype(np.float32)
    generators = [lambda msi, image=image: image[None] for image in images]
    found = spread.estimate_spread(generators, MSI, **TILING)
    expected = np.sqrt((images / 2).var(axis=0, ddof=1).mean(axis=-1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_samples_times_runs_paint():
    assert len(spread.compared_generators(_model(), 3)) == 3
    assert len(spread.compared_generators(_model(), 2, [_model()])) == 4
    plain = spread.compared_generators(_model(dropout=0), 0, [_model(dropout=0)])
    assert len(plain) == 2 and spread.estimate_spread(plain, MSI, **TILING).max() == 0
    drawn = spread.estimate_spread(spread.compared_generators(_model(), 2), MSI, **TILING)
    np.testing.assert_allclose(drawn, np.std([0.0, 0.1], ddof=1), atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((_model(), 1), "samples: are 1, must be 2 at least where no other run is compared"),
        ((_model(dropout=0), 4), "run has no dropout to draw anew"),
        ((_model(), 0, [_model(peaks=(3.0,), name="b")]), "its peaks differ from those of run"),
    ],
)
def test_nothing_to_compare_is_refused(asked, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        spread.compared_generators(*asked)


def test_confidence_falls_with_spread():
    image = np.random.default_rng(2).uniform(-1, 1, (12, 10, 3))
    measured = np.ones((12, 10), bool)
    signal = (image / 2).reshape(-1, 3).var(axis=0).mean()
    uneven = np.linspace(0, 2 * np.sqrt(signal), 120).reshape(12, 10)
    found = spread.confidence(image, uneven, measured)
    assert found[0, 0] == 1 and np.all(np.diff(found.ravel()) < 0)
    np.testing.assert_allclose(found[-1, -1], 1 / 5, rtol=1e-5)
    assert np.all(spread.confidence(image, uneven, ~measured) == 1)


def test_canvases_show_confidence_as_what_is_known():
    image = np.random.default_rng(3).random((20, 20))
    trust = np.where(np.arange(20) < 10, 1.0, 0.25) * np.ones((20, 1))
    sides = [canvas.make_side(image, None, 10.0, confidence=c) for c in (None, trust)]
    plain, weighed = (canvas.draw(side, 100.0, 20) for side in sides)
    np.testing.assert_array_equal(plain[0], weighed[0])
    np.testing.assert_allclose(weighed[2][:, 12:18], 0.25 * plain[2][:, 12:18], atol=1e-5)
    np.testing.assert_allclose(weighed[2][:, 2:8], plain[2][:, 2:8], atol=1e-5)
