"""Means of what was scored beside the explanations: empty, generic, narrow, permuted, sign flip."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from autointerp import stats
from autointerp.analysis.values import IN_NO_MEAN, interval_json, outcome_of_score
from autointerp.records import ControlScore, Score, Status

SHUFFLED = "shuffled"
"""Other units' explanations have a column of their own: they make the lift."""


def control_means(scores: Sequence[Score], seed: int) -> dict[str, dict[str, Any]]:
    """Per control its mean over units, and by how much the explanation's own score is above it.

    A constant prediction counts as chance, on either side: by its number where it has one (a judge
    that says yes to everything), else 0 (a correlation). Units where one of the two has no number
    are left out of both, and counted; scores that a cascade or a stopping rule keeps out of means
    are left out of these, too.

    Args:
        scores: of one source and explainer.
        seed: of the intervals, for which units are resampled.

    Returns:
        name → `n_units`, `n_missing`, `mean`, `difference` (mean of own − control) and its
        `interval`; controls in the order in which they were scored.
    """
    names = dict.fromkeys(c.name for s in scores for c in s.controls if c.name != SHUFFLED)
    return {name: _means(scores, name, seed) for name in names}


def _means(scores: Sequence[Score], name: str, seed: int) -> dict[str, Any]:
    pairs: list[tuple[float, float]] = []
    n_missing = 0
    for score in scores:
        found = next((c for c in score.controls if c.name == name), None)
        if found is None or IN_NO_MEAN in score.details:
            continue
        own, control = outcome_of_score(score).value, _counted(found)
        if own is None or control is None:
            n_missing += 1
        else:
            pairs.append((own, control))
    differences = [own - control for own, control in pairs]
    return {
        "n_units": len(pairs),
        "n_missing": n_missing,
        "mean": fmean(control for _, control in pairs) if pairs else None,
        "difference": fmean(differences) if differences else None,
        "interval": interval_json(stats.bootstrap_mean(differences, seed=seed)),
    }


def _counted(control: ControlScore) -> float | None:
    if control.value is None and control.status is Status.CONSTANT_PREDICTION:
        return 0.0
    return control.value
