import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.records import Status
from autointerp.stats import fit_linear, fit_percentile, normalise_levels


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
