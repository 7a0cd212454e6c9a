"""What a scorer's number is: which metric, between which ends, and what chance alone would give."""

import math
from dataclasses import dataclass
from typing import Any

from autointerp.records import Score


@dataclass(frozen=True)
class ScorerFacts:
    """One scorer, as tables and worst cases need to know it."""

    name: str
    """As in the config."""

    type: str
    """`simulation`, `detection`, …, or a third party's entry point."""

    metric: str
    """What the number is, in words for a table's head."""

    low: float
    """Least value a score can have."""

    high: float
    """Largest value."""

    chance: float | None
    """What an explanation without content scores; `None` where that differs from unit to unit
    (then it stands beside every score)."""

    @property
    def lift_range(self) -> tuple[float, float]:
        """What a difference of two scores can be."""
        return self.low - self.high, self.high - self.low


_SIMULATION = ("correlation", -1.0, 1.0, 0.0)


def scorer_facts(name: str, kind: str) -> ScorerFacts:
    """The facts of a scorer called `name` of type `kind`.

    Our own scorers say their metric and its ends themselves. Of a third party's nothing is known,
    and its worst cases are those of a correlation.
    """
    if kind == "simulation":
        return ScorerFacts(name, kind, *_SIMULATION)
    from autointerp.scorers import SCORERS

    scorer = SCORERS.get(kind)
    metric: Any = getattr(scorer, "metric", "score")
    low, high = getattr(scorer, "bounds", (-1.0, 1.0))
    return ScorerFacts(
        name, kind, metric if isinstance(metric, str) else "score", float(low), float(high), None
    )


def chance_of(score: Score) -> float | None:
    """What chance alone would score on the same windows; `None` where it is not known.

    A scorer that asks a judge stores `chance` in its details, or the `prevalence` of positives,
    which is the chance of average precision. A correlation's is 0.
    """
    for name in ("chance", "prevalence"):
        value = score.details.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return 0.0 if score.scorer == "simulation" else None
