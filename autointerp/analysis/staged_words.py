"""What a cascade or a stopping rule did, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from autointerp.analysis.wording import number, percent


def staged_lines(staged: Mapping[str, Any]) -> Iterator[str]:
    """One line per scorer, source or stage; nothing without a cascade or a stopping rule.

    Args:
        staged: as in `summary.json`.
    """
    if "cascade" in staged:
        yield from _cascade(staged["cascade"])
    if "stop" in staged:
        yield from _stop(staged["stop"])


def _cascade(found: Mapping[str, Any]) -> Iterator[str]:
    scored = ", ".join(f"{stage} {n}" for stage, n in found["n_scored"].items())
    yield (
        f"Cascade: {found['n_gold_units']} of {found['n_units']} units are gold; explanations "
        f"scored: {scored}."
    )
    for explainer, facts in found["explainers"].items():
        if found["decide"]:
            yield _decisions(explainer, facts, found)
        for source, means in found["means"].items():
            if means.get(explainer):
                yield _mean(source, explainer, means[explainer], found)


def _decisions(explainer: str, facts: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    said = [
        f"{stage} decided {n['poor']} poor and {n['good']} good"
        for stage, n in facts["decided"].items()
    ]
    return (
        f"{explainer}: {'; '.join(said)}; {facts['open']} were left to {found['stages'][-1]}. At "
        f"most {percent(found['max_error'])} of either kind are wrong "
        f"({percent(1 - found['delta'])} sure)."
    )


def _mean(source: str, explainer: str, means: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    own = means["units_like_these"]
    interval = own["interval"]
    ends = f" [{number(interval['low'])}, {number(interval['high'])}]" if interval else ""
    gain = f", worth {own['gain']:.1f} times as many" if own["gain"] else ""
    return (
        f"{source}, {explainer}: mean {found['measure']} by {found['stages'][-1]} "
        f"{number(own['mean'])}{ends}, from {means['n_gold']} gold units{gain} with "
        f"{found['stages'][0]} of all."
    )


def _stop(found: Mapping[str, Any]) -> Iterator[str]:
    for scorer, sources in found["scorers"].items():
        for source, explainers in sources.items():
            for explainer, facts in explainers.items():
                end = (
                    "then the mean was known as well as asked for"
                    if facts["reached"]
                    else f"±{found['half_width']:g} was not reached"
                )
                yield (
                    f"{source}, {explainer} by {scorer}: scored {facts['n_scored']} of "
                    f"{facts['n_units']} units; {end}."
                )
