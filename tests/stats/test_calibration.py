import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.records import Status
from autointerp.stats import (
    fit_calibration,
    fit_isotonic,
    fit_linear,
    fit_percentile,
    normalise_levels,
)


def test_every_normalisation_of_the_original_code_is_reproduced(reference):
    entries = reference["normalisation"]["normalize_activations"]
    assert len(entries) == 8
    for entry in entries:
        levels = normalise_levels(entry["activations"], entry["max_activation"])
        assert levels.tolist() == entry["normalized"], entry["name"]


@given(st.floats(1e-30, 1e30), st.integers(2, 101))
def test_the_maximum_gets_the_top_level_whatever_its_rounding(maximum, n_levels):
    assert normalise_levels([0.0, maximum], maximum, n_levels).tolist() == [0, n_levels - 1]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(-10, 1e6), st.integers(2, 11))
def test_levels_are_ascending_in_activation_and_in_range(activations, maximum, n_levels):
    levels = normalise_levels(sorted(activations), maximum, n_levels)
    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 0 and levels.max() <= n_levels - 1


def test_fewer_than_two_levels_are_refused():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        normalise_levels([1.0], 1.0, n_levels=1)


def test_every_calibration_of_the_original_code_is_reproduced(reference):
    assert len(reference["calibration"]) == 4
    for entry in reference["calibration"]:
        line = fit_linear(entry["simulated"], entry["true"])
        curve = fit_percentile(entry["simulated"], entry["true"])
        assert line is not None and curve is not None
        assert [line.slope, line.intercept] == pytest.approx(
            entry["linear_slope_intercept"], abs=1e-9
        )
        assert line(entry["query"]) == pytest.approx(entry["linear"], abs=1e-9)
        assert curve(entry["query"]) == pytest.approx(entry["percentile"], abs=1e-9)
        constant = entry["name"] == "constant_simulation"
        status = Status.CONSTANT_PREDICTION if constant else Status.OK
        assert line.status is status
        assert curve.status is status


def test_linear_calibration_is_least_squares():
    rng = np.random.default_rng(0)
    s = rng.uniform(0, 10, 100)
    t = 0.4 * s - 1 + rng.normal(size=100)
    line, other = fit_linear(s, t), stats.linregress(s, t)
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((other.slope, other.intercept))


def test_percentile_calibration_turns_the_fitted_levels_into_the_true_distribution():
    rng = np.random.default_rng(0)
    s, t = rng.uniform(0, 10, 100), rng.gamma(0.5, size=100)
    curve = fit_percentile(s, t)
    assert curve is not None
    assert np.sort(curve(s)) == pytest.approx(np.sort(t))


def test_nothing_to_fit_on_is_none():
    assert fit_linear([], []) is None
    assert fit_percentile([], []) is None


def test_pairs_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 levels, but 1 true"):
        fit_linear([1.0, 2.0], [1.0])


def pooled_by_hand(levels, true):
    """Pool adjacent violators, block by block: the textbook's way."""
    order = np.argsort(levels, kind="stable")
    blocks = []
    for level in np.unique(levels):
        values = np.asarray(true)[order][np.asarray(levels)[order] == level]
        blocks.append([[level], list(values)])
        while len(blocks) > 1 and np.mean(blocks[-2][1]) >= np.mean(blocks[-1][1]):
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1]]
    return {level: np.mean(values) for seen, values in blocks for level in seen}


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-100, 100)), min_size=1, max_size=30))
def test_isotonic_calibration_pools_what_falls(pairs):
    levels, true = (np.array(column, float) for column in zip(*pairs, strict=True))
    fit = fit_isotonic(levels, true)
    expected = pooled_by_hand(levels, true)
    assert fit is not None
    assert fit(list(expected)) == pytest.approx(list(expected.values()), abs=1e-6)
    grid = fit(np.linspace(-1, 11, 50))
    assert (np.diff(grid) >= -1e-9).all()


def test_isotonic_calibration_mends_steps_that_a_line_cannot():
    levels = np.arange(10.0)
    true = np.exp(levels)
    line, best = fit_linear(levels, true), fit_isotonic(levels, true)
    assert best(levels) == pytest.approx(true)
    assert np.corrcoef(line(levels), true)[0, 1] < 0.8


def test_a_simulator_in_the_wrong_order_gets_a_constant():
    fit = fit_isotonic([0.0, 1.0, 2.0], [5.0, 3.0, 1.0])
    assert fit([0.0, 2.0]).tolist() == pytest.approx([3.0, 3.0])


def test_nothing_to_fit_on_is_no_calibration():
    for name in ("linear", "percentile", "isotonic"):
        assert fit_calibration(name, [], []) is None
    with pytest.raises(ValueError, match="linear, percentile, isotonic"):
        fit_calibration("quadratic", [1.0], [1.0])
