"""A cascade: cheap scorers decide what they can, the expensive one is asked about the rest.

    all stages on the gold units, drawn by chance
    first stage on all ─► thresholds from the gold units ─► decided: poor, good
      next stage on what is open ─► thresholds from the open gold units ─► decided …
        last stage on what is still open

What a later stage was asked about is no random sample: its scores outside the gold units enter no
mean. The mean over the dictionary is of the gold units, helped by the first stage's scores
(`autointerp.stats.prediction_powered`).

Nothing but scores is stored: what is decided follows from them, the same whenever it is asked.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from autointerp.analysis.powered import powered_means
from autointerp.analysis.values import IN_NO_MEAN, interval_json
from autointerp.config import CascadeConfig
from autointerp.explained import Wanted
from autointerp.judging import judge, judges
from autointerp.records import Score, UnitId, UsageError, derived_seed
from autointerp.simulation_stage import score_by_simulation, scorer_of
from autointerp.staging import (
    Measure,
    Place,
    Scores,
    counted,
    entries_of,
    in_random_order,
    in_words,
    left_out,
    number_of,
    reads_explanations,
    score_by,
    stored_scores,
    table_of,
)
from autointerp.stats import Thresholds, exact_binomial, thresholds
from autointerp.stats.cascade import Verdict

if TYPE_CHECKING:
    from autointerp.runner import Run


@dataclass(frozen=True)
class Decision:
    """What a stage said about one explanation."""

    stage: str
    verdict: Verdict
    value: float
    """The stage's number."""

    threshold: float
    """What it is beyond."""

    def reason(self, measure: Measure) -> str:
        """In words."""
        side = "at most" if self.verdict == "poor" else "at least"
        return (
            f"decided by {self.stage}: {measure} {self.value:.3g} is {side} {self.threshold:.3g}, "
            f"{self.verdict}"
        )


@dataclass(frozen=True)
class Decided:
    """All that a cascade decided, from the scores there are."""

    gold: frozenset[UnitId]
    """Units on which all stages are run."""

    rules: Mapping[str, Mapping[str, Thresholds]] = field(default_factory=dict)
    """Stage → explainer → thresholds."""

    decisions: Mapping[Place, Decision] = field(default_factory=dict)
    """What was decided before the last stage, gold units too."""

    still_open: frozenset[Place] = frozenset()
    """What the last stage is asked about, gold units too."""


def check_cascade(run: "Run") -> None:
    """Refuse a stage that scores no explanations, before anything is recorded.

    Raises:
        UsageError: naming the stage.
    """
    for stage in run.config.cascade.stages if run.config.cascade is not None else ():
        if not reads_explanations(run, stage):
            raise UsageError(
                f"cascade.stages: {stage!r} scores units, not explanations; take scorers that read "
                "the explanation, such as detection, fuzzing and simulation"
            )


def gold_units(run: "Run", plan: CascadeConfig) -> frozenset[UnitId]:
    """A simple random sample of the living units of every source, at least two."""
    found: set[UnitId] = set()
    for source in run.config.sources:
        units = [u for u in run.units.chosen if u.source == source and not run.units.is_dead(u)]
        n = min(len(units), max(2, ceil(plan.gold_share * len(units))))
        found.update(in_random_order(run, units, "gold")[:n])
    return frozenset(found)


def score_in_stages(run: "Run") -> None:
    """Ask every scorer of the run what the cascade leaves to it."""
    plan = _plan(run)
    judge(run, [s for s in judges(run) if s.name not in plan.stages])
    if all(s.name not in plan.stages for s in run.config.scorers if s.type == "simulation"):
        score_by_simulation(run)
    gold = gold_units(run, plan)
    for stage in plan.stages:
        score_by(run, stage, lambda explanation: explanation.unit in gold)
    _through(run, plan, gold, lambda stage, wanted: score_by(run, stage, wanted))


def decided(run: "Run") -> Decided:
    """What the stored scores decide."""
    plan = _plan(run)
    return _through(run, plan, gold_units(run, plan), lambda stage, wanted: None)


def _through(
    run: "Run",
    plan: CascadeConfig,
    gold: frozenset[UnitId],
    score: Callable[[str, Wanted], None],
) -> Decided:
    """Go through the stages; `score` sees to it that what is wanted of a stage is scored."""
    *earlier, last = plan.stages
    still_open = {place for place, _, _ in entries_of(run, last)}
    truth = counted(_numbers(run, last, plan.measure))
    rules: dict[str, dict[str, Thresholds]] = {}
    decisions: dict[Place, Decision] = {}
    for number, stage in enumerate(earlier):
        if number == 0 or plan.decide:
            score(stage, _gold_or(gold, still_open))
        if not plan.decide:
            continue
        said = counted(_numbers(run, stage, plan.measure))
        rules[stage] = {}
        for explainer in in_words(run):
            known = [
                p
                for p in sorted(still_open)
                if p[0] == explainer and p[1] in gold and p in said and p in truth
            ]
            rule = thresholds(
                [said[p] for p in known],
                [truth[p] for p in known],
                bar=plan.bar,
                max_error=plan.max_error,
                delta=plan.delta / len(earlier),
            )
            rules[stage][explainer] = rule
            decisions.update(_by(stage, rule, explainer, said, still_open))
        still_open -= set(decisions)
    if not plan.decide:
        return Decided(gold)
    score(last, _gold_or(gold, still_open))
    return Decided(gold, rules, decisions, frozenset(still_open))


def _gold_or(gold: frozenset[UnitId], still_open: set[Place]) -> Wanted:
    """Gold units, and what is open now."""
    wanted = frozenset(still_open)
    return lambda explanation: (
        explanation.unit in gold or (explanation.explainer, explanation.unit) in wanted
    )


def _by(
    stage: str,
    rule: Thresholds,
    explainer: str,
    said: Mapping[Place, float],
    still_open: set[Place],
) -> dict[Place, Decision]:
    found: dict[Place, Decision] = {}
    for place in still_open:
        value = said.get(place) if place[0] == explainer else None
        verdict = rule.decide(value)
        if value is None or verdict is None:
            continue
        threshold = rule.poor if verdict == "poor" else rule.good
        assert threshold is not None
        found[place] = Decision(stage, verdict, value, threshold)
    return found


def mark_staged(
    run: "Run", simulated: Scores, by_judges: dict[UnitId, dict[str, dict[str, Score]]]
) -> dict[str, Any]:
    """Say of every score of a later stage why it is missing, or why it is in no mean.

    Args:
        run: of a cascade.
        simulated: scores by simulation, changed in place.
        by_judges: unit → scorer → explainer → score, changed in place.

    Returns:
        What the cascade did, for JSON.
    """
    plan = _plan(run)
    found = decided(run)
    for stage in plan.stages[1:]:
        table = table_of(run, stage, simulated, by_judges)
        for place, _, explanation in entries_of(run, stage):
            if place[1] in found.gold:
                continue
            scores = table(place[1])
            score = scores.get(place[0])
            if score is not None:
                scores[place[0]] = _outside(score, stage, plan)
            elif place in found.decisions or not plan.decide:
                reason = _why_not(place, stage, plan, found)
                design = scorer_of(run, place[1]).design
                scores[place[0]] = left_out(explanation, stage, design, reason)
    return _as_json(run, plan, found)


def _why_not(place: Place, stage: str, plan: CascadeConfig, found: Decided) -> str:
    if place in found.decisions:
        return found.decisions[place].reason(plan.measure)
    return f"{stage} scores the {len(found.gold)} gold units alone (cascade.decide is false)"


def _outside(score: Score, stage: str, plan: CascadeConfig) -> Score:
    before = plan.stages[plan.stages.index(stage) - 1]
    reason = (
        f"scored, because {before} left it open; not one of the gold units that were drawn by "
        "chance, so in no mean"
    )
    return replace(score, details={**score.details, IN_NO_MEAN: reason})


def _as_json(run: "Run", plan: CascadeConfig, found: Decided) -> dict[str, Any]:
    *earlier, last = plan.stages
    explainers: dict[str, Any] = {}
    for explainer in in_words(run):
        verdicts = Counter(
            (d.stage, d.verdict) for place, d in found.decisions.items() if place[0] == explainer
        )
        truth = counted(_numbers(run, last, plan.measure))
        gold = [v >= plan.bar for (e, u), v in truth.items() if e == explainer and u in found.gold]
        good = exact_binomial(sum(gold), len(gold))
        explainers[explainer] = {
            "thresholds": {
                s: asdict(found.rules[s][explainer]) for s in earlier if s in found.rules
            },
            "decided": {
                stage: {verdict: verdicts[stage, verdict] for verdict in ("poor", "good")}
                for stage in earlier
            },
            "open": sum(place[0] == explainer for place in found.still_open),
            "gold_good": {
                "n": sum(gold),
                "of": len(gold),
                "share": good.share,
                "interval": interval_json(good.interval),
            },
        }
    n_scored = {
        stage: sum(score is not None for score in stored_scores(run, stage).values())
        for stage in plan.stages
    }
    return {
        "cascade": {
            **plan.model_dump(mode="json"),
            "n_units": len(run.units.chosen),
            "n_gold_units": len(found.gold),
            "n_scored": n_scored,
            "explainers": explainers,
            "means": _means(run, plan, found.gold),
        }
    }


def _means(run: "Run", plan: CascadeConfig, gold: frozenset[UnitId]) -> dict[str, Any]:
    """source → explainer → mean of the last stage over all units that the first has scored."""
    cheap = counted(_numbers(run, plan.stages[0], plan.measure))
    truth = counted(_numbers(run, plan.stages[-1], plan.measure))
    found: dict[str, Any] = {}
    for source in run.config.sources:
        for explainer in in_words(run):
            own = {u: v for (e, u), v in cheap.items() if e == explainer and u.source == source}
            known = {u: truth[explainer, u] for u in own if u in gold and (explainer, u) in truth}
            seed = derived_seed(run.config.seed, "cascade mean", source, explainer)
            found.setdefault(source, {})[explainer] = powered_means(
                known, own, is_sample=lambda unit: unit in gold, seed=seed
            )
    return found


def _numbers(run: "Run", scorer: str, measure: Measure) -> dict[Place, float | None]:
    return {p: number_of(score, measure) for p, score in stored_scores(run, scorer).items()}


def _plan(run: "Run") -> CascadeConfig:
    assert run.config.cascade is not None
    return run.config.cascade
