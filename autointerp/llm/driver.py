"""Runs explainers and scorers: many generators at once, their requests in batches or in flight.

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

**The driver.** Jobs are started in order, and only as many as keep the handlers busy, so a result
is handed over (`on_done`) as early as can be. Requests go to the handler of their type, oldest
first. A handler is either a function that answers a batch (a model on this machine), or a `Stream`
that answers one request at a time, many of them at once (a hosted model): then as many as it allows
are in flight all the time, and an answer is used as soon as it is there.

Generators, functions and callbacks run in the thread that calls `drive`, the network elsewhere.
Answers to requests with a schema are checked, and asked for once more (`llm.repair`).
"""

import asyncio
import concurrent.futures
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from autointerp.llm.loop import background_loop, run_sync
from autointerp.llm.repair import repairing
from autointerp.records import AutointerpError

K = TypeVar("K")
T = TypeVar("T")

Steps = Generator[Sequence[Any], Sequence[Any], T]
"""A job: yields lists of requests of one type, is sent lists of answers, returns its result."""

Round = Generator[Sequence[Any], Sequence[Any], Sequence[Any]]
"""Yields what is asked in place of some requests, returns their answers."""


def relayed(steps: Steps[T], relay: Callable[[Sequence[Any]], Round]) -> Steps[T]:
    """The same job, the requests and answers of every round passing through `relay`."""
    answers: Sequence[Any] | None = None
    try:
        while True:
            requests = next(steps) if answers is None else steps.send(answers)
            answers = yield from relay(requests)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


Jobs = Mapping[K, Steps[T]] | Iterable[tuple[K, Steps[T]]]
"""Generators by key; as pairs they may be made as they are needed."""

BatchHandler = Callable[[list[Any]], Sequence[Any]]
"""Answers requests of one type: as many answers, in the same order."""

_DRAIN_SECONDS = 60.0
"""How long answers that are paid for are waited for when everything stops."""


@runtime_checkable
class Stream(Protocol):
    """Answers requests one at a time, many at once; `CachedClient` is one."""

    max_concurrency: int
    """Most requests in flight."""

    def known(self, requests: Sequence[Any]) -> list[Any | None]:
        """Answers that are there already, without waiting."""
        ...

    async def complete_one(self, request: Any) -> Any:
        """The answer to one request; from any event loop."""
        ...

    async def drain(self, seconds: float) -> None:
        """Wait so long at most for what was sent and is cancelled, so that it is kept."""
        ...


Handler = BatchHandler | Stream


@dataclass
class _Job(Generic[K, T]):
    """A generator that waits for answers."""

    key: K
    steps: Steps[T]
    answers: list[Any] = field(default_factory=list[Any])
    """Answers so far, in the order of the requests."""
    missing: int = 0


@dataclass(frozen=True)
class _Asked:
    """One request of a job, and its place among the job's requests."""

    job: _Job[Any, Any]
    place: int
    request: Any


def drive(
    jobs: Jobs[K, T],
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
        batch_size: most requests per call of a batch handler, at least 1.

    Raises:
        TypeError: where a job yields requests of mixed types, or of a type without a handler.
        ValueError: where a handler does not answer every request.
        AutointerpError: what a handler raised; what was on its way is waited for and kept.
    """
    arrived = threading.Event()
    work = _Work(jobs, handlers, on_done, on_error, batch_size, arrived.set)
    try:
        while (then := work.step()) != "done":
            if then == "wait":
                arrived.wait()
                arrived.clear()
            else:
                work.answer_batch(then, then.handler([asked.request for asked in then.batch]))
    except AutointerpError:
        for stream in work.stop():
            run_sync(stream.drain(_DRAIN_SECONDS))
        raise
    finally:
        work.stop()


async def drive_async(
    jobs: Jobs[K, T],
    handlers: Mapping[type, Handler],
    on_done: Callable[[K, T], None],
    on_error: Callable[[K, AutointerpError], None],
    batch_size: int = 16,
) -> None:
    """As `drive`, in the event loop it is awaited in; batch handlers run in a thread."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(arrived.set)

    work = _Work(jobs, handlers, on_done, on_error, batch_size, wake)
    try:
        while (then := work.step()) != "done":
            if then == "wait":
                await arrived.wait()
                arrived.clear()
            else:
                requests = [asked.request for asked in then.batch]
                work.answer_batch(then, await asyncio.to_thread(then.handler, requests))
    except AutointerpError:
        for stream in work.stop():
            await stream.drain(_DRAIN_SECONDS)
        raise
    finally:
        work.stop()


@dataclass(frozen=True)
class _Batch:
    """Requests for a batch handler."""

    kind: type
    handler: BatchHandler
    batch: list[_Asked]


class _Work(Generic[K, T]):
    """The jobs and where each of their requests is. Knows no event loop and never waits."""

    def __init__(
        self,
        jobs: Jobs[K, T],
        handlers: Mapping[type, Handler],
        on_done: Callable[[K, T], None],
        on_error: Callable[[K, AutointerpError], None],
        batch_size: int,
        wake: Callable[[], None],
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        pairs: Any = jobs.items() if isinstance(jobs, Mapping) else jobs
        self._unstarted: Iterator[tuple[K, Steps[T]]] = iter(pairs)
        self._all_started = False
        self._open: dict[int, _Job[K, T]] = {}
        self._handlers, self._batch_size = handlers, batch_size
        self._streams = {k: h for k, h in handlers.items() if isinstance(h, Stream)}
        self._on_done, self._on_error, self._wake = on_done, on_error, wake
        self._queues: dict[type, deque[_Asked]] = {kind: deque() for kind in handlers}
        self._flying: dict[concurrent.futures.Future[Any], _Asked] = {}
        self._n_flying: Counter[type] = Counter()
        self._arrived: deque[concurrent.futures.Future[Any]] = deque()

    def step(self) -> Literal["done", "wait"] | _Batch:
        """Do all that can be done at once; returns what is to be done next."""
        while True:
            while self._arrived:
                self._land(self._arrived.popleft())
            self._start()
            if self._send():
                continue
            if self._arrived:
                continue
            for kind, queue in self._queues.items():
                if queue and kind not in self._streams:
                    n = min(len(queue), self._batch_size)
                    handler: Any = self._handlers[kind]
                    return _Batch(kind, handler, [queue.popleft() for _ in range(n)])
            if self._flying:
                return "wait"
            if self._all_started and not self._open:
                return "done"

    def answer_batch(self, batch: _Batch, answers: Sequence[Any]) -> None:
        """Hand a batch's answers over."""
        answers = list(answers)
        if len(answers) != len(batch.batch):
            raise ValueError(
                f"the handler of {batch.kind.__name__} gave {len(answers)} answers to "
                f"{len(batch.batch)} requests"
            )
        for asked, answer in zip(batch.batch, answers, strict=True):
            self._answer(asked, answer)

    def stop(self) -> list[Stream]:
        """Cancel what waits and close the jobs; returns the streams that were in use."""
        for future in self._flying:
            future.cancel()
        self._flying.clear()
        for job in self._open.values():
            job.steps.close()
        self._open.clear()
        if not self._all_started:
            self._all_started = True
            for _, steps in self._unstarted:
                steps.close()
        return list(self._streams.values())

    def _start(self) -> None:
        """Start jobs until every handler has something to do."""
        while not self._all_started and all(
            len(self._queues[kind]) + self._n_flying[kind] < self._enough(kind)
            for kind in self._handlers
        ):
            try:
                key, steps = next(self._unstarted)
            except StopIteration:
                self._all_started = True
                return
            job = _Job(key, repairing(steps))
            self._open[id(job)] = job
            self._advance(job, None)

    def _enough(self, kind: type) -> int:
        """Requests of a kind that keep its handler busy: for a stream, the next ones are ready."""
        stream = self._streams.get(kind)
        return self._batch_size if stream is None else 2 * stream.max_concurrency

    def _advance(self, job: _Job[K, T], answers: list[Any] | None) -> None:
        """Run a job up to its next requests, and queue them; or end it."""
        try:
            requests = next(job.steps) if answers is None else job.steps.send(answers)
            while not requests:
                requests = job.steps.send([])
        except StopIteration as end:
            del self._open[id(job)]
            self._on_done(job.key, end.value)
        except AutointerpError as error:
            del self._open[id(job)]
            self._on_error(job.key, error)
        else:
            kind = self._kind(requests, job.key)
            job.answers, job.missing = [None] * len(requests), len(requests)
            self._queues[kind].extend(
                _Asked(job, place, request) for place, request in enumerate(requests)
            )

    def _kind(self, requests: Sequence[Any], key: object) -> type:
        kinds = {type(request) for request in requests}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"job {key} yielded requests of several types at once: {names}")
        (kind,) = kinds
        if kind not in self._handlers:
            known = ", ".join(sorted(known.__name__ for known in self._handlers)) or "none"
            raise TypeError(f"job {key} yielded {kind.__name__}; there are handlers for {known}")
        return kind

    def _answer(self, asked: _Asked, answer: Any) -> None:
        job = asked.job
        job.answers[asked.place] = answer
        job.missing -= 1
        if not job.missing:
            self._advance(job, job.answers)

    def _send(self) -> bool:
        """Give streams what they have room for; returns whether a job moved on by that."""
        moved = False
        for kind, stream in self._streams.items():
            queue = self._queues[kind]
            if not queue:
                continue
            room = self._enough(kind) - self._n_flying[kind]
            sent = [queue.popleft() for _ in range(min(room, len(queue)))]
            known = stream.known([asked.request for asked in sent])
            for asked, answer in zip(sent, known, strict=True):
                if answer is None:
                    self._fly(stream, asked)
                else:
                    moved = True
                    self._answer(asked, answer)
        return moved

    def _fly(self, stream: Stream, asked: _Asked) -> None:
        work = stream.complete_one(asked.request)
        future = asyncio.run_coroutine_threadsafe(work, background_loop())
        self._flying[future] = asked
        self._n_flying[type(asked.request)] += 1
        future.add_done_callback(self._on_arrival)

    def _on_arrival(self, future: "concurrent.futures.Future[Any]") -> None:
        """In the background thread."""
        self._arrived.append(future)
        self._wake()

    def _land(self, future: "concurrent.futures.Future[Any]") -> None:
        asked = self._flying.pop(future, None)
        if asked is not None:
            self._n_flying[type(asked.request)] -= 1
            self._answer(asked, future.result())
