"""The mean of an expensive score over a dictionary, from a cheap one on all its units."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from autointerp.analysis.results import RunResults
from autointerp.analysis.values import interval_json
from autointerp.stats import Population, PredictionPoweredMean, prediction_powered_mean

Unit = TypeVar("Unit")


def powered_means(
    gold: Mapping[Unit, float],
    cheap: Mapping[Unit, float],
    *,
    is_sample: Callable[[Unit], bool],
    level: float = 0.95,
    seed: int,
) -> dict[str, Any] | None:
    """Prediction-powered means, of these units and of units like them, for JSON.

    Args:
        gold: of the units that were drawn by chance and have both scores.
        cheap: of all units.
        is_sample: whether a unit was drawn. One that was, without a gold score, is left out of both
            sides: the mean is of units that have one.
        level: nominal coverage.
        seed: of resamples.

    Returns:
        `None` where no unit has both scores.
    """
    both = [unit for unit in cheap if unit in gold]
    rest = [unit for unit in cheap if not is_sample(unit)]
    if not both:
        return None
    found: dict[str, Any] = {
        "n_gold": len(both),
        "n_cheap_only": len(rest),
        "n_gold_without_score": sum(is_sample(unit) and unit not in gold for unit in cheap),
    }
    for population in get_args(Population):
        mean = prediction_powered_mean(
            [gold[unit] for unit in both],
            [cheap[unit] for unit in both],
            [cheap[unit] for unit in rest],
            population=population,
            level=level,
            seed=seed,
        )
        found["correlation"] = mean.correlation
        found["gold_only"] = {"mean": mean.gold_only, "error": mean.gold_only_error}
        found[population] = as_json(mean)
    return found


def as_json(mean: PredictionPoweredMean) -> dict[str, Any]:
    """One mean as plain values."""
    return {
        "mean": mean.value,
        "error": mean.error,
        "interval": interval_json(mean.interval),
        "tuning": mean.tuning,
        "gain": mean.gain,
    }


def stopped_means(
    results: RunResults, scorer: str, source: str, explainer: str, group: dict[str, Any]
) -> None:
    """Put the interval that holds at any time where scoring stopped by looking at it.

    Ordinary intervals of units whose number was chosen by looking at them do not hold: they are
    taken away.

    Args:
        results: of the run.
        scorer: the group's.
        source: the group's.
        explainer: the group's.
        group: its means in a summary, changed in place.
    """
    stop = results.staged.get("stop")
    found = stop and stop["scorers"].get(scorer, {}).get(source, {}).get(explainer)
    if not stop or not found:
        return
    for measure in ("lift", "score"):
        for treatment in ("excluded", "as_zero") if group[measure] else ():
            group[measure][treatment]["interval"] = None
    if group[stop["measure"]]:
        group[stop["measure"]]["excluded"]["interval"] = {
            "low": found["low"],
            "high": found["high"],
            "level": stop["level"],
            "method": "confidence sequence by betting",
        }
