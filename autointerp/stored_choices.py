"""Was the best of several explanations really the best? From what a run stored, asking nobody.

`best_of` keeps every candidate with the number it was chosen by. Those numbers are computed again
from the stored simulations or answers, the choice is made again, and its key is hashed again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autointerp.explainers.best_of import BestOf, best, candidates_of, donors_of
from autointerp.records import FAILED_REQUESTS, Explanation, Status, UnitId, content_key
from autointerp.scorers import ScoreJob
from autointerp.selecting import chooser, identity_of
from autointerp.simulation_stage import scorer_of

if TYPE_CHECKING:
    from autointerp.stored_run import StoredRun


def choice_is_keyed(stored: "StoredRun", explanation: Explanation, explainer: BestOf) -> bool:
    """Whether a choice's key is the hash of its candidates, its donors' and who chose."""
    design = scorer_of(stored.run, explanation.unit).design
    k = len(explanation.details.get("candidates") or ())
    donors = [
        (str(entry["unit"]), _found(stored, UnitId.parse(str(entry["unit"])), explainer))
        for entry in explanation.details.get("shuffled") or ()
    ]
    facts: dict[str, Any] = {
        "unit": explanation.unit,
        "name": explainer.name,
        "explainer": explainer.fingerprint,
        "records": stored.records_key(explanation.unit.source),
        "scorer": identity_of(chooser(stored.run, explainer, design)),
        "explanations": [one.key for one in _found(stored, explanation.unit, explainer)],
        "donors": [
            [unit, [one.key for one in found], min(k, len(candidates_of(found)))]
            for unit, found in donors
        ],
    }
    return any(
        content_key("selection", judge=judge, **facts) == explanation.key
        for judge in (*stored.facts["simulators"].values(), stored.facts.get("llm"))
    )


def _found(stored: "StoredRun", unit: UnitId, explainer: BestOf) -> list[Explanation]:
    """The stored explanations of a unit that were chosen among, in the config's order."""
    names = [e.name for e in stored.config.explainers if e.name in explainer.of]
    every = [stored.explanation_of(unit, name) for name in names]
    return [one for one in every if one is not None]


def choice_differences(
    stored: "StoredRun", explanation: Explanation, explainer: BestOf
) -> Iterator[tuple[str, Any, Any]]:
    """What of a choice is not as it is when made again: (field, stored, found).

    Raises:
        CannotRecomputeError: where what it was chosen by is not stored, or was incomplete.
    """
    details = explanation.details
    if details.get(FAILED_REQUESTS):
        raise stored.incomplete()
    own: Sequence[Mapping[str, Any]] = details.get("candidates") or ()
    values = [_value(stored, explanation, explainer, entry) for entry in own]
    yield from _moved("candidates", own, values)
    chosen = best(values)
    if own:
        text = own[chosen or 0]["text"]
        if text != explanation.text:
            yield "text", explanation.text, text
        if details.get("chosen") != chosen:
            yield "chosen", details.get("chosen"), chosen
    shuffled: Sequence[Mapping[str, Any]] = details.get("shuffled") or ()
    others = [_value(stored, explanation, explainer, entry) for entry in shuffled]
    yield from _moved("shuffled", shuffled, others)


def _moved(
    name: str, entries: Sequence[Mapping[str, Any]], values: Sequence[float | None]
) -> Iterator[tuple[str, Any, Any]]:
    for place, (entry, value) in enumerate(zip(entries, values, strict=True)):
        if entry.get("value") != value:
            yield f"{name}.{place}.value", entry.get("value"), value


def _value(
    stored: "StoredRun", explanation: Explanation, explainer: BestOf, entry: Mapping[str, Any]
) -> float | None:
    """The number one text was chosen by, on the `calibrate` windows."""
    design = scorer_of(stored.run, explanation.unit).design
    scorer = chooser(stored.run, explainer, design)
    words = Explanation(explanation.unit, explainer.name, str(entry["text"]), Status.OK, "")
    job = ScoreJob(stored.record(explanation.unit), words, (), "", "", "")
    return stored.chosen_by(scorer.score(job)).value


def chosen_donors(explanation: Explanation) -> dict[str, Explanation]:
    """The controls of a choice by their keys: they stand in its details, and nowhere else."""
    return {donor.key: donor for donor in donors_of(explanation)}
