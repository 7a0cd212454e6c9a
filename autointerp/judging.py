"""The scorers that ask a language model: what has no score under its key yet is asked about."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autointerp.config import (
    BASELINE_EXPLAINERS,
    MEASURING_TYPES,
    RecordedConfig,
    ScorerConfig,
)
from autointerp.controls import score_with_controls
from autointerp.explained import Wanted, everything, explained, living
from autointerp.live import LiveSubject
from autointerp.records import (
    AutointerpError,
    Explanation,
    Score,
    Simulation,
    UnitId,
    UnitRecord,
    UsageError,
    content_key,
)
from autointerp.scorers import JudgedScorer, ScoreJob, load_scorer
from autointerp.scorers.ablate_to_simulation import AblateToSimulationScorer
from autointerp.scorers.incomplete import noting_failures
from autointerp.scorers.measured import Measurement, Measuring
from autointerp.scorers.simulation import IMPORTED_DESIGN
from autointerp.simulation_stage import controls_of, simulate
from autointerp.simulators import SimulationRequest

if TYPE_CHECKING:
    from autointerp.controls.scoring import Steps
    from autointerp.runner import Run


def judges(run: "Run") -> list[ScorerConfig]:
    """The config's scorers other than simulation: they ask a judge."""
    return [scorer for scorer in run.config.scorers if scorer.type != "simulation"]


def asks_llm(settings: ScorerConfig) -> bool:
    """Whether a scorer asks the run's language model, and not a model of its own or none."""
    return settings.type not in ("simulation", *MEASURING_TYPES)


@dataclass(frozen=True)
class Judge:
    """Who answers a scorer."""

    name: str
    """As tables call it."""

    fingerprint: str
    """Hash of everything its answers depend on."""

    handlers: Mapping[type, Any]
    """For `autointerp.llm.drive`."""


def judge_of(run: "Run", scorer: JudgedScorer) -> Judge:
    """The run's language model, or the model on this machine that a scorer names."""
    from autointerp.llm import Request

    if isinstance(scorer, Measuring):
        reader = run.parts.reader(scorer.kind, scorer.model)
        return Judge(reader.name, reader.fingerprint, {Measurement: reader.answer})
    live = live_subject(run).handlers
    if isinstance(scorer, AblateToSimulationScorer):
        in_words = [e.name for e in run.config.explainers if e.type not in BASELINE_EXPLAINERS]
        simulator = run.parts.simulator(in_words[0])

        def answer(requests: list[SimulationRequest]) -> list[list[Simulation]]:
            return simulate(run, simulator, requests)

        handlers = {SimulationRequest: answer, **live}
        return Judge(simulator.name, simulator.fingerprint, handlers)
    client = run.parts.client
    return Judge(client.name, client.fingerprint, {Request: client.handler, **live})


def live_subject(run: "Run") -> LiveSubject:
    """The run's subjects and sources, ready to be asked; loaded when they are."""
    corpus = run.config.corpus
    return LiveSubject(
        run.parts.sources.get,
        run.parts.subject,
        run.units.maxima.__getitem__,
        lambda name: run.store.sequence(name).token_ids.tolist(),
        bos=corpus.bos if corpus else "auto",
        n_masked_start=corpus.n_masked_start if corpus else 1,
    )


def check_judges(run: "Run") -> None:
    """Refuse a wrong scorer, prompt or model before anything is recorded."""
    from autointerp.llm.capabilities import Needs, check_needs

    for settings in judges(run):
        scorer = _scorer(run, settings, run.design.name)
        needs = getattr(scorer, "needs", None) or Needs()
        if asks_llm(settings):
            check_needs(f"scorer {settings.name!r}", needs, run.parts.client)


def check_live(run: "Run") -> None:
    """Refuse what asks the live subject of units that were recorded elsewhere."""
    recorded = [n for n, s in run.config.sources.items() if isinstance(s, RecordedConfig)]
    scorers = [_scorer(run, settings, run.design.name) for settings in judges(run)]
    for part in (*run.parts.explainers, *scorers):
        if recorded and getattr(part, "touches_subject", False):
            raise UsageError(
                f"{part.name!r} asks the live subject, and source {recorded[0]!r} was recorded "
                "elsewhere: leave one of them out of this run"
            )


Entry = tuple[str, JudgedScorer, Explanation, tuple[Explanation, ...]]
"""The key of a score, its scorer, the explanation and its donors."""


def judge_entries(run: "Run", settings: ScorerConfig) -> Iterator[Entry]:
    """What one scorer scores: every explanation, or every unit, with its donors and its key.

    Baselines that are no words are not asked about.
    """
    wordless = {e.name for e in run.config.explainers if e.type in BASELINE_EXPLAINERS}
    scorers = {
        is_imported: _scorer(run, settings, IMPORTED_DESIGN if is_imported else run.design.name)
        for is_imported in {isinstance(s, RecordedConfig) for s in run.config.sources.values()}
    }
    of_units = not all(reads_explanation(scorer) for scorer in scorers.values())
    for explanation, donors in living(run) if of_units else explained(run):
        scorer = scorers[isinstance(run.config.sources[explanation.unit.source], RecordedConfig)]
        if explanation.explainer not in wordless:
            controls = judged_controls(run, scorer, explanation.explainer)
            judge = judge_of(run, scorer).fingerprint
            key = judged_key(scorer, explanation, donors, judge, controls)
            yield key, scorer, explanation, donors


def judged_key(
    scorer: JudgedScorer,
    explanation: Explanation,
    donors: Sequence[Explanation],
    llm: str,
    controls: Sequence[str] = (),
) -> str:
    """Key of a score by a judge: everything it depends on.

    Args:
        llm: fingerprint of who judges.
        controls: names of those scored beside it.
    """
    return content_key(
        "judged score",
        scorer=scorer.identity(),
        explanation=explanation.key,
        donors=[donor.key for donor in donors],
        llm=llm,
        controls=list(controls),
    )


def judged_controls(run: "Run", scorer: JudgedScorer, explainer: str) -> tuple[str, ...]:
    """Controls beside a judge's score: other words, where it is words that are scored."""
    return controls_of(run.config, explainer, judged=True) if reads_explanation(scorer) else ()


def judged_steps(run: "Run", scorer: JudgedScorer, job: ScoreJob) -> "Steps":
    """A score by a judge in the making, with its controls."""
    steps = score_with_controls(
        scorer.score,
        job,
        judged_controls(run, scorer, job.explanation.explainer),
        keep_donors=bool(getattr(scorer, "needs_others", False)),
        seed=run.config.seed,
    )
    return noting_failures(steps)


def reads_explanation(scorer: JudgedScorer) -> bool:
    """Whether a scorer scores explanations, and not the unit itself."""
    return bool(getattr(scorer, "reads_explanation", True))


def others_of(
    scorer: JudgedScorer, donors: Sequence[Explanation], records: Mapping[UnitId, UnitRecord]
) -> tuple[UnitRecord, ...]:
    """The records that a scorer needs beside the unit's own: those of the donors' units."""
    if not getattr(scorer, "needs_others", False):
        return ()
    return tuple(records[donor.unit] for donor in donors)


def _job(run: "Run", entry: Entry) -> ScoreJob:
    key, scorer, explanation, donors = entry
    by = judge_of(run, scorer)
    record = run.units.records[explanation.unit]
    others = others_of(scorer, donors, run.units.records)
    return ScoreJob(record, explanation, donors, by.name, by.fingerprint, key, others)


def entry_steps(run: "Run", entry: Entry) -> "Steps":
    """The score of one entry in the making, with its controls."""
    return judged_steps(run, entry[1], _job(run, entry))


def judge(
    run: "Run", settings_of: Sequence[ScorerConfig] | None = None, wanted: Wanted = everything
) -> None:
    """Score by every scorer that asks a judge, or by those given, what is wanted."""
    from autointerp.llm import drive

    for settings in judges(run) if settings_of is None else settings_of:
        known = run.store.score_keys(settings.name)
        missing = [
            entry
            for entry in judge_entries(run, settings)
            if entry[0] not in known and wanted(entry[2])
        ]
        entries = {entry[0]: entry for entry in missing}
        run.reporter.stage(settings.name, len(entries), "scores")

        def done(_: str, score: Score) -> None:
            run.store.put_score(score)
            run.reporter.advance(1)

        def failed(key: str, error: AutointerpError, entries: dict[str, Entry] = entries) -> None:
            _, scorer, explanation, _ = entries[key]
            done(
                key,
                Score.failed(
                    explanation, scorer=scorer.name, simulator=judge_of(run, scorer).name, key=key,
                    design=run.design.name, reason=str(error),
                ),
            )  # fmt: skip

        # Windows are read when a job's turn comes: a dictionary's do not fit into memory.
        jobs = ((key, entry_steps(run, entry)) for key, entry in entries.items())
        if missing:
            handlers = judge_of(run, missing[0][1]).handlers
            drive(jobs, handlers, done, failed, batch_size=run.parts.llm_batch)


def judged(run: "Run") -> dict[UnitId, dict[str, dict[str, Score]]]:
    """Stored scores of these scorers: unit → scorer → explainer → score.

    A score of a unit itself stands under every explainer that uses words.
    """
    in_words = [e.name for e in run.config.explainers if e.type not in BASELINE_EXPLAINERS]
    found: dict[UnitId, dict[str, dict[str, Score]]] = {}
    for settings in judges(run):
        for key, _, explanation, _ in judge_entries(run, settings):
            score = run.store.get_score(key)
            if score is not None:
                scores = found.setdefault(explanation.unit, {}).setdefault(settings.name, {})
                names = [explanation.explainer] if explanation.explainer else in_words
                scores.update(dict.fromkeys(names, score))
    return found


def _scorer(run: "Run", settings: ScorerConfig, design: str) -> JudgedScorer:
    return load_scorer(settings, run.config.score, design, run.config.seed)
