"""One unit over a whole corpus, sampled by the default design again and again.

Two values are known that a score can estimate: the pooled correlation over all windows of the
corpus, each weighted by its chance of being drawn; and the same over very many corpora of the same
kind, of which this one is a sample. Windows are zero-inflated (nine of ten are silent), most
active ones are weak, and a document has up to three windows.
"""

from dataclasses import dataclass

import numpy as np

from autointerp.recording.design import DEFAULT_QUOTAS, stratum_of
from autointerp.records import Split, Strata
from autointerp.stats import pearson_from_moments, window_moments

N_TOKENS = 32
N_WINDOWS = 1500
E = 10.0
"""The unit's maximum in `explain`."""

KINDS = ("good", "patchy", "rare", "unrelated")
"""Explanations: right on nearly every token; right in half of the windows, and more of the strong
ones; right in one window of five; of something else."""


@dataclass(frozen=True)
class Corpus:
    true: np.ndarray
    """[n_windows, n_tokens]"""
    expected: dict[str, np.ndarray]
    """kind → [n_windows, n_tokens]; a simulator is deterministic: fixed for every sample"""
    strata: list[str]
    documents: list[str]

    def weights(self) -> np.ndarray:
        """[n_windows] chance of being drawn."""
        counts = {name: self.strata.count(name) for name in set(self.strata)}
        quota = quotas()
        return np.array([min(1.0, quota[s] / counts[s]) for s in self.strata])

    def correlation(self, kind: str) -> float:
        """What the score estimates."""
        moments = window_moments(list(self.true), list(self.expected[kind]))
        return float(pearson_from_moments(self.weights() @ moments).values)


def population_correlations(
    rng: np.random.Generator, kinds: tuple[str, ...], n_corpora: int
) -> dict[str, float]:
    """What the score estimates of text like this: from expected sums over very many corpora."""
    totals = {kind: np.zeros(6) for kind in kinds}
    for _ in range(n_corpora):
        corpus = corpus_of(rng)
        weights, t = corpus.weights(), corpus.true
        for kind in kinds:
            s = corpus.expected[kind]
            sums = [x.sum(1) for x in (np.ones_like(t), t, s, t * t, s * s, t * s)]
            totals[kind] += weights @ np.stack(sums, axis=1)
    return {k: float(pearson_from_moments(v / v[0]).values) for k, v in totals.items()}


@dataclass(frozen=True)
class Sample:
    places: np.ndarray
    true: list[np.ndarray]
    strata: list[str]
    clusters: list[str]

    def expected(self, corpus: Corpus, kind: str) -> list[np.ndarray]:
        return list(corpus.expected[kind][self.places])


def quotas() -> dict[str, int]:
    """Windows drawn from each stratum of `test` by the default design."""
    quota = DEFAULT_QUOTAS[Split.TEST]
    per_interval = quota.intervals // Strata.N_INTERVALS
    intervals = {Strata.interval(i): per_interval for i in range(1, Strata.N_INTERVALS + 1)}
    return {
        Strata.TOP: quota.top,
        **intervals,
        Strata.HARD: quota.hard,
        Strata.SILENT: quota.silent,
    }


def corpus_of(rng: np.random.Generator, n_windows: int = N_WINDOWS) -> Corpus:
    """A unit's activations on a corpus, and what is predicted of them."""
    active = rng.random(n_windows) < 0.1
    maxima = np.where(active, E * (0.02 + 0.98 * rng.beta(0.7, 1.6, n_windows)), 0.0)
    rank = rng.random((n_windows, N_TOKENS)).argsort(1).argsort(1)
    others = rng.random((n_windows, N_TOKENS)) * maxima[:, None]
    true = np.where(rank <= rng.poisson(2.0, (n_windows, 1)), others, 0.0)
    true = np.where(rank == 0, maxima[:, None], true)
    hard = ~active & (rng.random(n_windows) < 0.08)
    strata = [
        stratum_of(float(m), E, active_in_sequence=bool(h))
        for m, h in zip(maxima, hard, strict=True)
    ]
    for place in np.argsort(-maxima)[: quotas()[Strata.TOP]]:
        strata[int(place)] = Strata.TOP
    documents = np.repeat(np.arange(n_windows), rng.integers(1, 4, n_windows))[:n_windows]
    return Corpus(true, _predictions(rng, true, hard), strata, [f"d{i}" for i in documents])


def _predictions(
    rng: np.random.Generator, true: np.ndarray, hard: np.ndarray
) -> dict[str, np.ndarray]:
    shape, n = true.shape, len(true)
    noisy = np.clip(true + rng.normal(0, 1, shape) * (true > 0), 0, 10)
    false_alarm = (rng.random(shape) < 0.03) * rng.uniform(0, 4, shape)
    # What sounds alike is taken for it: bursts in hard windows.
    misled = hard[:, None] & (rng.random(shape) < 0.15)
    understood = rng.random((n, 1)) < np.where(true.max(1, keepdims=True) > 8, 0.9, 0.5)
    bursts = (rng.random((n, 1)) < 0.2) & (rng.random(shape) < 0.15)
    strength = rng.gamma(1, 1, (n, 1))
    seldom = rng.random((n, 1)) < 0.2
    return {
        "good": noisy + false_alarm,
        "patchy": noisy * understood + (misled | bursts) * rng.uniform(2, 8, shape),
        "rare": noisy * seldom + (rng.random(shape) < 0.05) * rng.uniform(0, 6, shape),
        "unrelated": strength * (rng.random(shape) < 0.1) * rng.uniform(0, 8, shape),
        **{
            f"donor {i}": (rng.random((n, 1)) < 0.3)
            * (rng.random(shape) < 0.4)
            * rng.uniform(0, 8, shape)
            for i in range(3)
        },
    }


def draw(rng: np.random.Generator, corpus: Corpus) -> Sample:
    """The windows that one recording keeps: simple random samples within strata."""
    strata = np.array(corpus.strata)
    places: list[int] = []
    for stratum, n in quotas().items():
        members = np.flatnonzero(strata == stratum)
        places += rng.choice(members, min(n, len(members)), replace=False).tolist()
    chosen = np.array(places)
    return Sample(
        chosen,
        list(corpus.true[chosen]),
        [corpus.strata[i] for i in places],
        [corpus.documents[i] for i in places],
    )
