"""A world of sparse units and imperfect explanations, sampled by stratum, with known truth.

Stratum h of H holds windows whose maximum lies in the h-th interval of the unit's range from the
top; the last stratum is silent. The estimand is what the pooled correlation converges to when
every stratum keeps its share of windows.
"""

from dataclasses import dataclass

import numpy as np

from autointerp.stats import pearson_from_moments, window_moments

N_TOKENS = 32
MANY = 4000


@dataclass(frozen=True)
class Sample:
    true: list[np.ndarray]
    expected: list[list[np.ndarray]]
    strata: list[int]
    clusters: list[str]


def true_windows(rng: np.random.Generator, stratum: int, n_strata: int, n: int) -> np.ndarray:
    if stratum == n_strata - 1:
        return np.zeros((n, N_TOKENS))
    width = 10 / (n_strata - 1)
    maximum = 0.05 + width * (n_strata - 2 - stratum + rng.random((n, 1)))
    rank = rng.random((n, N_TOKENS)).argsort(axis=1).argsort(axis=1)
    others = np.where(rank <= rng.poisson(2.0, (n, 1)), rng.random((n, N_TOKENS)) * maximum, 0.0)
    return np.where(rank == 0, maximum, others)


def predictions(rng: np.random.Generator, true: np.ndarray, stratum: int, kind: str) -> np.ndarray:
    n, shape = len(true), true.shape
    noisy = np.clip(true + rng.normal(0, 1, shape) * (true > 0), 0, 10)
    match kind:
        case "good":
            return noisy + (rng.random(shape) < 0.03) * rng.uniform(0, 4, shape)
        case "patchy":
            understood = rng.random((n, 1)) < (0.9 if stratum <= 1 else 0.5)
            bursts = (rng.random((n, 1)) < 0.2) & (rng.random(shape) < 0.15)
            return noisy * understood + bursts * rng.uniform(2, 8, shape)
        case "unrelated":
            strength = rng.gamma(1, 1, (n, 1))
            return strength * (rng.random(shape) < 0.1) * rng.uniform(0, 8, shape)
        case "bursts":
            on = (rng.random((n, 1)) < 0.3) & (rng.random(shape) < 0.4)
            return on * rng.uniform(0, 8, shape)
        case _:
            raise ValueError(kind)


def draw(rng: np.random.Generator, allocation: list[int], kinds: list[str]) -> Sample:
    """One sample: `allocation[h]` windows of stratum h, one prediction per kind."""
    n_strata = len(allocation)
    sample = Sample([], [[] for _ in kinds], [], [])
    for stratum, n in enumerate(allocation):
        true = true_windows(rng, stratum, n_strata, n)
        sample.true.extend(true)
        for place, kind in zip(sample.expected, kinds, strict=True):
            place.extend(predictions(rng, true, stratum, kind))
        sample.strata.extend([stratum] * n)
        sample.clusters.extend(f"{stratum}.{i}" for i in range(n))
    return sample


def estimands(allocation: list[int], kinds: list[str]) -> list[float]:
    """The correlation of each kind of prediction in the whole world."""
    sample = draw(np.random.default_rng(0), [MANY] * len(allocation), kinds)
    weights = np.repeat(allocation, MANY).astype(float)
    moments = (window_moments(sample.true, expected) for expected in sample.expected)
    return [float(pearson_from_moments(weights @ m).values) for m in moments]
