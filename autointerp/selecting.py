"""Best-of-k: candidates are scored on `calibrate`, and the best of them is the explanation.

Choosing makes any number look better. So nothing that chose is reported: the chosen text is scored
on `test` like any other. And its controls have been chosen as well: every donor gives as many texts
of its own, and the best of them on this unit's `calibrate` windows is the control. A lift is over
best-of-k of shuffled explanations, whatever k is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from autointerp.explained import explanation_key
from autointerp.explainers.best_of import BestOf, Candidate, best, candidates_of
from autointerp.judging import judge_of
from autointerp.record_stage import records_key
from autointerp.records import (
    FAILED_REQUESTS,
    AutointerpError,
    Explanation,
    Score,
    Split,
    Status,
    UnitId,
    UsageError,
    content_key,
)
from autointerp.scorers import ScoreJob, load_scorer
from autointerp.scorers.incomplete import noting_failures
from autointerp.selection import Donors
from autointerp.simulation_stage import scorer_of, simulate, simulation_batch, simulation_scorer
from autointerp.simulators import SimulationRequest

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.runner import Run


@dataclass(frozen=True)
class Selection:
    """What is chosen among for one unit."""

    unit: UnitId
    key: str
    own: tuple[Candidate, ...]
    donors: tuple[tuple[UnitId, tuple[Candidate, ...]], ...]
    """Other units, each with as many of its own candidates at most."""

    @property
    def texts(self) -> list[str]:
        """All texts that are scored on this unit, its own first."""
        return [c.text for c in (*self.own, *(c for _, found in self.donors for c in found))]


def check_selections(run: "Run") -> None:
    """Refuse a scorer that cannot choose, before anything is recorded."""
    for explainer in run.parts.explainers:
        if isinstance(explainer, BestOf):
            chooser(run, explainer, run.design.name)


def selections(run: "Run", explainer: BestOf) -> Mapping[UnitId, Selection]:
    """What there is to choose from, for every chosen living unit."""
    judge = _judge_fingerprint(run, explainer)
    found: dict[UnitId, list[Candidate]] = {}
    keys: dict[UnitId, list[str]] = {}
    sources = [one for one in run.parts.explainers if one.name in explainer.of]
    for unit in run.units.known:
        if run.units.is_dead(unit):
            continue
        explanations = [run.store.get_explanation(explanation_key(run, unit, o)) for o in sources]
        known = [one for one in explanations if one is not None]
        found[unit] = candidates_of(known)
        keys[unit] = [one.key for one in known]
    stand_ins = {
        unit: Explanation(unit, explainer.name, own[0].text, Status.OK, "")
        for unit, own in found.items()
        if own
    }
    donors = Donors(list(stand_ins.values()), run.units.densities, run.units.directions())
    n = run.config.score.shuffled_donors
    result: dict[UnitId, Selection] = {}
    for unit in run.units.chosen:
        if unit not in found:
            continue
        own = found[unit]
        others = donors.of(stand_ins[unit], n) if own else ()
        chosen = tuple((one.unit, tuple(found[one.unit][: len(own)])) for one in others)
        key = content_key(
            "selection",
            unit=unit,
            name=explainer.name,
            explainer=explainer.fingerprint,
            records=records_key(run, unit.source),
            scorer=identity_of(chooser(run, explainer, scorer_of(run, unit).design)),
            judge=judge,
            explanations=keys[unit],
            donors=[[str(donor), keys[donor], len(texts)] for donor, texts in chosen],
        )
        result[unit] = Selection(unit, key, tuple(own), chosen)
    return result


def select(run: "Run") -> None:
    """Choose for every unit that has no choice under its key yet."""
    for explainer in run.parts.explainers:
        if not isinstance(explainer, BestOf):
            continue
        missing = [
            selection
            for selection in run.selections_of(explainer).values()
            if run.store.get_explanation(selection.key) is None
        ]
        run.reporter.stage(explainer.name, sum(len(s.texts) for s in missing), "candidates")
        _choose(run, explainer, missing)


def _choose(run: "Run", explainer: BestOf, missing: Sequence[Selection]) -> None:
    from autointerp.llm import drive

    by_key = {selection.key: selection for selection in missing}
    scores: dict[str, dict[int, Score]] = {selection.key: {} for selection in missing}
    for selection in missing:
        if not selection.texts:
            run.store.put_explanation(_chosen(explainer, selection, {}))

    def done(place: tuple[str, int], score: Score) -> None:
        key, number = place
        scores[key][number] = score
        run.reporter.advance(1)
        if len(scores[key]) == len(by_key[key].texts):
            run.store.put_explanation(_chosen(explainer, by_key[key], scores.pop(key)))

    def failed(place: tuple[str, int], error: AutointerpError) -> None:
        unit = by_key[place[0]].unit
        done(place, _failed(unit, explainer, str(error)))

    handlers, batch = _handlers(run, explainer)
    drive(_jobs(run, explainer, missing), handlers, done, failed, batch_size=batch)


def _jobs(
    run: "Run", explainer: BestOf, missing: Sequence[Selection]
) -> Iterator[tuple[tuple[str, int], Any]]:
    """One score per candidate, on the unit's `calibrate` windows, without controls."""
    for selection in missing:
        scorer = chooser(run, explainer, scorer_of(run, selection.unit).design)
        record = run.units.records[selection.unit]
        for number, text in enumerate(selection.texts):
            words = Explanation(selection.unit, explainer.name, text, Status.OK, "")
            job = ScoreJob(record, words, (), "", "", "")
            yield (selection.key, number), noting_failures(scorer.score(job))


def _chosen(explainer: BestOf, selection: Selection, scores: Mapping[int, Score]) -> Explanation:
    """The best candidate, with all that it was chosen from."""
    if not selection.own:
        reason = f"none of {', '.join(explainer.of)} found words for the unit"
        return Explanation(
            selection.unit, explainer.name, None, Status.FAILED, selection.key, reason
        )
    entries = [_entry(text, scores[i]) for i, text in enumerate(selection.texts)]
    own = entries[: len(selection.own)]
    for entry, candidate in zip(own, selection.own, strict=True):
        entry["explainer"] = candidate.explainer
    chosen = best([entry["value"] for entry in own])
    # Where nothing could be scored the first candidate stands, unchosen.
    text = own[chosen or 0]["text"]
    rest = iter(entries[len(own) :])
    shuffled: list[dict[str, Any]] = []
    for donor, texts in selection.donors:
        found = [next(rest) for _ in texts]
        place = best([entry["value"] for entry in found])
        shuffled.append({"unit": str(donor), "chosen": place, **found[place or 0]})
    values = [e["value"] for e in own if e["value"] is not None]
    others = [e["value"] for e in shuffled if e["value"] is not None]
    n_failed = sum(score.n_failed_requests for score in scores.values())
    details = {
        "scorer": explainer.by,
        "split": str(Split.CALIBRATE),
        "k": len(own),
        "chosen": chosen,
        "candidates": own,
        "value_on_calibrate": None if chosen is None else own[chosen]["value"],
        "mean_on_calibrate": sum(values) / len(values) if values else None,
        "shuffled": shuffled,
        "shuffled_best_on_calibrate": sum(others) / len(others) if others else None,
        **({FAILED_REQUESTS: n_failed} if n_failed else {}),
    }
    return Explanation(
        selection.unit, explainer.name, text, Status.OK, selection.key, details=details
    )


def _entry(text: str, score: Score) -> dict[str, Any]:
    return {"text": text, "value": score.value, "status": str(score.status)}


def _failed(unit: UnitId, explainer: BestOf, reason: str) -> Score:
    return Score(
        unit=unit, explanation_key="", explainer=explainer.name, scorer=explainer.by,
        simulator="", value=None, status=Status.FAILED, key="", split=Split.CALIBRATE,
        reason=reason,
    )  # fmt: skip


def most_texts(config: "RunConfig", explainer: BestOf, n_donors: int) -> int:
    """How many texts are scored for a unit at most: k of its own, and as many of every donor.

    Args:
        config: of the run.
        explainer: chooses among the texts of others.
        n_donors: units whose texts the choice is compared with.
    """
    k = sum(
        (one.n_samples or 1) * (one.n_explanations or 1)
        for one in config.explainers
        if one.name in explainer.of
    )
    return k * (1 + n_donors)


def _settings(run: "Run", explainer: BestOf) -> Any:
    return next(scorer for scorer in run.config.scorers if scorer.name == explainer.by)


def chooser(run: "Run", explainer: BestOf, design: str) -> Any:
    """The scorer that chooses: as configured, on `calibrate`, without intervals.

    Raises:
        UsageError: where it scores no explanations, or cannot read another split.
    """
    settings = _settings(run, explainer)
    if settings.type == "simulation":
        scorer: Any = replace(simulation_scorer(run, design), calibration="none")
    else:
        scorer = load_scorer(settings, run.config.score, design, run.config.seed)
    has_split = is_dataclass(scorer) and "split" in {field.name for field in fields(scorer)}
    if not has_split or not getattr(scorer, "reads_explanation", True):
        raise UsageError(
            f"explainer {explainer.name!r}: scorer {explainer.by!r} of type {settings.type} cannot "
            "choose: it scores no explanation on the calibrate split; take simulation or detection"
        )
    # Few windows are better than none: what is chosen here is judged elsewhere.
    plain: Any = replace  # of a dataclass that is only known to be one
    return plain(scorer, split=Split.CALIBRATE, min_active_documents=1, n_replicates=2)


def identity_of(scorer: Any) -> dict[str, Any]:
    """What a choosing scorer's numbers depend on, for the key of a choice."""
    return scorer.identity() if hasattr(scorer, "identity") else dict(vars(scorer))


def _judge_fingerprint(run: "Run", explainer: BestOf) -> str:
    if _settings(run, explainer).type == "simulation":
        return run.parts.simulator(explainer.name).fingerprint
    return judge_of(run, chooser(run, explainer, run.design.name)).fingerprint


def _handlers(run: "Run", explainer: BestOf) -> tuple[dict[type, Any], int]:
    """Who answers the scorer, and how many questions at once."""
    if _settings(run, explainer).type == "simulation":
        simulator = run.parts.simulator(explainer.name)
        return (
            {SimulationRequest: lambda requests: simulate(run, simulator, requests)},
            simulation_batch(run, simulator),
        )
    judge = judge_of(run, chooser(run, explainer, run.design.name))
    return dict(judge.handlers), run.parts.llm_batch
