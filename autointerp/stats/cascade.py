"""Where a cheap score decides, so that the expensive one need not be asked.

What is to be decided about an explanation is whether its gold score reaches a bar. A cheap score f
decides *poor* at or below a threshold, *good* at or above another, and leaves the rest open. The
thresholds rest on gold units, drawn by chance, of which both scores are known: going inwards from
the ends, a threshold moves on as long as

    H0: P(gold decides otherwise | f beyond the threshold) > max_error

is rejected by the exact binomial test at level δ. Testing in an order fixed by f alone and stopping
at the first that is not rejected needs no correction (fixed sequence testing: Angelopoulos, Bates,
Candès, Jordan & Lei 2021, "Learn then Test", §2.3, algorithm 1): with probability 1 - δ the chosen
threshold's error is at most `max_error`.

The order starts with so many units beyond the threshold that some errors may be among them: a
fifth of the gold units, but never fewer than with which no error at all would reject, n with
(1 - max_error)^n <= δ, which is 29 for 10 % at δ = 0.05. With fewer gold units no threshold can be
had, and nothing is decided.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from autointerp.stats.estimate import FloatArray, finite_vector

Verdict = Literal["poor", "good"]

START_SHARE = 5
"""The first threshold has one of so many gold units beyond it."""


@dataclass(frozen=True)
class Thresholds:
    """What a cheap score decides."""

    poor: float | None
    """At or below it: poor; `None` where that is never said."""

    good: float | None
    """At or above it: good; `None` where that is never said."""

    n_gold: int
    """Gold units they rest on."""

    n_poor: int
    """Gold units at or below `poor`."""

    wrong_poor: int
    """Of these, how many reach the bar after all."""

    n_good: int
    wrong_good: int

    def decide(self, cheap: float | None) -> Verdict | None:
        """What a cheap score says; `None` where it leaves it open, or there is no score."""
        if cheap is None:
            return None
        if self.poor is not None and cheap <= self.poor:
            return "poor"
        if self.good is not None and cheap >= self.good:
            return "good"
        return None


def gold_units_needed(max_error: float, delta: float) -> int:
    """Fewest gold units beyond a threshold with which one can be set: none of them wrong."""
    _check_shares(max_error, delta)
    return math.ceil(math.log(delta) / math.log(1 - max_error))


def thresholds(
    cheap: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    bar: float,
    max_error: float = 0.1,
    delta: float = 0.05,
) -> Thresholds:
    """Thresholds of a cheap score (rule above), each end at level δ / 2.

    Args:
        cheap: [n_gold] cheap score of the gold units.
        gold: [n_gold] their gold score.
        bar: an explanation is good where its gold score is at least this.
        max_error: most errors among those decided, as a share.
        delta: chance of exceeding it at one of the two ends.

    Raises:
        ValueError: if lengths differ, a value is NaN or infinite, or a share not in (0, 1).
    """
    _check_shares(max_error, delta)
    f, y = finite_vector(cheap, "cheap"), finite_vector(gold, "gold")
    if f.size != y.size:
        raise ValueError(f"{f.size} cheap scores, but {y.size} gold ones of the same units")
    is_good = y >= bar
    poor = _allowed(f, is_good, max_error, delta / 2)
    good = [(-t, n, k) for t, n, k in _allowed(-f, ~is_good, max_error, delta / 2)]
    low, high = _apart(poor, good, f.size)
    return Thresholds(low[0], high[0], f.size, low[1], low[2], high[1], high[2])


_End = tuple[float | None, int, int]
"""A threshold, the gold units beyond it, and how many of them it is wrong about."""


def _allowed(
    f: FloatArray, is_wrong: npt.NDArray[np.bool_], max_error: float, delta: float
) -> list[tuple[float, int, int]]:
    """All thresholds from below up to the first that may be too often wrong."""
    order = np.argsort(f, kind="stable")
    wrong = np.cumsum(is_wrong[order])
    found: list[tuple[float, int, int]] = []
    first = max(gold_units_needed(max_error, delta), f.size // START_SHARE)
    for last in range(first - 1, f.size):
        if last + 1 < f.size and f[order[last + 1]] == f[order[last]]:
            continue  # equal scores are decided alike
        n, k = last + 1, int(wrong[last])
        if float(stats.binom.cdf(k, n, max_error)) > delta:
            break
        found.append((float(f[order[last]]), n, k))
    return found


def _apart(
    poor: list[tuple[float, int, int]], good: list[tuple[float, int, int]], n_gold: int
) -> tuple[_End, _End]:
    """The two thresholds that leave fewest gold units open, and of those err least.

    All allowed thresholds hold at once, so any of them may be taken; the furthest of both ends may
    have passed each other.
    """
    nothing: _End = (None, 0, 0)
    pairs = [(p, g) for p in [nothing, *poor[-1:]] for g in [nothing, *good[-1:]]]
    if poor and good and good[-1][0] <= poor[-1][0]:
        ends = sorted(good)
        places = np.searchsorted([g[0] for g in ends], [p[0] for p in poor], side="right")
        pairs += [(p, ends[i]) for p, i in zip(poor, places, strict=True) if i < len(ends)]
    apart = [(p, g) for p, g in pairs if p[0] is None or g[0] is None or p[0] < g[0]]
    return min(apart, key=lambda pair: (n_gold - pair[0][1] - pair[1][1], pair[0][2] + pair[1][2]))


def _check_shares(max_error: float, delta: float) -> None:
    if not (0 < max_error < 1 and 0 < delta < 1):
        raise ValueError(
            f"max_error and delta must lie between 0 and 1, got {max_error} and {delta}"
        )
