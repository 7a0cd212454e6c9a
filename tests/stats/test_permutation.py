import numpy as np
import pytest
from scipy import stats

from autointerp.stats import permutation_test, sign_flip_test


def test_small_groups_are_tested_exactly():
    a, b = [0.9, 0.7, 0.8, 0.95], [0.2, 0.75, 0.4, 0.3, 0.1]
    exact = stats.permutation_test(
        (a, b),
        lambda x, y: abs(np.mean(x) - np.mean(y)),
        n_resamples=np.inf,
        alternative="greater",
    ).pvalue
    assert permutation_test(a, b, seed=0) == pytest.approx(exact, abs=1e-12)
    assert permutation_test([1.0, 2.0], [3.0, 4.0], seed=0) == pytest.approx(2 / 6)


def test_bins_are_counted_out_together():
    # Two bins of 1 + 1: four ways, of which the observed one and its mirror reach the difference.
    p = permutation_test([1.0, 5.0], [0.0, 4.0], bins_a=[0, 1], bins_b=[0, 1], seed=0)
    assert p == pytest.approx(2 / 4)


def test_large_groups_are_sampled_and_agree_with_the_normal_approximation():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.25, 1, 300), rng.normal(0, 1, 300)
    expected = stats.ttest_ind(a, b).pvalue
    assert permutation_test(a, b, seed=0) == pytest.approx(expected, abs=0.01)


def test_sign_flips_agree_with_scipy_on_all_signs():
    differences = np.array([0.4, -0.1, 0.3, 0.25, 0.05, 0.5, -0.02])
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_test(differences, seed=0) == pytest.approx(exact, abs=1e-12)


def test_sampled_sign_flips_agree_with_the_exact_test():
    differences = np.random.default_rng(3).normal(0.3, 1, 13)
    exact = sign_flip_test(differences, seed=0)
    sampled = sign_flip_test(differences, n_permutations=8000, seed=0)
    assert exact is not None
    assert sampled == pytest.approx(exact, abs=0.02)


def test_no_difference_and_no_pair():
    assert sign_flip_test([0.0, 0.0, 0.0], seed=0) == 1
    assert sign_flip_test([], seed=0) is None
    with pytest.raises(ValueError, match="holds nan"):
        sign_flip_test([0.1, float("nan")], seed=0)
