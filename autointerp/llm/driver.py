"""Runs explainers and scorers: many generators at once, their requests in batches.

**The protocol.** An explainer or scorer is a generator. It

1. yields a list of requests, all of one type (`llm.Request`, `simulators.SimulationRequest`, …),
2. is sent the list of their answers, as many and in the same order,
3. does that as often as it likes, and returns its result.

It holds no client and no simulator. So the same code runs live, from the cache or in a test that
sends scripted answers:

    steps = explainer.explain(view, key)
    requests = next(steps)
    try:
        steps.send([Response("words for animals", ResponseStatus.OK)])
    except StopIteration as end:
        explanation = end.value

An empty list is answered with an empty list at once. A generator may raise `AutointerpError`: its
own job fails, the others go on. Any other exception is a bug and stops everything, as does an
`AutointerpError` of a handler (a spent budget, a wrong key): no other job would fare better.

**The driver.** Jobs are started in order, and only as many as fill a batch, so a result is handed
over (`on_done`) as early as can be. Requests are grouped by type, oldest first, and sent to the
handler of their type in batches; a batch may hold a part of one job's requests.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from autointerp.llm.base import (
    LlmClient,
    Request,
    Response,
    ResponseStatus,
    Usage,
    check_capabilities,
    request_key,
)
from autointerp.llm.cache import ResponseCache
from autointerp.records import AutointerpError

K = TypeVar("K")
T = TypeVar("T")

Steps = Generator[Sequence[Any], Sequence[Any], T]
"""A job: yields lists of requests of one type, is sent lists of answers, returns its result."""

Handler = Callable[[list[Any]], Sequence[Any]]
"""Answers requests of one type: as many answers, in the same order."""


@dataclass
class _Job(Generic[K, T]):
    """A generator that waits for answers."""

    key: K
    steps: Steps[T]
    requests: list[Any] = field(default_factory=list[Any])
    answers: list[Any] = field(default_factory=list[Any])
    """Answers so far, in the order of `requests`."""

    @property
    def unanswered(self) -> list[Any]:
        return self.requests[len(self.answers) :]

    @property
    def kind(self) -> type:
        return type(self.requests[0])


def drive(
    jobs: Mapping[K, Steps[T]],
    handlers: Mapping[type, Handler],
    on_done: Callable[[K, T], None],
    on_error: Callable[[K, AutointerpError], None],
    batch_size: int = 16,
) -> None:
    """Run every job to its end. See the module's docstring for the protocol.

    Args:
        jobs: generators by key, started in this order.
        handlers: by type of request.
        on_done: called with a job's key and result as soon as it has one.
        on_error: called with a job's key and error where its generator raised `AutointerpError`.
        batch_size: most requests per call of a handler, at least 1.

    Raises:
        TypeError: where a job yields requests of mixed types, or of a type without a handler.
        ValueError: where a handler does not answer every request.
        AutointerpError: what a handler raised.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    unstarted = deque(_Job(key, steps) for key, steps in jobs.items())
    waiting: list[_Job[K, T]] = []

    def advance(job: _Job[K, T], answers: list[Any] | None) -> None:
        """Run a job up to its next requests, and put it among those that wait; or end it."""
        try:
            requests = next(job.steps) if answers is None else job.steps.send(answers)
            while not requests:
                requests = job.steps.send([])
        except StopIteration as end:
            on_done(job.key, end.value)
        except AutointerpError as error:
            on_error(job.key, error)
        else:
            _check(requests, handlers, job.key)
            waiting.append(_Job(job.key, job.steps, list(requests)))

    try:
        while True:
            while unstarted and sum(len(job.unanswered) for job in waiting) < batch_size:
                advance(unstarted.popleft(), None)
            if not waiting:
                return
            served = _serve(waiting, handlers, batch_size)
            waiting = [job for job in waiting if job.unanswered]
            for job in served:
                advance(job, job.answers)
    finally:
        for job in (*waiting, *unstarted):
            job.steps.close()


def _serve(
    waiting: Sequence[_Job[K, T]], handlers: Mapping[type, Handler], batch_size: int
) -> list[_Job[K, T]]:
    """Answer one batch of the oldest job's type; returns the jobs that are now fully answered."""
    kind = waiting[0].kind
    takers = [job for job in waiting if job.kind is kind]
    parts: list[tuple[_Job[K, T], list[Any]]] = []
    room = batch_size
    for job in takers:
        part = job.unanswered[:room]
        if part:
            parts.append((job, part))
        room -= len(part)
    batch = [request for _, part in parts for request in part]
    answers = list(handlers[kind](batch))
    if len(answers) != len(batch):
        raise ValueError(
            f"the handler of {kind.__name__} gave {len(answers)} answers to {len(batch)} requests"
        )
    place = 0
    for job, part in parts:
        job.answers.extend(answers[place : place + len(part)])
        place += len(part)
    return [job for job, _ in parts if not job.unanswered]


def _check(requests: Sequence[Any], handlers: Mapping[type, Handler], key: object) -> None:
    kinds = {type(request) for request in requests}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"job {key} yielded requests of several types at once: {names}")
    for kind in kinds - set(handlers):
        known = ", ".join(sorted(known.__name__ for known in handlers)) or "none"
        raise TypeError(f"job {key} yielded {kind.__name__}; there are handlers for {known}")


@dataclass(frozen=True)
class LedgerEntry:
    """What one request cost."""

    key: str
    """Of the response (`request_key`)."""

    purpose: str
    client: str
    """Name of the client."""

    status: ResponseStatus
    usage: Usage
    """As the provider counted it when it answered; nothing was spent now where `from_cache`."""

    from_cache: bool


class CachedClient:
    """A client whose answers are kept: what was answered once is not asked again.

    Answers are committed to the cache before `complete` returns them. Equal requests in one batch
    are asked once.
    """

    def __init__(
        self,
        client: LlmClient,
        cache: ResponseCache | None,
        on_entry: Callable[[LedgerEntry], None] | None = None,
    ) -> None:
        """Wrap a client.

        Args:
            client: who answers what the cache does not hold.
            cache: where answers are kept; `None` keeps none.
            on_entry: called once per request, in order, after the answers are committed.
        """
        self.client = client
        self.cache = cache
        self.name = client.name
        self.fingerprint = client.fingerprint
        self.capabilities = client.capabilities
        self._on_entry = on_entry

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer from the cache, and the rest from the client. See `LlmClient.complete`."""
        for request in requests:
            check_capabilities(self.client, request)
        keys = [request_key(self.client, request) for request in requests]
        known = self.cache.get_many(keys) if self.cache is not None else {}
        missing = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in known
        }
        fresh: dict[str, Response] = {}
        if missing:
            answers = self.client.complete(list(missing.values()))
            fresh = dict(zip(missing, answers, strict=True))
            if self.cache is not None:
                self.cache.put_many(fresh)
        self._report(keys, requests, known, fresh)
        return [known[key] if key in known else fresh[key] for key in keys]

    def _report(
        self,
        keys: Sequence[str],
        requests: Sequence[Request],
        known: Mapping[str, Response],
        fresh: Mapping[str, Response],
    ) -> None:
        if self._on_entry is None:
            return
        spent: set[str] = set()
        for key, request in zip(keys, requests, strict=True):
            response = known[key] if key in known else fresh[key]
            from_cache = key in known or key in spent
            spent.add(key)
            entry = LedgerEntry(
                key, request.purpose, self.name, response.status, response.usage, from_cache
            )
            self._on_entry(entry)
