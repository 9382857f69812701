"""Mass axes against plain searches, and the widths they claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.data.provenance import axis_of, axis_record
from msi2he_jax.errors import InputError
from msi2he_jax.msi.axes import KINDS, estimate_axis_step_ppm, mass_axis
from msi2he_jax.msi.imzml import open_imzml

STEPS = {"ppm": 500.0, "fixed_da": 0.5, "tof": 700.0, "orbitrap": 700.0}


def axis(kind="ppm", mz_min=100.0, mz_max=200.0, step=500.0):
    return mass_axis(kind, mz_min=mz_min, mz_max=mz_max, step=step)


@st.composite
def axes(draw):
    """Axes of all kinds, of one bin to some thousands."""
    kind = draw(st.sampled_from(KINDS))
    low = draw(st.floats(10, 2000))
    high = low * draw(st.floats(1, 3))
    step = STEPS[kind] * draw(st.floats(0.2, 5))
    return axis(kind, low, high, step)


def test_ppm_axis():
    made = axis(step=1000.0)
    np.testing.assert_allclose(np.diff(made.mz) / made.mz[:-1], 1e-3, rtol=1e-9)
    assert made.mz[0] == 100.0 and made.mz[-2] < 200.0 <= made.mz[-1]


def test_fixed_axis():
    made = axis("fixed_da", step=0.1)
    np.testing.assert_allclose(np.diff(made.mz), 0.1)
    assert len(made.mz) == 1001 and made.mz[-1] == pytest.approx(200.0)


def test_tof_axis_is_uniform_in_the_root():
    made = axis("tof", step=50.0)
    np.testing.assert_allclose(np.diff(np.sqrt(made.mz)), np.sqrt(200) * 25e-6, rtol=1e-6)
    assert np.diff(made.mz)[-1] == pytest.approx(200 * 50e-6, rel=1e-4)


def test_orbitrap_axis_is_uniform_in_the_inverse_root():
    made = axis("orbitrap", step=50.0)
    np.testing.assert_allclose(np.diff(1 / np.sqrt(made.mz)), -25e-6 / np.sqrt(200), rtol=1e-6)
    assert np.diff(made.mz)[-1] == pytest.approx(200 * 50e-6, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_width_of_a_bin(kind):
    """What the axis says of its bins is what they are."""
    made = axis(kind, 100, 1600, {"fixed_da": 0.01}.get(kind, 20.0))
    width = np.diff(made.mz)
    middle = (made.mz[1:] + made.mz[:-1]) / 2
    np.testing.assert_allclose(made.step_ppm(middle), width / middle * 1e6, rtol=1e-4)
    assert made.step_ppm(200.0) == pytest.approx(made.step if kind != "fixed_da" else 50.0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_bin(kind):
    made = axis(kind, 100.0, 100.0, STEPS[kind])
    half = made.half_width
    assert made.mz.tolist() == [100.0]
    at = 100 + half * np.array([-1.01, -0.99, 0.99, 1.01])
    assert made.nearest(at).tolist() == [-1, 0, 0, -1]
    assert half == pytest.approx(made.step_ppm(100.0) * 100 * 1e-6 / 2)


@settings(max_examples=100, deadline=None)
@given(made=axes(), seed=st.integers(0, 10**6))
def test_positions_equal_a_search(made, seed):
    rng = np.random.default_rng(seed)
    low, high = made.mz[0] * 0.98, made.mz[-1] * 1.02
    exact = rng.choice(made.mz, 50)
    mz = [rng.uniform(low, high, 300), exact, np.nextafter(exact, 0), np.nextafter(exact, 1e9)]
    mz = np.concatenate([*mz, rng.choice(made.edges, 50), [0.0, 1e6]])
    np.testing.assert_array_equal(made.first_not_below(mz), np.searchsorted(made.mz, mz))
    inside = np.searchsorted(made.edges, mz, "right") - 1
    inside[(mz < made.edges[0]) | (mz >= made.edges[-1])] = -1
    np.testing.assert_array_equal(made.nearest(mz), inside)


@settings(max_examples=100, deadline=None)
@given(made=axes())
def test_a_record_makes_the_same_axis(made):
    again = axis_of({"axis": axis_record(made)})
    assert again.kind == made.kind and again.step == made.step
    np.testing.assert_array_equal(again.mz, made.mz)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(KINDS), low=st.floats(10, 2000), ratio=st.floats(1, 3))
def test_the_range_is_covered_and_no_more(kind, low, ratio):
    made = axis(kind, low, low * ratio, STEPS[kind])
    width = np.diff(made.mz)[-1] if len(made.mz) > 1 else 1.0
    assert made.mz[0] == low and made.mz[-1] >= low * ratio - 1e-5 * width
    assert len(made.mz) == 1 or made.mz[-2] < low * ratio


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "log"}, "mass axis: kind: is 'log' (one of ppm, fixed_da, tof, orbitrap)"),
        ({"mz_min": 300.0}, "mass axis: range: 300.0 to 200.0 m/z is not a range"),
        ({"mz_min": 0.0}, "mass axis: range: 0.0 to 200.0 m/z is not a range"),
        ({"mz_max": float("nan")}, "mass axis: range: 100.0 to nan m/z is not a range"),
        ({"step": 0.0}, "mass axis: step: is 0.0, must be positive"),
        ({"step": 1e-9}, "mass axis: step: 1e-09 makes 6931471805"),
        (
            {"kind": "orbitrap", "step": 3e6},
            "mass axis: step: 3000000.0 does not suit 100.0 to 200.0 m/z",
        ),
        (
            {"kind": "fixed_da", "step": 1e-15, "mz_max": 100 + 1e-13},
            "mass axis: step: 1e-15 does not suit 100.0 to 100.0000000000001 m/z",
        ),
    ],
)
def test_axis_refusals(options, message):
    with pytest.raises(InputError) as caught:
        axis(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("kind", ["ppm", "tof", "orbitrap"])
def test_a_law_is_found_again(pair, kind):
    """Profile points that follow a law suggest the step of that law's axis."""
    mz = axis(kind, 100, 400, 300.0).mz
    file = open_imzml(pair([(mz, np.ones(len(mz)))] * 6).path)
    assert estimate_axis_step_ppm(file, kind) == pytest.approx(300, rel=0.02)
