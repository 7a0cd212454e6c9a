"""Are the units of one source easier to explain than those of another?

The question is asked of the lift, never of the raw score, in three ways: over all scored units,
with undefined scores as 0, and matched on firing rate, since rate alone moves scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from autointerp import stats
from autointerp.analysis.aggregate import LEVEL, LIFT_RANGE
from autointerp.analysis.results import RunResults, UnitResult
from autointerp.analysis.values import (
    UNDEFINED,
    UNKNOWN,
    Outcome,
    analysis_seed,
    interval_json,
    mean_or_none,
    outcome_of,
)
from autointerp.analysis.wording import interval_text, level_text, number, p_text, percent, plural

MIN_COMMON_SUPPORT = 0.2
"""No rate-matched verdict where a smaller share of either side's units is matched."""

FEW_UNITS = 30
"""With fewer units on a side the verdict says what could not have been seen."""

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class _Side:
    """One source under one explainer."""

    source: str
    units: tuple[UnitResult, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def lifts(self) -> list[float]:
        return [o.lift for o in self.outcomes if o.lift is not None]

    @property
    def n_undefined(self) -> int:
        return sum(o.status in UNDEFINED for o in self.outcomes)

    @property
    def n_unknown(self) -> int:
        return sum(o.status in UNKNOWN for o in self.outcomes)

    def with_undefined(self) -> list[float]:
        return [*self.lifts, *[0.0] * self.n_undefined]

    def designs(self, explainer: str) -> set[str]:
        return {
            unit.scores[explainer].design
            for unit, outcome in zip(self.units, self.outcomes, strict=True)
            if outcome.lift is not None
        }


def compare_sources(
    results: RunResults, source_a: str, source_b: str, explainer: str
) -> dict[str, Any]:
    """Compare the mean lift of two sources under one explainer.

    Returns:
        A JSON-ready dict: `source_a`, `source_b`, `explainer`, `is_baseline`, `excluded` and
        `as_zero` (n, means, `difference` a − b, `interval`, `cliffs_delta`, `p_value`),
        `worst_case` (bounds of the difference if unknown scores were anything; `None` without
        unknown ones), `rate_matched` (`share_a`, `share_b`, and the same numbers, weighted so that
        both sides have one distribution of firing rates; `None` numbers under 20 % support),
        `conclusion` (`a_higher`, `b_higher`, `not_shown`, `unclear`, `not_measured`), `verdict` in
        words.
    """
    a, b = _side(results, source_a, explainer), _side(results, source_b, explainer)
    seed = analysis_seed(results, "compare", source_a, source_b, explainer)
    comparison: dict[str, Any] = {
        "source_a": source_a,
        "source_b": source_b,
        "explainer": explainer,
        "is_baseline": explainer in results.baseline_explainers,
        "n_selected_a": len(a.units),
        "n_selected_b": len(b.units),
        "designs": sorted(a.designs(explainer) | b.designs(explainer)),
        "excluded": _difference(a.lifts, b.lifts, seed),
        "as_zero": {
            **_difference(a.with_undefined(), b.with_undefined(), seed),
            "n_undefined_a": a.n_undefined,
            "n_undefined_b": b.n_undefined,
        },
        "worst_case": _worst_case(a, b),
        "rate_matched": _rate_matched(a, b, seed),
        "n_comparisons": 1,
        "p_adjusted": None,
    }
    return _with_verdict(comparison)


def compare_all(
    results: RunResults, pairs: Sequence[tuple[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Pairs of sources (every pair where `None`) under every explainer, in config order.

    p-values are adjusted by Benjamini-Hochberg over all of these comparisons, and the verdicts
    follow the adjusted ones (`p_adjusted`, `n_comparisons`). Empty for a run with one source.
    """
    comparisons = [
        compare_sources(results, source_a, source_b, explainer)
        for source_a, source_b in (combinations(results.sources, 2) if pairs is None else pairs)
        for explainer in results.explainers
    ]
    tested = [c for c in comparisons if c["excluded"]["p_value"] is not None]
    adjusted = stats.benjamini_hochberg([c["excluded"]["p_value"] for c in tested])
    for comparison, p_value in zip(tested, adjusted, strict=True):
        comparison["p_adjusted"] = float(p_value)
        comparison["n_comparisons"] = len(tested)
    return [_with_verdict(comparison) for comparison in comparisons]


def _side(results: RunResults, source: str, explainer: str) -> _Side:
    units = results.of_source(source)
    return _Side(source, units, tuple(outcome_of(unit, explainer) for unit in units))


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
        "p_value": stats.permutation_test(a, b, seed=seed) if testable else None,
    }


def _worst_case(a: _Side, b: _Side) -> dict[str, Any] | None:
    if a.n_unknown + b.n_unknown == 0:
        return None
    low_a, high_a = _bounds(a)
    low_b, high_b = _bounds(b)
    return {
        "n_unknown_a": a.n_unknown,
        "n_unknown_b": b.n_unknown,
        "low": low_a - high_b,
        "high": high_a - low_b,
    }


def _bounds(side: _Side) -> tuple[float, float]:
    n = len(side.lifts) + side.n_unknown
    if n == 0:
        return LIFT_RANGE
    low, high = ((sum(side.lifts) + side.n_unknown * end) / n for end in LIFT_RANGE)
    return low, high


def _rate_matched(a: _Side, b: _Side, seed: int) -> dict[str, Any]:
    # A unit without a lift gets rate 0, which is in no bin: it stays in the share's denominator.
    support = stats.common_support(_rates(a), _rates(b))
    x = np.array([_lift_or_zero(a.outcomes[i]) for i in support.index_a])
    y = np.array([_lift_or_zero(b.outcomes[i]) for i in support.index_b])
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


def _rates(side: _Side) -> list[float]:
    return [
        unit.density if outcome.lift is not None else 0.0
        for unit, outcome in zip(side.units, side.outcomes, strict=True)
    ]


def _lift_or_zero(outcome: Outcome) -> float:
    return outcome.lift or 0.0


# ------------------------------------------------------------------ verdict


def _with_verdict(comparison: dict[str, Any]) -> dict[str, Any]:
    conclusion, sentences = _main_verdict(comparison)
    if conclusion != "not_measured":
        sentences += _caveats(comparison)
    return {**comparison, "conclusion": conclusion, "verdict": " ".join(sentences)}


def _main_verdict(comparison: Mapping[str, Any]) -> tuple[str, list[str]]:
    a, b, c = comparison["source_a"], comparison["source_b"], comparison["excluded"]
    under = f"under {comparison['explainer']}"
    for source, n in ((a, c["n_a"]), (b, c["n_b"])):
        if n == 0:
            return "not_measured", [f"Not compared {under}: no unit of {source} has a lift."]
    if len(comparison["designs"]) > 1:
        designs = " and ".join(comparison["designs"])
        return "not_measured", [f"Not compared {under}: windows were sampled by {designs}."]
    numbers = (
        f"mean lift {number(c['mean_a'])} for {a} and {number(c['mean_b'])} for {b}, "
        f"difference {number(c['difference'])} ({level_text(c['interval'])}; "
        f"{c['n_a']} and {plural(c['n_b'], 'unit')})"
    )
    if c["interval"] is None:
        reason = "too few units, or no spread, for an interval: this run shows nothing either way"
        return "not_measured", [f"{_capital(under)}, {numbers}: {reason}."]
    direction = _direction(c["interval"])
    if direction == "not_shown":
        return direction, [
            f"{_capital(under)}, {numbers}. "
            "The interval includes zero: this run does not show a difference."
        ]
    higher, lower = (a, b) if direction == "a_higher" else (b, a)
    p_value, family = c["p_value"], ""
    if comparison["p_adjusted"] is not None:
        p_value = comparison["p_adjusted"]
        family = f", adjusted for {comparison['n_comparisons']} comparisons"
    test = f"permutation test: {p_text(p_value)}{family}"
    if p_value >= SIGNIFICANT:
        return "unclear", [
            f"{_capital(under)}, {numbers}. The interval does not include zero, but the test does "
            f"not confirm it ({test}): a hint that {higher} score higher, not a finding."
        ]
    if _direction(comparison["as_zero"]["interval"]) != direction:
        return "unclear", [
            f"{_capital(under)}, {numbers}; {test}. The interval does not include zero, but "
            "once undefined scores count as 0 it does: whether there is a difference depends on "
            "how they are counted."
        ]
    return direction, [
        f"{_capital(under)}, units of {higher} have a higher mean lift than units of {lower}: "
        f"{numbers}; {test}."
    ]


def _caveats(comparison: Mapping[str, Any]) -> list[str]:
    c, sentences = comparison["excluded"], list[str]()
    interval = c["interval"]
    if min(c["n_a"], c["n_b"]) < FEW_UNITS and interval is not None:
        half = (interval["high"] - interval["low"]) / 2
        sentences.append(
            f"With {c['n_a']} and {plural(c['n_b'], 'unit')}, an observed difference below about "
            f"{number(half)} cannot be told from none."
        )
    zero = comparison["as_zero"]
    if zero["n_undefined_a"] + zero["n_undefined_b"]:
        sentences.append(
            f"With undefined scores as 0 ({zero['n_undefined_a']} of {comparison['source_a']}, "
            f"{zero['n_undefined_b']} of {comparison['source_b']}) the difference is "
            f"{number(zero['difference'])} ({level_text(zero['interval'])})."
        )
    if comparison["worst_case"]:
        worst = comparison["worst_case"]
        missing = worst["n_unknown_a"] + worst["n_unknown_b"]
        sentences.append(
            f"{_capital(plural(missing, 'selected unit'))} without a known score (failed or not "
            "run): with any possible lifts for them the difference lies between "
            f"{number(worst['low'])} and {number(worst['high'])}."
        )
    return [*sentences, _rate_sentence(comparison)]


def _rate_sentence(comparison: Mapping[str, Any]) -> str:
    a, b, matched = comparison["source_a"], comparison["source_b"], comparison["rate_matched"]
    shares = f"{percent(matched['share_a'])} of {a} and {percent(matched['share_b'])} of {b}"
    if not matched["has_support"]:
        return (
            f"No rate-matched verdict: {shares} are scored and fire at rates found in both "
            f"sources, and {percent(MIN_COMMON_SUPPORT)} of each is needed."
        )
    start = (
        f"Matched on firing rate ({shares}; {matched['n_a']} and "
        f"{plural(matched['n_b'], 'unit')}) the difference is {number(matched['difference'])}"
    )
    interval = matched["interval"]
    if interval is None:
        return f"{start}; too few units for an interval."
    end = {
        "not_shown": "which includes zero",
        "a_higher": f"above zero: {a} higher",
        "b_higher": f"below zero: {b} higher",
    }[_direction(interval)]
    text = f"{start} (interval {interval_text(interval)}, {end})"
    p_value = matched["p_value"]
    if _direction(interval) != "not_shown" and p_value is not None and p_value >= SIGNIFICANT:
        return f"{text}, not confirmed by the permutation test ({p_text(p_value)})."
    return f"{text}."


def _direction(interval: Mapping[str, Any] | None) -> str:
    if interval is None or interval["low"] <= 0 <= interval["high"]:
        return "not_shown"
    return "a_higher" if interval["low"] > 0 else "b_higher"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
