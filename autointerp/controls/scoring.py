"""Scores a unit's controls with its own explanation: the same windows, the same scorer."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autointerp.explainers import ExplainView
from autointerp.explainers.top_tokens import TopTokens
from autointerp.llm.driver import Round, relayed
from autointerp.records import (
    ControlScore,
    Explanation,
    Score,
    Simulation,
    Status,
    UnitRecord,
    content_key,
    derived_seed,
)
from autointerp.scorers.simulation import ScoreJob

Steps = Generator[Sequence[Any], Sequence[Any], Score]
"""A score in the making (`autointerp.llm.driver`)."""

TEXT_CONTROLS = ("empty", "generic", "narrow")
"""Controls that are explanations: each costs what another donor costs."""

FREE_CONTROLS = ("permuted", "sign_flip")
"""Controls of the arithmetic: they use the unit's own simulation again."""

ALL_CONTROLS = (*TEXT_CONTROLS, *FREE_CONTROLS)

SAME_FOR_ALL = {"empty": "text", "generic": "English text"}
"""Texts that are the same for every unit: simulated once a unit, whatever the explainer."""


def control_text(kind: str, record: UnitRecord) -> str | None:
    """The words of a control; made from the `explain` split alone.

    Args:
        kind: one of `TEXT_CONTROLS`.
        record: of the unit.

    Returns:
        `None` where no token is known that the unit responds to.
    """
    if kind in SAME_FOR_ALL:
        return SAME_FOR_ALL[kind]
    steps = TopTokens(kind, n_tokens=1).explain(ExplainView.of(record), "")
    try:
        next(steps)
    except StopIteration as end:
        return end.value.text
    raise AssertionError("top_tokens asks nobody")


def score_with_controls(
    score: Callable[[ScoreJob], Steps],
    job: ScoreJob,
    kinds: Sequence[str],
    *,
    score_control: Callable[[ScoreJob], Steps] | None = None,
    keep_donors: bool = False,
    same_tokens: bool = False,
    seed: int = 0,
) -> Steps:
    """Score an explanation and its controls side by side.

    Args:
        score: the scorer's `score`.
        job: the explanation.
        kinds: of `ALL_CONTROLS`; `FREE_CONTROLS` only where answers are simulations.
        score_control: scores a control, where that can be done with less than `score`.
        keep_donors: for a scorer that compares units, which needs the others for a control too.
        same_tokens: for simulation, whose score is of the tokens that it and the donors know: a
            control is of these tokens too, as far as it knows them. Nothing more is asked for it.
        seed: of the run.

    Returns:
        The score, its `controls` with those of `kinds` after the shuffled ones, and the texts of
        the controls in its details.
    """
    if not kinds or job.explanation.status != Status.OK:
        return (yield from score(job))
    texts = {k: t for k in kinds if k in TEXT_CONTROLS and (t := control_text(k, job.record))}
    made = [k for k in kinds if k in texts or k in FREE_CONTROLS]
    run_one = score_control or score
    steps = [score(job)]
    for kind in made:
        own = job if keep_donors or same_tokens else replace(job, donors=())
        if kind in texts:
            beside = (job.explanation, *own.donors) if same_tokens else own.donors
            own = replace(own, explanation=_explanation(job, kind, texts[kind]), donors=beside)
        one = run_one(own)
        steps.append(one if kind in texts else _changed(one, _change(kind, job, seed)))
    together = in_step(steps)
    found, *others = yield from relayed(together, _each_once) if same_tokens else together
    if found.value is None and found.status != Status.CONSTANT_PREDICTION:
        return found
    results = dict(zip(made, others, strict=True))
    controls = [_control(kind, results.get(kind), texts.get(kind), job) for kind in kinds]
    details = {**found.details, **({"control_texts": texts} if texts else {})}
    return replace(found, controls=(*found.controls, *controls), details=details)


def in_step(jobs: Sequence[Steps]) -> Generator[Sequence[Any], Sequence[Any], list[Score]]:
    """Run generators together: what they ask in one round is asked together."""
    results: dict[int, Score] = {}
    asked: dict[int, Sequence[Any]] = {}

    def advance(place: int, answers: Sequence[Any] | None) -> None:
        steps = jobs[place]
        try:
            asked[place] = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            results[place] = end.value

    for place in range(len(jobs)):
        advance(place, None)
    while asked:
        waiting = dict(asked)
        asked.clear()
        answers = yield [request for requests in waiting.values() for request in requests]
        first = 0
        for place, requests in waiting.items():
            advance(place, answers[first : first + len(requests)])
            first += len(requests)
    return [results[place] for place in range(len(jobs))]


def _each_once(requests: Sequence[Any]) -> Round:
    """Requests that come several times in a round are asked once."""
    distinct = list(dict.fromkeys(requests))
    found = dict(zip(distinct, (yield distinct), strict=True))
    return [found[request] for request in requests]


def _explanation(job: ScoreJob, kind: str, text: str) -> Explanation:
    key = content_key("control explanation", control=kind, text=text)
    return Explanation(job.record.unit, kind, text, Status.OK, key)


def _control(kind: str, score: Score | None, text: str | None, job: ScoreJob) -> ControlScore:
    if score is None:
        return ControlScore(kind, None, Status.NOT_RUN)
    key = job.explanation.key if text is None else _explanation(job, kind, text).key
    return ControlScore(kind, score.value, score.status, explanation_key=key)


Change = Callable[[list[Simulation]], list[Simulation]]


def _change(kind: str, job: ScoreJob, seed: int) -> Change:
    if kind == "sign_flip":
        return lambda parts: [replace(part, expected=-part.expected) for part in parts]
    generator_seed = derived_seed(seed, "permuted control", job.record.unit)
    return lambda parts: _permuted(parts, generator_seed)


def _permuted(parts: list[Simulation], seed: int) -> list[Simulation]:
    """All tokens of all windows in one random order; each keeps what was said of it."""
    if not parts:
        return []
    order = np.random.default_rng(seed).permutation(sum(len(part.known) for part in parts))
    ends = np.cumsum([len(part.known) for part in parts])[:-1]

    def moved(name: str) -> list[np.ndarray]:
        return np.split(np.concatenate([getattr(part, name) for part in parts])[order], ends)

    columns = (moved(name) for name in ("expected", "known", "level_mass"))
    return [Simulation(*fields) for fields in zip(*columns, strict=True)]


def _changed(steps: Steps, change: Change) -> Steps:
    """The same job, with every simulation it is sent changed."""

    def relay(requests: Sequence[Any]) -> Round:
        answers = yield requests
        return [change(parts) for parts in answers]

    return relayed(steps, relay)
