"""Scores of units as dictionaries have them: many near zero, the others skewed."""

import numpy as np


def lifts(rng: np.random.Generator, n: int) -> np.ndarray:
    """[n] lifts: 40 % of units near zero, the others spread up to 1."""
    near_zero = rng.random(n) < 0.4
    return np.where(near_zero, rng.normal(0, 0.03, n), rng.beta(1.2, 2.5, n))


def cheap_scores(rng: np.random.Generator, gold: np.ndarray, correlation: float) -> np.ndarray:
    """[n] a biased and rescaled score of the given correlation with gold ones."""
    standard = (gold - 0.195) / 0.236  # mean and deviation of `lifts`
    noise = rng.normal(size=gold.size)
    return 0.3 + 0.1 * (correlation * standard + np.sqrt(1 - correlation**2) * noise)
