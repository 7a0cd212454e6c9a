"""How many units, and how many windows of each, a difference needs in order to be seen.

A unit's measured lift is its true one plus the error of its windows, so over units

    Var(measured) = σ_b² + σ_w² / k

σ_b² between units, σ_w² / k the error variance at k windows. More windows only shrink the second
term: below it more units are needed. Power is that of Student's t test, from the noncentral t
distribution (Cohen 1988, chapter 2).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.stats.estimate import finite_vector
from autointerp.stats.intervals import check_level

Question = Literal["groups", "paired", "mean"]
"""Two groups of as many units each; the same units under two explainers; one mean against 0."""

MAX_UNITS = 10_000_000
"""More than anybody has."""


@dataclass(frozen=True)
class Components:
    """Variance of lifts, split into what units differ by and what windows leave open."""

    between: float
    """σ_b²: variance of the true lifts over units, at least 0."""

    within: float
    """Mean error variance of one unit's lift at `windows` windows."""

    windows: float
    """Scored windows per unit that `within` is for."""

    n_units: int
    """Units it rests on; 0 for assumed values."""

    def sd(self, windows: float | None = None) -> float:
        """Standard deviation over units of lifts measured on so many windows each."""
        k = self.windows if windows is None else windows
        return math.sqrt(self.between + self.within * self.windows / k)

    @property
    def reliability(self) -> float | None:
        """σ_b² / (σ_b² + σ_w² / k): share of what is seen that is not error; `None` of nothing."""
        total = self.between + self.within
        return self.between / total if total > 0 else None


def variance_components(
    values: npt.ArrayLike, errors: npt.ArrayLike, windows: float, n_groups: int = 1
) -> Components | None:
    """Components from measured lifts and their standard errors (moments).

    σ_b² = max(0, Var(values) - mean(errors²)).

    Args:
        values: [n_units].
        errors: [n_units] standard error of each value.
        windows: scored windows per unit.
        n_groups: groups that the units lie in, where `values` are less their group's mean: each
            mean takes a degree of freedom.

    Returns:
        The components; `None` where there are no more units than groups.

    Raises:
        ValueError: if lengths differ, a value is NaN or infinite, or `windows` is not positive.
    """
    x, e = finite_vector(values, "values"), finite_vector(errors, "errors")
    if x.size != e.size:
        raise ValueError(f"{x.size} values, but {e.size} errors")
    if windows <= 0:
        raise ValueError(f"windows must be positive, got {windows}")
    if x.size <= n_groups:
        return None
    within = float(np.mean(e**2))
    return Components(max(0.0, float(x.var(ddof=n_groups)) - within), within, windows, x.size)


def power_of(effect: float, sd: float, n: int, question: Question, alpha: float = 0.05) -> float:
    """Chance that a two-sided t test shows a true effect.

    Args:
        effect: true difference (or mean), in the units of `sd`.
        sd: standard deviation over units; of the paired differences for `paired`.
        n: units in each group, or pairs.
        question: what is tested.
        alpha: level of the test.

    Raises:
        ValueError: if `sd` is not positive, or `alpha` not in (0, 1).
    """
    check_level(1 - alpha)
    if sd <= 0:
        raise ValueError(f"sd must be positive, got {sd}")
    if n < 2:
        return 0.0
    degrees = 2 * n - 2 if question == "groups" else n - 1
    error = sd * math.sqrt((2 if question == "groups" else 1) / n)
    critical = float(stats.t.ppf(1 - alpha / 2, degrees))
    shift = abs(effect) / error
    if shift > 30:  # the noncentral t is not computed that far out, and the answer is 1
        return 1.0
    return float(stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift))


def units_needed(
    effect: float, sd: float, power: float, question: Question, alpha: float = 0.05
) -> int | None:
    """Fewest units (in each group, or pairs) with which an effect is seen with a given power.

    `None` where even ten million are too few.

    Raises:
        ValueError: if `effect` is 0, or `power` is not between `alpha` and 1.
    """
    if effect == 0:
        raise ValueError("an effect of 0 cannot be seen with any number of units")
    if not alpha < power < 1:
        raise ValueError(f"power must lie between alpha ({alpha}) and 1, got {power}")
    high = 2
    while power_of(effect, sd, high, question, alpha) < power:
        high *= 2
        if high > MAX_UNITS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(effect, sd, middle, question, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def smallest_effect(
    sd: float, n: int, power: float, question: Question, alpha: float = 0.05
) -> float | None:
    """Least effect that `n` units show with a given power; `None` for fewer than two."""
    if n < 2:
        return None
    low, high = 0.0, sd
    while power_of(high, sd, n, question, alpha) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if power_of(middle, sd, n, question, alpha) < power:
            low = middle
        else:
            high = middle
    return high
