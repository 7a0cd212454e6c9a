import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.stats import benjamini_hochberg, cliffs_delta, common_support, permutation_test

rates = st.lists(st.floats(0, 1), max_size=40)


def test_groups_with_the_same_rates_are_matched_whole():
    rate = np.logspace(-5, -1, 30)
    support = common_support(rate, rate[::-1])
    assert support.share == 1
    assert support.index_a.tolist() == list(range(30))
    assert np.allclose(support.weights_a, 1)


def test_groups_with_rates_far_apart_share_nothing():
    support = common_support([1e-4, 2e-4], [0.1, 0.2, 0.3])
    assert support.share == 0
    assert support.index_a.size == support.index_b.size == 0


def test_the_share_counts_every_unit_and_the_smaller_group_decides():
    support = common_support([0.01, 0.011, 0.0, 1e-6], [0.0105, 0.5])
    assert support.index_a.tolist() == [0, 1]
    assert support.index_b.tolist() == [0]
    assert support.share_a == pytest.approx(2 / 4)
    assert support.share_b == pytest.approx(1 / 2)
    assert support.share == pytest.approx(1 / 2)


def test_matching_removes_a_difference_that_rate_alone_makes():
    rng = np.random.default_rng(0)
    log_a, log_b = rng.uniform(-5, -2, 4000), rng.uniform(-4, -1, 4000)
    score_a, score_b = -log_a / 5, -log_b / 5
    support = common_support(10**log_a, 10**log_b, bins_per_decade=10)
    matched_a = np.average(score_a[support.index_a], weights=support.weights_a)
    matched_b = np.average(score_b[support.index_b], weights=support.weights_b)
    assert abs(score_a.mean() - score_b.mean()) == pytest.approx(0.2, abs=0.01)
    assert matched_a == pytest.approx(matched_b, abs=0.003)
    assert support.share == pytest.approx(2 / 3, abs=0.03)


@given(rates, rates)
def test_weighted_groups_have_the_same_number_in_every_bin(rate_a, rate_b):
    support = common_support(rate_a, rate_b)
    assert set(support.bins_a) == set(support.bins_b)
    for k in set(support.bins_a):
        in_a = support.weights_a[support.bins_a == k].sum()
        assert in_a == pytest.approx(support.weights_b[support.bins_b == k].sum())
    assert 0 <= support.share <= 1


def test_rates_outside_zero_to_one_are_refused():
    with pytest.raises(ValueError, match=r"rate_b must lie in \[0, 1\], got 0.1 to 3.0"):
        common_support([0.1], [0.1, 3.0])


def test_permutation_test_agrees_with_scipy_on_all_permutations():
    a, b = [0.9, 0.7, 0.8, 0.95], [0.2, 0.75, 0.4, 0.3, 0.1]
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), n_resamples=np.inf
    ).pvalue
    assert permutation_test(a, b, seed=0) == pytest.approx(exact, abs=0.01)


def test_identical_groups_have_p_one():
    assert permutation_test([1.0, 1.0, 1.0], [1.0, 1.0], n_permutations=99, seed=0) == 1


def test_p_values_under_the_null_are_uniform():
    rng = np.random.default_rng(0)
    p = [
        permutation_test(rng.random(12), rng.random(9), n_permutations=199, seed=rng)
        for _ in range(300)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_bins_keep_a_difference_of_rates_out_of_the_verdict():
    rng = np.random.default_rng(0)
    bins_a, bins_b = np.repeat([0, 1], [60, 20]), np.repeat([0, 1], [20, 60])
    a, b = bins_a + rng.normal(0, 0.3, 80), bins_b + rng.normal(0, 0.3, 80)
    assert permutation_test(a, b, n_permutations=999, seed=0) == pytest.approx(0.001)
    matched = permutation_test(a, b, bins_a=bins_a, bins_b=bins_b, n_permutations=999, seed=0)
    assert matched is not None
    assert matched > 0.05


def test_groups_without_a_common_bin_have_no_verdict():
    assert permutation_test([1.0], [2.0], bins_a=[0], bins_b=[1], seed=0) is None
    assert permutation_test([], [2.0], seed=0) is None
    with pytest.raises(ValueError, match="of both groups, or of neither"):
        permutation_test([1.0], [2.0], bins_a=[0], seed=0)


def test_benjamini_hochberg_has_its_closed_form():
    adjusted = benjamini_hochberg([0.01, 0.04, 0.03, 0.5])
    assert adjusted == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]).size == 0
    with pytest.raises(ValueError, match=r"got 0.1 to 1.2"):
        benjamini_hochberg([0.1, 1.2])


def test_cliffs_delta_counts_wins_less_losses():
    a, b = [1.0, 2.0, 3.0], [2.0, 0.0]
    wins = np.mean([[np.sign(x - y) for y in b] for x in a])
    assert cliffs_delta(a, b) == pytest.approx(wins)
    assert cliffs_delta(b, a) == pytest.approx(-wins)
    assert cliffs_delta([5.0], [1.0, 2.0]) == 1
    assert cliffs_delta([], [1.0]) is None
