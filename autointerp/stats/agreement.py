"""How far measurements agree: with each other, with themselves, and with people."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.records import Interval
from autointerp.stats.estimate import RELATIVE_ROUNDING, FloatArray, finite_vector, is_constant
from autointerp.stats.intervals import Seed, check_level

MIN_USABLE = 0.8
"""No bootstrap interval where fewer of the resamples than this have a number."""


@dataclass(frozen=True)
class Agreement:
    """One coefficient with its interval."""

    value: float | None
    """`None` where it is undefined: fewer than three pairs, or a side that does not vary."""

    interval: Interval | None
    n: int
    """Pairs."""


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> Agreement:
    """Spearman's rank correlation with the interval of Bonett & Wright (2000).

    tanh(atanh(r) ± z sqrt((1 + r²/2) / (n - 3))): the Fisher interval with the variance that ranks
    have. `None` for the interval where n <= 3 or |r| = 1.

    Raises:
        ValueError: if lengths differ, or a value is NaN or infinite.
    """
    check_level(level)
    a, b = _pair(x, y)
    if a.size < 3 or is_constant(a) or is_constant(b):
        return Agreement(None, None, a.size)
    r = float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])
    r = max(-1.0, min(1.0, r))
    if a.size <= 3 or abs(r) > 1 - 1e-12:
        return Agreement(r, None, a.size)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + r * r / 2) / (a.size - 3))
    z = math.atanh(r)
    ends = Interval(math.tanh(z - half), math.tanh(z + half), level, "Bonett & Wright 2000")
    return Agreement(r, ends, a.size)


def pearson(x: npt.ArrayLike, y: npt.ArrayLike) -> float | None:
    """Pearson's correlation; `None` for fewer than three pairs or a side that does not vary."""
    a, b = _pair(x, y)
    if a.size < 3 or is_constant(a) or is_constant(b):
        return None
    return max(-1.0, min(1.0, float(np.corrcoef(a, b)[0, 1])))


def spearman_brown(r: float | None) -> float | None:
    """Reliability of a whole from the correlation of its halves: 2 r / (1 + r).

    `None` where r is missing or not positive: halves that do not agree have no reliability to
    extrapolate.
    """
    return None if r is None or r <= 0 else 2 * r / (1 + r)


@dataclass(frozen=True)
class Halves:
    """Scores on two halves of every unit's windows, for many ways of halving."""

    first: FloatArray
    """[n_splits, n_units]; NaN where a half has no score."""

    second: FloatArray
    """[n_splits, n_units]."""

    def of(self, units: npt.NDArray[np.int64]) -> "Halves":
        """Of some units, which may repeat."""
        return Halves(self.first[:, units], self.second[:, units])

    def reliability(self) -> float | None:
        """Mean correlation of the halves over units, stepped up to whole units (`spearman_brown`).

        `None` where no split has three units with both halves, or halves do not agree.
        """
        known = ~(np.isnan(self.first) | np.isnan(self.second))
        n = known.sum(axis=1)
        usable = n >= 3
        if not usable.any():
            return None
        a, b, n = self.first[usable], self.second[usable], n[usable, None]
        known = known[usable]
        a, b = _centred(a, known, n), _centred(b, known, n)
        spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        varies = spread > 0
        if not varies.any():
            return None
        found = (a * b).sum(axis=1)[varies] / spread[varies]
        return spearman_brown(float(found.mean()))


@dataclass(frozen=True)
class Errors:
    """Scores of units with their standard errors."""

    values: FloatArray
    """[n_units]."""

    errors: FloatArray
    """[n_units] standard error of each."""

    def of(self, units: npt.NDArray[np.int64]) -> "Errors":
        """Of some units, which may repeat."""
        return Errors(self.values[units], self.errors[units])

    def reliability(self) -> float | None:
        """`reliability_from_errors` of the units that have both numbers; NaN stands for none."""
        known = ~(np.isnan(self.values) | np.isnan(self.errors))
        return reliability_from_errors(self.values[known], self.errors[known])


Repeated: TypeAlias = Halves | Errors
"""What a reliability is found from."""


def _centred(
    values: FloatArray, known: npt.NDArray[np.bool_], n: npt.NDArray[np.int64]
) -> FloatArray:
    """Deviations from every row's mean over known places; 0 elsewhere."""
    filled = np.where(known, values, 0.0)
    deviations = np.where(known, filled - filled.sum(axis=1, keepdims=True) / n, 0.0)
    # What varies by rounding alone does not vary.
    scale = np.abs(filled).max(axis=1, keepdims=True)
    flat = np.abs(deviations).max(axis=1, keepdims=True) <= RELATIVE_ROUNDING * scale
    return np.where(flat, 0.0, deviations)


def reliability_from_errors(values: npt.ArrayLike, errors: npt.ArrayLike) -> float | None:
    """1 - mean(error²) / Var(values): share of the variance over units that is not error.

    `None` for fewer than three units, or where errors are as large as what is seen.

    Args:
        values: [n_units].
        errors: [n_units] standard error of each value.

    Raises:
        ValueError: if lengths differ, or a value is NaN or infinite.
    """
    x, e = _pair(values, errors)
    if x.size < 3 or is_constant(x):
        return None
    found = 1 - float(np.mean(e**2)) / float(x.var(ddof=1))
    return found if found > 0 else None


def disattenuated(r: float | None, first: float | None, second: float | None) -> float | None:
    """r / sqrt(ρ_1 ρ_2): what two measures would correlate without error (Spearman 1904).

    It can be above 1 by chance, and is then given as it is: cutting it would hide that the
    reliabilities are uncertain. `None` where one of the three is missing.
    """
    if r is None or first is None or second is None or first <= 0 or second <= 0:
        return None
    return r / math.sqrt(first * second)


def reliability_interval(
    repeated: Repeated, *, n_replicates: int = 1000, level: float = 0.95, seed: Seed
) -> Interval | None:
    """Percentile interval of a reliability, over resampled units."""
    n = repeated.first.shape[1] if isinstance(repeated, Halves) else repeated.values.size
    if n < 3:
        return None
    generator = np.random.default_rng(seed)
    found = (repeated.of(generator.integers(0, n, n)).reliability() for _ in range(n_replicates))
    return percentile_interval([r for r in found if r is not None], n_replicates, level)


def disattenuated_interval(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    first: Repeated,
    second: Repeated,
    *,
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: Seed,
) -> Interval | None:
    """Percentile interval of `disattenuated`: units are resampled, reliabilities with them.

    Args:
        x: [n_units] one measure.
        y: [n_units] the other, of the same units in the same order.
        first: what the reliability of x is found from, of the same units.
        second: the same for y.
        n_replicates: resamples.
        level: nominal coverage.
        seed: a seed or a generator.
    """
    a, b = _pair(x, y)
    if a.size < 3:
        return None
    generator = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(n_replicates):
        rows = generator.integers(0, a.size, a.size)
        r = disattenuated(
            pearson(a[rows], b[rows]), first.of(rows).reliability(), second.of(rows).reliability()
        )
        if r is not None:
            found.append(r)
    return percentile_interval(found, n_replicates, level)


def weighted_kappa(x: npt.ArrayLike, y: npt.ArrayLike, n_levels: int) -> float | None:
    """Cohen's kappa with quadratic weights (1968): 1 - Σ w O / Σ w E, w = (i - j)².

    Args:
        x: [n] ratings 0 to `n_levels` - 1 of one rater.
        y: [n] of another, of the same things.
        n_levels: grades of the scale.

    Returns:
        In [-1, 1]; `None` for no ratings, or where both always say the same one grade.

    Raises:
        ValueError: if lengths differ, or a rating is not on the scale.
    """
    a, b = _pair(x, y)
    for values in (a, b):
        if values.size and (values.min() < 0 or values.max() > n_levels - 1):
            raise ValueError(f"ratings must lie between 0 and {n_levels - 1}")
        if (values != np.round(values)).any():
            raise ValueError("ratings must be whole numbers")
    if not a.size:
        return None
    seen = float(np.mean((a - b) ** 2))
    expected = float(np.mean((a[:, None] - b[None, :]) ** 2))
    return 1 - seen / expected if expected > 0 else None


def kappa_interval(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    n_levels: int,
    *,
    n_replicates: int = 2000,
    level: float = 0.95,
    seed: Seed,
) -> Agreement:
    """`weighted_kappa` with the percentile interval over resampled things that were rated."""
    a, b = _pair(x, y)
    value = weighted_kappa(a, b, n_levels)
    if value is None or a.size < 3:
        return Agreement(value, None, a.size)
    generator = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(n_replicates):
        rows = generator.integers(0, a.size, a.size)
        kappa = weighted_kappa(a[rows], b[rows], n_levels)
        if kappa is not None:
            found.append(kappa)
    return Agreement(value, percentile_interval(found, n_replicates, level), a.size)


def percentile_interval(found: list[float], wanted: int, level: float) -> Interval | None:
    """The middle `level` of resampled values; `None` where too many resamples had none."""
    check_level(level)
    if len(found) < MIN_USABLE * wanted or np.ptp(found) == 0:
        return None
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, "percentile bootstrap")


def _pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = finite_vector(x, "x"), finite_vector(y, "y")
    if a.size != b.size:
        raise ValueError(f"{a.size} values on one side, {b.size} on the other")
    return a, b
