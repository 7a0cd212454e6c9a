"""The scorers that ask a language model: what has no score under its key yet is asked about."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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


def judge_jobs(run: "Run", settings: ScorerConfig) -> Iterator[tuple[JudgedScorer, ScoreJob]]:
    """Every explanation with its donors, its scorer and the key of its score."""
    scorers: dict[bool, JudgedScorer] = {}
    client = run.parts.client
    for explanation, donors in run.explained():
        imported = isinstance(run.config.sources[explanation.unit.source], RecordedConfig)
        if imported not in scorers:
            design = IMPORTED_DESIGN if imported else run.design.name
            scorers[imported] = _scorer(run, settings, design)
        scorer = scorers[imported]
        key = content_key(
            "judged score",
            scorer=scorer.identity(),
            explanation=explanation.key,
            donors=[donor.key for donor in donors],
            llm=client.fingerprint,
        )
        # The windows are read when the job's turn comes: a dictionary does not fit into memory.
        yield (
            scorer,
            ScoreJob(
                run.records[explanation.unit], explanation, donors, client.name,
                client.fingerprint, key,
            ),
        )  # fmt: skip


def judge(run: "Run") -> None:
    """Score by every scorer that asks a language model."""
    from autointerp.llm import Request, drive

    for settings in judges(run):
        known = run.store.score_keys(settings.name)
        total = sum(len(run.explanations(explainer)) for explainer in run.parts.explainers)
        run.reporter.stage(settings.name, total, "scores")
        failing: dict[str, tuple[UnitId, Explanation, str]] = {}

        def missing(
            settings: ScorerConfig = settings,
            known: set[str] = known,
            failing: dict[str, Any] = failing,
        ) -> Iterator[tuple[str, Any]]:
            for scorer, job in judge_jobs(run, settings):
                if job.key in known:
                    run.reporter.advance(1)
                    continue
                failing[job.key] = (job.explanation, job.simulator)
                yield job.key, scorer.score(job)

        def done(key: str, score: Score, failing: dict[str, Any] = failing) -> None:
            failing.pop(key, None)
            run.store.put_score(score)
            run.reporter.advance(1)

        def failed(
            key: str,
            error: AutointerpError,
            failing: dict[str, Any] = failing,
            settings: ScorerConfig = settings,
        ) -> None:
            explanation, judge_name = failing[key]
            done(key, _failed(explanation, judge_name, settings.name, run.design.name, key, error))

        handlers = {Request: run.parts.client.handler}
        drive(missing(), handlers, done, failed, batch_size=run.parts.llm_batch)


def judged(run: "Run") -> dict[UnitId, dict[str, dict[str, Score]]]:
    """Stored scores of these scorers: unit → scorer → explainer → score."""
    found: dict[UnitId, dict[str, dict[str, Score]]] = {}
    for settings in judges(run):
        for _, job in judge_jobs(run, settings):
            score = run.store.get_score(job.key)
            if score is not None:
                scores = found.setdefault(job.record.unit, {}).setdefault(settings.name, {})
                scores[score.explainer] = score
    return found


def _scorer(run: "Run", settings: ScorerConfig, design: str) -> JudgedScorer:
    return load_scorer(settings, run.config.score, design, run.config.seed)


def _failed(
    explanation: Explanation,
    judge_name: str,
    scorer: str,
    design: str,
    key: str,
    error: AutointerpError,
) -> Score:
    score = Score(
        unit=explanation.unit,
        explanation_key=explanation.key,
        explainer=explanation.explainer,
        scorer=scorer,
        simulator=judge_name,
        value=None,
        status=Status.FAILED,
        key=key,
        design=design,
    )
    return replace(score, reason=str(error))
