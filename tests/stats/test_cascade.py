"""Thresholds of cheap scores: exact tests in a fixed order, and what they promise."""

import numpy as np
import pytest
from scipy import stats

from autointerp.stats.cascade import gold_units_needed, thresholds


def test_the_fewest_gold_units_are_those_of_the_closed_form():
    assert gold_units_needed(0.1, 0.05) == 29
    assert 0.9**29 <= 0.05 < 0.9**28


def test_with_too_few_gold_units_nothing_is_decided():
    f = np.arange(20.0)
    found = thresholds(f, f >= 10, bar=0.5)
    assert (found.poor, found.good) == (None, None)
    assert found.decide(-100.0) is None


def test_a_perfect_cheap_score_decides_nearly_all():
    f = np.arange(200.0)
    found = thresholds(f, (f >= 100).astype(float), bar=0.5)
    assert (found.poor, found.good) == (99, 100)
    assert (found.wrong_poor, found.wrong_good) == (0, 0)
    assert [found.decide(x) for x in (0.0, 199.0, None)] == ["poor", "good", None]


def test_a_threshold_is_the_last_that_the_exact_test_allows():
    rng = np.random.default_rng(0)
    f = rng.normal(size=400)
    good = f + rng.normal(size=400) > 0
    found = thresholds(f, good.astype(float), bar=0.5, max_error=0.2, delta=0.1)
    assert found.poor is not None
    assert found.n_poor == (f <= found.poor).sum()
    assert found.wrong_poor == good[f <= found.poor].sum()
    assert stats.binom.cdf(found.wrong_poor, found.n_poor, 0.2) <= 0.05
    after = np.sort(f)[found.n_poor]
    n = (f <= after).sum()
    assert stats.binom.cdf(good[f <= after].sum(), n, 0.2) > 0.05


def test_a_cheap_score_that_says_nothing_decides_nothing():
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(200):
        found = thresholds(rng.normal(size=100), rng.integers(0, 2, 100), bar=0.5)
        decided += found.poor is not None or found.good is not None
    assert decided <= 2


def test_equal_scores_are_decided_alike():
    f = np.array([0.0] * 40 + [1.0] * 40)
    gold = np.array([0.0] * 40 + [1.0] * 20 + [0.0] * 20)
    found = thresholds(f, gold, bar=0.5)
    assert (found.poor, found.n_poor, found.good) == (0.0, 40, None)


def test_errors_exceed_what_is_allowed_in_at_most_delta_of_all_draws():
    # Cheap and gold of a million units; thresholds from 200 of them, again and again.
    rng = np.random.default_rng(0)
    f = rng.normal(size=1_000_000)
    good = 0.8 * f + 0.6 * rng.normal(size=f.size) > 0
    order = np.sort(f)
    right = np.append(0, np.cumsum(good[np.argsort(f)]))
    exceeded, n = 0, 400
    for _ in range(n):
        drawn = rng.integers(0, f.size, 200)
        found = thresholds(f[drawn], good[drawn].astype(float), bar=0.5)
        below = 0 if found.poor is None else int(np.searchsorted(order, found.poor, "right"))
        above = f.size if found.good is None else int(np.searchsorted(order, found.good))
        wrong = (
            right[below] / max(1, below),
            1 - (right[-1] - right[above]) / max(1, f.size - above),
        )
        exceeded += wrong[0] > 0.1 or (found.good is not None and wrong[1] > 0.1)
    assert exceeded / n <= 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5


def test_unusable_arguments_are_refused_with_their_value():
    with pytest.raises(ValueError, match="2 cheap scores, but 1 gold"):
        thresholds([0, 1], [0], bar=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        thresholds([0], [0], bar=0, max_error=1)
