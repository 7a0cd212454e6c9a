"""Coverage on the default design; the full table is `benchmarks/coverage.py`."""

import numpy as np
import pytest

from autointerp.records import Interval
from autointerp.stats import (
    bootstrap_lift,
    bootstrap_mean,
    bootstrap_pooled_pearson,
    exact_binomial,
)

from .default_design import corpus_of, draw, population_correlations, quotas

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


def covered(interval: Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def test_text_like_this_is_covered_by_the_intervals_of_scores() -> None:
    rng = np.random.default_rng(0)
    truth = population_correlations(np.random.default_rng(1), ("good", "patchy"), 200)
    hits = {"good": 0, "patchy": 0, "difference": 0}
    for _ in range(N):
        corpus = corpus_of(rng)
        sample = draw(rng, corpus)
        said = {kind: sample.expected(corpus, kind) for kind in truth}
        shared = {"n_replicates": 200, "seed": rng}
        places = (sample.strata, sample.clusters)
        for kind, value in truth.items():
            interval = bootstrap_pooled_pearson(sample.true, said[kind], *places, **shared)
            hits[kind] += covered(interval, value)
        interval = bootstrap_lift(sample.true, said["good"], [said["patchy"]], *places, **shared)
        hits["difference"] += covered(interval, truth["good"] - truth["patchy"])
    assert all(abs(n / N - 0.95) <= TOLERANCE for n in hits.values()), hits


def test_the_corpus_itself_is_covered_given_probabilities() -> None:
    rng = np.random.default_rng(0)
    hits, n = {"good": 0, "patchy": 0, "difference": 0}, 0
    for _ in range(30):
        corpus = corpus_of(rng)
        truth = {kind: corpus.correlation(kind) for kind in ("good", "patchy")}
        for _ in range(N // 30):
            sample = draw(rng, corpus)
            n += 1
            said = {kind: sample.expected(corpus, kind) for kind in truth}
            chances = corpus.weights()[sample.places]
            shared = {"n_replicates": 200, "seed": rng, "probabilities": chances}
            places = (sample.strata, sample.clusters)
            for kind, value in truth.items():
                interval = bootstrap_pooled_pearson(sample.true, said[kind], *places, **shared)
                hits[kind] += covered(interval, value)
            interval = bootstrap_lift(
                sample.true, said["good"], [said["patchy"]], *places, **shared
            )
            hits["difference"] += covered(interval, truth["good"] - truth["patchy"])
    assert all(abs(hit / n - 0.95) <= TOLERANCE for hit in hits.values()), hits


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
