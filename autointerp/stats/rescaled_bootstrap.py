"""The interval of one unit's score over its windows, drawn by stratum.

Rao and Wu's rescaled bootstrap (1988): from the n_h independent clusters of stratum h draw
n_h - 1 with replacement; cluster i, drawn k_i times, gets the weight

    w_i · (1 + sqrt(1 - f_i) (k_i · n_h / (n_h - 1) - 1))

so that the variance over replicates is the unbiased one of a stratified sample. Clusters are
documents: tokens and windows of one document are not independent.

f_i is the share of its stratum that was drawn (their §2, with n_h - 1 draws), and says what the
interval is of. With all f_i = 0, the default, it is of *text like this*: the corpus is itself a
sample, and another one would have other top windows. With f_i the windows' inclusion probabilities
it is of *this corpus*: what other draws from it would have given; windows that were taken for
certain have no error then.

A replicate's pooled Pearson correlation is a function of a weighted sum of six numbers per window
(n, Σt, Σs, Σt², Σs², Σts), so all replicates are one matrix product.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.stats.estimate import (
    RELATIVE_ROUNDING,
    FloatArray,
    is_constant,
    paired_sequences,
    window_weights,
)
from autointerp.stats.intervals import Interval, Seed, check_level

MAX_CORRELATION = 1 - 1e-12
"""Where Fisher's z is cut off, so that a perfect prediction has a finite one."""

MIN_DEFINED_SHARE = 0.5
"""No interval where fewer of the replicates than this have a truth that varies."""


@dataclass(frozen=True)
class Resamples:
    """Rao-Wu replicates of a set of windows."""

    multipliers: FloatArray
    """[n_replicates, n_windows] what each window's weight is multiplied with; mean 1."""

    degrees_of_freedom: int
    """Clusters less strata, after collapsing."""


class Correlations(NamedTuple):
    """Pearson correlations of many weighted sums."""

    values: FloatArray
    """[...] in [-1, 1]; 0 where either side is constant."""

    defined: npt.NDArray[np.bool_]
    """[...] whether the truth varies; the value means nothing where it does not."""


def rao_wu_resamples(
    strata: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    probabilities: npt.ArrayLike | None = None,
    n_replicates: int,
    seed: Seed,
) -> Resamples | None:
    """Draw Rao-Wu replicates (equation above).

    Strata are ordered by their first appearance. A cluster is drawn as a whole; one with windows
    in several strata belongs to the first of them. A stratum with fewer than two clusters is
    collapsed into the next one, repeatedly, and what is left at the end into the one before: list
    windows so that neighbouring strata are alike (`top`, the intervals from high to low, `silent`).
    Windows of probability 1 are never drawn: they are part of every replicate, and of no stratum.

    Args:
        strata: [n_windows] stratum of each window.
        clusters: [n_windows] cluster (document) of each window.
        probabilities: [n_windows] f, the chance of each to be drawn, for an interval of this
            corpus; 0 where `None`, for one of text like this.
        n_replicates: number of replicates, at least 2.
        seed: a seed or a generator.

    Returns:
        The replicates; `None` where there are fewer than two clusters.

    Raises:
        ValueError: if lengths differ, `n_replicates` is below 2, or a probability is not in [0, 1].
    """
    if len(strata) != len(clusters):
        raise ValueError(f"{len(strata)} strata, but {len(clusters)} clusters, for the windows")
    if n_replicates < 2:
        raise ValueError(f"n_replicates must be at least 2, got {n_replicates}")
    f = _probabilities(probabilities, len(strata))
    drawn = np.flatnonzero(f < 1).tolist()
    names = list(dict.fromkeys(clusters[i] for i in drawn))
    if len(names) < 2:
        return None
    groups = _collapsed_strata([strata[i] for i in drawn], [clusters[i] for i in drawn])
    generator = np.random.default_rng(seed)
    per_cluster = np.empty((n_replicates, len(names)))
    column = {name: i for i, name in enumerate(names)}
    for group in groups:
        n = len(group)
        counts = generator.multinomial(n - 1, np.full(n, 1 / n), size=n_replicates)
        per_cluster[:, [column[name] for name in group]] = counts * (n / (n - 1))
    multipliers = np.ones((n_replicates, len(strata)))
    of_drawn = per_cluster[:, [column[clusters[i]] for i in drawn]]
    # Written so that f = 0 is the same to the last bit.
    shrunk = 1 + np.sqrt(1 - f[drawn]) * (of_drawn - 1)
    multipliers[:, drawn] = np.where(f[drawn] > 0, shrunk, of_drawn)
    return Resamples(
        multipliers=multipliers,
        degrees_of_freedom=len(names) - len(groups),
    )


def stratified_bootstrap(
    statistic: Callable[[FloatArray], FloatArray],
    strata: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    weights: npt.ArrayLike | None = None,
    probabilities: npt.ArrayLike | None = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    seed: Seed,
) -> Interval | None:
    """Interval of any smooth statistic of weighted windows: estimate ± t · bootstrap error.

    t has as many degrees of freedom as there are clusters less strata. For correlations use
    `bootstrap_pooled_pearson`, whose scale suits them better.

    Args:
        statistic: maps window weights [n_replicates, n_windows] to values [n_replicates], all
            finite; also called with the one row of design weights.
        strata: [n_windows], in the order that `rao_wu_resamples` describes.
        clusters: [n_windows] document of each window.
        weights: [n_windows] design weights; all 1 where `None`.
        probabilities: [n_windows] as in `rao_wu_resamples`.
        n_replicates: number of replicates.
        level: nominal coverage.
        bounds: the statistic's range, to which the interval is cut.
        seed: a seed or a generator.

    Returns:
        The interval; `None` where there are fewer than two clusters, or no replicate differs.

    Raises:
        ValueError: if lengths differ or the statistic is not finite.
    """
    check_level(level)
    w = window_weights(weights, len(strata))
    resamples = rao_wu_resamples(
        strata, clusters, probabilities=probabilities, n_replicates=n_replicates, seed=seed
    )
    if resamples is None:
        return None
    estimate = float(statistic(w[None, :])[0])
    replicates = statistic(resamples.multipliers * w)
    if not (math.isfinite(estimate) and np.isfinite(replicates).all()):
        raise ValueError(
            "the statistic is NaN or infinite for some weights; give it a finite value"
        )
    half = _t_quantile(level, resamples) * float(replicates.std(ddof=1))
    if half == 0:
        return None
    low, high = max(bounds[0], estimate - half), min(bounds[1], estimate + half)
    return Interval(low, high, level, "Rao-Wu bootstrap, t")


def window_moments(true: Sequence[FloatArray], expected: Sequence[FloatArray]) -> FloatArray:
    """Per window (n, Σt, Σs, Σt², Σs², Σts), t and s shifted to mean 0 over all windows.

    Both are also divided by their largest magnitude. Shift and scale change no correlation; they
    keep the sums of squares precise, and put rounding at `RELATIVE_ROUNDING`.

    Args:
        true: one vector [n_tokens_i] per window.
        expected: one vector [n_tokens_i] per window.

    Returns:
        [n_windows, 6].
    """
    lengths = np.array([t.size for t in true])
    window = np.repeat(np.arange(len(true)), lengths)
    t, s = (_shift_and_scale(np.concatenate(x)) for x in (true, expected))
    tokens = np.stack([np.ones(t.size), t, s, t * t, s * s, t * s], axis=1)
    moments = np.zeros((len(true), tokens.shape[1]))
    np.add.at(moments, window, tokens)
    return moments


def pearson_from_moments(moments: FloatArray) -> Correlations:
    """Pearson correlations from (weighted) sums of `window_moments`.

    r = (Σts/n - Σt Σs/n²) / sqrt((Σt²/n - (Σt/n)²)(Σs²/n - (Σs/n)²))

    Args:
        moments: [..., 6].
    """
    n, t, s, tt, ss, ts = np.moveaxis(moments, -1, 0)
    n = np.where(n > 0, n, 1.0)
    variance_t = tt / n - (t / n) ** 2
    variance_s = ss / n - (s / n) ** 2
    truth_varies = variance_t > RELATIVE_ROUNDING**2
    both_vary = truth_varies & (variance_s > RELATIVE_ROUNDING**2)
    scale = np.sqrt(np.where(both_vary, variance_t * variance_s, 1.0))
    r = np.where(both_vary, (ts / n - t * s / n**2) / scale, 0.0)
    return Correlations(np.clip(r, -1.0, 1.0), truth_varies)


def bootstrap_pooled_pearson(
    true: Sequence[npt.ArrayLike],
    expected: Sequence[npt.ArrayLike],
    strata: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    weights: npt.ArrayLike | None = None,
    probabilities: npt.ArrayLike | None = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: Seed,
) -> Interval | None:
    """Interval of `pooled_pearson` over windows drawn by stratum.

    tanh(atanh(r) ± max(t · e, z / sqrt(N - 3))): e the standard deviation of atanh(r) over Rao-Wu
    replicates, t Student's quantile with clusters - strata degrees of freedom, z the normal one, N
    the effective number of tokens. The second term is the error of r for unrelated independent
    tokens: where two sparse vectors happen not to overlap in the windows drawn, the resamples do
    not see what overlap would do, and their spread alone covers only 0.67-0.88.

    Measured coverage at 95 % on zero-inflated windows of 32 tokens, in six designs with 10 to 60
    windows (1,000 samples each): 0.94-0.96 for r = 0.92; for an explanation that holds in half of
    the windows (r = 0.6-0.7) 0.90 with 10 windows in five strata, 0.93-0.95 with 12 or more; for
    unrelated predictions 0.97-1.00. The percentile interval of the same replicates covers 0.74-0.89
    in the first two cases with up to 16 windows.

    Args:
        true: one vector [n_tokens_i] per window.
        expected: one vector [n_tokens_i] per window.
        strata: [n_windows], in the order that `rao_wu_resamples` describes.
        clusters: [n_windows] document of each window.
        weights: [n_windows] design weights; all 1 where `None`.
        probabilities: [n_windows] as in `rao_wu_resamples`.
        n_replicates: number of replicates.
        level: nominal coverage.
        seed: a seed or a generator.

    Returns:
        The interval; `None` where r is undefined, where there are fewer than two clusters, or
        where the truth is constant in most replicates.

    Raises:
        ValueError: if lengths differ, or a value is NaN or infinite.
    """
    replicated = _replicate(
        true,
        [expected],
        strata,
        clusters,
        weights,
        probabilities,
        n_replicates=n_replicates,
        seed=seed,
        level=level,
    )
    if replicated is None or not replicated.varies[0]:
        return None
    low, high = _fisher_ends(replicated, level)
    return Interval(low, high, level, "Rao-Wu bootstrap, Fisher z, t")


def bootstrap_lift(
    true: Sequence[npt.ArrayLike],
    expected_own: Sequence[npt.ArrayLike],
    expected_donors: Sequence[Sequence[npt.ArrayLike]],
    strata: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    weights: npt.ArrayLike | None = None,
    probabilities: npt.ArrayLike | None = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: Seed,
) -> Interval | None:
    """Interval of `lift`: r(own) - mean over donors of r(donor), all on the same resamples.

    Zou's combination of two intervals (2007, for correlations that share data): with own (l1, u1)
    as in `bootstrap_pooled_pearson`, the mean m of D donors in (l2, u2) =
    m ± max(t · e, z / sqrt(D (N - 3))), and c the correlation of r and m over replicates,

        low  = r - m - sqrt((r - l1)² + (u2 - m)² - 2 c (r - l1)(u2 - m))
        high = r - m + sqrt((u1 - r)² + (m - l2)² - 2 c (u1 - r)(m - l2))

    Measured coverage at 95 % with five unrelated donors, designs and predictions as in
    `bootstrap_pooled_pearson`: 0.95-0.96 for r = 0.92; for r = 0.6-0.7 0.90 with 10 windows,
    0.93-0.95 with 12 or more; 0.97-1.00 for 0. Estimate ± t times the bootstrap error covers
    0.86-0.94 in the second case.

    Args:
        true: one vector [n_tokens_i] per window.
        expected_own: predictions under the unit's own explanation, as `true`.
        expected_donors: per donor, predictions under its explanation, as `true`.
        strata: [n_windows], in the order that `rao_wu_resamples` describes.
        clusters: [n_windows] document of each window.
        weights: [n_windows] design weights; all 1 where `None`.
        probabilities: [n_windows] as in `rao_wu_resamples`.
        n_replicates: number of replicates.
        level: nominal coverage.
        seed: a seed or a generator.

    Returns:
        The interval; `None` where the truth is constant (also in most replicates) or there are
        fewer than two clusters. A constant prediction counts 0, as in `lift`.

    Raises:
        ValueError: if there is no donor, lengths differ, or a value is NaN or infinite.
    """
    if not expected_donors:
        raise ValueError("lift needs the predictions of at least one donor, got none")
    replicated = _replicate(
        true,
        [expected_own, *expected_donors],
        strata,
        clusters,
        weights,
        probabilities,
        n_replicates=n_replicates,
        seed=seed,
        level=level,
    )
    if replicated is None:
        return None
    r, m = float(replicated.estimates[0]), float(replicated.estimates[1:].mean())
    low_own, high_own = _fisher_ends(replicated, level)
    means = replicated.values[1:].mean(axis=0)
    floor = replicated.floor / math.sqrt(len(expected_donors))
    half = max(replicated.quantile * float(means.std(ddof=1)), floor)
    shared = _correlation(replicated.values[0], means)
    below, above = r - low_own, high_own - r
    low = r - m - _combined(below, half, shared)
    high = r - m + _combined(above, half, shared)
    return Interval(max(-2.0, low), min(2.0, high), level, "Rao-Wu bootstrap, Zou 2007")


@dataclass(frozen=True)
class _Replicated:
    """Correlations of several predictions with one truth, on the same resamples."""

    estimates: FloatArray
    """[n_predictions] correlation in the sample."""

    varies: list[bool]
    """[n_predictions] whether the prediction varies in the sample."""

    values: FloatArray
    """[n_predictions, n_defined] correlations of replicates in which the truth varies."""

    quantile: float
    """Student's, for the bootstrap's errors."""

    floor: float
    """Least half-width on the z scale."""


def _replicate(
    true: Sequence[npt.ArrayLike],
    predictions: Sequence[Sequence[npt.ArrayLike]],
    strata: Sequence[Hashable],
    clusters: Sequence[Hashable],
    weights: npt.ArrayLike | None,
    probabilities: npt.ArrayLike | None,
    *,
    n_replicates: int,
    seed: Seed,
    level: float,
) -> _Replicated | None:
    check_level(level)
    if not len(true) == len(strata) == len(clusters):
        raise ValueError(f"{len(true)} windows, {len(strata)} strata, {len(clusters)} clusters")
    pairs = [paired_sequences(true, prediction) for prediction in predictions]
    w = window_weights(weights, len(true))
    resamples = rao_wu_resamples(
        strata, clusters, probabilities=probabilities, n_replicates=n_replicates, seed=seed
    )
    if resamples is None or is_constant(np.concatenate(pairs[0][0])):
        return None
    row_weights = resamples.multipliers * w
    varies = [not is_constant(np.concatenate(s)) for _, s in pairs]
    # A prediction that is constant up to rounding is made exactly so: its correlation counts 0.
    moments = [
        window_moments(t, s if moves else [np.zeros(x.size) for x in s])
        for (t, s), moves in zip(pairs, varies, strict=True)
    ]
    correlations = [pearson_from_moments(row_weights @ m) for m in moments]
    defined = correlations[0].defined
    if defined.sum() < max(2, MIN_DEFINED_SHARE * n_replicates):
        return None
    lengths = np.array([t.size for t in pairs[0][0]])
    effective = float((w * lengths).sum() ** 2 / (w**2 * lengths).sum())
    open_share = _open_share(pairs[0][0], w, _probabilities(probabilities, len(true)))
    normal = float(stats.norm.ppf((1 + level) / 2))
    return _Replicated(
        estimates=np.array([float(pearson_from_moments(w @ m).values) for m in moments]),
        varies=varies,
        values=np.stack([c.values[defined] for c in correlations]),
        quantile=_t_quantile(level, resamples),
        floor=normal * math.sqrt(open_share / max(effective - 3, 1.0)),
    )


def _open_share(true: Sequence[FloatArray], w: FloatArray, f: FloatArray) -> float:
    """Σ w² (1 - f) S / Σ w² S: what drawing leaves open of the variance of r for unrelated tokens.

    S is a window's sum of squares of the truth around its mean: where a prediction has nothing to
    do with the truth, a window's part in the variance of r is in proportion to it.
    """
    tokens = np.concatenate(true)
    mean = tokens.mean()
    squares = w**2 * np.array([((t - mean) ** 2).sum() for t in true])
    return float(((1 - f) * squares).sum() / squares.sum())


def _probabilities(given: npt.ArrayLike | None, n_windows: int) -> FloatArray:
    """[n_windows] in [0, 1]; 0 where none are given."""
    if given is None:
        return np.zeros(n_windows)
    f = np.asarray(given, np.float64)
    if f.shape != (n_windows,):
        raise ValueError(f"{f.size} probabilities for {n_windows} windows")
    if not ((f >= 0) & (f <= 1)).all():
        raise ValueError(f"probabilities must lie between 0 and 1, got {f.min()} to {f.max()}")
    return f


def _fisher_ends(replicated: _Replicated, level: float) -> tuple[float, float]:
    """Ends of the first prediction's interval, symmetric on the z scale."""
    error = float(_fisher_z(replicated.values[0]).std(ddof=1))
    half = max(replicated.quantile * error, replicated.floor)
    z = float(_fisher_z(replicated.estimates[:1])[0])
    return math.tanh(z - half), math.tanh(z + half)


def _combined(x: float, y: float, correlation: float) -> float:
    """sqrt(x² + y² - 2 c x y), in a form that rounding cannot make imaginary."""
    return math.sqrt((x - y) ** 2 + 2 * (1 - correlation) * x * y)


def _fisher_z(r: FloatArray) -> FloatArray:
    return np.arctanh(np.clip(r, -MAX_CORRELATION, MAX_CORRELATION))


def _t_quantile(level: float, resamples: Resamples) -> float:
    return float(stats.t.ppf((1 + level) / 2, resamples.degrees_of_freedom))


def _correlation(x: FloatArray, y: FloatArray) -> float:
    if is_constant(x) or is_constant(y):
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _shift_and_scale(x: FloatArray) -> FloatArray:
    largest = np.abs(x).max(initial=0.0)
    return (x - x.mean()) / largest if largest > 0 else x


def _collapsed_strata(
    strata: Sequence[Hashable], clusters: Sequence[Hashable]
) -> list[list[Hashable]]:
    """The clusters of each stratum, at least two in each; rules in `rao_wu_resamples`."""
    order = {stratum: i for i, stratum in enumerate(dict.fromkeys(strata))}
    first: dict[Hashable, int] = {}
    for stratum, cluster in zip(strata, clusters, strict=True):
        first[cluster] = min(first.get(cluster, len(order)), order[stratum])
    members: list[list[Hashable]] = [[] for _ in order]
    for cluster, stratum in first.items():
        members[stratum].append(cluster)
    groups: list[list[Hashable]] = []
    pending: list[Hashable] = []
    for stratum in members:
        pending = pending + stratum
        if len(pending) >= 2:
            groups.append(pending)
            pending = []
    if pending and groups:
        groups[-1] = groups[-1] + pending
    return groups
