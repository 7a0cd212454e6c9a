"""An interval that may be looked at after every unit: stop when it is narrow enough.

Ordinary intervals hold for a number of units fixed beforehand. Whoever looks again and again and
stops at a good moment is wrong far more often than 5 %. A confidence sequence holds at all times at
once, so any rule for stopping is allowed:

    P(for every t: mean in C_t) >= level

By betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting",
JRSS B 86, §4 and §5; without replacement also Waudby-Smith & Ramdas 2020, NeurIPS). For values in
[0, 1] and a possible mean m of all N units, μ_t(m) = (N m - Σ_{i<t} x_i) / (N - t + 1) is what the
next unit is expected to be if m is right. Two gamblers bet that it is more, and that it is less:

    K±_t(m) = Π_{i<=t} (1 ± λ±_i (x_i - μ_i(m)))

Neither can expect to win where m is right, so K reaches 2/α with probability at most α/2 (Ville),
and C_t holds all m at which neither has. Bets may depend on all that was seen before:

    λ_i = min(w / (σ²_{i-1} + w²), c / μ_i(m))    (c / (1 - μ_i(m)) for the second gambler)

w the half-width wanted, in [0, 1]: the stake with which a fortune at distance w grows fastest
(Kelly); σ² the variance seen so far. Nothing is assumed of the values but their bounds and that the
order is random. With no N the units are taken as drawn from a population without end.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autointerp.records import Interval
from autointerp.stats.estimate import FloatArray, finite_vector
from autointerp.stats.intervals import check_level

LARGEST_STAKE = 0.9
"""c: the most of its fortune that a gambler may lose at once."""

GRID = 2000
"""Possible means that are tried; an end of the interval is rounded outwards to the next one."""

PRIOR_WEIGHT = 4.0
"""Units that the guess of mean and spread counts for, before any is seen."""


class ConfidenceSequence:
    """The confidence sequence of a mean of bounded values, fed one by one in random order."""

    def __init__(
        self,
        bounds: tuple[float, float],
        *,
        half_width: float,
        n_total: int | None = None,
        level: float = 0.95,
        guess: tuple[float, float] = (0.0, 0.2),
    ) -> None:
        """Start without any unit.

        Args:
            bounds: lowest and highest value possible, both finite.
            half_width: what is to be reached; any other width is valid as well, with worse stakes.
            n_total: all units there are; `None` for a population without end.
            level: nominal coverage, at all times together.
            guess: mean and standard deviation expected beforehand; a wrong guess costs width at
                the beginning, never coverage.

        Raises:
            ValueError: for bounds that are not finite and ascending, or a width that is not > 0.
        """
        check_level(level)
        low, high = bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds must be finite and ascending, got {bounds}")
        if not half_width > 0:
            raise ValueError(f"half_width must be positive, got {half_width}")
        if n_total is not None and n_total < 1:
            raise ValueError(f"n_total must be at least 1, got {n_total}")
        self.low, self.high, self.level, self.n_total = low, high, level, n_total
        span = high - low
        self._wanted = half_width / span
        self._means = np.linspace(0, 1, GRID + 1)
        self._fortunes = np.zeros((2, GRID + 1))
        """Logarithm of each gambler's fortune at every possible mean."""
        self._most = np.zeros((2, GRID + 1))
        """The largest it has been: what was once ruled out stays so."""
        self.n = 0
        self._sum = 0.0
        self._weight = PRIOR_WEIGHT
        self._seen = PRIOR_WEIGHT * (guess[0] - low) / span
        self._squares = PRIOR_WEIGHT * (guess[1] / span) ** 2

    def add(self, values: npt.ArrayLike) -> None:
        """See more units, in the order drawn.

        Raises:
            ValueError: for a value outside the bounds, or more units than there are.
        """
        x = finite_vector(values, "values")
        if x.size and not (x.min() >= self.low and x.max() <= self.high):
            raise ValueError(
                f"values must lie in [{self.low}, {self.high}], got {x.min()} to {x.max()}"
            )
        if self.n_total is not None and self.n + x.size > self.n_total:
            raise ValueError(f"{self.n + x.size} units seen, but there are {self.n_total}")
        for value in (x - self.low) / (self.high - self.low):
            self._bet(float(value))

    @property
    def mean(self) -> float | None:
        """Mean of what was seen; `None` of nothing."""
        return self.low + (self.high - self.low) * self._sum / self.n if self.n else None

    @property
    def interval(self) -> Interval:
        """The interval now; the whole range before the first unit."""
        least = math.log(2 / (1 - self.level))
        above, below = self._most < least
        span = self.high - self.low
        # The first gambler rules out means that are too small, the second those too large.
        first = int(np.argmax(above)) if above.any() else GRID
        last = GRID - int(np.argmax(below[::-1])) if below.any() else 0
        low, high = max(0, first - 1) / GRID, min(GRID, last + 1) / GRID
        if self.n_total is not None:
            low = max(low, self._sum / self.n_total)
            high = min(high, 1 - (self.n - self._sum) / self.n_total)
        name = "confidence sequence by betting"
        method = name if self.n_total is None else f"{name}, {self.n} of {self.n_total} units"
        return Interval(self.low + span * low, self.low + span * max(low, high), self.level, method)

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.interval.high - self.interval.low) / 2

    def _bet(self, x: float) -> None:
        expected = self._means
        if self.n_total is not None:
            expected = (self.n_total * self._means - self._sum) / (self.n_total - self.n)
        stake = self._wanted / (self._squares / self._weight + self._wanted**2)
        # A mean that what is left cannot reach is ruled out without a bet.
        too_low, too_high = expected < 0, expected > 1
        mu = np.clip(expected, 1e-12, 1 - 1e-12)
        up = np.minimum(stake, LARGEST_STAKE / mu)
        down = np.minimum(stake, LARGEST_STAKE / (1 - mu))
        self._fortunes[0] += np.log1p(up * (x - mu))
        self._fortunes[1] += np.log1p(-down * (x - mu))
        self._fortunes[0][too_low] = np.inf
        self._fortunes[1][too_high] = np.inf
        np.maximum(self._most, self._fortunes, out=self._most)
        self._learn(x)

    def _learn(self, x: float) -> None:
        """Spread around the mean so far: for the next stake, which may know this unit."""
        self.n += 1
        self._sum += x
        self._weight += 1
        self._seen += x
        self._squares += (x - self._seen / self._weight) ** 2


def looks(n_total: int, first: int, growth: float = 1.1) -> list[int]:
    """Numbers of units after which to look: `first`, then at least `growth` times as many.

    Any schedule is allowed. This one ends at most a tenth too late, and takes few rounds.
    """
    found = [min(first, n_total)]
    while found[-1] < n_total:
        found.append(min(n_total, max(found[-1] + first, math.ceil(found[-1] * growth))))
    return found


def stopped_at(
    values: Sequence[float] | FloatArray,
    bounds: tuple[float, float],
    *,
    half_width: float,
    first: int = 16,
    n_total: int | None = None,
    level: float = 0.95,
) -> tuple[int, Interval]:
    """How many units it takes to know the mean to ± `half_width`, and the interval then.

    Args:
        values: [n_total] all units' values in random order.
        bounds: lowest and highest value possible.
        half_width: what is asked for.
        first: units before the first look, and least between two.
        n_total: as in `ConfidenceSequence`.
        level: nominal coverage.
    """
    sequence = ConfidenceSequence(bounds, half_width=half_width, n_total=n_total, level=level)
    for n in looks(len(values), first):
        sequence.add(values[sequence.n : n])
        if sequence.half_width <= half_width:
            break
    return sequence.n, sequence.interval
