"""What all hosted models share: limits, retries, outages, and keys kept out of what they say."""

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from autointerp.llm.base import (
    Keep,
    Request,
    Response,
    ResponseStatus,
    check_capabilities,
    request_key,
)
from autointerp.llm.capabilities import capabilities_of
from autointerp.llm.keys import by_vendor, check_options, scrub, scrub_value
from autointerp.llm.limits import Limiter, Slot
from autointerp.llm.loop import in_background, run_sync, shared, side_by_side
from autointerp.llm.options import ClientOptions
from autointerp.llm.retries import Problem, ProviderDownError, ProviderError, problem_of
from autointerp.records import AutointerpError, content_key

if TYPE_CHECKING:
    from autointerp.llm.booking import Bookings
    from autointerp.llm.budget import Meter

_log = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""Seconds between two attempts, unless the provider asks for more."""

_SAY_AFTER = 10.0
"""Seconds of nothing but errors after which a message says so."""

_BUSY_ATTEMPTS = 5
"""Being turned away as too much counts as this part of an attempt: it says little of a request."""

_CHARACTERS_PER_TOKEN = 4


class HostedClient(ABC):
    """A language model behind a network. A provider adds how a request is sent and read."""

    provider: str
    version: int
    """Raise when the same request becomes another body, or its reply is read otherwise."""

    def __init__(self, model: str, options: ClientOptions | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            model: as the server calls it.
            options: how it is reached.

        Raises:
            AutointerpError: where the key is missing or an option cannot be used.
        """
        self.model = model
        self.options = options or ClientOptions()
        check_options(self.options)
        self.name = f"{self.provider}/{model}"
        self.max_concurrency = self.options.max_concurrency
        self.capabilities = capabilities_of(self.name, self.options.capabilities).capabilities
        self._client = self._sdk()
        address = self.options.server or str(self._client.base_url).rstrip("/")
        self.fingerprint = content_key(
            "client",
            provider=self.provider,
            address=address,
            model=model,
            answer_format=self.options.answer_format,
            reasoning_effort=self.options.reasoning_effort,
            extra_body=dict(self.options.extra_body),
            temperature=self.capabilities.temperature,
            version=self.version,
        )
        self.on_notice: Callable[[str], None] | None = None
        """Hears when the provider stops and begins to answer; called in the background."""
        self.meter: Meter | None = None
        """Guards the budget: hears of every attempt before it is sent, and how it ended."""
        self._health = _Health(self.name)
        self._sending: set[asyncio.Task[Response]] = set()
        self._left: dict[str, asyncio.Task[Response]] = {}
        """What is being sent and nobody waits for, by key: who asks for it again waits for it."""
        self._books: Bookings | None = None

    @abstractmethod
    def _sdk(self) -> Any:
        """The SDK's asynchronous client."""

    @abstractmethod
    async def _ask(self, request: Request) -> Response:
        """One attempt; raises the SDK's errors, `BadReplyError` or `ProviderError`."""

    @abstractmethod
    def body(self, request: Request) -> dict[str, Any]:
        """The keyword arguments with which the SDK is called."""

    @property
    def limiter(self) -> Limiter:
        """Shared by all clients of one model at one address."""
        options = self.options
        limits = (options.max_concurrency, options.requests_per_minute, options.tokens_per_minute)
        return shared(("limiter", self.fingerprint, limits), lambda: Limiter(*limits))

    def guard(self, meter: "Meter", on_notice: Callable[[str], None] | None = None) -> None:
        """Have every attempt metered, and notices of outages heard.

        Raises:
            UsageError: where the budget is in money and the model has no price.
        """
        meter.check(self.name, vendor=by_vendor(self.provider, self.options))
        self.meter, self.on_notice = meter, on_notice

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, many at once. See `LlmClient.complete`."""
        return run_sync(self._complete(requests))

    async def complete_async(self, requests: Sequence[Request]) -> list[Response]:
        """As `complete`, from any event loop."""
        return await in_background(self._complete(requests))

    async def complete_one(
        self, request: Request, keep: Keep | None = None, key: str | None = None
    ) -> Response:
        """Answer one request. See `HostedLlmClient.complete_one`."""
        return await in_background(self._complete_one(request, keep, key))

    async def drain(self, seconds: float) -> None:
        """Wait so long at most for what was sent, though nobody waits for its answer any more."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=seconds)

    async def _complete(self, requests: Sequence[Request]) -> list[Response]:
        # No more tasks than can be in flight: a list may be long.
        places = iter(range(len(requests)))
        responses: dict[int, Response] = {}

        async def work() -> None:
            for place in places:
                responses[place] = await self._complete_one(requests[place])

        await side_by_side(work() for _ in range(min(len(requests), self.max_concurrency)))
        return [responses[place] for place in range(len(requests))]

    async def _complete_one(
        self, request: Request, keep: Keep | None = None, key: str | None = None
    ) -> Response:
        check_capabilities(self, request)
        asked = _Asked(request, keep, key or request_key(self, request))
        try:
            return await self._attempt(asked)
        except ProviderError as error:
            first = error
        # Retrying has its price, and nearly all are answered at once.
        return await self._retry(asked, first)

    async def _retry(self, asked: "_Asked", first: ProviderError) -> Response:
        """Ask again, as long as it may help, what failed once."""
        tries = _Tries(self)
        failed: ProviderError | None = first
        try:
            async for attempt in AsyncRetrying(
                retry=tries.wanted, wait=tries.wait, stop=tries.over, reraise=True
            ):
                with attempt:
                    if failed is not None:
                        error, failed = failed, None
                        raise error
                    return await self._attempt(asked)
        except ProviderError as error:
            problem = error.problem
        else:
            raise AssertionError("tenacity ends by an answer or an error")
        # Outside of `except`: the error that the user sees carries no other along.
        return self._without_answer(problem, tries)

    async def _attempt(self, asked: "_Asked") -> Response:
        """One attempt, within the limits.

        Once it is sent, it is seen to its end even where nobody waits for it any more: it is paid
        for, and kept for the next time.
        """
        sending = self._left.pop(asked.key, None)
        if sending is None or sending.done():
            limiter = self.limiter
            slot = await limiter.acquire(_about_tokens(asked.request))
            sending = asyncio.create_task(self._send(asked, limiter, slot))
            self._sending.add(sending)
            sending.add_done_callback(self._sent)
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not sending.done():
                self._left[asked.key] = sending
                sending.add_done_callback(lambda _: self._left.pop(asked.key, None))
            raise

    def _sent(self, sending: asyncio.Task[Response]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()  # seen, also where nobody waits for it

    async def _send(self, asked: "_Asked", limiter: Limiter, slot: Slot) -> Response:
        """Send a request, keep and count its answer; every problem is a `ProviderError`."""
        started = time.monotonic()
        ticket: int | None = None
        response: Response | None = None
        problem: Problem | None = None
        try:
            ticket = await self._begin(asked)
            try:
                # The SDK's time-out is for each piece of a reply: a slow drip would never end.
                async with asyncio.timeout(self.options.timeout):
                    response = _scrubbed(await self._ask(asked.request))
            except BaseException as error:
                problem = problem_of(error)
                if problem is None:
                    await self._count_failure(ticket, None)
                    raise
                self._note(problem, limiter, slot)
            else:
                usage = response.usage
                slot.used = usage.input_tokens + usage.output_tokens or slot.used
                if asked.keep is not None:
                    await asked.keep(response)
                limiter.went_well()
                self._say(self._health.answered())
        finally:
            # Before the ledger is settled: the next one's reservation is written with it.
            limiter.release(slot)
        if response is not None:
            await self._count(ticket, response, time.monotonic() - started)
            return response
        assert problem is not None
        await self._count_failure(ticket, problem)
        # Outside of `except`: the SDK's errors carry the request, and with it the key.
        raise ProviderError(problem)

    def _note(self, problem: Problem, limiter: Limiter, slot: Slot) -> None:
        """Learn from a failed attempt."""
        if problem.busy:
            # A pause that nobody will wait for holds nobody.
            wait = problem.retry_after
            patient = wait is not None and wait <= self.options.give_up_after
            limiter.slow_down(slot.sent_at, wait if patient else None)
        if problem.kind == "again":
            self._say(self._health.failed(problem, self.options.give_up_after))
        else:
            self._say(self._health.answered())

    async def _begin(self, asked: "_Asked") -> int | None:
        """Reserve what the attempt can cost; returns its ticket."""
        if self.meter is None:
            return None
        vendor = by_vendor(self.provider, self.options)
        books = self._books_of(self.meter)
        return await books.begin(asked.key, asked.request, self.name, vendor=vendor)

    async def _count(self, ticket: int | None, response: Response, seconds: float) -> None:
        if self.meter is not None and ticket is not None:
            spent = self.meter.cost(ticket, response, seconds=seconds)
            await self._books_of(self.meter).settle(ticket, spent)

    async def _count_failure(self, ticket: int | None, problem: Problem | None) -> None:
        """An error status costs nothing; an answer that never came may have been paid for."""
        if self.meter is None or ticket is None:
            return
        free = problem is not None and (problem.status is not None or not problem.sent)
        spent = self.meter.nothing(ticket) if free else self.meter.most(ticket)
        await self._books_of(self.meter).settle(ticket, spent)

    def _books_of(self, meter: "Meter") -> "Bookings":
        if self._books is None or self._books.meter is not meter:
            from autointerp.llm.booking import Bookings  # late: the meter knows the ledger

            self._books = Bookings(meter)
        return self._books

    def _without_answer(self, problem: Problem, tries: "_Tries") -> Response:
        """The response where there is none, or the error that stops everything."""
        if problem.kind == "everything":
            raise AutointerpError(f"{self.name}: {problem.reason}; {_remedy(problem)}")
        if tries.nobody_answers:
            patience = self.options.give_up_after
            what = (
                f"asks for a pause of {_minutes(problem.retry_after)}"
                if problem.retry_after is not None and problem.retry_after > patience
                else f"has given nothing but errors for {_minutes(self._health.down_for())}"
            )
            raise ProviderDownError(
                f"{self.name} {what} (llm.give_up_after: {patience:g} seconds); the last: "
                f"{problem.reason}. What was answered is saved: run the same command again to go on"
            )
        times = f" ({tries.attempts} attempts)" if tries.attempts > 1 else ""
        status = ResponseStatus.REFUSED if problem.kind == "refused" else ResponseStatus.FAILED
        return Response(None, status, reason=f"{problem.reason}{times}", model=self.model)

    def _say(self, notice: str | None) -> None:
        if notice:
            _log.warning("%s", notice)
            if self.on_notice is not None:
                self.on_notice(notice)


@dataclass(frozen=True)
class _Asked:
    """One request and what is to be done with its answer."""

    request: Request
    keep: Keep | None
    key: str


class _Tries:
    """The attempts at one request: whether, when and how often it is asked again."""

    def __init__(self, client: HostedClient) -> None:
        self._client = client
        # Made when it failed first: what was answered before says nothing of the provider now.
        self._failed_at = time.monotonic()
        self._busy = 0
        self._wait = wait_random_exponential(
            multiplier=client.options.retry_wait, max=_LONGEST_WAIT
        )
        self.attempts = 0
        self.nobody_answers = False
        """Whether it was given up because no request at all is answered."""

    def wanted(self, state: RetryCallState) -> bool:
        """Whether to ask again: only for what may pass."""
        problem = _problem(state)
        self.attempts = state.attempt_number
        return problem is not None and problem.kind == "again"

    def wait(self, state: RetryCallState) -> float:
        """Seconds until then: what the provider asks for, or a random time that grows."""
        problem = _problem(state)
        if problem is not None and problem.retry_after is not None:
            return problem.retry_after + random.uniform(0, 0.1 * problem.retry_after)
        return self._wait(state)

    def over(self, state: RetryCallState) -> bool:
        """Whether that was the last attempt.

        While others are answered, the request is at fault and has so many attempts. While nobody
        is, the provider is, and time decides.
        """
        problem, health = _problem(state), self._client._health  # pyright: ignore[reportPrivateUsage]
        options = self._client.options
        if problem is None:
            return True
        wait = problem.retry_after or 0.0
        if wait > options.give_up_after:
            self.nobody_answers = True
            return True
        if health.last_answer >= self._failed_at:
            self._busy += problem.busy
            counted = state.attempt_number - self._busy + self._busy / _BUSY_ATTEMPTS
            return counted >= options.max_attempts
        self.nobody_answers = health.down_for() + wait > options.give_up_after
        return self.nobody_answers


class _Health:
    """Whether a provider answers at all."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.last_answer = -1.0
        self._failing_since: float | None = None
        self._said = False

    def down_for(self) -> float:
        """Seconds without any answer, errors only; 0 where the last was one."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def failed(self, problem: Problem, give_up_after: float) -> str | None:
        """Note an error that may pass; returns what is to be said, once."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        wait = problem.retry_after or 0.0
        if self._said or max(self.down_for(), wait) < min(_SAY_AFTER, give_up_after / 2):
            return None
        self._said = True
        until = time.strftime(
            "%H:%M:%S", time.localtime(time.time() - self.down_for() + give_up_after)
        )
        return (
            f"{self._name} does not answer ({problem.reason}): waiting for it, until {until} at "
            "most. What was answered is saved"
        )

    def answered(self) -> str | None:
        """Note an answer; returns what is to be said."""
        said, was_down = self._said, self.down_for()
        self.last_answer, self._failing_since, self._said = time.monotonic(), None, False
        return f"{self._name} answers again after {_minutes(was_down)}: going on" if said else None


def wire_body(body: dict[str, Any]) -> dict[str, Any]:
    """A body as it is sent: the SDK's `extra_body` merged into it. For files of batches."""
    return {k: v for k, v in body.items() if k != "extra_body"} | dict(body.get("extra_body", {}))


def _problem(state: RetryCallState) -> Problem | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.problem if isinstance(error, ProviderError) else None


def _about_tokens(request: Request) -> float:
    """What a request will take, before the provider has counted."""
    characters = sum(len(message.content) for message in request.messages)
    return characters / _CHARACTERS_PER_TOKEN + request.max_tokens


def _scrubbed(response: Response) -> Response:
    """A response that repeats no key, should a server ever do so."""
    if response.text is None and not response.reason:
        return response
    text = None if response.text is None else scrub(response.text)
    reason = scrub(response.reason)
    if text == response.text and reason == response.reason:
        return response
    return replace(response, text=text, reason=reason, logprobs=scrub_value(response.logprobs))


def _minutes(seconds: float) -> str:
    """`40 seconds`, `6 minutes`, `24 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


def _remedy(problem: Problem) -> str:
    return {
        401: "check the key in the environment variable",
        403: "the key may not use this model, or not from here",
        404: "check the model's name and llm.base_url",
        407: "check the proxy's settings",
    }.get(problem.status or 0, "top up the account or raise its limit, then run again")
