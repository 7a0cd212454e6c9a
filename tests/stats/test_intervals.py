import itertools
import math

import numpy as np
import pytest
from scipy import stats

from autointerp.stats import (
    bootstrap_difference,
    bootstrap_mean,
    exact_binomial,
    fisher_z_interval,
    share_interval,
)


def test_mean_of_few_units_has_the_student_interval():
    x = np.array([0.1, 0.4, 0.3, 0.7])
    interval = bootstrap_mean(x, seed=0)
    low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.method == "Student t"


def test_mean_of_many_normal_units_has_nearly_the_student_interval():
    x = np.random.default_rng(0).normal(size=300)
    interval = bootstrap_mean(x, seed=0, n_replicates=4000)
    low, high = stats.t.interval(0.95, 299, loc=x.mean(), scale=stats.sem(x))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)


def test_difference_of_few_units_has_the_welch_interval():
    a, b = np.array([0.1, 0.4, 0.3, 0.7]), np.array([0.2, 0.9, 0.8, 0.85, 1.9])
    interval = bootstrap_difference(a, b, seed=0)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((welch.low, welch.high))


def test_difference_is_mirrored_when_the_groups_are_swapped():
    rng = np.random.default_rng(0)
    a, b = rng.random(6), rng.random(7)
    forth, back = bootstrap_difference(a, b, seed=0), bootstrap_difference(b, a, seed=0)
    assert forth and back
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


def test_too_little_data_gives_no_interval_rather_than_one_of_zero_width():
    assert bootstrap_mean([], seed=0) is None
    assert bootstrap_mean([0.4], seed=0) is None
    assert bootstrap_mean([0.4] * 20, seed=0) is None
    assert bootstrap_difference([0.4], [0.1, 0.2], seed=0) is None
    assert bootstrap_difference([0.4, 0.4], [0.1, 0.1], seed=0) is None


def test_the_seed_decides_the_interval():
    x = np.random.default_rng(0).beta(0.5, 2, size=30)
    assert bootstrap_mean(x, seed=1) == bootstrap_mean(x, seed=np.random.default_rng(1))
    assert bootstrap_mean(x, seed=1) != bootstrap_mean(x, seed=2)


@pytest.mark.parametrize("n", [10, 30])
def test_coverage_of_the_mean_of_skewed_and_zero_inflated_scores(n):
    rng = np.random.default_rng(0)
    populations = [
        (lambda: rng.beta(0.5, 2, n), 0.2),
        (lambda: np.where(rng.random(n) < 0.4, 0, rng.beta(2, 2, n)), 0.3),
    ]
    for sample, mean in populations:
        intervals = [bootstrap_mean(sample(), n_replicates=400, seed=rng) for _ in range(500)]
        covered = np.mean([i is not None and i.low <= mean <= i.high for i in intervals])
        assert 0.91 <= covered <= 0.985


def test_coverage_of_a_difference_of_skewed_groups():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        interval = bootstrap_difference(
            rng.beta(0.5, 2, 12), rng.beta(5, 1, 25), n_replicates=400, seed=rng
        )
        covered += interval is not None and interval.low <= 0.2 - 5 / 6 <= interval.high
    assert 0.92 <= covered / 400 <= 0.985


def test_clopper_pearson_is_the_beta_quantiles():
    result = exact_binomial(7, 19, 0.95)
    assert result.interval is not None
    assert result.share == pytest.approx(7 / 19)
    assert result.interval.low == pytest.approx(stats.beta.ppf(0.025, 7, 13))
    assert result.interval.high == pytest.approx(stats.beta.ppf(0.975, 8, 12))


def test_exact_p_value_has_its_closed_form():
    # Two-sided at one half: twice the upper tail.
    tail = sum(math.comb(19, k) for k in (17, 18, 19)) / 2**19
    assert exact_binomial(17, 19).p_value == pytest.approx(2 * tail)
    assert exact_binomial(3, 3, p0=1 / 3).p_value == pytest.approx(1 / 27)


def test_all_successes_still_leave_doubt():
    interval = exact_binomial(10, 10).interval
    assert interval is not None
    assert interval.high == 1
    assert interval.low == pytest.approx(0.025 ** (1 / 10))


def test_no_trials_give_no_share():
    result = exact_binomial(0, 0)
    assert (result.share, result.interval, result.p_value) == (None, None, None)


def test_fisher_interval_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    r = stats.pearsonr(x, y)
    theirs = r.confidence_interval(0.9)
    ours = fisher_z_interval(r.statistic, 40, 0.9)
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_fisher_interval_is_none_where_it_would_be_empty_or_endless():
    assert fisher_z_interval(0.5, 3) is None
    assert fisher_z_interval(1.0, 100) is None


def test_unusable_arguments_are_refused_with_their_value():
    with pytest.raises(ValueError, match="got 95"):
        bootstrap_mean([1.0, 2.0], level=95, seed=0)
    with pytest.raises(ValueError, match="k=3, n=2"):
        exact_binomial(3, 2)
    with pytest.raises(ValueError, match=r"got 1.5"):
        fisher_z_interval(1.5, 10)
    with pytest.raises(ValueError, match="values holds nan at position 1"):
        bootstrap_mean([1.0, math.nan], seed=0)


def test_of_zeros_and_ones_the_share_interval_is_clopper_pearson():
    for right in range(8):
        found = share_interval([1.0] * right + [0.0] * (7 - right), list(range(7)))
        expected = exact_binomial(right, 7).interval
        assert found is not None and expected is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_values_of_one_cluster_count_once():
    values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    found = share_interval(values, [0, 0, 1, 1, 2, 2])
    expected = share_interval([1.0, 0.0, 1.0], [0, 1, 2])
    assert found is not None and expected is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert share_interval([], []) is None


def test_halves_are_covered_at_least_as_often_as_said():
    """Exact coverage over all outcomes of n pairs that are right, wrong or a tie."""
    n = 12
    for right, tie in itertools.product((0.1, 0.5, 0.75), (0.1, 0.2)):
        mean = right + tie / 2
        covered = 0.0
        for n_right in range(n + 1):
            for n_tie in range(n - n_right + 1):
                n_wrong = n - n_right - n_tie
                shares = [right, tie, 1 - right - tie]
                p = stats.multinomial.pmf([n_right, n_tie, n_wrong], n, shares)
                values = [1.0] * n_right + [0.5] * n_tie + [0.0] * n_wrong
                found = share_interval(values, list(range(n)))
                assert found is not None
                covered += float(p) * (found.low <= mean <= found.high)
        assert covered >= 0.95
