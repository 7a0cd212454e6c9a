"""What failed for good is noted on the score it is missing from."""

from collections.abc import Generator
from typing import Any

import pytest

from autointerp.llm import Response, ResponseStatus
from autointerp.records import Score, Status, UnitId
from autointerp.scorers.incomplete import noting_failures
from autointerp.simulators.base import IncompleteSimulations

SCORE = Score(
    *(UnitId("made", 1), "e", "words", "detection", "judge", 0.5, Status.OK, "key"),
    details={"n": 3},
)
DOWN = Response(None, ResponseStatus.FAILED, reason="down")


def rounds(*batches: int) -> Generator[list[str], Any, Score]:
    for n in batches:
        yield ["question"] * n
    return SCORE


def noted(*answers: list[Any]) -> Score:
    steps = noting_failures(rounds(*map(len, answers)))
    next(steps)
    with pytest.raises(StopIteration) as end:
        for batch in answers:
            steps.send(batch)
    return end.value.value


def test_failures_of_all_rounds_are_counted_and_the_first_reason_is_kept() -> None:
    gone = IncompleteSimulations([], "gone")
    score = noted([Response("yes", ResponseStatus.OK), DOWN], [gone, []])
    assert score.n_failed_requests == 2
    assert score.details == {"n": 3, "failed_requests": 2, "failed_request_reason": "down"}


@pytest.mark.parametrize("status", [s for s in ResponseStatus if s is not ResponseStatus.FAILED])
def test_any_answer_that_came_leaves_a_score_as_it_is(status: ResponseStatus) -> None:
    assert noted([Response("x", status)], [[]]) == SCORE
    assert SCORE.n_failed_requests == 0


def test_a_score_that_is_given_up_is_given_up_within() -> None:
    closed: list[bool] = []

    def steps() -> Generator[list[str], Any, Score]:
        try:
            yield ["question"]
        finally:
            closed.append(True)
        return SCORE

    given_up = noting_failures(steps())
    next(given_up)
    given_up.close()
    assert closed == [True]
