"""The scorers that ask a language model: what has no score under its key yet is asked about."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from autointerp.config import RecordedConfig, ScorerConfig
from autointerp.records import AutointerpError, Explanation, Score, Status, UnitId, content_key
from autointerp.scorers import JudgedScorer, ScoreJob, load_scorer
from autointerp.scorers.simulation import IMPORTED_DESIGN

if TYPE_CHECKING:
    from autointerp.runner import Run


def judges(run: "Run") -> list[ScorerConfig]:
    """The config's scorers that ask a language model."""
    return [scorer for scorer in run.config.scorers if scorer.type != "simulation"]


def check_judges(run: "Run") -> None:
    """Refuse a wrong scorer, prompt or model before anything is recorded."""
    from autointerp.llm.capabilities import Needs, check_needs

    for settings in judges(run):
        scorer = _scorer(run, settings, run.design.name)
        needs = getattr(scorer, "needs", None) or Needs()
        check_needs(f"scorer {settings.name!r}", needs, run.parts.client)


Entry = tuple[str, JudgedScorer, Explanation, tuple[Explanation, ...]]
"""The key of a score, its scorer, the explanation and its donors."""


def judge_entries(run: "Run", settings: ScorerConfig) -> Iterator[Entry]:
    """Every explanation with its donors, its scorer and the key of its score."""
    scorers: dict[bool, JudgedScorer] = {}
    client = run.parts.client
    for explanation, donors in run.explained():
        imported = isinstance(run.config.sources[explanation.unit.source], RecordedConfig)
        if imported not in scorers:
            design = IMPORTED_DESIGN if imported else run.design.name
            scorers[imported] = _scorer(run, settings, design)
        scorer = scorers[imported]
        key = judged_key(scorer, explanation, donors, client.fingerprint)
        yield key, scorer, explanation, donors


def judged_key(
    scorer: JudgedScorer, explanation: Explanation, donors: Sequence[Explanation], llm: str
) -> str:
    """Key of a score by a judge: everything it depends on.

    Args:
        llm: fingerprint of who judges.
    """
    return content_key(
        "judged score",
        scorer=scorer.identity(),
        explanation=explanation.key,
        donors=[donor.key for donor in donors],
        llm=llm,
    )


def _job(run: "Run", entry: Entry) -> ScoreJob:
    key, _, explanation, donors = entry
    client = run.parts.client
    record = run.records[explanation.unit]
    return ScoreJob(record, explanation, donors, client.name, client.fingerprint, key)


def judge(run: "Run") -> None:
    """Score by every scorer that asks a language model."""
    from autointerp.llm import Request, drive

    for settings in judges(run):
        known = run.store.score_keys(settings.name)
        missing = [entry for entry in judge_entries(run, settings) if entry[0] not in known]
        entries = {entry[0]: entry for entry in missing}
        run.reporter.stage(settings.name, len(entries), "scores")

        def done(_: str, score: Score) -> None:
            run.store.put_score(score)
            run.reporter.advance(1)

        def failed(key: str, error: AutointerpError, entries: dict[str, Entry] = entries) -> None:
            done(key, _failed(run, entries[key], error))

        # Windows are read when a job's turn comes: a dictionary's do not fit into memory.
        jobs = ((key, entry[1].score(_job(run, entry))) for key, entry in entries.items())
        handlers = {Request: run.parts.client.handler}
        drive(jobs, handlers, done, failed, batch_size=run.parts.llm_batch)


def judged(run: "Run") -> dict[UnitId, dict[str, dict[str, Score]]]:
    """Stored scores of these scorers: unit → scorer → explainer → score."""
    found: dict[UnitId, dict[str, dict[str, Score]]] = {}
    for settings in judges(run):
        for key, _, explanation, _ in judge_entries(run, settings):
            score = run.store.get_score(key)
            if score is not None:
                scores = found.setdefault(explanation.unit, {}).setdefault(settings.name, {})
                scores[score.explainer] = score
    return found


def _scorer(run: "Run", settings: ScorerConfig, design: str) -> JudgedScorer:
    return load_scorer(settings, run.config.score, design, run.config.seed)


def _failed(run: "Run", entry: Entry, error: AutointerpError) -> Score:
    key, scorer, explanation, _ = entry
    return Score(
        unit=explanation.unit,
        explanation_key=explanation.key,
        explainer=explanation.explainer,
        scorer=scorer.name,
        simulator=run.parts.client.name,
        value=None,
        status=Status.FAILED,
        key=key,
        design=run.design.name,
        reason=str(error),
    )
