"""What cascades and stopping rules share: scoring some units by a scorer, and reading what it said.

Both choose which explanations a scorer is asked about from scores that are stored already, so that
a run which was killed goes on where it was, and what was chosen can be told afterwards.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from autointerp.analysis.values import outcome_of_score
from autointerp.config import BASELINE_EXPLAINERS, RunConfig, ScorerConfig
from autointerp.explained import Wanted
from autointerp.judging import entry_steps, judge, judge_entries, reads_explanation
from autointerp.records import AutointerpError, Explanation, Score, Status, UnitId, derived_seed
from autointerp.scorers import load_scorer
from autointerp.simulation_stage import score_by_simulation, score_jobs, score_steps, simulated

if TYPE_CHECKING:
    from autointerp.controls.scoring import Steps
    from autointerp.runner import Run

Place = tuple[str, UnitId]
"""An explainer and a unit: what one explanation is of."""

Measure = Literal["lift", "score"]


def scorer_settings(run: "Run", name: str) -> ScorerConfig:
    """The config of a scorer by its name."""
    return next(scorer for scorer in run.config.scorers if scorer.name == name)


def reads_explanations(run: "Run", name: str) -> bool:
    """Whether a scorer scores explanations, and not units themselves."""
    settings = scorer_settings(run, name)
    if settings.type == "simulation":
        return True
    scorer = load_scorer(settings, run.config.score, run.design.name, run.config.seed)
    return reads_explanation(scorer)


def in_words(run: "Run") -> list[str]:
    """Explainers whose explanations are words: look-up tables are scored for nothing."""
    return [e.name for e in run.config.explainers if e.type not in BASELINE_EXPLAINERS]


def score_by(run: "Run", scorer: str, wanted: Wanted) -> None:
    """Score by one scorer what is wanted, and what costs nothing: tables, missing explanations."""
    words = set(in_words(run))

    def chosen(explanation: Explanation) -> bool:
        is_free = explanation.explainer not in words or explanation.status is not Status.OK
        return is_free or wanted(explanation)

    settings = scorer_settings(run, scorer)
    if settings.type == "simulation":
        score_by_simulation(run, chosen)
    else:
        judge(run, [settings], chosen)


def score_free(run: "Run", scorer: str) -> None:
    """Keep the scores of one scorer for which nobody has to be asked: too little data."""
    known = run.store.score_keys(scorer)
    for steps in _unstarted(run, scorer, known):
        try:
            next(steps)
        except StopIteration as end:
            run.store.put_score(end.value)
        except AutointerpError:
            continue  # it fails again, and is kept as failed, when its turn comes
        steps.close()


def entries_of(run: "Run", scorer: str) -> Iterator[tuple[Place, str, Explanation]]:
    """Every explanation in words with the key of its score by one scorer."""
    settings, words = scorer_settings(run, scorer), set(in_words(run))
    if settings.type == "simulation":
        found = ((key, explanation) for key, explanation, _ in simulated(run))
    else:
        found = ((key, one) for key, _, one, _ in judge_entries(run, settings))
    for key, explanation in found:
        if explanation.explainer in words and explanation.status is Status.OK:
            yield (explanation.explainer, explanation.unit), key, explanation


def _unstarted(run: "Run", scorer: str, known: set[str]) -> Iterator["Steps"]:
    """Scores that are not stored, each about to ask its first question."""
    settings = scorer_settings(run, scorer)
    if settings.type == "simulation":
        yield from (score_steps(run, job) for job in score_jobs(run) if job.key not in known)
    else:
        entries = judge_entries(run, settings)
        yield from (entry_steps(run, entry) for entry in entries if entry[0] not in known)


def stored_scores(run: "Run", scorer: str) -> dict[Place, Score | None]:
    """The stored score of every explanation in words that there is; `None` without one."""
    return {place: run.store.get_score(key) for place, key, _ in entries_of(run, scorer)}


def number_of(score: Score | None, measure: Measure) -> float | None:
    """The number of a score that counts, as it enters means."""
    if score is None:
        return None
    outcome = outcome_of_score(score)
    return outcome.lift if measure == "lift" else outcome.value


def in_random_order(run: "Run", units: list[UnitId], purpose: str) -> list[UnitId]:
    """Units by a seeded random number of their own: adding others does not change the order."""
    return sorted(units, key=lambda unit: derived_seed(run.config.seed, purpose, unit))


def left_out(explanation: Explanation, scorer: str, design: str, reason: str) -> Score:
    """What stands in the place of a score that was not asked for."""
    return Score(
        unit=explanation.unit,
        explanation_key=explanation.key,
        explainer=explanation.explainer,
        scorer=scorer,
        simulator="",
        value=None,
        status=Status.STAGED,
        key="",
        design=design,
        reason=reason,
    )


Scores = dict[UnitId, dict[str, Score]]
"""unit → explainer → score."""


def table_of(
    run: "Run",
    scorer: str,
    simulated: Scores,
    by_judges: dict[UnitId, dict[str, dict[str, Score]]],
) -> Callable[[UnitId], dict[str, Score]]:
    """Where the scores of one scorer are kept: explainer → score of a unit, to be changed."""
    if scorer_settings(run, scorer).type == "simulation":
        return lambda unit: simulated[unit]
    return lambda unit: by_judges.setdefault(unit, {}).setdefault(scorer, {})


def counted(values: Mapping[Place, float | None]) -> dict[Place, float]:
    """The places that have a number."""
    return {place: value for place, value in values.items() if value is not None}


def savings_notes(config: RunConfig) -> list[str]:
    """What an estimate of everything does not know: what a cascade or a stopping rule saves."""
    notes: list[str] = []
    if config.cascade is not None:
        first, *later = config.cascade.stages
        share = f"{100 * config.cascade.gold_share:g} %"
        least = "no more than" if not config.cascade.decide else "at least"
        notes.append(
            f"the prices are of every scorer on every unit; in the cascade {', '.join(later)} are "
            f"asked about {least} {share} of the units, {first} about all"
        )
    if config.score.stop is not None:
        notes.append(
            "the prices are of every unit; scoring stops before that where the mean is known to "
            f"±{config.score.stop.half_width:g}"
        )
    return notes
