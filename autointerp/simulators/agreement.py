"""How far two simulators agree: the audit of a fast way by a slow one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp import stats
from autointerp.records import Simulation
from autointerp.simulators.base import Simulator


@dataclass(frozen=True)
class Agreement:
    """Two simulators on the same explanations and texts."""

    correlation: stats.Estimate
    """Pearson, over all tokens that both know; pooled, as scores are."""

    rank_correlation: stats.Estimate
    """Spearman, over the same."""

    mean_difference: float | None
    """Mean absolute difference, each on its own scale from 0 to 1; `None` without a token."""

    n_tokens: int
    """Tokens that both know."""

    n_left_out: int
    """Tokens that one of them does not know."""


def agreement(
    first: Simulator, second: Simulator, jobs: Sequence[tuple[str, Sequence[Sequence[str]]]]
) -> Agreement:
    """Simulate with both and compare, token by token.

    Bills et al. 2023 justify all-at-once simulation by such a comparison: scores are to be trusted
    no further than the two ways agree.

    Args:
        first: such as all at once.
        second: such as one token at a time.
        jobs: explanations with the token texts of their sequences.
    """
    ours, theirs = _flat(first.simulate_many(jobs)), _flat(second.simulate_many(jobs))
    both = [a.known & b.known for a, b in zip(ours, theirs, strict=True)]
    pairs = list(zip(ours, theirs, both, strict=True))
    a = [one.expected[known].astype(np.float64) for one, _, known in pairs]
    b = [other.expected[known].astype(np.float64) for _, other, known in pairs]
    n_tokens = int(sum(known.sum() for known in both))
    gaps = [
        np.abs(x / (first.n_levels - 1) - y / (second.n_levels - 1))
        for x, y in zip(a, b, strict=True)
    ]
    return Agreement(
        correlation=stats.pooled_pearson(a, b),
        rank_correlation=stats.pooled_spearman(a, b),
        mean_difference=float(np.concatenate(gaps).mean()) if n_tokens else None,
        n_tokens=n_tokens,
        n_left_out=sum(known.size for known in both) - n_tokens,
    )


def _flat(answers: Sequence[Sequence[Simulation]]) -> list[Simulation]:
    return [simulation for simulations in answers for simulation in simulations]
