"""Prediction-powered means against the papers' formulas, survey sampling and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from autointerp.stats.prediction_powered import prediction_powered_mean

from .score_populations import cheap_scores, lifts

Y, F, REST = [0.2, 0.5, 0.1, 0.9], [0.3, 0.4, 0.0, 0.8], [0.1, 0.2, 0.6, 0.5, 0.3, 0.7]


def test_untuned_it_is_the_mean_prediction_plus_the_rectifier():
    found = prediction_powered_mean(Y, F, REST, tuning=1.0, seed=0)
    rectifier = np.mean(np.subtract(Y, F))
    assert found.value == pytest.approx(np.mean(REST) + rectifier)
    variance = np.var(F + REST) / 6 + np.var(np.subtract(Y, F), ddof=1) / 4
    assert found.error == pytest.approx(math.sqrt(variance))
    assert found.tuning == 1


def test_tuning_of_zero_leaves_the_cheap_score_out():
    found = prediction_powered_mean(Y, F, REST, tuning=0.0, seed=0)
    assert found.value == pytest.approx(np.mean(Y))
    assert found.error == pytest.approx(np.std(Y, ddof=1) / 2)
    assert found.gain == pytest.approx(1)


def test_tuned_it_uses_the_published_lambda():
    found = prediction_powered_mean(Y, F, REST, seed=0)
    covariance = np.cov(Y, F)[0, 1]
    assert found.tuning == pytest.approx(covariance / ((1 + 4 / 6) * np.var(F, ddof=1)))
    assert found.value == pytest.approx(np.mean(Y) + found.tuning * (np.mean(REST) - np.mean(F)))


def test_tuned_it_is_the_regression_estimator_of_survey_sampling():
    found = prediction_powered_mean(Y, F, REST, population="these_units", seed=0)
    line = stats.linregress(F, Y)
    at_mean = line.intercept + line.slope * np.mean(F + REST)
    assert found.value == pytest.approx(at_mean)
    residuals = np.array(Y) - line.intercept - line.slope * np.array(F)
    variance = (1 / 4 - 1 / 10) * (residuals**2).sum() / (4 - 2)
    assert found.error == pytest.approx(math.sqrt(variance))


def test_a_cheap_score_that_is_the_gold_one_leaves_only_the_units_own_error():
    rng = np.random.default_rng(0)
    y = lifts(rng, 400)
    these = prediction_powered_mean(y[:40], y[:40], y[40:], population="these_units", seed=0)
    assert these.value == pytest.approx(y.mean())
    assert these.error == pytest.approx(0, abs=1e-12)
    alike = prediction_powered_mean(y[:40], y[:40], y[40:], seed=0)
    assert alike.error == pytest.approx(y.std() / 20, rel=0.15)


def test_gold_of_all_units_needs_no_cheap_score():
    found = prediction_powered_mean(Y, F, [], seed=0)
    assert (found.value, found.tuning) == (pytest.approx(np.mean(Y)), 0)
    assert found.error == pytest.approx(np.std(Y, ddof=1) / 2)
    census = prediction_powered_mean(Y, F, [], population="these_units", seed=0)
    assert (census.error, census.interval) == (None, None)


def test_a_constant_cheap_score_changes_nothing():
    found = prediction_powered_mean(Y, [0.5] * 4, [0.5] * 6, seed=0)
    assert (found.value, found.tuning, found.correlation) == (pytest.approx(np.mean(Y)), 0, None)


def test_two_gold_units_give_a_mean_without_an_interval():
    found = prediction_powered_mean(Y[:2], F[:2], REST, seed=0)
    assert (found.error, found.interval, found.gain) == (None, None, None)


@pytest.mark.parametrize("n", [4, 20])
def test_the_interval_is_the_same_for_the_same_seed(n: int):
    rng = np.random.default_rng(0)
    y = lifts(rng, 60)
    f = cheap_scores(rng, y, 0.8)
    found = [prediction_powered_mean(y[:n], f[:n], f[n:], seed=3).interval for _ in range(2)]
    assert found[0] is not None and found[0] == found[1]


def test_unusable_arguments_are_refused_with_their_value():
    with pytest.raises(ValueError, match="4 gold scores, but 1 cheap"):
        prediction_powered_mean(Y, [0.0], REST, seed=0)
    with pytest.raises(ValueError, match="at least one gold"):
        prediction_powered_mean([], [], REST, seed=0)
    with pytest.raises(ValueError, match="finite"):
        prediction_powered_mean(Y, [math.nan, 0, 0, 0], REST, seed=0)


@pytest.mark.parametrize("population", ["units_like_these", "these_units"])
@pytest.mark.parametrize("correlation", [0.9, 0.0, -0.7])
def test_the_interval_covers_whatever_the_cheap_score_is(population, correlation):
    rng = np.random.default_rng(0)
    mean = float(lifts(rng, 400_000).mean())
    covered, n = 0, 200
    for _ in range(n):
        y = lifts(rng, 300)
        f = cheap_scores(rng, y, correlation)
        found = prediction_powered_mean(
            y[:30], f[:30], f[30:], population=population, n_replicates=200, seed=rng
        )
        truth = mean if population == "units_like_these" else y.mean()
        assert found.interval is not None
        covered += found.interval.low <= truth <= found.interval.high
    assert abs(covered / n - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / n)


def test_a_cheap_score_saves_what_its_correlation_promises():
    # One over 1 - ρ² of the gold units, of many units (methods of control variates).
    rng = np.random.default_rng(0)
    y = lifts(rng, 20_000)
    f = cheap_scores(rng, y, 0.9)
    found = prediction_powered_mean(y[:2000], f[:2000], f[2000:], population="these_units", seed=0)
    assert found.gain == pytest.approx(1 / (1 - 0.9**2), rel=0.1)
