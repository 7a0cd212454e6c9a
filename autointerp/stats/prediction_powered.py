"""The mean of an expensive score, from a cheap one on all units and both on a random few.

Prediction-powered inference (Angelopoulos et al. 2023, Science 382, "Prediction-powered inference",
mean estimation) with power tuning (Angelopoulos, Duchi & Zrnic 2023, "PPI++", §6). With gold y and
cheap f on n units drawn at random, and f alone on N others,

    θ = ȳ + λ (mean of f over the N - mean of f over the n)
    Var θ = λ² Var(f) / N + Var(y - λ f) / n
    λ* = Cov(y, f) / ((1 + n / N) Var(f))

λ = 1 is the original; λ = 0 leaves the cheap score out; λ* has the least variance, so that a cheap
score that says nothing costs (nearly) nothing. The interval is honest whatever f is: f only has to
be there for all units, and the n to be drawn by chance.

Of the n + N units themselves, not of a population that they were drawn from, the same estimate has
less variance, for the n are drawn from them without replacement (the difference estimator of survey
sampling; Cochran 1977, §7.3): with β = λ (n + N) / N,

    Var θ = (1/n - 1/(n + N)) Var(y - β f)
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.records import Interval
from autointerp.stats.estimate import FloatArray, finite_vector
from autointerp.stats.intervals import MIN_BOOTSTRAP_SIZE, Seed, check_level

Population = Literal["units_like_these", "these_units"]
"""What the mean is of: what the units are a sample of, or the units themselves."""


@dataclass(frozen=True)
class PredictionPoweredMean:
    """A mean of gold scores, helped by cheap ones."""

    value: float
    """θ."""

    error: float | None
    """Its standard error; `None` for fewer than 3 gold units, or where gold is known of all units
    and the mean is of them."""

    interval: Interval | None
    """Of the mean; `None` where there is no error, or one of 0."""

    tuning: float
    """λ; 0 where the cheap score does not vary."""

    correlation: float | None
    """Of gold and cheap over the gold units; `None` where one of them does not vary."""

    gold_only: float
    """ȳ: the mean of the gold units alone."""

    gold_only_error: float | None
    """Its standard error."""

    n_gold: int
    n_cheap_only: int

    @property
    def gain(self) -> float | None:
        """How many times as many gold units would give this error without the cheap score."""
        if not self.error or self.gold_only_error is None:
            return None
        return (self.gold_only_error / self.error) ** 2


def prediction_powered_mean(
    gold: npt.ArrayLike,
    cheap_of_gold: npt.ArrayLike,
    cheap_of_rest: npt.ArrayLike,
    *,
    tuning: float | None = None,
    population: Population = "units_like_these",
    n_replicates: int = 1000,
    level: float = 0.95,
    seed: Seed,
) -> PredictionPoweredMean:
    """Mean of the gold score over all units (equations above), with an interval.

    The interval is θ ± h · error. h is the `level` quantile of |θ* - θ| / error* over resamples of
    the gold units, λ tuned anew in each (symmetric bootstrap-t, Hall 1988; the mean of f over the
    rest is redrawn as normal), and never below Student's t with n - 1 degrees of freedom, one less
    where λ is tuned. With fewer than 8 gold units h is Student's t: the papers' normal quantile
    covers too little with few units of a skewed score.

    Args:
        gold: [n] expensive score of the units drawn.
        cheap_of_gold: [n] cheap score of the same units, in the same order.
        cheap_of_rest: [N] cheap score of all other units.
        tuning: λ; the one of least variance if `None`.
        population: what the mean is of.
        n_replicates: resamples.
        level: nominal coverage.
        seed: a seed or a generator.

    Raises:
        ValueError: if lengths differ, there is no gold unit, or a value is NaN or infinite.
    """
    check_level(level)
    y, f = finite_vector(gold, "gold"), finite_vector(cheap_of_gold, "cheap_of_gold")
    rest = finite_vector(cheap_of_rest, "cheap_of_rest")
    if y.size != f.size:
        raise ValueError(f"{y.size} gold scores, but {f.size} cheap ones of the same units")
    if y.size == 0:
        raise ValueError("a mean needs at least one gold score")
    frame = _Frame(rest, float(np.concatenate([f, rest]).var()), population, tuning)
    value, error, used = (float(x[0]) for x in frame.estimate(y[None], f[None], None))
    n_parameters = 2 if tuning is None else 1
    known = y.size > n_parameters and (rest.size > 0 or population == "units_like_these")
    return PredictionPoweredMean(
        value=value,
        error=error if known else None,
        interval=_interval(y, f, frame, value, error, n_parameters, n_replicates, level, seed)
        if known and error > 0
        else None,
        tuning=used,
        correlation=_correlation(y, f),
        gold_only=float(y.mean()),
        gold_only_error=_alone(y, frame) if known else None,
        n_gold=y.size,
        n_cheap_only=rest.size,
    )


@dataclass(frozen=True)
class _Frame:
    """All that does not change from one resample of the gold units to another."""

    rest: FloatArray
    variance: float
    """Of f, over all units."""
    population: Population
    tuning: float | None

    @property
    def n_rest(self) -> int:
        return self.rest.size

    def estimate(
        self, y: FloatArray, f: FloatArray, rest_mean: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """θ, its error and λ, each [n_samples], of gold samples y and f [n_samples, n]."""
        n = y.shape[1]
        if self.n_rest == 0:
            return y.mean(1), _spread(y, 1) / math.sqrt(n), np.zeros(len(y))
        mean = float(self.rest.mean()) if rest_mean is None else rest_mean
        lam = self._tuned(y, f)
        value = y.mean(1) + lam * (mean - f.mean(1))
        parameters = 2 if self.tuning is None else 1
        if self.population == "these_units":
            beta = lam * (n + self.n_rest) / self.n_rest
            open_share = 1 / n - 1 / (n + self.n_rest)
            return value, _spread(y - beta[:, None] * f, parameters) * math.sqrt(open_share), lam
        residual = _spread(y - lam[:, None] * f, parameters) ** 2 / n
        return value, np.sqrt(residual + lam**2 * self.variance / self.n_rest), lam

    def _tuned(self, y: FloatArray, f: FloatArray) -> FloatArray:
        if self.tuning is not None:
            return np.full(len(y), float(self.tuning))
        n = y.shape[1]
        covariance = ((y - y.mean(1, keepdims=True)) * (f - f.mean(1, keepdims=True))).sum(1)
        # Var(f) of the gold units themselves: with it, λ f is the regression of y on f.
        squares = ((f - f.mean(1, keepdims=True)) ** 2).sum(1)
        varies = squares > 1e-18 * max(1.0, self.variance) * n
        slope = np.where(varies, covariance / np.where(varies, squares, 1.0), 0.0)
        return slope / (1 + n / self.n_rest)


def _spread(x: FloatArray, n_parameters: int) -> FloatArray:
    """Standard deviation along the last axis, with n - `n_parameters` degrees of freedom."""
    deviations = x - x.mean(-1, keepdims=True)
    return np.sqrt((deviations**2).sum(-1) / max(1, x.shape[-1] - n_parameters))


def _alone(y: FloatArray, frame: _Frame) -> float:
    share = y.size / (y.size + frame.n_rest) if frame.population == "these_units" else 0.0
    return float(_spread(y[None], 1)[0]) * math.sqrt((1 - share) / y.size)


def _interval(
    y: FloatArray,
    f: FloatArray,
    frame: _Frame,
    value: float,
    error: float,
    n_parameters: int,
    n_replicates: int,
    level: float,
    seed: Seed,
) -> Interval:
    n = y.size
    quantile = float(stats.t.ppf((1 + level) / 2, n - n_parameters))
    if n >= MIN_BOOTSTRAP_SIZE:
        generator = np.random.default_rng(seed)
        drawn = generator.integers(0, n, (n_replicates, n))
        rest_mean = None
        if frame.n_rest and frame.population == "units_like_these":
            spread = math.sqrt(frame.variance / frame.n_rest)
            rest_mean = generator.normal(float(frame.rest.mean()), spread, n_replicates)
        values, errors, _ = frame.estimate(y[drawn], f[drawn], rest_mean)
        # A resample of one repeated unit has no spread and says nothing about the t statistic.
        usable = errors > 1e-9 * error
        if usable.any():
            studentised = np.abs(values[usable] - value) / errors[usable]
            quantile = max(quantile, float(np.quantile(studentised, level)))
    half = quantile * error
    return Interval(value - half, value + half, level, "prediction-powered, bootstrap t")


def _correlation(y: FloatArray, f: FloatArray) -> float | None:
    if y.size < 2 or np.ptp(y) == 0 or np.ptp(f) == 0:
        return None
    return float(np.corrcoef(y, f)[0, 1])
