"""The numbers that a preset's source reports, of a run's results."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from autointerp.analysis.results import RunResults
from autointerp.presets import Published, load_preset
from autointerp.records import Score


def preset_summary(results: RunResults) -> dict[str, Any] | None:
    """What a run's summary says of its preset; `None` for a run without one.

    Returns:
        `name`, `faithful`, `changed`: key paths where the config is not the preset's, and
        `numbers`: per published number, source and explainer its `mean` over units, `n` of them,
        and `n_missing`, selected units without it.
    """
    facts: Any = results.provenance.get("preset")
    if not facts:
        return None
    scorers = {facts.name for facts in results.scorers}
    return {
        "name": facts["name"],
        "faithful": facts["faithful"],
        "changed": sorted(facts["changed"]),
        "numbers": [
            _number(results, published, source, explainer)
            for published in load_preset(facts["name"]).published
            if published.scorer in scorers
            for source in results.sources
            for explainer in results.explainers
        ],
    }


def preset_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    lines = [preset_title(found)]
    lines += [
        f"  {one['source']}, {one['explainer']}, {one['scorer']}: "
        + ("–" if one["mean"] is None else f"{one['mean']:.3f}")
        + f" ({one['says']}; {one['n']} units, {one['n_missing']} without)"
        for one in found["numbers"]
    ]
    return lines


def preset_title(found: Mapping[str, Any]) -> str:
    """Which preset, and how it was departed from, in a sentence."""
    how = (
        ", faithful: as published, also where that is known to mislead"
        if found["faithful"]
        else ", with what we do otherwise"
    )
    changed = found["changed"]
    rest = f"; the config changes {', '.join(changed)}" if changed else ""
    return f"preset {found['name']}{how}{rest} (docs/presets/{found['name']}.md)"


def _number(
    results: RunResults, published: Published, source: str, explainer: str
) -> dict[str, Any]:
    units = results.of_source(source)
    values = [
        value
        for unit in units
        if (score := unit.scores_by(published.scorer).get(explainer)) is not None
        and (value := _value(score, published.number)) is not None
    ]
    return {
        "scorer": published.scorer,
        "number": published.number,
        "says": published.says,
        "source": source,
        "explainer": explainer,
        "mean": fmean(values) if values else None,
        "n": len(values),
        "n_missing": len(units) - len(values),
    }


def _value(score: Score, number: str) -> float | None:
    if score.value is None:
        return None
    found: Any = score.value if number == "value" else score.details.get(number)
    return float(found) if isinstance(found, int | float) else None
