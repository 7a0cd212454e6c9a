"""A made unit with windows in every value interval and silent ones, and how scorers are driven."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autointerp.llm import Request, Response, ResponseStatus, Usage
from autointerp.records import (
    ActivationRecord,
    Explanation,
    HardBy,
    Score,
    Split,
    SplitStatistics,
    Status,
    Strata,
    TokenLogit,
    UnitId,
    UnitRecord,
    Window,
)
from autointerp.scorers import ScoreJob

UNIT = UnitId("made", 0)
MAXIMUM = 10.0
LENGTH = 12


def window(
    number: int,
    level: float,
    *,
    split: Split = Split.TEST,
    hard_by: HardBy | None = None,
    probability: float = 1.0,
    word: str = " ANIMAL",
    place: int = 5,
) -> ActivationRecord:
    """A window of 12 tokens; at `place` stands a word with an activation."""
    start = "w" if split is Split.TEST else split[0]
    tokens = [f" {start}{number}{letter}" for letter in "abcdefghijkl"[:LENGTH]]
    tokens[place] = word if level > 0 or hard_by is HardBy.TOP_TOKEN else " stone"
    values = np.zeros(LENGTH, np.float32)
    values[place] = level
    interval = Strata.interval(max(1, min(10, -int(-level // (MAXIMUM / 10)))))
    stratum = interval if level > 0 else (Strata.HARD if hard_by else Strata.SILENT)
    return ActivationRecord(
        UNIT, Window(f"s{split}{number}", 0, LENGTH), f"d{split}{number}", split, stratum,
        probability, tuple(tokens), values, np.arange(LENGTH) == 0, hard_by=hard_by,
    )  # fmt: skip


def windows(n_per_interval: int = 4, n_silent: int = 20, n_hard: int = 12,
            split: Split = Split.TEST) -> list[ActivationRecord]:  # fmt: skip
    """Windows of all ten intervals, silent ones, and hard ones by a top token."""
    place = iter(range(3, 10_000))
    found = [
        window(next(place), interval - 0.5, split=split, place=1 + interval)
        for interval in range(1, 11)
        for _ in range(n_per_interval)
    ]
    found += [window(next(place), 0.0, split=split) for _ in range(n_silent)]
    found += [window(next(place), 0.0, split=split, hard_by=HardBy.TOP_TOKEN, place=7)
              for _ in range(n_hard)]  # fmt: skip
    return found


def unit(of: Sequence[ActivationRecord] | None = None, promoted: str = "") -> UnitRecord:
    """The unit with its statistics; `promoted` are words that it promotes."""
    explain = SplitStatistics(1000, 10, 100, 10, MAXIMUM, (0.1, 1.0, 1.0, 1.0), (), ())
    return UnitRecord(
        UNIT, tuple(windows() if of is None else of), {Split.EXPLAIN: explain},
        promoted=logits(promoted) if promoted else None,
    )  # fmt: skip


def logits(words: str) -> tuple[TokenLogit, ...]:
    """Words as promoted tokens."""
    return tuple(TokenLogit(f" {w}", i, 1.0 - i / 100) for i, w in enumerate(words.split()))


def explanation(text: str, index: int = 0) -> Explanation:
    """Words for a unit."""
    return Explanation(UnitId("made", index), "words", text, Status.OK, f"key {index}")


def job(
    *donors: str, own: str = "animals", record: UnitRecord | None = None,
    others: Sequence[UnitRecord] = (),
) -> ScoreJob:  # fmt: skip
    """What a scorer is given."""
    return ScoreJob(
        record or unit(), explanation(own),
        tuple(explanation(text, 1 + i) for i, text in enumerate(donors)),
        "judge", "judge", "key", tuple(others),
    )  # fmt: skip


Answer = Callable[[Request], Response | list[Any] | str]


def scored(scorer: Any, what: ScoreJob, judge: Answer) -> tuple[Score, list[Request]]:
    """The score after a judge's answers: values, a text, or a whole response."""
    steps = scorer.score(what)
    try:
        requests = list(next(steps))
    except StopIteration as end:
        return end.value, []
    answers = [response(judge(request)) for request in requests]
    try:
        steps.send(answers)
    except StopIteration as end:
        return end.value, requests
    raise AssertionError("asked twice")


def response(answer: Response | list[Any] | str) -> Response:
    """A response with values, or with a text as it is."""
    if isinstance(answer, Response):
        return answer
    text = answer if isinstance(answer, str) else json.dumps({"answers": answer})
    return Response(text, ResponseStatus.OK, Usage(10, 0, 5))


def n_asked(request: Request) -> int:
    """How many answers a request wants."""
    assert request.schema is not None
    return request.schema["properties"]["answers"]["minItems"]


def text_of(request: Request) -> str:
    """A conversation as a snapshot shows it."""
    return "\n".join(f"[{message.role}]\n{message.content}" for message in request.messages)
