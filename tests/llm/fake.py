"""A client that gives scripted answers and counts what it is asked."""

from collections.abc import Callable, Sequence

from autointerp.llm import Capabilities, Request, Response, ResponseStatus, Usage


class FakeClient:
    name = "fake/scripted"
    fingerprint = "fake-1"

    def __init__(
        self,
        answer: Callable[[Request], Response | str] = lambda request: request.messages[-1].content,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.capabilities = capabilities or Capabilities()
        self.asked: list[Request] = []
        self.batches: list[int] = []
        self._answer = answer

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        self.asked.extend(requests)
        self.batches.append(len(requests))
        return [as_response(self._answer(request)) for request in requests]


def as_response(answer: Response | str) -> Response:
    if isinstance(answer, Response):
        return answer
    return Response(answer, ResponseStatus.OK, Usage(10, 0, 3), model="scripted")
