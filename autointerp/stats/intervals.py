"""Confidence intervals of means, differences, shares and plain correlations.

Units (or other independent things) are what is resampled here; for the interval of one unit's
score over its windows see `rescaled_bootstrap`. An interval that the data cannot support is
`None`, never one of zero width.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.records import Interval
from autointerp.stats.estimate import FloatArray, finite_vector

Seed: TypeAlias = int | np.random.Generator

MIN_BOOTSTRAP_SIZE = 8
"""Below this sample size studentised resamples are too wild, and Student's t is used alone."""


@dataclass(frozen=True)
class BinomialResult:
    """A share of successes with its exact interval and test."""

    share: float | None
    """k / n; `None` for n = 0."""

    interval: Interval | None
    """Clopper-Pearson; `None` for n = 0."""

    p_value: float | None
    """Two-sided exact test against `p0`; `None` for n = 0."""


def check_level(level: float) -> None:
    """Refuse a coverage outside (0, 1).

    Raises:
        ValueError: with the value seen.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}; 0.95 means 95 %")


def bootstrap_mean(
    values: npt.ArrayLike, *, n_replicates: int = 1000, level: float = 0.95, seed: Seed
) -> Interval | None:
    """Interval of the mean over independent units, by the symmetric bootstrap-t.

    mean ± h · sd / sqrt(n), h the `level` quantile of |mean* - mean| / (sd* / sqrt(n)) over
    resamples (Hall 1988), never below Student's t with n - 1 degrees of freedom. With fewer than 8
    units h is Student's t.

    Measured coverage at 95 % (2,000 samples each of normal, two skewed beta, zero-inflated,
    Bernoulli and normal-with-outliers scores): 0.93-0.99 at n = 8 and 10, 0.95-0.96 at 20 and 50.
    On the same populations without the Bernoulli one, at n = 10, the percentile and BCa bootstraps
    cover 0.86-0.91 and Student's t alone 0.90-0.96; at n = 4 Student's t covers 0.88-0.95 and BCa
    0.73-0.81.

    Args:
        values: [n_units], one number per unit.
        n_replicates: resamples.
        level: nominal coverage.
        seed: a seed or a generator.

    Returns:
        The interval; `None` for fewer than two units or where all values are the same.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    check_level(level)
    x = finite_vector(values, "values")
    if x.size < 2 or np.ptp(x) == 0:
        return None
    mean, error = _mean_and_error(x)
    degrees = x.size - 1
    if x.size < MIN_BOOTSTRAP_SIZE:
        return _student(mean, error, degrees, level)
    means, errors = _resampled(x, n_replicates, np.random.default_rng(seed))
    return _symmetric_bootstrap_t(mean, error, degrees, means - mean, errors, level)


def bootstrap_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: Seed,
) -> Interval | None:
    """Interval of mean(a) - mean(b) of two independent samples, by the symmetric bootstrap-t.

    As `bootstrap_mean`, with standard error sqrt(sd_a^2 / n_a + sd_b^2 / n_b) and Welch's degrees
    of freedom. For paired samples give their differences to `bootstrap_mean`.

    Measured coverage at 95 % for two samples of one population, as there: 0.94-0.98 at n = 8 to 50.

    Args:
        a: [n_a] one number per unit of the first group.
        b: [n_b] one number per unit of the second group.
        n_replicates: resamples.
        level: nominal coverage.
        seed: a seed or a generator.

    Returns:
        The interval; `None` where a group has fewer than two units, or both are constant.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    check_level(level)
    x, y = finite_vector(a, "a"), finite_vector(b, "b")
    if min(x.size, y.size) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return None
    (mean_x, error_x), (mean_y, error_y) = _mean_and_error(x), _mean_and_error(y)
    difference, error = mean_x - mean_y, math.hypot(error_x, error_y)
    degrees = error**4 / (error_x**4 / (x.size - 1) + error_y**4 / (y.size - 1))
    if min(x.size, y.size) < MIN_BOOTSTRAP_SIZE:
        return _student(difference, error, degrees, level)
    generator = np.random.default_rng(seed)
    means_x, errors_x = _resampled(x, n_replicates, generator)
    means_y, errors_y = _resampled(y, n_replicates, generator)
    deviations = means_x - means_y - difference
    errors = np.hypot(errors_x, errors_y)
    return _symmetric_bootstrap_t(difference, error, degrees, deviations, errors, level)


def exact_binomial(k: int, n: int, level: float = 0.95, *, p0: float = 0.5) -> BinomialResult:
    """Share k / n with its Clopper-Pearson interval and exact two-sided test of share = `p0`.

    Args:
        k: successes.
        n: independent trials.
        level: nominal coverage.
        p0: the share under chance.

    Raises:
        ValueError: unless 0 <= k <= n and 0 <= p0 <= 1.
    """
    check_level(level)
    if not 0 <= k <= n:
        raise ValueError(f"k must lie between 0 and n, got k={k}, n={n}")
    if n == 0:
        return BinomialResult(None, None, None)
    test = stats.binomtest(k, n, p0)
    ends = test.proportion_ci(level, method="exact")
    interval = Interval(float(ends.low), float(ends.high), level, "Clopper-Pearson")
    return BinomialResult(k / n, interval, float(test.pvalue))


def share_interval(
    values: npt.ArrayLike, clusters: Sequence[Hashable], level: float = 0.95
) -> Interval | None:
    """Interval of the mean of values in [0, 1], such as right, half right, wrong.

    Clopper-Pearson with k = n · mean successes of n, neither of them whole: its ends are quantiles
    of beta(k, n - k + 1) and beta(k + 1, n - k). Of all values in [0, 1] with a given mean, zeros
    and ones vary most, so it covers at least as often as for those. n is the number of values if
    each has a cluster of its own, else Kish's effective number (Σ m)² / Σ m² of clusters of sizes
    m: values of one cluster then count as if they were all the same.

    Args:
        values: [n_items] in [0, 1].
        clusters: [n_items] what items are not independent within.
        level: nominal coverage.

    Returns:
        The interval; `None` for no values.

    Raises:
        ValueError: if lengths differ, or a value lies outside [0, 1].
    """
    check_level(level)
    x = finite_vector(values, "values")
    if x.size != len(clusters):
        raise ValueError(f"{x.size} values, but {len(clusters)} clusters")
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"values must lie between 0 and 1, got {x.min()} to {x.max()}")
    if not x.size:
        return None
    sizes = np.array(list(Counter(clusters).values()), np.float64)
    n = float(sizes.sum() ** 2 / (sizes**2).sum())
    k = n * float(x.mean())
    low = float(stats.beta.ppf((1 - level) / 2, k, n - k + 1)) if k > 0 else 0.0
    high = float(stats.beta.ppf((1 + level) / 2, k + 1, n - k)) if k < n else 1.0
    return Interval(low, high, level, f"Clopper-Pearson, n = {n:.3g}")


def fisher_z_interval(r: float, n: float, level: float = 0.95) -> Interval | None:
    """tanh(atanh(r) ± z / sqrt(n - 3)): the interval of a correlation of n independent pairs.

    A check on other intervals, not one to report: tokens are not independent, so n should be an
    effective number, and zero-inflated activations are not normal.

    Args:
        r: a correlation.
        n: (effective) number of independent pairs.
        level: nominal coverage.

    Returns:
        The interval; `None` where n <= 3 or |r| = 1.

    Raises:
        ValueError: unless -1 <= r <= 1.
    """
    check_level(level)
    if not -1 <= r <= 1:
        raise ValueError(f"r must lie between -1 and 1, got {r}")
    if n <= 3 or abs(r) == 1:
        return None
    half = float(stats.norm.ppf((1 + level) / 2)) / math.sqrt(n - 3)
    z = math.atanh(r)
    return Interval(math.tanh(z - half), math.tanh(z + half), level, "Fisher z")


def _mean_and_error(x: FloatArray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1)) / math.sqrt(x.size)


def _resampled(
    x: FloatArray, n_replicates: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Means and standard errors, both [n_replicates], of resamples of `x` with replacement."""
    draws = x[generator.integers(0, x.size, (n_replicates, x.size))]
    return draws.mean(axis=1), draws.std(axis=1, ddof=1) / math.sqrt(x.size)


def _student(point: float, error: float, degrees: float, level: float) -> Interval:
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * error
    return Interval(point - half, point + half, level, "Student t")


def _symmetric_bootstrap_t(
    point: float,
    error: float,
    degrees: float,
    deviations: FloatArray,
    errors: FloatArray,
    level: float,
) -> Interval:
    # A resample of one repeated value has no spread and says nothing about the t statistic.
    usable = errors > 1e-9 * error
    quantile = float(stats.t.ppf((1 + level) / 2, degrees))
    if usable.any():
        studentised = np.abs(deviations[usable]) / errors[usable]
        quantile = max(quantile, float(np.quantile(studentised, level)))
    return Interval(point - quantile * error, point + quantile * error, level, "bootstrap t")
