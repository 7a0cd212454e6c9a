"""Agreement against closed forms, published numbers and other libraries."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from autointerp.stats.agreement import (
    Errors,
    Halves,
    disattenuated,
    disattenuated_interval,
    kappa_interval,
    percentile_interval,
    reliability_from_errors,
    reliability_interval,
    spearman,
    spearman_brown,
    weighted_kappa,
)


def measured(n=4000, rho=0.6, error=0.5, n_splits=3, seed=0):
    """Two true values correlated `rho`, each measured as the mean of two halves with error."""
    rng = np.random.default_rng(seed)
    true = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)
    # A half has twice the error variance of the whole.
    halves = true[:, :, None] + rng.normal(0, math.sqrt(2) * error, (n, 2, 2))
    return [
        (
            halves[:, i].mean(axis=1),
            Halves(
                np.tile(halves[:, i, 0], (n_splits, 1)), np.tile(halves[:, i, 1], (n_splits, 1))
            ),
        )
        for i in (0, 1)
    ]


def test_spearman_is_scipys_and_its_interval_bonett_and_wrights():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 6, 40)
    y = x + rng.integers(0, 6, 40)
    found = spearman(x, y)
    assert found.value == pytest.approx(scipy_stats.spearmanr(x, y).statistic)
    r = found.value
    half = 1.959964 * math.sqrt((1 + r * r / 2) / 37)
    assert found.interval.low == pytest.approx(math.tanh(math.atanh(r) - half), abs=1e-6)
    assert found.interval.high == pytest.approx(math.tanh(math.atanh(r) + half), abs=1e-6)


def test_what_does_not_vary_has_no_correlation():
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]).value is None
    assert spearman([1, 2], [1, 2]).value is None
    assert spearman([1, 2, 3, 4], [1, 2, 3, 4]).interval is None


def test_spearman_brown_doubles_the_length():
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(-0.2) is None and spearman_brown(None) is None


def test_reliability_from_halves_is_the_share_of_true_variance():
    (_, halves), _ = measured(error=0.5)
    assert halves.reliability() == pytest.approx(1 / 1.25, abs=0.02)


def test_halves_that_are_missing_are_left_out():
    (_, halves), _ = measured(n=500)
    first = halves.first.copy()
    first[:, ::3] = np.nan
    kept = np.flatnonzero(np.arange(500) % 3)
    assert Halves(first, halves.second).reliability() == pytest.approx(
        halves.of(kept).reliability()
    )
    assert Halves(np.full((2, 5), np.nan), np.zeros((2, 5))).reliability() is None
    assert Halves(np.ones((2, 5)), np.ones((2, 5))).reliability() is None


def test_reliability_from_errors_is_one_minus_their_share_of_the_variance():
    values = np.array([0.0, 1.0, 2.0, 3.0])  # variance 5/3
    assert reliability_from_errors(values, [0.5] * 4) == pytest.approx(1 - 0.25 * 3 / 5)
    assert reliability_from_errors(values, [2.0] * 4) is None
    with_gap = Errors(np.array([*values, np.nan]), np.array([0.5] * 5))
    assert with_gap.reliability() == pytest.approx(1 - 0.25 * 3 / 5)


def test_disattenuation_finds_the_correlation_of_true_values():
    (x, first), (y, second) = measured(rho=0.6, error=0.7)
    raw = float(np.corrcoef(x, y)[0, 1])
    assert raw == pytest.approx(0.6 / 1.49, abs=0.03)
    found = disattenuated(raw, first.reliability(), second.reliability())
    assert found == pytest.approx(0.6, abs=0.04)
    assert disattenuated(0.4, 0.5, 0.8) == pytest.approx(0.4 / math.sqrt(0.4))
    assert disattenuated(0.4, None, 0.8) is None


def test_intervals_hold_what_they_are_of():
    (x, first), (y, second) = measured(n=200, rho=0.6, error=0.5, n_splits=1)
    ends = disattenuated_interval(x, y, first, second, n_replicates=200, seed=0)
    assert ends.low < 0.6 < ends.high < 1.0
    ends = reliability_interval(first, n_replicates=200, seed=0)
    assert ends.low < 0.8 < ends.high


def test_the_same_seed_gives_the_same_interval():
    (_, first), _ = measured(n=50)
    ends = [reliability_interval(first, n_replicates=50, seed=3) for _ in range(2)]
    assert ends[0] == ends[1]


def test_too_few_resamples_with_a_number_give_no_interval():
    assert percentile_interval([0.1, 0.2], 1000, 0.95) is None
    assert percentile_interval([0.5] * 1000, 1000, 0.95) is None


def test_weighted_kappa_is_one_less_weighted_disagreement():
    # Table of Cohen (1968) form: 3 grades, quadratic weights, by hand.
    x = [0] * 5 + [1] * 3 + [2] * 2
    y = [0, 0, 0, 1, 2, 1, 1, 2, 2, 0]
    seen = (1 + 4 + 1 + 4) / 10
    expected = np.mean([(a - b) ** 2 for a in x for b in y])
    assert weighted_kappa(x, y, 3) == pytest.approx(1 - seen / expected)


def test_kappa_has_its_known_ends():
    assert weighted_kappa([0, 1, 2, 3], [0, 1, 2, 3], 4) == 1.0
    assert weighted_kappa([0, 0, 3, 3], [3, 3, 0, 0], 4) == pytest.approx(-1.0)
    assert weighted_kappa([2, 2], [2, 2], 4) is None
    assert weighted_kappa([], [], 4) is None
    # Independent raters agree as much as chance.
    x, y = np.repeat([0, 1, 2], 3), np.tile([0, 1, 2], 3)
    assert weighted_kappa(x, y, 3) == pytest.approx(0.0)


def test_ratings_off_the_scale_are_refused():
    with pytest.raises(ValueError, match="between 0 and 3"):
        weighted_kappa([4], [1], 4)
    with pytest.raises(ValueError, match="whole"):
        weighted_kappa([0.5], [1], 4)


def test_an_interval_of_kappa_holds_it():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, 60)
    y = np.clip(x + rng.integers(-1, 2, 60), 0, 3)
    found = kappa_interval(x, y, 4, n_replicates=300, seed=1)
    assert found.interval.low < found.value < found.interval.high
    assert kappa_interval([0, 1], [0, 1], 4, seed=0).interval is None
