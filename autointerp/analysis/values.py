"""Which number of a unit enters a mean, and why some have none.

Tables, means, comparisons, figures and pages all ask here, so that they count alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, Protocol

from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.scorer_facts import chance_of
from autointerp.records import Score, Status, derived_seed

SCORED = (Status.OK, Status.CONSTANT_PREDICTION)
"""Statuses with a number: a constant prediction counts as chance, 0 for a correlation."""

UNDEFINED = (Status.UNDEFINED_TRUTH, Status.INSUFFICIENT_DATA)
"""Living, explained units for which the `test` windows define no score."""

UNKNOWN = (Status.FAILED, Status.NOT_RUN)
"""A score exists in principle, but is not known: it could be anything."""


IN_NO_MEAN = "in_no_mean"
"""Key of a score's details: why it is in no mean although it has a number."""


class AnyInterval(Protocol):
    """An interval of `records` or of `stats`: they have the same fields."""

    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def level(self) -> float: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Outcome:
    """What became of one unit under one explainer."""

    status: Status
    stage: Literal["unit", "explanation", "score"]
    """Where the status arose."""

    reason: str = ""
    value: float | None = None
    """The score as it enters means: chance (0) for a constant prediction that has no number,
    `None` where there is none."""

    lift: float | None = None
    """Score − mean of the shuffled controls; `None` also where there are none: see `reason`."""

    @property
    def is_scored(self) -> bool:
        """Whether it has a score that enters means."""
        return self.value is not None


def outcome_of(unit: UnitResult, explainer: str) -> Outcome:
    """Follow one unit through explaining and scoring; exactly one status comes out."""
    if unit.status is not Status.OK:
        return Outcome(unit.status, "unit")
    explanation, score = unit.explanations.get(explainer), unit.scores.get(explainer)
    if explanation is not None and explanation.status is not Status.OK:
        return Outcome(explanation.status, "explanation", explanation.reason)
    if score is None:
        stage = "score" if explanation is not None else "explanation"
        return Outcome(Status.NOT_RUN, stage)
    return outcome_of_score(score)


def outcome_of_score(score: Score) -> Outcome:
    """What became of a score that was asked for, or left out."""
    if IN_NO_MEAN in score.details:
        return Outcome(Status.STAGED, "score", str(score.details[IN_NO_MEAN]))
    if score.status not in SCORED:
        return Outcome(score.status, "score", score.reason)
    value = _finite(score.value)
    if score.status is Status.CONSTANT_PREDICTION and value is None:
        value = chance_of(score)
    if value is None:
        return Outcome(Status.FAILED, "score", score.reason or "the score holds no number")
    lift = _lift(score, value)
    reason = score.reason or ("" if lift is not None else _why_no_lift(score))
    return Outcome(score.status, "score", reason, value, lift)


def _why_no_lift(score: Score) -> str:
    if score.controls:
        return f"no lift: none of the {len(score.controls)} explanations of other units has a score"
    return "no lift: there is no other unit's explanation by this explainer to compare with"


def best_explainer(results: RunResults) -> str | None:
    """The explainer with words that has the highest mean lift, else the highest mean score.

    Units of all sources weigh the same; ties go to the first in the config.
    """
    words = [name for name in results.explainers if name not in results.baseline_explainers]

    def merit(name: str) -> tuple[float, float]:
        outcomes = [outcome_of(unit, name) for unit in results.units]
        lifts = [o.lift for o in outcomes if o.lift is not None]
        values = [o.value for o in outcomes if o.value is not None]
        return (
            fmean(lifts) if lifts else -math.inf,
            fmean(values) if values else -math.inf,
        )

    return max(words, key=merit, default=None)


def analysis_seed(results: RunResults, *purpose: Any) -> int:
    """The seed of one analysis: hash(run seed, purpose)."""
    return derived_seed(int(results.config.get("seed") or 0), "analysis", *purpose)


def interval_json(interval: AnyInterval | None) -> dict[str, Any] | None:
    """An interval as plain values; `None` where there is none or an end is not finite."""
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None
    return {
        "low": float(interval.low),
        "high": float(interval.high),
        "level": float(interval.level),
        "method": interval.method,
    }


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean, `None` of nothing."""
    return fmean(values) if len(values) else None


def _lift(score: Score, value: float) -> float | None:
    lift = _finite(score.lift)
    control = _finite(score.control_mean)
    return value - control if lift is None and control is not None else lift


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
