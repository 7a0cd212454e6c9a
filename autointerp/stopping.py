"""Scoring units in random order until their mean is known well enough.

Every scorer of explanations is asked about the units of a source in a seeded random order; after 16
units, and then after a tenth more again and again, the confidence sequence of the mean is looked at
(`autointerp.stats.sequential`). Where its half-width is what was asked for, the source is done
under that explainer and scorer.

A score that failed could be anything: the lower end counts it as the lowest, the upper end as the
highest possible. Units with too little data have no score and are no part of the mean, as
everywhere; who they are is found out before anything is asked.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autointerp.analysis.results import SIMULATION
from autointerp.analysis.scorer_facts import scorer_facts
from autointerp.analysis.values import IN_NO_MEAN
from autointerp.config import ScorerConfig, StopConfig
from autointerp.explained import Wanted
from autointerp.judging import judge, judges
from autointerp.records import AutointerpError, Score, Status, UnitId, UsageError
from autointerp.simulation_stage import scorer_of
from autointerp.staging import (
    Place,
    Scores,
    entries_of,
    in_random_order,
    left_out,
    number_of,
    reads_explanations,
    score_by,
    score_free,
    scorer_settings,
    stored_scores,
    table_of,
)
from autointerp.stats.sequential import ConfidenceSequence, looks

if TYPE_CHECKING:
    from autointerp.runner import Run

Group = tuple[str, str]
"""An explainer and a source."""


@dataclass(frozen=True)
class Progress:
    """How far one scorer is with one source under one explainer."""

    units: tuple[UnitId, ...]
    """All units of the mean, in the order in which they are scored."""

    n: int
    """How many of them are scored."""

    low: float
    """Lower end of the mean's confidence sequence."""

    high: float
    """Upper end."""

    reached: bool
    """Whether the mean is known as well as was asked for."""

    @cached_property
    def rest(self) -> frozenset[UnitId]:
        """Units that were not needed."""
        return frozenset(self.units[self.n :]) if self.reached else frozenset()

    def reason(self, source: str, plan: StopConfig) -> str:
        """Why the rest was not scored."""
        return (
            f"not needed: the mean {plan.measure} of {source} is known to ±{plan.half_width:g} "
            f"from {self.n} of {len(self.units)} units"
        )

    def as_json(self) -> dict[str, Any]:
        """Numbers for a summary."""
        return {
            "n_scored": self.n,
            "n_units": len(self.units),
            "low": self.low,
            "high": self.high,
            "reached": self.reached,
        }


def check_stop(run: "Run") -> None:
    """Refuse to stop where a score has no bounds.

    Raises:
        UsageError: naming the scorer.
    """
    stop = run.config.score.stop
    for settings in stopped_scorers(run) if stop is not None else ():
        assert stop is not None
        low, high = bounds_of(settings, stop.measure)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError(
                f"score.stop: the {stop.measure} of {settings.name!r} has no lowest or highest "
                "value, so no number of units bounds its mean; leave out the scorer or `stop`"
            )


def stopped_scorers(run: "Run") -> list[ScorerConfig]:
    """The scorers of explanations: scores of units themselves are not stopped."""
    return [s for s in run.config.scorers if reads_explanations(run, s.name)]


def score_until_known(run: "Run") -> None:
    """Score by every scorer until every mean is known, or there is nothing left to score."""
    stopped = [scorer.name for scorer in stopped_scorers(run)]
    judge(run, [s for s in judges(run) if s.name not in stopped])
    for scorer in stopped:
        score_free(run, scorer)
        _go_on(run, scorer, lambda wanted, scorer=scorer: score_by(run, scorer, wanted))


def _go_on(
    run: "Run", scorer: str, score: Callable[[Wanted], None] | None
) -> dict[Group, Progress]:
    """Look, and have `score` do what is wanted next, until all is known.

    Without `score`: as far as the stored scores go.
    """
    plan = _plan(run)
    scores = stored_scores(run, scorer)
    groups = {group: _Group.of(run, group, scorer, plan, scores) for group in _groups(scores)}
    while True:
        for group in groups.values():
            group.look(scores)
        ends = {name: group.next_units for name, group in groups.items() if group.next_units}
        if score is None or not ends:
            return {name: group.progress for name, group in groups.items()}
        wanted = {(explainer, u) for (explainer, _), units in ends.items() for u in units}
        score(lambda e, wanted=wanted: (e.explainer, e.unit) in wanted)
        scores = stored_scores(run, scorer)
        if any(scores[place] is None for place in wanted):
            raise AutointerpError(f"{scorer} left explanations without a score: run it again")


@dataclass
class _Group:
    """The units of one source under one explainer, on their way to a mean."""

    explainer: str
    units: tuple[UnitId, ...]
    plan: StopConfig
    ends: tuple[ConfidenceSequence, ConfidenceSequence]
    """With failed scores as the lowest possible, and as the highest."""

    @classmethod
    def of(
        cls,
        run: "Run",
        group: Group,
        scorer: str,
        plan: StopConfig,
        scores: Mapping[Place, Score | None],
    ) -> "_Group":
        explainer, source = group
        units = [
            unit
            for (name, unit), score in scores.items()
            if name == explainer
            and unit.source == source
            and not (score is not None and score.status is Status.INSUFFICIENT_DATA)
        ]
        bounds = bounds_of(scorer_settings(run, scorer), plan.measure)
        low, high = (
            ConfidenceSequence(
                bounds, half_width=plan.half_width, n_total=max(1, len(units)), level=plan.level
            )
            for _ in range(2)
        )
        return cls(explainer, tuple(in_random_order(run, units, "order")), plan, (low, high))

    @property
    def reached(self) -> bool:
        """Whether the mean is known well enough."""
        return (self.progress.high - self.progress.low) / 2 <= self.plan.half_width

    @property
    def next_units(self) -> tuple[UnitId, ...]:
        """Units to be scored before the next look; none where there is nothing left to do."""
        n = self.ends[0].n
        if self.reached or n >= len(self.units):
            return ()
        return self.units[n : self._next_look]

    @property
    def _next_look(self) -> int:
        return next(k for k in looks(len(self.units), self.plan.first) if k > self.ends[0].n)

    def look(self, scores: Mapping[Place, Score | None]) -> None:
        """Take in what is scored, look by look."""
        while units := self.next_units:
            found = [scores.get((self.explainer, unit)) for unit in units]
            if any(score is None for score in found):
                return
            values = [number_of(score, self.plan.measure) for score in found]
            for sequence, missing in zip(
                self.ends, (self.ends[0].low, self.ends[0].high), strict=True
            ):
                full = [missing if value is None else value for value in values]
                sequence.add([min(sequence.high, max(sequence.low, value)) for value in full])

    @property
    def progress(self) -> Progress:
        """What is known now."""
        low, high = self.ends[0].interval.low, self.ends[1].interval.high
        return Progress(
            units=self.units,
            n=self.ends[0].n,
            low=low,
            high=high,
            reached=(high - low) / 2 <= self.plan.half_width,
        )


def _groups(scores: Mapping[Place, Score | None]) -> list[Group]:
    return list(dict.fromkeys((explainer, unit.source) for explainer, unit in scores))


def mark_stopped(
    run: "Run", simulated: Scores, by_judges: dict[UnitId, dict[str, dict[str, Score]]]
) -> dict[str, Any]:
    """Say of every score that was not needed why it is missing.

    Args:
        run: with a stopping rule.
        simulated: scores by simulation, changed in place.
        by_judges: unit → scorer → explainer → score, changed in place.

    Returns:
        What is known of the means, for JSON: scorer → source → explainer.
    """
    plan = _plan(run)
    scorers: dict[str, Any] = {}
    for settings in stopped_scorers(run):
        name = SIMULATION if settings.type == "simulation" else settings.name
        found = _go_on(run, settings.name, None)
        table = table_of(run, settings.name, simulated, by_judges)
        for (explainer, unit), _, explanation in entries_of(run, settings.name):
            progress = found[explainer, unit.source]
            if unit not in progress.rest:
                continue
            reason = progress.reason(unit.source, plan)
            score = table(unit).get(explainer)
            table(unit)[explainer] = (
                left_out(explanation, settings.name, scorer_of(run, unit).design, reason)
                if score is None
                else replace(score, details={**score.details, IN_NO_MEAN: reason})
            )
        for (explainer, source), progress in found.items():
            facts = scorers.setdefault(name, {}).setdefault(source, {})
            facts[explainer] = progress.as_json()
    return {"stop": {**plan.model_dump(mode="json"), "scorers": scorers}}


def bounds_of(settings: ScorerConfig, measure: str) -> tuple[float, float]:
    """Lowest and highest value of what is averaged.

    A lift of correlations could be anything from -2 to 2 and is never beyond ±1: it is cut there,
    and the mean is of lifts cut so. Tighter bounds take far fewer units.
    """
    facts = scorer_facts(settings.name, settings.type)
    if measure == "score":
        return facts.low, facts.high
    if (facts.low, facts.high) == (-1.0, 1.0):
        return -1.0, 1.0
    return facts.lift_range


def _plan(run: "Run") -> StopConfig:
    assert run.config.score.stop is not None
    return run.config.score.stop
