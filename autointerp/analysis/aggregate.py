"""Means over units, with everything that is missing from them counted beside them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from autointerp import stats
from autointerp.analysis.control_means import control_means
from autointerp.analysis.powered import stopped_means
from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.scorer_facts import ScorerFacts, chance_of
from autointerp.analysis.tables import TABLES_VERSION
from autointerp.analysis.values import (
    UNDEFINED,
    UNKNOWN,
    Outcome,
    analysis_seed,
    best_explainer,
    interval_json,
    mean_or_none,
    outcome_of,
)
from autointerp.records import Status

LEVEL = 0.95
"""Nominal coverage of every interval in this room."""


def summarise(results: RunResults) -> dict[str, Any]:
    """All aggregates of a run, per scorer, source and explainer, ready for JSON.

    Every mean is given twice: `excluded` is over units with a score; in `as_zero` a living,
    explained unit whose score is undefined (constant truth, too few active test documents) counts
    0. A constant prediction counts as chance (0 for a correlation) in both. Failed and unrun units
    are in neither: `worst_case` bounds what the `excluded` mean would be with them. Dead units are
    in the coverage alone.

    Returns:
        `schema_version`, `run`, `level`, `n_units`; `scorer`, the one of the headline; its
        `best_explainer` (the explainer with words that has the highest mean lift) and `sources`;
        and `scorers[scorer]` = `type`, `metric`, `low`, `high`, `chance`, `best_explainer`,
        `sources`. `sources[source]` = `recorded`, `selected`, `dead`, `firing_rate`,
        `explainers[explainer]` = `is_baseline`, `counts`, `coverage`, `chance`, `score`, `lift`,
        `controls`, `other_controls`, `lookup`. `staged`, where a cascade or a stopping rule chose
        what is scored: what it did. A number that does not exist is `None`.
    """
    scorers = {facts.name: _scorer(results.under(facts.name), facts) for facts in results.scorers}
    primary = results.primary_scorer.name
    return {
        "schema_version": TABLES_VERSION,
        "run": results.name,
        "level": LEVEL,
        "n_units": len(results.units),
        "scorer": primary,
        "best_explainer": scorers[primary]["best_explainer"],
        "sources": scorers[primary]["sources"],
        "scorers": scorers,
        **({"staged": dict(results.staged)} if results.staged else {}),
    }


def _scorer(results: RunResults, facts: ScorerFacts) -> dict[str, Any]:
    return {
        "type": facts.type,
        "metric": facts.metric,
        "low": _finite(facts.low),
        "high": _finite(facts.high),
        "chance": facts.chance,
        "best_explainer": best_explainer(results),
        "sources": {source: _source(results, source, facts) for source in results.sources},
    }


def _source(results: RunResults, source: str, facts: ScorerFacts) -> dict[str, Any]:
    units = results.of_source(source)
    rates = sorted(unit.density for unit in units)
    return {
        "recorded": dict(results.recorded.get(source, {})),
        "selected": len(units),
        "dead": sum(unit.status is Status.DEAD for unit in units),
        "firing_rate": {
            "lowest": float(rates[0]) if rates else None,
            "median": float(median(rates)) if rates else None,
            "highest": float(rates[-1]) if rates else None,
        },
        "explainers": {
            explainer: _group(results, source, explainer, facts) for explainer in results.explainers
        },
    }


def _group(results: RunResults, source: str, explainer: str, facts: ScorerFacts) -> dict[str, Any]:
    units = results.of_source(source)
    outcomes = [outcome_of(unit, explainer) for unit in units]
    scores = [o.value for o in outcomes if o.value is not None]
    lifts = [o.lift for o in outcomes if o.lift is not None]
    seed = analysis_seed(results, "mean", source, explainer)
    statuses = Counter(o.status for o in outcomes)
    n_undefined = sum(statuses[status] for status in UNDEFINED)
    n_unknown = sum(statuses[status] for status in UNKNOWN)
    n_constant = statuses[Status.CONSTANT_PREDICTION]
    possible = facts.low, facts.high
    group = {
        "is_baseline": explainer in results.baseline_explainers,
        "counts": {
            "selected": len(units),
            "dead": statuses[Status.DEAD],
            "explained": sum(_is_explained(unit, explainer) for unit in units),
            "failed": statuses[Status.FAILED],
            "scored": len(scores),
            "incomplete": _n_incomplete(units, outcomes, explainer),
            "with_lift": len(lifts),
            "by_status": {str(status): statuses[status] for status in Status},
        },
        "coverage": len(scores) / len(units) if units else None,
        "chance": _mean_chance(units, outcomes, explainer, facts),
        "score": _both_treatments(scores, n_undefined, n_unknown, n_constant, possible, seed),
        "lift": {
            **_both_treatments(lifts, n_undefined, n_unknown, n_constant, facts.lift_range, seed),
            "positive": _positive(lifts),
        }
        if lifts
        else None,
        "controls": _controls(units, outcomes, explainer, seed),
        "other_controls": control_means([s for u in units if (s := u.scores.get(explainer))], seed),
        "lookup": _lookup(results, units, explainer, seed),
    }
    stopped_means(results, facts.name, source, explainer, group)
    return group


def _mean_chance(
    units: Sequence[UnitResult], outcomes: Sequence[Outcome], explainer: str, facts: ScorerFacts
) -> float | None:
    """Mean over scored units of what chance scores on their windows."""
    chances = [
        chance_of(unit.scores[explainer])
        for unit, outcome in zip(units, outcomes, strict=True)
        if outcome.is_scored
    ]
    known = [chance for chance in chances if chance is not None]
    return mean_or_none(known) if known else facts.chance


def _n_incomplete(units: Sequence[UnitResult], outcomes: Sequence[Outcome], explainer: str) -> int:
    """Scored units some of whose answers are missing because requests failed."""
    return sum(
        outcome.is_scored and unit.scores[explainer].n_failed_requests > 0
        for unit, outcome in zip(units, outcomes, strict=True)
    )


def _is_explained(unit: UnitResult, explainer: str) -> bool:
    explanation = unit.explanations.get(explainer)
    return (
        unit.status is Status.OK
        and explanation is not None
        and explanation.status is Status.OK
        and explanation.text is not None
    )


def _both_treatments(
    values: Sequence[float],
    n_undefined: int,
    n_unknown: int,
    n_constant: int,
    possible: tuple[float, float],
    seed: int,
) -> dict[str, Any]:
    return {
        "excluded": {**_mean(values, seed, possible), "n_undefined_left_out": n_undefined},
        "as_zero": {
            **_mean([*values, *[0.0] * n_undefined], seed, possible),
            "n_undefined_as_zero": n_undefined,
        },
        "n_constant_prediction": n_constant,
        "worst_case": _worst_case(values, n_unknown, possible),
    }


def _mean(values: Sequence[float], seed: int, possible: tuple[float, float]) -> dict[str, Any]:
    """Mean, median and the interval of the mean, cut to what a mean of such values can be."""
    found = stats.bootstrap_mean(values, level=LEVEL, seed=seed)
    if found is not None:
        low, high = possible
        found = replace(found, low=max(low, found.low), high=min(high, found.high))
    return {
        "n": len(values),
        "mean": mean_or_none(values),
        "interval": interval_json(found),
        "median": float(median(values)) if values else None,
    }


def _worst_case(
    values: Sequence[float], n_unknown: int, possible: tuple[float, float]
) -> dict[str, Any] | None:
    """Lowest and highest mean if the units whose number is unknown had any possible one."""
    if n_unknown == 0:
        return None
    n, total = len(values) + n_unknown, sum(values)
    return {
        "n_unknown": n_unknown,
        "low": _finite((total + n_unknown * possible[0]) / n),
        "high": _finite((total + n_unknown * possible[1]) / n),
    }


def _finite(value: float) -> float | None:
    """`None` for a score without an end: a gain in nats can be anything."""
    return value if math.isfinite(value) else None


def _positive(lifts: Sequence[float]) -> dict[str, Any]:
    count = sum(lift > 0 for lift in lifts)
    found = stats.exact_binomial(count, len(lifts), LEVEL)
    return {
        "n": count,
        "of": len(lifts),
        "share": found.share,
        "interval": interval_json(found.interval),
    }


def _controls(
    units: Sequence[UnitResult], outcomes: Sequence[Outcome], explainer: str, seed: int
) -> dict[str, Any]:
    """Mean over units of the mean score of other units' explanations, for units with a lift."""
    chosen = [
        unit.scores[explainer]
        for unit, outcome in zip(units, outcomes, strict=True)
        if outcome.lift is not None
    ]
    means = [score.control_mean for score in chosen if score.control_mean is not None]
    statuses = Counter(
        control.status
        for score in chosen
        for control in score.controls
        if control.name == "shuffled"
    )
    return {
        "n_units": len(means),
        "n_controls": sum(statuses.values()),
        "by_status": {str(status): n for status, n in sorted(statuses.items())},
        "mean": mean_or_none(means),
        "interval": interval_json(stats.bootstrap_mean(means, level=LEVEL, seed=seed)),
    }


def _lookup(
    results: RunResults, units: Sequence[UnitResult], explainer: str, seed: int
) -> dict[str, Any]:
    """Per baseline: its mean score on the units that both have scored, and the paired difference.

    Empty for a baseline itself.
    """
    found: dict[str, Any] = {}
    if explainer in results.baseline_explainers:
        return found
    for baseline in results.baseline_explainers:
        pairs = [
            (own, other)
            for unit in units
            if (own := outcome_of(unit, explainer).value) is not None
            and (other := outcome_of(unit, baseline).value) is not None
        ]
        differences = [own - other for own, other in pairs]
        found[baseline] = {
            "n_pairs": len(pairs),
            "mean_score": fmean(other for _, other in pairs) if pairs else None,
            "mean_difference": mean_or_none(differences),
            "interval": interval_json(stats.bootstrap_mean(differences, level=LEVEL, seed=seed)),
        }
    return found
