"""What a comparison shows, in words that never claim more than its intervals."""

from collections.abc import Mapping
from typing import Any

from autointerp.analysis.wording import interval_text, level_text, number, p_text, percent, plural

MIN_COMMON_SUPPORT = 0.2
"""No rate-matched verdict where a smaller share of either side's units is matched."""

FEW_UNITS = 30
"""With fewer units on a side the verdict says what could not have been seen."""

SIGNIFICANT = 0.05


def with_verdict(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison with its `conclusion` and `verdict`.

    `conclusion` is `a_higher`, `b_higher`, `not_shown`, `unclear` or `not_measured`.
    """
    conclusion, sentences = _main_verdict(comparison)
    if conclusion != "not_measured":
        sentences += _caveats(comparison)
    return {**comparison, "conclusion": conclusion, "verdict": " ".join(sentences)}


def units_of(by: str, name: str) -> str:
    """The units of a group, in words."""
    return {
        "source": f"units of {name}",
        "explainer": f"explanations by {name}",
        "run": f"units of the run {name}",
        "density": f"units that fire on {name}",
    }.get(by, f"units of {by} {name}")


def named(by: str, name: str) -> str:
    """A group's name where it stands alone in a sentence: a layer is called one."""
    return name if by in ("source", "explainer", "run", "density") else f"{by} {name}"


def direction_of(interval: Mapping[str, Any] | None) -> str:
    """`a_higher`, `b_higher`, or `not_shown` where the interval includes zero."""
    if interval is None or interval["low"] <= 0 <= interval["high"]:
        return "not_shown"
    return "a_higher" if interval["low"] > 0 else "b_higher"


def _main_verdict(comparison: Mapping[str, Any]) -> tuple[str, list[str]]:
    by = comparison["by"]
    name_a, name_b = comparison["source_a"], comparison["source_b"]
    a, b = named(by, name_a), named(by, name_b)
    under = _under(comparison)
    for side, n in ((name_a, "n_a"), (name_b, "n_b")):
        if comparison["excluded"][n] == 0:
            one = units_of(by, side).replace("units", "unit", 1)
            no = "explanation" if by == "explainer" else one.split(" ", 1)[0]
            what = f"{no} {one.split(' ', 1)[1]}"
            return "not_measured", [f"Not compared {under}: no {what} has a lift."]
    if len(comparison["designs"]) > 1 and not comparison.get("designs_allowed"):
        designs = " and ".join(comparison["designs"])
        return "not_measured", [f"Not compared {under}: windows were sampled by {designs}."]
    paired = comparison["design"] == "paired"
    c = comparison["paired"] if paired else comparison["excluded"]
    if paired and c["n_pairs"] == 0:
        return "not_measured", [f"Not compared {under}: no unit has a lift on both sides."]
    count = (
        f"{plural(c['n_pairs'], 'unit')}, paired"
        if paired
        else f"{c['n_a']} and {plural(c['n_b'], 'unit')}"
    )
    numbers = (
        f"mean lift {number(c['mean_a'])} for {a} and {number(c['mean_b'])} for {b}, "
        f"difference {number(c['difference'])} ({level_text(c['interval'])}; {count})"
    )
    if c["interval"] is None:
        reason = "too few units, or no spread, for an interval: this run shows nothing either way"
        return "not_measured", [f"{_capital(under)}, {numbers}: {reason}."]
    direction = direction_of(c["interval"])
    if direction == "not_shown":
        return direction, [
            f"{_capital(under)}, {numbers}. "
            "The interval includes zero: this run does not show a difference."
        ]
    higher = a if direction == "a_higher" else b
    p_value, family = c["p_value"], ""
    if comparison["p_adjusted"] is not None:
        p_value = comparison["p_adjusted"]
        family = f", adjusted for {comparison['n_comparisons']} comparisons"
    kind = "sign-flip test" if paired else "permutation test"
    test = f"{kind}: {p_text(p_value)}{family}"
    if p_value >= SIGNIFICANT:
        return "unclear", [
            f"{_capital(under)}, {numbers}. The interval does not include zero, but the test does "
            f"not confirm it ({test}): a hint that {higher} score higher, not a finding."
        ]
    as_zero = c["as_zero"] if paired else comparison["as_zero"]
    if direction_of(as_zero["interval"]) != direction:
        return "unclear", [
            f"{_capital(under)}, {numbers}; {test}. The interval does not include zero, but "
            "once undefined scores count as 0 it does: whether there is a difference depends on "
            "how they are counted."
        ]
    above, below = (name_a, name_b) if direction == "a_higher" else (name_b, name_a)
    return direction, [
        f"{_capital(under)}, {units_of(by, above)} have a higher mean lift than "
        f"{units_of(by, below)}: {numbers}; {test}."
    ]


def _under(comparison: Mapping[str, Any]) -> str:
    explainer, scorer = comparison["explainer"], comparison["scorer"]
    parts = [] if comparison["by"] == "explainer" else [explainer]
    if scorer != "simulation" or not parts:
        parts.append(f"{scorer} as scorer" if parts else scorer)
    return f"under {', '.join(parts)}"


def _caveats(comparison: Mapping[str, Any]) -> list[str]:
    paired = comparison["design"] == "paired"
    c, sentences = comparison["paired"] if paired else comparison["excluded"], list[str]()
    interval = c["interval"]
    n_least = c["n_pairs"] if paired else min(c["n_a"], c["n_b"])
    if n_least < FEW_UNITS and interval is not None:
        half = (interval["high"] - interval["low"]) / 2
        count = (
            plural(c["n_pairs"], "pair") if paired else f"{c['n_a']} and {plural(c['n_b'], 'unit')}"
        )
        sentences.append(
            f"With {count}, an observed difference below about {number(half)} cannot be told from "
            "none."
        )
    zero = comparison["as_zero"]
    if zero["n_undefined_a"] + zero["n_undefined_b"]:
        found = c["as_zero"] if paired else zero
        sentences.append(
            f"With undefined scores as 0 ({zero['n_undefined_a']} of {comparison['source_a']}, "
            f"{zero['n_undefined_b']} of {comparison['source_b']}) the difference is "
            f"{number(found['difference'])} ({level_text(found['interval'])})."
        )
    if paired and c["n_pairs"] < c["n_shared"]:
        left_out = c["n_shared"] - c["n_pairs"]
        sentences.append(
            f"Of {plural(c['n_shared'], 'unit')} on both sides {left_out} without a lift on one "
            "are left out of both."
        )
    if comparison["worst_case"]:
        worst = comparison["worst_case"]
        missing = worst["n_unknown_a"] + worst["n_unknown_b"]
        sentences.append(
            f"{_capital(plural(missing, 'selected unit'))} without a known score (failed or not "
            "run): with any possible lifts for them the difference lies between "
            f"{number(worst['low'])} and {number(worst['high'])}."
        )
    # Pairs are the same units, and groups by firing rate have no common rates.
    if paired or comparison["by"] == "density":
        return sentences
    return [*sentences, _rate_sentence(comparison)]


def _rate_sentence(comparison: Mapping[str, Any]) -> str:
    by, matched = comparison["by"], comparison["rate_matched"]
    a, b = named(by, comparison["source_a"]), named(by, comparison["source_b"])
    shares = f"{percent(matched['share_a'])} of {a} and {percent(matched['share_b'])} of {b}"
    if not matched["has_support"]:
        both = "sources" if comparison["by"] == "source" else "groups"
        return (
            f"No rate-matched verdict: {shares} are scored and fire at rates found in both "
            f"{both}, and {percent(MIN_COMMON_SUPPORT)} of each is needed."
            f"{_intervals_sentence(comparison)}"
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
    }[direction_of(interval)]
    text = f"{start} (interval {interval_text(interval)}, {end})"
    p_value = matched["p_value"]
    if direction_of(interval) != "not_shown" and p_value is not None and p_value >= SIGNIFICANT:
        return f"{text}, not confirmed by the permutation test ({p_text(p_value)})."
    return f"{text}."


def _intervals_sentence(comparison: Mapping[str, Any]) -> str:
    """The difference per decade of firing rate: what is left where support is thin."""
    found = [
        f"{percent(part['low'])} to {percent(part['high'])} of tokens {number(part['difference'])} "
        f"({part['n_a']} and {plural(part['n_b'], 'unit')}"
        + (f"; {interval_text(part['interval'])}" if part["interval"] else "; no interval")
        + ")"
        for part in comparison["rate_intervals"]
    ]
    if not found:
        return ""
    return f" Inside the intervals of firing rate that both have, it is {'; '.join(found)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
