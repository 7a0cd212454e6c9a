"""Coverage on the default design; the full table is `benchmarks/coverage.py`."""

import numpy as np
import pytest

from autointerp.stats import bootstrap_lift, bootstrap_mean, exact_binomial

from .default_design import corpus_of, draw, quotas

N = 150
TOLERANCE = 3 * np.sqrt(0.95 * 0.05 / N)
"""Three standard errors of a share of N at 0.95."""


def test_the_sample_has_the_windows_of_the_default_design() -> None:
    corpus = corpus_of(np.random.default_rng(0))
    sample = draw(np.random.default_rng(1), corpus)
    # The strongest window is of `top`, which may leave nothing of the highest interval.
    assert sum(quotas().values()) == 22
    assert 21 <= len(sample.strata) <= 22
    assert corpus.weights().sum() == pytest.approx(len(sample.strata))


def test_the_paired_difference_of_two_explanations_is_covered() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(3):
        corpus = corpus_of(rng)
        truth = corpus.correlation("good") - corpus.correlation("patchy")
        for _ in range(N // 3):
            sample = draw(rng, corpus)
            interval = bootstrap_lift(
                sample.true,
                sample.expected(corpus, "good"),
                [sample.expected(corpus, "patchy")],
                sample.strata,
                sample.clusters,
                n_replicates=200,
                seed=rng,
            )
            covered += interval is not None and interval.low <= truth <= interval.high
    assert covered / N >= 0.95 - TOLERANCE


def test_the_mean_over_zero_inflated_units_is_covered() -> None:
    rng = np.random.default_rng(0)
    truth, covered = 0.6 * 1.2 / 3.7, 0
    for _ in range(N):
        near_zero = rng.random(16) < 0.4
        lifts = np.where(near_zero, rng.normal(0, 0.03, 16), rng.beta(1.2, 2.5, 16))
        interval = bootstrap_mean(lifts, n_replicates=200, seed=rng)
        covered += interval is not None and interval.low <= truth <= interval.high
    assert abs(covered / N - 0.95) <= TOLERANCE


@pytest.mark.parametrize("n", [5, 20])
def test_the_interval_of_a_share_covers_at_every_share(n: int) -> None:
    from scipy import stats

    shares = np.linspace(0.01, 0.99, 99)
    covered = np.zeros(99)
    for k in range(n + 1):
        interval = exact_binomial(k, n).interval
        assert interval is not None
        inside = (interval.low <= shares) & (shares <= interval.high)
        covered += inside * stats.binom.pmf(k, n, shares)
    assert covered.min() >= 0.95
