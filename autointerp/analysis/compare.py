"""Are the units of one group easier to explain than those of another?

The question is asked of the lift, never of the raw score: over all scored units, with undefined
scores as 0, and matched on firing rate, since rate alone moves scores. Where both groups hold the
same units (two explainers, two runs), differences are paired.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL
from autointerp.analysis.results import RunResults
from autointerp.analysis.scorer_facts import ScorerFacts
from autointerp.analysis.sides import Side, n_shared, paired_lifts, side_of
from autointerp.analysis.values import analysis_seed, interval_json, mean_or_none
from autointerp.analysis.verdict import MIN_COMMON_SUPPORT, with_verdict

LIFT_RANGE = (-2.0, 2.0)
"""What a difference of two correlations can be."""

MIN_PAIRS = 2
"""Units that both sides must hold for differences to be paired."""

EFFECT_SIZE = "Cliff's delta, P(a > b) - P(a < b), interval by Feng & Cliff (2004)"


def compare_sources(
    results: RunResults, source_a: str, source_b: str, explainer: str
) -> dict[str, Any]:
    """Compare the mean lift of two sources under one explainer; see `compare_sides`."""
    facts = results.primary_scorer
    return with_verdict(_of_scorer(results, facts, source_a, source_b, explainer))


def _of_scorer(
    results: RunResults, facts: ScorerFacts, source_a: str, source_b: str, explainer: str
) -> dict[str, Any]:
    """Two sources as one scorer sees them; `results` are seen by it."""
    return compare_sides(
        side_of(results, source_a, explainer),
        side_of(results, source_b, explainer),
        explainer=explainer,
        scorer=facts.name,
        is_baseline=explainer in results.baseline_explainers,
        lift_range=facts.lift_range,
        seed=analysis_seed(results, "compare", source_a, source_b, explainer),
    )


def compare_sides(
    a: Side,
    b: Side,
    *,
    explainer: str,
    scorer: str = "simulation",
    by: str = "source",
    is_baseline: bool = False,
    lift_range: tuple[float, float] = LIFT_RANGE,
    seed: int,
) -> dict[str, Any]:
    """Every number of one comparison, without a verdict (`verdict.with_verdict`).

    Returns:
        A JSON-ready dict: `by`, `source_a`, `source_b` (names of the groups), `explainer`,
        `scorer`, `is_baseline`, `excluded` and `as_zero` (n, means, `difference` a − b, `interval`,
        `cliffs_delta` with its interval, `hedges_g`, `p_value`), `worst_case` (bounds of the
        difference if unknown scores were anything; `None` without unknown ones), `paired` (over
        units on both sides; `None` where there are fewer than two), `rate_matched` (`share_a`,
        `share_b`, and the same numbers, weighted so that both sides have one distribution of firing
        rates; `None` numbers under 20 % support), `rate_intervals` (the difference inside every
        decade of firing rate that both sides have), `design` (`paired` or `independent`: which
        difference the verdict rests on).
    """
    paired = _paired(a, b, seed)
    return {
        "by": by,
        "source_a": a.name,
        "source_b": b.name,
        "explainer": explainer,
        "scorer": scorer,
        "is_baseline": is_baseline,
        "effect_size": EFFECT_SIZE,
        "n_selected_a": len(a.members),
        "n_selected_b": len(b.members),
        "designs": sorted(a.designs | b.designs),
        "excluded": _difference(a.lifts, b.lifts, seed),
        "as_zero": {
            **_difference(a.with_undefined(), b.with_undefined(), seed),
            "n_undefined_a": a.n_undefined,
            "n_undefined_b": b.n_undefined,
        },
        "worst_case": _worst_case(a, b, lift_range),
        "design": "independent" if paired is None else "paired",
        "paired": paired,
        "rate_matched": _rate_matched(a, b, seed),
        "rate_intervals": _rate_intervals(a, b, seed),
        "n_comparisons": 1,
        "p_adjusted": None,
    }


def compare_all(
    results: RunResults, pairs: Sequence[tuple[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Pairs of sources (every pair where `None`) under every explainer, in config order.

    p-values are adjusted by Benjamini-Hochberg over all of these comparisons, and the verdicts
    follow the adjusted ones (`p_adjusted`, `n_comparisons`). Empty for a run with one source.
    """
    return judged_together(
        [
            compare_sources(results, source_a, source_b, explainer)
            for source_a, source_b in (combinations(results.sources, 2) if pairs is None else pairs)
            for explainer in results.explainers
        ]
    )


def compare_scorers(results: RunResults) -> list[dict[str, Any]]:
    """Every pair of sources under every explainer and scorer, the headline's scorer first.

    One scorer is the headline, named before any result: its p-values are adjusted over its own
    comparisons. Those of the other scorers are adjusted over all of theirs together.
    """
    primary = results.primary_scorer.name
    others = [facts for facts in results.scorers if facts.name != primary]
    return [
        *compare_all(results.under(primary)),
        *judged_together(
            [
                _of_scorer(results.under(facts.name), facts, source_a, source_b, explainer)
                for facts in others
                for source_a, source_b in combinations(results.sources, 2)
                for explainer in results.explainers
            ]
        ),
    ]


def judged_together(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons with p-values adjusted over all of them, and verdicts that follow these."""
    tested = [(c, p) for c in comparisons if (p := p_value_of(c)) is not None]
    adjusted = stats.benjamini_hochberg([p_value for _, p_value in tested])
    for (comparison, _), p_value in zip(tested, adjusted, strict=True):
        comparison["p_adjusted"] = float(p_value)
        comparison["n_comparisons"] = len(tested)
    return [with_verdict(comparison) for comparison in comparisons]


def p_value_of(comparison: dict[str, Any]) -> float | None:
    """The p-value of the difference that the verdict rests on."""
    return comparison["paired" if comparison["design"] == "paired" else "excluded"]["p_value"]


def _difference(a: Sequence[float], b: Sequence[float], seed: int) -> dict[str, Any]:
    testable = len(a) >= 2 and len(b) >= 2
    mean_a, mean_b = mean_or_none(a), mean_or_none(b)
    return {
        "n_a": len(a),
        "n_b": len(b),
        "mean_a": mean_a,
        "mean_b": mean_b,
        "difference": None if mean_a is None or mean_b is None else mean_a - mean_b,
        "interval": interval_json(stats.bootstrap_difference(a, b, level=LEVEL, seed=seed)),
        "cliffs_delta": stats.cliffs_delta(a, b),
        "cliffs_delta_interval": interval_json(stats.cliffs_delta_interval(a, b, LEVEL)),
        "hedges_g": stats.hedges_g(a, b),
        "p_value": stats.permutation_test(a, b, seed=seed) if testable else None,
    }


def _paired(a: Side, b: Side, seed: int) -> dict[str, Any] | None:
    shared = n_shared(a, b)
    if shared < MIN_PAIRS:
        return None
    pairs = paired_lifts(a, b, undefined_as_zero=False)
    return {
        "n_shared": shared,
        **_paired_numbers(pairs, seed),
        "as_zero": _paired_numbers(paired_lifts(a, b, undefined_as_zero=True), seed),
    }


def _paired_numbers(pairs: Sequence[tuple[float, float]], seed: int) -> dict[str, Any]:
    differences = [x - y for x, y in pairs]
    untied = [d for d in differences if d != 0]
    higher = stats.exact_binomial(sum(d > 0 for d in untied), len(untied), LEVEL)
    return {
        "n_pairs": len(pairs),
        "mean_a": mean_or_none([x for x, _ in pairs]),
        "mean_b": mean_or_none([y for _, y in pairs]),
        "difference": mean_or_none(differences),
        "interval": interval_json(stats.bootstrap_mean(differences, level=LEVEL, seed=seed)),
        "standardised": stats.standardised_mean(differences),
        "n_untied": len(untied),
        "share_a_higher": higher.share,
        "share_interval": interval_json(higher.interval),
        "p_value": stats.sign_flip_test(differences, seed=seed) if len(pairs) >= 2 else None,
    }


def _worst_case(a: Side, b: Side, lift_range: tuple[float, float]) -> dict[str, Any] | None:
    if a.n_unknown + b.n_unknown == 0:
        return None
    low_a, high_a = _bounds(a, lift_range)
    low_b, high_b = _bounds(b, lift_range)
    return {
        "n_unknown_a": a.n_unknown,
        "n_unknown_b": b.n_unknown,
        "low": low_a - high_b if math.isfinite(low_a - high_b) else None,
        "high": high_a - low_b if math.isfinite(high_a - low_b) else None,
    }


def _bounds(side: Side, lift_range: tuple[float, float]) -> tuple[float, float]:
    n = len(side.lifts) + side.n_unknown
    if n == 0:
        return lift_range
    low, high = ((sum(side.lifts) + side.n_unknown * end) / n for end in lift_range)
    return low, high


def _rate_matched(a: Side, b: Side, seed: int) -> dict[str, Any]:
    # A unit without a lift gets rate 0, which is in no bin: it stays in the share's denominator.
    support = stats.common_support(a.rates(), b.rates())
    x = np.array([a.members[i].outcome.lift or 0.0 for i in support.index_a])
    y = np.array([b.members[i].outcome.lift or 0.0 for i in support.index_b])
    found: dict[str, Any] = {
        "share_a": support.share_a,
        "share_b": support.share_b,
        "n_a": len(x),
        "n_b": len(y),
        "needed_share": MIN_COMMON_SUPPORT,
        "has_support": bool(len(x)) and support.share >= MIN_COMMON_SUPPORT,
    }
    numbers = dict.fromkeys(("mean_a", "mean_b", "difference", "interval", "p_value"))
    if not found["has_support"]:
        return {**found, **numbers}
    mean_a = float(np.average(x, weights=support.weights_a))
    mean_b = float(np.average(y, weights=support.weights_b))
    interval = stats.bootstrap_difference(
        _linearised(x, support.weights_a), _linearised(y, support.weights_b), level=LEVEL, seed=seed
    )
    p_value = stats.permutation_test(x, y, bins_a=support.bins_a, bins_b=support.bins_b, seed=seed)
    return {
        **found,
        "mean_a": mean_a,
        "mean_b": mean_b,
        "difference": mean_a - mean_b,
        "interval": interval_json(interval),
        "p_value": p_value,
    }


def _linearised(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[n] values whose plain mean, and its error, are those of the weighted mean (Taylor).

    z_i = m + n w_i (x_i − m) / Σ w, with m the weighted mean.
    """
    mean = np.average(values, weights=weights)
    return mean + len(values) * weights * (values - mean) / weights.sum()


def _rate_intervals(a: Side, b: Side, seed: int) -> list[dict[str, Any]]:
    """The difference inside every decade of firing rate in which both sides have a lift."""
    by_decade_a, by_decade_b = _by_decade(a), _by_decade(b)
    return [
        {
            "low": 10.0**decade,
            "high": 10.0 ** (decade + 1),
            **_difference(by_decade_a[decade], by_decade_b[decade], seed),
        }
        for decade in sorted(by_decade_a.keys() & by_decade_b.keys())
    ]


def _by_decade(side: Side) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for member in side.members:
        if member.outcome.lift is not None and member.rate > 0:
            # A unit that is always active belongs to the highest decade.
            decade = min(-1, math.floor(math.log10(member.rate)))
            found.setdefault(decade, []).append(member.outcome.lift)
    return found
