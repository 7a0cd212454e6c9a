"""Answers that do not follow their schema: asked once more with the error shown, then given up.

It works on the generators that `drive` runs, so the second question goes the way of every other:
from the cache, live or in a batch, within the budget.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from autointerp.llm.base import Message, Request, Response, ResponseStatus
from autointerp.llm.schemas import MalformedAnswerError, parse_answer, unfenced

T = TypeVar("T")

_LONGEST_SHOWN = 4000
"""Characters of a wrong answer that are shown to the model again."""


def repairing(
    steps: Generator[Sequence[Any], Sequence[Any], T],
) -> Generator[Sequence[Any], Sequence[Any], T]:
    """A job whose answers all follow their schemas, or say that they do not.

    Passes everything through but answers to requests with a schema. One that does not follow it is
    asked for once more; the job is sent the better answer, or one with status `malformed`.
    Refused, truncated, empty and failed answers are passed on as they are: asking again would not
    help them. Where the second request failed, so has the whole: another time it may be answered.
    """
    answers: Sequence[Any] | None = None
    try:
        while True:
            requests = next(steps) if answers is None else steps.send(answers)
            answers = yield requests
            answers = yield from _checked(requests, answers)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def _checked(
    requests: Sequence[Any], answers: Sequence[Any]
) -> Generator[Sequence[Any], Sequence[Any], Sequence[Any]]:
    errors = {
        place: error
        for place, (request, answer) in enumerate(zip(requests, answers, strict=True))
        if (error := problem_with(request, answer)) is not None
    }
    if not errors:
        return [_plain(r, a) for r, a in zip(requests, answers, strict=True)]
    again = {
        place: repair_request(requests[place], answers[place], error)
        for place, error in errors.items()
    }
    second = yield list(again.values())
    checked = [_plain(r, a) for r, a in zip(requests, answers, strict=True)]
    for place, answer in zip(again, second, strict=True):
        checked[place] = _final(requests[place], answers[place], answer)
    return checked


def problem_with(request: Any, answer: Any) -> str | None:
    """What is wrong with an answer that should follow a schema; `None` where nothing is."""
    if not isinstance(request, Request) or request.schema is None:
        return None
    if not isinstance(answer, Response) or answer.status is not ResponseStatus.OK:
        return None
    try:
        parse_answer(answer.text or "", request.schema)
    except MalformedAnswerError as error:
        return str(error)
    return None


def _plain(request: Any, answer: Any) -> Any:
    """An answer whose text is JSON and nothing around it, where there is a schema."""
    if not isinstance(request, Request) or request.schema is None or answer.text is None:
        return answer
    text = unfenced(answer.text)
    return answer if text == answer.text else replace(answer, text=text)


def repair_request(request: Request, answer: Response, error: str) -> Request:
    """The question again, after the wrong answer and what is wrong with it."""
    shown = (answer.text or "")[:_LONGEST_SHOWN]
    asked = (
        f"That answer cannot be read: {error}. Give the same answer again in the right form, and "
        "nothing else."
    )
    turns = (Message("assistant", shown), Message("user", asked))
    return replace(
        request,
        messages=(*request.messages, *turns),
        purpose=f"{request.purpose}.repair" if request.purpose else "repair",
    )


def _final(request: Request, first: Response, second: Response) -> Response:
    """The answer that the job is sent."""
    error = problem_with(request, second)
    if error is None and second.status is ResponseStatus.OK:
        return _plain(request, second)
    if error is None:
        error = f"{problem_with(request, first)}; asked again, it was {second.status}"
        error += f": {second.reason}" if second.reason else ""
    if second.status is ResponseStatus.FAILED:
        return Response(None, ResponseStatus.FAILED, second.usage, error, first.model)
    text = second.text if second.text is not None else first.text
    return Response(
        text, ResponseStatus.MALFORMED, second.usage, error, second.model or first.model
    )
