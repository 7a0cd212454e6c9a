"""How many different tokens a unit responds to (Heap et al. 2025, "token distribution entropy").

    H = - Σ_t m_t log2 m_t,  m_t the share of the unit's activation that lies on token t

0 bits: one token always. Scores of units of few tokens say little of a subject: a random model has
such units too, because texts have tokens. So comparisons with one are made inside like entropies.
"""

from collections import defaultdict
from math import log2

from autointerp.records import Split, Strata, UnitRecord


def token_entropy(record: UnitRecord) -> float | None:
    """H in bits over the `explain` windows, each counted by 1 / its inclusion probability.

    The windows of all strata but `random` stand for all there are; a random one among them would
    count for as much as half of these together. An estimate that errs low: rare tokens are not all
    sampled.

    Returns:
        `None` where no window is active.
    """
    masses: dict[str, float] = defaultdict(float)
    for window in record.of(Split.EXPLAIN):
        if window.stratum == Strata.RANDOM:
            continue
        for token, value, masked in zip(
            window.tokens, window.activations.tolist(), window.masked.tolist(), strict=True
        ):
            if value > 0 and not masked:
                masses[token] += value / window.probability
    total = sum(masses.values())
    if total <= 0:
        return None
    return max(0.0, -sum(m / total * log2(m / total) for m in masses.values()))


BINS = ((0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, float("inf")))
"""Bits: up to 4 tokens alike, up to 16, up to 64, more."""


def bin_of(entropy: float) -> tuple[str, float]:
    """Label and lower end of the bin."""
    low, high = next(b for b in BINS if b[0] <= entropy < b[1])
    return (f"{low:g} bits and more" if high == float("inf") else f"{low:g} to {high:g} bits"), low
