"""The expected level from a position's top log-probabilities.

    E = sum_k k p_k / sum_k p_k,   mass = sum_k p_k,   p_k = exp(logprob of the string "k")

(Bills et al. 2023, "Simulating"). Only exact level strings count: " 5", "05" and "5.0" do not.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

LEVELS = range(11)
"""The levels 0 to 10 of Bills et al."""


class ExpectedLevel(NamedTuple):
    """A simulator's prediction at one token."""

    expected: float | None
    """Mean level under `distribution`; `None` where no level was among the candidates."""

    mass: float
    """Probability in [0, 1] that the simulator put on levels; low where it missed the format."""

    distribution: dict[int, float]
    """Level to probability given that it is a level, ascending; sums to 1, or is empty."""


def expected_value_from_logprobs(
    top_logprobs: Mapping[str, float], levels: Iterable[int] = LEVELS
) -> ExpectedLevel:
    """Expected level, level mass and renormalised distribution at one position (equation above).

    The mass is not judged here: with 2e-8 of it the expected level is still a number, and the
    caller's floor must make it missing.

    Args:
        top_logprobs: candidate token to natural log-probability; others than levels are dropped.
        levels: the levels the simulator was asked for, written without padding.

    Raises:
        ValueError: if a level's log-probability is NaN or above 0 by more than rounding.
    """
    logprobs: dict[int, float] = {}
    for level in sorted(levels):
        logprob = top_logprobs.get(str(level))
        if logprob is None or logprob == -math.inf:
            continue
        if not logprob <= 1e-3:
            raise ValueError(f'log-probability of "{level}" is {logprob}, expected at most 0')
        logprobs[level] = logprob
    if not logprobs:
        return ExpectedLevel(None, 0.0, {})
    highest = max(logprobs.values())
    relative = {level: math.exp(logprob - highest) for level, logprob in logprobs.items()}
    total = math.fsum(relative.values())
    distribution = {level: p / total for level, p in relative.items()}
    expected = math.fsum(level * q for level, q in distribution.items())
    mass = min(1.0, math.fsum(math.exp(logprob) for logprob in logprobs.values()))
    return ExpectedLevel(expected, mass, distribution)
