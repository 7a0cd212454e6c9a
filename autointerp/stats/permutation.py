"""Tests by permutation: what the same numbers would show if labels meant nothing.

Where all permutations can be counted the p-value is exact; else random ones are drawn and

    p = (1 + #{|d*| >= |d|}) / (1 + n_permutations)    (Phipson & Smyth 2010)
"""

import math
from itertools import combinations

import numpy as np
import numpy.typing as npt

from autointerp.stats.estimate import FloatArray, finite_vector
from autointerp.stats.intervals import Seed

_CELLS = 2_000_000
"""Numbers permuted at once: bounds the memory, changes no result."""


def permutation_test(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    bins_a: npt.ArrayLike | None = None,
    bins_b: npt.ArrayLike | None = None,
    n_permutations: int = 9999,
    seed: Seed,
) -> float | None:
    """Two-sided p-value of mean(a) - mean(b), labels permuted.

    With bins, labels are permuted inside each bin and d = Σ_k m_k (mean_k(a) - mean_k(b)) / Σ_k
    m_k, where m_k = min(n_a, n_b) of bin k: the rate-matched comparison of `common_support`. Exact
    (every split counted, the observed one among them) where there are no more than
    `n_permutations` splits, as for 7 and 7 units.

    Args:
        a: [n_a] one number per unit of the first group.
        b: [n_b] one number per unit of the second group.
        bins_a: [n_a] bin of each unit of `a`; all units in one bin where `None`.
        bins_b: [n_b] bin of each unit of `b`.
        n_permutations: random permutations.
        seed: a seed or a generator.

    Returns:
        p in (0, 1]; `None` where no bin has units of both groups.

    Raises:
        ValueError: if a value is NaN or infinite, only one of the bins is given, or their lengths
            differ from their groups'.
    """
    x, y = finite_vector(a, "a"), finite_vector(b, "b")
    if (bins_a is None) != (bins_b is None):
        raise ValueError("give the bins of both groups, or of neither")
    k_x = np.zeros(x.size) if bins_a is None else finite_vector(bins_a, "bins_a")
    k_y = np.zeros(y.size) if bins_b is None else finite_vector(bins_b, "bins_b")
    if k_x.size != x.size or k_y.size != y.size:
        raise ValueError(f"{k_x.size} and {k_y.size} bins for {x.size} and {y.size} units")
    pairs = [(x[k_x == k], y[k_y == k]) for k in np.intersect1d(k_x, k_y)]
    if not pairs:
        return None
    observed = sum(min(p.size, q.size) * float(p.mean() - q.mean()) for p, q in pairs)
    total = sum(min(p.size, q.size) for p, q in pairs)
    # Permutations that repeat the observed split must count as reaching it despite rounding.
    reached = abs(observed) - 1e-12 * total * max(np.abs(x).max(), np.abs(y).max())
    if math.prod(math.comb(p.size + q.size, p.size) for p, q in pairs) <= n_permutations:
        return float(np.mean(np.abs(_all_splits(pairs)) >= reached))
    permuted = np.zeros(n_permutations)
    generator = np.random.default_rng(seed)
    for p, q in pairs:
        permuted += min(p.size, q.size) * _random_splits(p, q, n_permutations, generator)
    return (1 + int((np.abs(permuted) >= reached).sum())) / (1 + n_permutations)


def sign_flip_test(
    differences: npt.ArrayLike, *, n_permutations: int = 9999, seed: Seed
) -> float | None:
    """Two-sided p-value of the mean of paired differences, their signs flipped.

    Under the null that the two members of a pair are exchangeable, every sign is as likely as the
    other. Exact where 2^n is no more than `n_permutations` (n up to 13).

    Args:
        differences: [n_pairs].
        n_permutations: random sign vectors.
        seed: a seed or a generator.

    Returns:
        p in (0, 1]; `None` for no pair.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    x = finite_vector(differences, "differences")
    if x.size == 0:
        return None
    reached = abs(x.sum()) - 1e-12 * x.size * np.abs(x).max()
    if 2**x.size <= n_permutations:
        sums = np.zeros(1)
        for value in x:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= reached))
    generator = np.random.default_rng(seed)
    count = 0
    for n in _chunks(n_permutations, x.size):
        signs = 2.0 * generator.integers(0, 2, (n, x.size)) - 1.0
        count += int((np.abs(signs @ x) >= reached).sum())
    return (1 + count) / (1 + n_permutations)


def _all_splits(pairs: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """[n_splits] the weighted difference of means of every way to deal out the labels."""
    sums = np.zeros(1)
    for p, q in pairs:
        pooled = np.concatenate([p, q])
        chosen = np.array([pooled[list(c)].sum() for c in combinations(range(pooled.size), p.size)])
        one = min(p.size, q.size) * (chosen / p.size - (pooled.sum() - chosen) / q.size)
        sums = (sums[:, None] + one[None, :]).ravel()
    return sums


def _random_splits(
    p: FloatArray, q: FloatArray, n: int, generator: np.random.Generator
) -> FloatArray:
    """[n] differences of means of `p` and `q` with permuted labels."""
    pooled = np.concatenate([p, q])
    found: list[FloatArray] = []
    for size in _chunks(n, pooled.size):
        rows = generator.permuted(np.broadcast_to(pooled, (size, pooled.size)).copy(), axis=1)
        found.append(rows[:, : p.size].mean(axis=1) - rows[:, p.size :].mean(axis=1))
    return np.concatenate(found)


def _chunks(n: int, width: int) -> list[int]:
    size = max(1, _CELLS // max(1, width))
    return [min(size, n - start) for start in range(0, n, size)]
