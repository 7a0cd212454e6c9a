"""Scores that lack an answer because a request failed: they say so, and can be made again.

What a failed request was to tell is left out of a score, and the rest may well give a number. That
number stands, but asked again it may be of everything. An answer that came and is of no use is
another matter: it is kept, and would be the same again.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from autointerp.llm import Response, ResponseStatus
from autointerp.llm.driver import Round, relayed
from autointerp.records import FAILED_REQUESTS, Score
from autointerp.simulators.base import IncompleteSimulations

Steps = Generator[Sequence[Any], Sequence[Any], Score]
"""A score in the making (`autointerp.llm.driver`)."""


def noting_failures(steps: Steps) -> Steps:
    """The same score, its details with the number of requests that failed, and why the first did.

    Args:
        steps: of an explanation with all its controls, none of which passes for complete then.
    """
    reasons: list[str] = []

    def relay(requests: Sequence[Any]) -> Round:
        answers = yield requests
        reasons.extend(why for answer in answers if (why := failure(answer)) is not None)
        return answers

    score = yield from relayed(steps, relay)
    if not reasons:
        return score
    noted = {FAILED_REQUESTS: len(reasons), "failed_request_reason": reasons[0]}
    return replace(score, details={**score.details, **noted})


def failure(answer: Any) -> str | None:
    """Why a question, or a simulation, lacks an answer; `None` where it lacks none."""
    if isinstance(answer, IncompleteSimulations):
        return answer.reason
    if isinstance(answer, Response) and answer.status is ResponseStatus.FAILED:
        return answer.reason
    return None
