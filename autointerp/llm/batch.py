"""Batch APIs as a way of asking: half the price, an answer within a day, the same requests.

    intent committed ─► sent ─► id committed ─► looked at ─► fetched into the cache ─► done

A process may die between any two steps. What was perhaps sent is looked for among the provider's
recent batches and adopted: by our metadata where the provider keeps any (OpenAI), else by the keys
in its results (Anthropic). Where that cannot be settled the run stops and says what to look at;
nothing is sent a second time on a guess. What a batch did not answer is asked live.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from autointerp.llm.base import (
    Request,
    Response,
    ResponseStatus,
    check_capabilities,
    request_key,
)
from autointerp.llm.batch_apis import BatchApi, BatchState, Line, Listed, batch_api
from autointerp.llm.budget import Meter, spending, worst_case
from autointerp.llm.cache import ResponseCache
from autointerp.llm.hosted import HostedClient
from autointerp.llm.keys import by_vendor
from autointerp.llm.loop import run_sync
from autointerp.llm.retries import problem_of
from autointerp.records import AutointerpError
from autointerp.store.batches import BatchLog, BatchRequest, BatchRow
from autointerp.store.ledger import Reservation, Spending

_log = logging.getLogger(__name__)
T = TypeVar("T")

_CLOCK_MARGIN = 900.0
"""Seconds by which the provider's clock may be wrong, or ours."""

_DOWNLOADS = 3
"""Times that results are fetched where fewer come than the provider counts."""

_CHUNK = 500
"""Results that are committed to the cache together."""


class BatchInDoubtError(AutointerpError):
    """A batch was perhaps sent, and whether it was cannot be found out here."""


@dataclass(frozen=True)
class BatchOptions:
    """How batches are sent and waited for."""

    poll_seconds: float = 60.0
    """Between two looks at a batch."""

    settle_seconds: float = 60.0
    """A batch that the provider does not list so long after its intent was never sent."""

    min_requests: int = 10
    """Fewer are asked live: a day is long for one answer."""

    max_requests: int | None = None
    """Most requests in a batch; the provider's limit if left out."""

    max_bytes: int | None = None
    """Most bytes in a batch; the provider's limit if left out."""

    give_up_after: float = 1800.0
    """Seconds for which the provider may answer with errors only."""


class BatchClient:
    """A client that asks in batches, and live for what batches did not answer."""

    def __init__(
        self,
        live: HostedClient,
        cache: ResponseCache,
        meter: Meter,
        options: BatchOptions | None = None,
        *,
        log: BatchLog | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        """Wrap a client.

        Args:
            live: whose requests these are; it answers what batches did not.
            cache: where answers are committed as they are fetched.
            meter: guards the budget and keeps the ledger.
            options: how batches are sent.
            log: of the run's batches; in the meter's ledger if left out.
            on_notice: hears how far batches are.

        Raises:
            AutointerpError: where the provider has no batch API.
        """
        self.live = live
        self.cache = cache
        self.meter = meter
        self.options = options or BatchOptions()
        self.log = log or BatchLog(meter.ledger)
        self.name = live.name
        self.fingerprint = live.fingerprint
        self.capabilities = live.capabilities
        self._api: BatchApi = batch_api(live)
        self._notice = on_notice or _log.info
        self._said = ""

    # ------------------------------------------------------------------ asking

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request. See `LlmClient.complete`.

        Raises:
            BudgetSpentError: where not a single further request fits; what was sent is kept.
            BatchInDoubtError: where a batch was perhaps sent.
        """
        keyed: dict[str, Request] = {}
        for request in requests:
            check_capabilities(self.live, request)
            keyed.setdefault(request_key(self.live, request), request)
        self.resume()
        unasked = self._unanswered(keyed)
        leftover: dict[str, Request] = {}
        while len(unasked) >= self.options.min_requests:
            asked = run_sync(self._round(unasked))
            answered = self.cache.get_many(asked)
            leftover |= {key: unasked[key] for key in asked if key not in answered}
            unasked = {key: r for key, r in unasked.items() if key not in asked}
        leftover |= unasked
        found = self.cache.get_many(keyed)
        if leftover:
            if len(leftover) < len(keyed):
                self._say(f"{len(leftover):,} requests are asked live")
            answers = self.live.complete(list(leftover.values()))
            found |= dict(zip(leftover, answers, strict=True))
            self.cache.put_many(dict(zip(leftover, answers, strict=True)))
        return [found[request_key(self.live, request)] for request in requests]

    def resume(self) -> None:
        """Settle what earlier processes sent, and fetch it.

        Raises:
            BatchInDoubtError: where a batch was perhaps sent.
        """
        open_rows = self.log.open(self.fingerprint)
        self._drop_orphans()
        if open_rows:
            run_sync(self._settle(open_rows))

    def _unanswered(self, keyed: Mapping[str, Request]) -> dict[str, Request]:
        known = self.cache.get_many(keyed)
        return {key: request for key, request in keyed.items() if key not in known}

    def _drop_orphans(self) -> None:
        """Release what was reserved for batches of which not even an intent was written."""
        tickets = {row.ticket for row in self.log.open()}
        for ticket in self.meter.ledger.in_flight("batch"):
            if ticket not in tickets:
                self.meter.settle(ticket, [])

    async def _round(self, unasked: Mapping[str, Request]) -> list[str]:
        """Send as many batches as the budget allows, wait for them; returns the keys asked."""
        rows: list[BatchRow] = []
        asked: list[str] = []
        for lines in self._split(unasked):
            n = self._affordable(lines, unasked)
            if n:
                rows.append(await self._send(lines[:n], unasked))
                asked += [line.key for line in lines[:n]]
            if n < len(lines):
                break
        if not asked:
            # Says which limit it is, by asking for the first one alone.
            first = next(iter(unasked))
            self.meter.settle(self.meter.begin(first, unasked[first], self.name, mode="batch"), [])
            asked = [first]
        await self._settle(rows)
        return asked

    def _split(self, unasked: Mapping[str, Request]) -> list[list[Line]]:
        """Requests in batches within the provider's limits."""
        options, api = self.options, self._api
        most = min(options.max_requests or api.max_requests, api.max_requests)
        room = min(options.max_bytes or api.max_bytes, api.max_bytes)
        parts: list[list[Line]] = [[]]
        size = _FRAME
        for key, request in unasked.items():
            line = api.line(key, request)
            if parts[-1] and (len(parts[-1]) >= most or size + line.size > room):
                parts.append([])
                size = _FRAME
            parts[-1].append(line)
            size += line.size
        return parts

    def _affordable(self, lines: Sequence[Line], requests: Mapping[str, Request]) -> int:
        price = self.meter.price(self.name, vendor=self._vendor)
        return self.meter.how_many_fit(
            [worst_case(requests[line.key], price, batch=True) for line in lines]
        )

    @property
    def _vendor(self) -> bool:
        return by_vendor(self.live.provider, self.live.options)

    # ------------------------------------------------------------------ sending

    async def _send(self, lines: Sequence[Line], requests: Mapping[str, Request]) -> BatchRow:
        intent = uuid.uuid4().hex
        price = self.meter.price(self.name, vendor=self._vendor)
        bounds = [worst_case(requests[line.key], price, batch=True) for line in lines]
        unpriced = any(usd is None for _, usd in bounds)
        reservation = Reservation(
            intent,
            requests[lines[0].key].purpose,
            self.name,
            sum(tokens for tokens, _ in bounds),
            None if unpriced else sum(usd or 0.0 for _, usd in bounds),
            "batch",
            len(lines),
        )
        with self.meter.ledger.transaction():
            ticket = self.meter.reserve(reservation, price)
            row = self.log.intend(
                intent,
                self.fingerprint,
                self.name,
                ticket,
                [
                    BatchRequest(line.key, requests[line.key].purpose, tokens, usd)
                    for line, (tokens, usd) in zip(lines, bounds, strict=True)
                ],
            )
        try:
            provider_id = await self._api.submit(intent, lines)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            if problem.kind == "again":
                # It may have been taken all the same: looked for among the recent ones.
                return row
            self.log.finish(row, "dropped", [])
            self.meter.forget(ticket)
            raise AutointerpError(
                f"{self.name} takes no batch: {problem.reason}; nothing was sent. Mend it, or set "
                "llm.mode to live"
            ) from None
        self.log.submitted(intent, provider_id)
        self._say(f"batch {provider_id} of {len(lines):,} requests is sent")
        return replace(row, state="submitted", provider_id=provider_id)

    # ------------------------------------------------------------------ settling

    async def _settle(self, rows: Sequence[BatchRow]) -> None:
        """Bring batches to their ends: find, wait, fetch."""
        waiting = [row for row in rows if row.state == "submitted"]
        for row in rows:
            if row.state == "intended":
                found = await self._find(row)
                if found is not None:
                    self.log.submitted(row.id, found)
                    self._say(f"batch {found} of an earlier process is taken over")
                    waiting.append(replace(row, state="submitted", provider_id=found))
        while waiting:
            states = {row.id: await self._look(row) for row in waiting}
            for row in list(waiting):
                if states[row.id].state != "running":
                    waiting.remove(row)
                    await self._end(row, states[row.id])
            if waiting:
                done = sum(states[row.id].n_done for row in waiting)
                total = sum(row.n for row in waiting)
                self._say(f"{len(waiting)} batches: {done:,} of {total:,} requests are done")
                await asyncio.sleep(self.options.poll_seconds)

    async def _look(self, row: BatchRow) -> BatchState:
        assert row.provider_id is not None
        batch_id = row.provider_id
        return await self._patiently(lambda: self._api.look(batch_id), row)

    async def _end(self, row: BatchRow, state: BatchState) -> None:
        """Fetch a batch that has ended; what it cost is committed when all of it is safe."""
        if state.state == "refused":
            self._drop(row)
            raise AutointerpError(
                f"{self.name} refused batch {row.provider_id}: {state.reason}. Nothing was "
                "charged: mend it, or set llm.mode to live"
            )
        await self._fetch(row, state)

    async def _fetch(self, row: BatchRow, state: BatchState) -> None:
        assert row.provider_id is not None
        requests = self.log.requests(row.id)
        best: list[Spending] = []
        seen: set[str] = set()
        n_good = 0
        for _ in range(_DOWNLOADS):
            batch_id = row.provider_id
            best, seen, n_good = await self._patiently(
                lambda batch_id=batch_id: self._download(batch_id, row, requests), row
            )
            if n_good >= state.n_succeeded:
                break
        missing = [requests[key] for key in requests if key not in seen]
        if n_good < state.n_succeeded:
            # Charged for, but not in the file.
            best += _lost(row, missing[: state.n_succeeded - n_good])
            _log.warning(
                "batch %s: %d results are missing", batch_id_of(row), state.n_succeeded - n_good
            )
        self.log.finish(row, "fetched", best)
        self.meter.forget(row.ticket, best)
        self._say(f"batch {row.provider_id}: {n_good:,} of {row.n:,} requests are answered")

    async def _download(
        self, batch_id: str, row: BatchRow, requests: Mapping[str, BatchRequest]
    ) -> tuple[list[Spending], set[str], int]:
        """Results into the cache; returns what they cost, the keys seen and the good ones' number.

        Of several results with one key the first counts, as only one request was charged.
        """
        price = self.meter.price_of(row.ticket)
        spent: dict[str, Spending] = {}
        seen: set[str] = set()
        chunk: dict[str, Response] = {}
        n_good = 0
        async for key, response in self._api.results(batch_id):
            if key not in requests or key in seen:
                _log.warning("batch %s: a result for %r was not asked for", batch_id, key[:64])
                continue
            seen.add(key)
            purpose = requests[key].purpose
            if response.status is ResponseStatus.FAILED:
                cost = Spending(purpose, row.model, "batch", refused_requests=1)
            else:
                n_good += 1
                cost = spending(purpose, row.model, response.usage, price, mode="batch")
                chunk[key] = response
            spent[purpose] = _sum(spent.get(purpose), cost)
            if len(chunk) >= _CHUNK:
                self.cache.put_many(chunk)
                chunk = {}
        self.cache.put_many(chunk)
        return list(spent.values()), seen, n_good

    # ------------------------------------------------------------------ doubt

    async def _find(self, row: BatchRow) -> str | None:
        """Which batch an intent became; `None` where it was never sent, and is dropped then."""
        while True:
            waited = time.time() - row.created
            listed = await self._recent(row)
            found = await self._match(row, listed)
            if found is not None:
                return found
            if waited >= self.options.settle_seconds:
                self._drop(row)
                self._say("a batch of an earlier process never reached the provider: sent anew")
                return None
            await asyncio.sleep(min(5.0, self.options.settle_seconds - waited + 0.01))

    async def _recent(self, row: BatchRow) -> list[Listed]:
        try:
            return await self._patiently(lambda: self._api.recent(row.created - _CLOCK_MARGIN), row)
        except AutointerpError as error:
            raise self._doubt(row, f"its recent batches cannot be listed ({error})") from None

    async def _match(self, row: BatchRow, listed: Sequence[Listed]) -> str | None:
        if self._api.keeps_metadata:
            own = [one for one in listed if one.intent == row.id]
            if len(own) > 1:
                names = ", ".join(one.batch_id for one in own)
                raise self._doubt(row, f"the provider lists several of it: {names}")
            return own[0].batch_id if own else None
        known = self.log.known_ids()
        for one in listed:
            may_be = one.batch_id not in known and one.state.n in (0, row.n)
            if may_be and await self._is_ours(row, one):
                return one.batch_id
        return None

    async def _is_ours(self, row: BatchRow, one: Listed) -> bool:
        """Whether a batch has our keys; they are seen once it has ended, so that is waited for."""
        state = one.state
        while state.state == "running":
            self._say(
                f"batch {one.batch_id} may be one that an earlier process sent: it is waited for "
                "before anything is sent again"
            )
            await asyncio.sleep(self.options.poll_seconds)
            state = await self._patiently(lambda: self._api.look(one.batch_id), row)
        keys = self.log.requests(row.id)
        try:
            return await self._patiently(lambda: self._first_is_in(one.batch_id, keys), row)
        except AutointerpError as error:
            raise self._doubt(
                row,
                f"the results of batch {one.batch_id}, which may be it, cannot be read: {error}",
            ) from None

    async def _first_is_in(self, batch_id: str, keys: Mapping[str, BatchRequest]) -> bool:
        async for key, _ in self._api.results(batch_id):
            return key in keys
        raise AutointerpError("it has none")

    def _doubt(self, row: BatchRow, why: str) -> BatchInDoubtError:
        when = time.strftime("%F %T", time.localtime(row.created))
        return BatchInDoubtError(
            f"a batch of {row.n:,} requests to {row.model} was being sent at {when} when the run "
            f"stopped, and {why}. It may have been paid for, so nothing is sent again: look at the "
            f"provider's list of batches, then give `autointerp batches RUN --adopt {row.id}=ID` "
            f"with its id there, or `--forget {row.id}` if it is not there"
        )

    def _drop(self, row: BatchRow) -> None:
        self.log.finish(row, "dropped", [])
        self.meter.forget(row.ticket)

    async def _patiently(self, work: Callable[[], Awaitable[T]], row: BatchRow) -> T:
        """Repeat what only reads while the provider's errors may pass.

        Raises:
            AutointerpError: where they do not; what was sent stays in the log.
        """
        tries = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.5, max=60),
            stop=stop_after_delay(self.options.give_up_after),
            reraise=True,
        )
        try:
            async for attempt in tries:
                with attempt:
                    return await work()
        except Exception as error:
            problem = problem_of(error)
            if problem is None and not _cut_off(error):
                raise
            reason = problem.reason if problem is not None else str(error)
            raise AutointerpError(
                f"{self.name}: batch {row.provider_id or row.id}: {reason}; it stays noted: run "
                "the same command again to go on"
            ) from None
        raise AssertionError("tenacity ends by an answer or an error")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._notice(f"{self.name}: {text}")


_FRAME = 64
"""Bytes around the requests of a batch."""


def batch_id_of(row: BatchRow) -> str:
    """How a batch is called in messages."""
    return row.provider_id or row.id


def _may_pass(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False
    problem = problem_of(error)
    return problem.kind == "again" if problem is not None else _cut_off(error)


def _cut_off(error: Exception) -> bool:
    """Whether a download broke off: the SDKs let their HTTP library's errors through there."""
    return type(error).__module__.split(".")[0] in ("httpx2", "httpcore2")


def _sum(a: Spending | None, b: Spending) -> Spending:
    if a is None:
        return b
    sums = {
        name: value + getattr(b, name)
        for name, value in vars(a).items()
        if name not in ("purpose", "model", "mode")
    }
    return replace(a, **sums)


def _lost(row: BatchRow, missing: Sequence[BatchRequest]) -> list[Spending]:
    return [
        Spending(
            one.purpose,
            row.model,
            "batch",
            lost_requests=1,
            lost_tokens=one.tokens,
            lost_usd=one.usd or 0.0,
        )
        for one in missing
    ]
