"""How often nominal 95 % intervals cover the population's value: JSON.

Windows: units over a finite corpus of zero-inflated windows (`tests/stats/default_design.py`),
sampled by the default design; intervals of r, of lift over three donors, and of the paired
difference of two explanations. "text like this": a new corpus for every replication, against the
value over very many corpora (`--population`), by the intervals that scores have. "this corpus":
`--corpora` corpora, sampled again and again, against the value in each, by intervals that are given
the windows' inclusion probabilities; and, to show the difference, by those that are not.

Units: lifts of which 40 % are near zero and the others spread up to 1; intervals of a mean (which
the mean paired difference is), of a difference of two groups, and of Cliff's delta.

Exact: the least coverage of the Clopper-Pearson interval over 999 shares, by summation.

    python -m benchmarks.coverage --replications 1000
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from autointerp import stats
from autointerp.records import Interval
from tests.stats.default_design import (
    KINDS,
    Corpus,
    Sample,
    corpus_of,
    draw,
    population_correlations,
)

DONORS = ("donor 0", "donor 1", "donor 2")
ALL = (*KINDS, *DONORS)


def covers(interval: Interval | None, truth: float) -> bool:
    """Whether there is an interval and it holds the value."""
    return interval is not None and interval.low <= truth <= interval.high


def window_coverage(n: int, n_population: int, n_replicates: int, seed: int) -> dict[str, Any]:
    """Coverage of the value over text like this."""
    rng = np.random.default_rng(seed)
    truth = population_correlations(np.random.default_rng(seed + 1), ALL, n_population)
    counts = _Counts()
    for _ in range(n):
        corpus = corpus_of(rng)
        counts.add(_one_sample(rng, corpus, draw(rng, corpus), truth, n_replicates))
    return counts.as_json()


def corpus_coverage(n: int, n_corpora: int, n_replicates: int, seed: int) -> dict[str, Any]:
    """Coverage of the value in the corpus that was drawn from, with and without probabilities."""
    rng = np.random.default_rng(seed)
    counts = {"given probabilities": _Counts(), "not given": _Counts()}
    for _ in range(n_corpora):
        corpus = corpus_of(rng)
        truth = {kind: corpus.correlation(kind) for kind in ALL}
        chances = corpus.weights()
        for _ in range(max(1, n // n_corpora)):
            sample = draw(rng, corpus)
            for name, given in (
                ("given probabilities", chances[sample.places]),
                ("not given", None),
            ):
                found = _one_sample(rng, corpus, sample, truth, n_replicates, given)
                counts[name].add(found)
    return {name: found.as_json() for name, found in counts.items()}


class _Counts:
    """How often each interval covered."""

    def __init__(self) -> None:
        self.hits: dict[str, list[bool]] = {}
        self.values: dict[str, list[float]] = {}
        self.widths: dict[str, list[float]] = {}

    def add(self, found: list[tuple[str, float, Interval | None]]) -> None:
        for name, value, interval in found:
            self.hits.setdefault(name, []).append(covers(interval, value))
            self.values.setdefault(name, []).append(value)
            if interval is not None:
                self.widths.setdefault(name, []).append(interval.high - interval.low)

    def as_json(self) -> dict[str, Any]:
        return {
            name: {
                "coverage": round(float(np.mean(hits)), 4),
                "n": len(hits),
                "mean_value": round(float(np.mean(self.values[name])), 3),
                "median_width": round(float(np.median(self.widths[name])), 3),
            }
            for name, hits in self.hits.items()
        }


def _one_sample(
    rng: np.random.Generator,
    corpus: Corpus,
    sample: Sample,
    truth: dict[str, float],
    n_replicates: int,
    probabilities: np.ndarray | None = None,
) -> list[tuple[str, float, Interval | None]]:
    shared: dict[str, Any] = {
        "n_replicates": n_replicates, "seed": rng, "probabilities": probabilities,
    }  # fmt: skip
    places = (sample.strata, sample.clusters)
    chance = float(np.mean([truth[donor] for donor in DONORS]))
    expected = {kind: sample.expected(corpus, kind) for kind in ALL}
    donors = [expected[donor] for donor in DONORS]
    found: list[tuple[str, float, Interval | None]] = []
    for kind in KINDS:
        own = expected[kind]
        score = stats.bootstrap_pooled_pearson(sample.true, own, *places, **shared)
        lift = stats.bootstrap_lift(sample.true, own, donors, *places, **shared)
        found += [(f"r, {kind}", truth[kind], score), (f"lift, {kind}", truth[kind] - chance, lift)]
    for a, b in (("good", "patchy"), ("patchy", "unrelated")):
        interval = stats.bootstrap_lift(sample.true, expected[a], [expected[b]], *places, **shared)
        found.append((f"paired difference, {a} - {b}", truth[a] - truth[b], interval))
    return found


def lifts(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """[n] lifts: 40 % of units near zero, the others skewed up to 1."""
    near_zero = rng.random(n) < 0.4
    return np.where(near_zero, rng.normal(0, 0.03, n), rng.beta(1.2, 2.5, n) + shift)


def unit_coverage(n: int, n_replicates: int, seed: int) -> dict[str, Any]:
    """Coverage over units."""
    rng = np.random.default_rng(seed)
    population = (
        lifts(np.random.default_rng(0), 400_000),
        lifts(np.random.default_rng(1), 400_000, 0.1),
    )
    means = population[0].mean(), population[1].mean()
    order = np.searchsorted(np.sort(population[1]), population[0])
    delta = 2 * float(order.mean()) / len(population[1]) - 1
    cases: dict[str, Callable[[int], tuple[float, Interval | None]]] = {
        "mean lift": lambda k: (
            means[0],
            stats.bootstrap_mean(lifts(rng, k), n_replicates=n_replicates, seed=rng),
        ),
        "mean paired difference": lambda k: (
            0.1 * 0.6,
            stats.bootstrap_mean(_paired(rng, k), n_replicates=n_replicates, seed=rng),
        ),
        "difference of two groups": lambda k: (
            means[0] - means[1],
            stats.bootstrap_difference(
                lifts(rng, k), lifts(rng, k, 0.1), n_replicates=n_replicates, seed=rng
            ),
        ),
        "Cliff's delta": lambda k: (
            delta,
            stats.cliffs_delta_interval(lifts(rng, k), lifts(rng, k, 0.1)),
        ),
    }  # fmt: skip
    return {
        f"{name}, {k} units": {
            "coverage": round(float(np.mean([covers(*case(k)[::-1]) for _ in range(n)])), 4),
            "n": n,
        }
        for name, case in cases.items()
        for k in (8, 16, 50)
    }


def _paired(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n] differences of two explainers on one unit: 0.1 where it can be explained at all."""
    explained = rng.random(n) < 0.6
    return np.where(explained, 0.1 + rng.laplace(0, 0.1, n), rng.normal(0, 0.03, n))


def clopper_pearson(sizes: tuple[int, ...] = (5, 8, 20, 100)) -> dict[str, float]:
    """Least exact coverage over shares 0.001 to 0.999, by summation over all outcomes."""
    shares = np.linspace(0.001, 0.999, 999)
    found: dict[str, float] = {}
    for n in sizes:
        ends = [stats.exact_binomial(k, n).interval for k in range(n + 1)]
        low = np.array([e.low if e else 0.0 for e in ends])
        high = np.array([e.high if e else 1.0 for e in ends])
        mass = scipy_stats.binom.pmf(np.arange(n + 1)[:, None], n, shares[None, :])
        inside = (low[:, None] <= shares) & (shares <= high[:, None])
        found[f"Clopper-Pearson, n = {n}"] = round(float((mass * inside).sum(0).min()), 4)
    return found


def main() -> None:
    """Print the coverage of every interval."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--corpora", type=int, default=100)
    parser.add_argument("--population", type=int, default=2000)
    parser.add_argument("--only", choices=("windows", "corpus", "units", "exact"))
    parser.add_argument("--bootstrap", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    n, n_replicates, seed = given.replications, given.bootstrap, given.seed
    parts: dict[str, Callable[[], Any]] = {
        "windows": lambda: {
            "text like this": window_coverage(n, given.population, n_replicates, seed)
        },
        "corpus": lambda: corpus_coverage(n, given.corpora, n_replicates, seed),
        "units": lambda: unit_coverage(n, n_replicates, seed),
        "exact": clopper_pearson,
    }
    found: dict[str, Any] = {"replications": n, "bootstrap": n_replicates}
    for name, part in parts.items():
        if given.only in (None, name):
            found[name] = part()
    found["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
