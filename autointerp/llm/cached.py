"""A client whose answers are kept: what was answered once is not asked again."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autointerp.llm.base import (
    HostedLlmClient,
    LlmClient,
    Request,
    Response,
    ResponseStatus,
    check_capabilities,
    request_key,
)
from autointerp.llm.cache import ResponseCache
from autointerp.llm.loop import in_background, run_sync, side_by_side

_N_RECENT = 1024
"""More answers than can come while one request waits for its turn in the loop."""


class CachedClient:
    """A client whose answers are kept.

    Answers are committed to the cache before they are returned. Equal requests, in one batch or in
    flight at once, are asked once. An answer from the cache passes no limiter and costs nothing.
    """

    def __init__(self, client: LlmClient, cache: ResponseCache | None) -> None:
        """Wrap a client.

        Args:
            client: who answers what the cache does not hold.
            cache: where answers are kept; `None` keeps none.
        """
        self.client = client
        self.cache = cache
        self.name = client.name
        self.fingerprint = client.fingerprint
        self.capabilities = client.capabilities
        self._hosted = client if isinstance(client, HostedLlmClient) else None
        self.max_concurrency = self._hosted.max_concurrency if self._hosted else 0
        """Most requests in flight; 0 for a client that takes batches instead."""
        self._missed: dict[int, tuple[Request, str]] = {}
        """Requests that were just looked up in vain, by identity, with their keys: `drive` asks
        `known` before it asks `complete_one`."""
        self._recent: dict[str, Response] = {}
        """The latest answers: they may have come between the two."""
        self._in_flight: dict[str, asyncio.Future[Response]] = {}
        self._commits = _Commits(cache) if cache is not None and not cache.read_only else None

    @property
    def handler(self) -> Any:
        """How `drive` should use it: request by request, or in batches."""
        return self if self._hosted else self.complete

    def known(self, requests: Sequence[Request]) -> list[Response | None]:
        """The answers that are kept already; `None` for the others.

        Raises:
            AutointerpError: for a request that asks for more than the client declares.
        """
        for request in requests:
            check_capabilities(self.client, request)
        if self.cache is None:
            return [None] * len(requests)
        keys = [request_key(self.client, request) for request in requests]
        found = self.cache.get_many(keys)
        if self._hosted is not None:
            for key, request in zip(keys, requests, strict=True):
                if key not in found:
                    self._missed[id(request)] = (request, key)
        return [found.get(key) for key in keys]

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer from the cache, and the rest from the client. See `LlmClient.complete`."""
        for request in requests:
            check_capabilities(self.client, request)
        keys = [request_key(self.client, request) for request in requests]
        found = self.cache.get_many(keys) if self.cache is not None else {}
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in found}
        if missing and self._hosted is not None:
            answers = run_sync(self._ask_all(self._hosted, missing))
            found |= dict(zip(missing, answers, strict=True))
        elif missing:
            answers = self.client.complete(list(missing.values()))
            fresh = dict(zip(missing, answers, strict=True))
            if self.cache is not None:
                self.cache.put_many(fresh)
            found |= fresh
        return [found[key] for key in keys]

    async def complete_async(self, requests: Sequence[Request]) -> list[Response]:
        """As `complete`, without blocking the event loop it is awaited in."""
        return await asyncio.to_thread(self.complete, requests)

    async def complete_one(self, request: Request) -> Response:
        """Answer one request, from the cache where it is kept; from any event loop."""
        assert self._hosted is not None, "batches only"
        return await in_background(self._one(self._hosted, request))

    async def drain(self, seconds: float) -> None:
        """Wait so long at most for what is being sent, so that it is kept."""
        self._missed.clear()
        wait = getattr(self.client, "drain", None)
        if wait is not None:
            await in_background(wait(seconds))

    async def _ask_all(
        self, client: HostedLlmClient, requests: dict[str, Request]
    ) -> list[Response]:
        """Ask what is not in the cache; no more tasks than can be in flight."""
        answers: dict[str, Response] = {}
        items = iter(requests.items())

        async def work() -> None:
            for key, request in items:
                answers[key] = await self._ask_once(client, key, request)

        await side_by_side(work() for _ in range(min(len(requests), self.max_concurrency)))
        return [answers[key] for key in requests]

    async def _one(self, client: HostedLlmClient, request: Request) -> Response:
        # The entry holds its request, so no other can have come to the same identity.
        missed = self._missed.pop(id(request), None)
        if missed is not None:
            recent = self._recent.get(missed[1])
            return recent or await self._ask_once(client, missed[1], request)
        key = request_key(self.client, request)
        kept = self.cache.get(key) if self.cache is not None else None
        return kept if kept is not None else await self._ask_once(client, key, request)

    async def _ask_once(self, client: HostedLlmClient, key: str, request: Request) -> Response:
        """Ask, or wait for who is asking the same."""
        while (asked := self._in_flight.get(key)) is not None:
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                # Either whoever asked gave up, and this task asks now; or this one is to end, too.
                this = asyncio.current_task()
                if not asked.cancelled() or (this is not None and this.cancelling()):
                    raise
            kept = self.cache.get(key) if self.cache is not None else None
            if kept is not None:  # what was sent is seen to its end
                return kept
        answer = asyncio.get_running_loop().create_future()
        self._in_flight[key] = answer
        try:
            response = await client.complete_one(request, self._keep_as(key), key)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            answer.set_exception(error)
            answer.exception()  # seen: nobody else may have waited for it
            raise
        else:
            answer.set_result(response)
            if self.cache is not None and response.status is not ResponseStatus.FAILED:
                self._recent[key] = response
                if len(self._recent) > _N_RECENT:
                    del self._recent[next(iter(self._recent))]
            return response
        finally:
            del self._in_flight[key]

    def _keep_as(self, key: str) -> Any:
        commits = self._commits
        return None if commits is None else lambda response: commits.put(key, response)


class _Commits:
    """Commits answers in groups: as many as arrived while the disk wrote the group before."""

    def __init__(self, cache: ResponseCache) -> None:
        self._cache = cache
        self._pending: list[tuple[str, str]] = []
        self._next: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "autointerp-cache")
        self._busy = False

    async def put(self, key: str, response: Response) -> None:
        """Return once the answer is committed; runs in the background loop only."""
        loop = asyncio.get_running_loop()
        # Written out here: the thread that waits for the disk would wait for this one's turn.
        self._pending += self._cache.rows({key: response})
        if self._next is None:
            self._next = loop.create_future()
        done = self._next
        if not self._busy:
            self._busy = True
            self._task = loop.create_task(self._write())
        await asyncio.shield(done)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._next is not None:
                group, done = self._pending, self._next
                self._pending, self._next = [], None
                try:
                    await loop.run_in_executor(self._thread, self._cache.put_rows, group)
                except Exception as error:
                    done.set_exception(error)
                    done.exception()
                else:
                    done.set_result(None)
        finally:
            self._busy = False
