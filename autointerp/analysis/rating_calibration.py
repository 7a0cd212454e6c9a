"""Is a judge fit to rate? Its ratings of planted units, whose explanations are known.

Every planted unit has four explanations: the true one, one too broad, one too narrow, an unrelated
one (`datasets/known_answers`). A judge that follows the rubric rates the true one above the
unrelated one; the broad one loses on silent texts, the narrow one on part of the active ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp import stats
from autointerp.analysis.known_answers import TEXTS, KnownAnswer, known_answers
from autointerp.llm import Request, Response
from autointerp.records import (
    ActivationRecord,
    AutointerpError,
    Explanation,
    Split,
    Status,
    Strata,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers.rating import RatingScorer
from autointerp.scorers.simulation import ScoreJob

Ask = Callable[[Sequence[Request]], Sequence[Response]]
"""Answers requests in their order, such as `LlmClient.complete`."""

_DESIGN = "known answers"


@dataclass(frozen=True)
class RatingCalibration:
    """What a judge made of the planted units."""

    scores: Mapping[str, Mapping[str, float | None]]
    """Unit's name → name in `TEXTS` → score; `None` where the judge gave no usable answer."""

    means: Mapping[str, float | None]
    """Name in `TEXTS` → mean score of the units that have one."""

    n_compared: int
    """Units with scores of the true and of the unrelated explanation."""

    n_right: int
    """Of these, units whose true explanation is rated higher."""

    p_value: float | None
    """Chance of so many at a fair coin; `None` where nothing was compared."""


def calibrate_rating(
    ask: Ask, answers: Sequence[KnownAnswer] | None = None, *, seed: int = 0
) -> RatingCalibration:
    """Rate the four explanations of every planted unit that can be read from its text.

    Args:
        ask: the judge.
        answers: planted units; all that ship, with their `test` windows, if `None`.
        seed: of the choice and order of windows.

    Raises:
        AutointerpError: where no unit can be rated.
    """
    given = known_answers() if answers is None else answers
    readable = [answer for answer in given if answer.readable]
    if not readable:
        raise AutointerpError("none of the planted units can be read from its text")
    scorer = RatingScorer(_DESIGN, min_active_documents=1, n_replicates=2, seed=seed)
    scores = {
        answer.name: {name: _score(scorer, answer, name, ask) for name in TEXTS}
        for answer in readable
    }
    pairs = [
        (by_text["true"], by_text["unrelated"])
        for by_text in scores.values()
        if by_text["true"] is not None and by_text["unrelated"] is not None
    ]
    right = sum(true > other for true, other in pairs)
    return RatingCalibration(
        scores=scores,
        means={name: _mean([by_text[name] for by_text in scores.values()]) for name in TEXTS},
        n_compared=len(pairs),
        n_right=right,
        p_value=stats.exact_binomial(right, len(pairs)).p_value if pairs else None,
    )


def _score(scorer: RatingScorer, answer: KnownAnswer, name: str, ask: Ask) -> float | None:
    record = record_of(answer)
    words = Explanation(record.unit, name, answer.explanations[name], Status.OK, name)
    steps = scorer.score(ScoreJob(record, words, (), "judge", "judge", name))
    try:
        requests = next(steps)
        steps.send(ask(requests))
    except StopIteration as end:
        return end.value.value
    return None


def record_of(answer: KnownAnswer) -> UnitRecord:
    """A planted unit as recording would have it, every window in a document of its own."""
    unit = UnitId("known", abs(int(answer.unit.rsplit("/", 1)[-1].rstrip("+-") or 0)))
    maximum = max(float(np.max(values)) for values in answer.truth)
    records: list[ActivationRecord] = []
    for place, (tokens, values) in enumerate(zip(answer.tokens, answer.truth, strict=True)):
        share = 10 * float(np.max(values)) / maximum if maximum else 0.0
        is_silent = share <= 0.1
        records.append(
            ActivationRecord(
                unit=unit,
                window=Window(f"{place:016x}", 0, len(tokens)),
                document_id=f"window {place}",
                split=Split.TEST,
                stratum=Strata.SILENT if is_silent else Strata.interval(max(1, -int(-share // 1))),
                probability=1.0,
                tokens=tokens,
                activations=values,
                masked=np.zeros(len(tokens), bool),
            )
        )
    # Its range in `explain` is that of what is known of it.
    top = [record for record in records if record.maximum == maximum][:1]
    explain = [replace(one, split=Split.EXPLAIN) for one in top]
    return UnitRecord(unit, (*explain, *records), {})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
