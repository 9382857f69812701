import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msi2he_jax.metrics.intervals import bootstrap_mean


def test_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    groups = np.repeat([f"p{i}" for i in range(20)], 4)
    covered = 0
    for trial in range(100):
        values = 3.0 + np.repeat(random.normal(size=20), 4) + 0.1 * random.normal(size=80)
        _, low, high = bootstrap_mean(values, groups, seed=trial, draws=400)
        covered += low <= 3.0 <= high
    assert 85 <= covered <= 100


def test_groups_make_the_interval_wider():
    values = np.repeat(np.random.default_rng(1).normal(size=8), 10)
    apart = bootstrap_mean(values, [str(i) for i in range(80)], seed=0)
    together = bootstrap_mean(values, [str(i // 10) for i in range(80)], seed=0)
    assert apart[0] == together[0] == values.mean()
    assert together[2] - together[1] > 2 * (apart[2] - apart[1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.sampled_from("abc")), min_size=1, max_size=12))
def test_bounds_hold_the_mean(rows):
    values, groups = zip(*rows, strict=True)
    mean, low, high = bootstrap_mean(np.array(values), groups, seed=0, draws=50)
    if len(set(groups)) == 1:
        assert np.isnan([low, high]).all()
        low = high = mean
    assert min(values) - 1e-6 <= low <= mean <= high <= max(values) + 1e-6


def test_repeats_and_leaves_out_what_is_not_finite():
    values, groups = np.array([1.0, np.nan, 3.0, np.inf]), list("abcd")
    assert bootstrap_mean(values, groups, seed=5) == bootstrap_mean(values[[0, 2]], "ac", seed=5)
    # Two groups of which one has no finite value are one group: no interval.
    for values, groups in (([2.0], "a"), ([2.0, 2.0], "aa"), ([2.0, np.nan], "ab")):
        mean, *bounds = bootstrap_mean(np.array(values), groups, seed=0)
        assert mean == 2.0 and np.isnan(bounds).all()
    assert np.isnan(bootstrap_mean(np.array([np.nan]), ["a"], seed=0)).all()
