"""The explanations of a run: their keys, and beside whose words each of them is scored."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from autointerp.config import BASELINE_EXPLAINERS
from autointerp.explainers.best_of import BestOf, donors_of
from autointerp.explainers.labels import Labels
from autointerp.record_stage import records_key
from autointerp.records import Explanation, Status, UnitId, content_key
from autointerp.selection import Donors

if TYPE_CHECKING:
    from autointerp.explainers import Explainer
    from autointerp.runner import Run


Wanted = Callable[[Explanation], bool]
"""Whether an explanation is to be scored."""


def everything(_: Explanation) -> bool:
    """Every explanation is wanted."""
    return True


def explanation_key(run: "Run", unit: UnitId, explainer: "Explainer") -> str:
    """Hash of everything an explanation depends on."""
    if isinstance(explainer, BestOf):
        return run.selections_of(explainer)[unit].key
    return content_key(
        "explanation",
        unit=str(unit),
        records=records_key(run, unit.source),
        explainer=explainer.fingerprint,
        name=explainer.name,
        llm=run.parts.client.fingerprint if explainer.needs_llm else None,
        seed=run.config.seed,
    )


def explanations(run: "Run", explainer: "Explainer") -> dict[UnitId, Explanation]:
    """The stored explanations of the chosen living units by one explainer."""
    found: dict[UnitId, Explanation] = {}
    for unit in run.units.chosen:
        if not run.units.is_dead(unit):
            explanation = run.store.get_explanation(explanation_key(run, unit, explainer))
            if explanation is not None:
                found[unit] = explanation
    return found


def explained(run: "Run") -> Iterator[tuple[Explanation, tuple[Explanation, ...]]]:
    """Every explanation with its donors."""
    directions = run.units.directions()
    for explainer in run.parts.explainers:
        if isinstance(explainer, BestOf):
            for explanation in explanations(run, explainer).values():
                yield explanation, donors_of(explanation)
            continue
        donors = Donors(_donor_candidates(run, explainer), run.units.densities, directions)
        for explanation in explanations(run, explainer).values():
            yield explanation, donors.of(explanation, run.config.score.shuffled_donors)


def living(run: "Run") -> Iterator[tuple[Explanation, tuple[Explanation, ...]]]:
    """Every chosen living unit with units to compare it with, each in an explanation's place.

    For scores of units themselves: the explanations are empty, by nobody, and their keys are of the
    records.
    """
    places = {
        unit: Explanation(
            unit,
            "",
            "",
            Status.OK,
            content_key("unit", unit=unit, records=records_key(run, unit.source)),
        )
        for unit in run.units.known
        if not run.units.is_dead(unit)
    }
    donors = Donors(list(places.values()), run.units.densities, run.units.directions())
    for unit in run.units.chosen:
        if unit in places:
            yield places[unit], donors.of(places[unit], run.config.score.shuffled_donors)


def _donor_candidates(run: "Run", explainer: "Explainer") -> list[Explanation]:
    """Stored explanations that may serve as controls.

    Those of the chosen units, and of the config's own where single units were asked for: one
    unit alone has nobody to be compared with.
    """
    keys = (explanation_key(run, unit, explainer) for unit in run.units.known)
    found = (run.store.get_explanation(key) for key in keys)
    known = [explanation for explanation in found if explanation is not None]
    if not isinstance(explainer, Labels):
        return known
    # A few labels have no others to be compared with: the rest of the units lend theirs.
    own = {one.unit for one in known if one.status is Status.OK}
    lent = next(
        (
            _donor_candidates(run, e)
            for e, settings in zip(run.parts.explainers, run.config.explainers, strict=True)
            if not isinstance(e, Labels | BestOf) and settings.type not in BASELINE_EXPLAINERS
        ),
        [],
    )
    return [*(k for k in known if k.unit in own), *(e for e in lent if e.unit not in own)]
