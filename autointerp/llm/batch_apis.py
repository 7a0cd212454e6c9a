"""The batch APIs of OpenAI and Anthropic, behind one protocol: send, look, fetch, list.

OpenAI (`/v1/batches`): a file of lines, one request each; metadata of our own; results in one file,
errors in another. Anthropic (`/v1/messages/batches`): one body with all requests; no metadata;
results at an address of their own. Both answer within 24 hours, in any order.
"""

import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from autointerp.llm.anthropic import AnthropicClient, message_response
from autointerp.llm.base import Request, Response, ResponseStatus
from autointerp.llm.hosted import HostedClient, wire_body
from autointerp.llm.keys import scrub
from autointerp.llm.openai import OpenAiClient, chat_response
from autointerp.llm.retries import BadReplyError, ProviderError
from autointerp.records import AutointerpError

INTENT = "autointerp_intent"
"""Name of the metadata that says which of our intents a batch is."""


@dataclass(frozen=True)
class Line:
    """One request as a batch sends it."""

    key: str
    """Of the response; the request's `custom_id`."""

    body: dict[str, Any]
    size: int
    """Bytes it takes in the file or body."""


@dataclass(frozen=True)
class BatchState:
    """What the provider says of a batch."""

    state: Literal["running", "ended", "refused"]
    """`refused`: nothing was done and nothing is charged; `reason` says why."""

    n: int
    """Requests in it, 0 where the provider does not say yet."""

    n_succeeded: int = 0
    n_done: int = 0
    """Succeeded, failed, expired or cancelled."""

    reason: str = ""


@dataclass(frozen=True)
class Listed:
    """A batch among the recent ones."""

    batch_id: str
    created: float
    """Unix time, by the provider's clock."""

    state: BatchState
    intent: str | None
    """What our metadata says; `None` where there is none, or the provider keeps none."""


class BatchApi(Protocol):
    """What a vendor's batches can do. Every method but `results` is one call to the vendor."""

    max_requests: int
    max_bytes: int
    keeps_metadata: bool
    """Whether a listed batch says which intent it is."""

    def line(self, key: str, request: Request) -> Line:
        """A request as it is sent."""
        ...

    async def submit(self, intent: str, lines: Sequence[Line]) -> str:
        """Send a batch; returns its id. Never repeated by itself: a batch may exist all the same.

        Raises:
            The SDK's errors.
        """
        ...

    async def look(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        ...

    async def recent(self, since: float) -> list[Listed]:
        """All batches created since a time, newest first."""
        ...

    def results(self, batch_id: str) -> AsyncIterator[tuple[str, Response]]:
        """Pairs of key and response, in any order; failed ones say why."""
        ...


def batch_api(client: HostedClient) -> BatchApi:
    """The batch API behind a client.

    Raises:
        AutointerpError: where the provider has none.
    """
    if isinstance(client, OpenAiClient):
        return OpenAiBatches(client)
    if isinstance(client, AnthropicClient):
        return AnthropicBatches(client)
    raise AutointerpError(f"{client.name} has no batch API: set llm.mode to live")


class OpenAiBatches:
    """Limits: 50,000 requests and 200 MB a file (API reference, "Create batch", 2026-11)."""

    max_requests = 50_000
    max_bytes = 200_000_000
    keeps_metadata = True

    def __init__(self, client: OpenAiClient) -> None:
        self._owner = client
        self._sdk = client._client  # pyright: ignore[reportPrivateUsage]
        self._timeout = max(client.options.timeout, 600.0)

    def line(self, key: str, request: Request) -> Line:
        """See `BatchApi.line`."""
        body = {
            "custom_id": key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": wire_body(self._owner.body(request)),
        }
        return Line(key, body, len(_json(body)) + 1)

    async def submit(self, intent: str, lines: Sequence[Line]) -> str:
        """See `BatchApi.submit`."""
        text = b"".join(_json(line.body) + b"\n" for line in lines)
        name = f"autointerp-{intent}.jsonl"
        file = await self._sdk.files.create(
            file=(name, io.BytesIO(text)), purpose="batch", timeout=self._timeout
        )
        batch = await self._sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={INTENT: intent},
        )
        return str(batch.id)

    async def look(self, batch_id: str) -> BatchState:
        """See `BatchApi.look`."""
        return self._state(await self._sdk.batches.retrieve(batch_id))

    async def recent(self, since: float) -> list[Listed]:
        """See `BatchApi.recent`."""
        found: list[Listed] = []
        async for batch in self._sdk.batches.list(limit=100):
            if batch.created_at < since:
                break
            intent = (batch.metadata or {}).get(INTENT)
            found.append(Listed(batch.id, float(batch.created_at), self._state(batch), intent))
        return found

    async def results(self, batch_id: str) -> AsyncGenerator[tuple[str, Response]]:
        """See `BatchApi.results`."""
        batch = await self._sdk.batches.retrieve(batch_id)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if not file_id:
                continue
            streaming = self._sdk.files.with_streaming_response
            async with streaming.content(file_id, timeout=self._timeout) as content:
                async for line in content.iter_lines():
                    if (row := _row(line)) is not None:
                        yield row[0], self._response(row[1])

    def _response(self, row: Mapping[str, Any]) -> Response:
        reply = row.get("response")
        error = row.get("error")
        if isinstance(reply, Mapping) and reply.get("status_code") == 200:
            return _read(lambda: chat_response(reply.get("body")))
        said = error or (reply.get("body") if isinstance(reply, Mapping) else None)
        return _failed(f"the batch API says: {_message(said)}")

    @staticmethod
    def _state(batch: Any) -> BatchState:
        counts = batch.request_counts
        n, good, bad = (
            (counts.total, counts.completed, counts.failed) if counts is not None else (0, 0, 0)
        )
        if batch.status == "failed":
            errors = getattr(batch.errors, "data", None) or []
            reason = "; ".join(str(e.message) for e in errors[:3]) or "it gave no reason"
            return BatchState("refused", n, reason=scrub(reason))
        ended = batch.status in ("completed", "expired", "cancelled")
        return BatchState("ended" if ended else "running", n, good, good + bad, batch.status)


class AnthropicBatches:
    """Limits: 100,000 requests or 256 MB (guide "Batch processing", 2026-11)."""

    max_requests = 100_000
    max_bytes = 256_000_000
    keeps_metadata = False

    def __init__(self, client: AnthropicClient) -> None:
        self._owner = client
        self._sdk = client._client  # pyright: ignore[reportPrivateUsage]
        self._timeout = max(client.options.timeout, 600.0)

    def line(self, key: str, request: Request) -> Line:
        """See `BatchApi.line`."""
        body = {"custom_id": key, "params": wire_body(self._owner.body(request))}
        return Line(key, body, len(_json(body)) + 1)

    async def submit(self, intent: str, lines: Sequence[Line]) -> str:
        """See `BatchApi.submit`."""
        batch = await self._sdk.messages.batches.create(
            requests=[line.body for line in lines], timeout=self._timeout
        )
        return str(batch.id)

    async def look(self, batch_id: str) -> BatchState:
        """See `BatchApi.look`."""
        return self._state(await self._sdk.messages.batches.retrieve(batch_id))

    async def recent(self, since: float) -> list[Listed]:
        """See `BatchApi.recent`."""
        found: list[Listed] = []
        async for batch in self._sdk.messages.batches.list(limit=100):
            created = _seconds(batch.created_at)
            if created < since:
                break
            found.append(Listed(batch.id, created, self._state(batch), None))
        return found

    async def results(self, batch_id: str) -> AsyncGenerator[tuple[str, Response]]:
        """See `BatchApi.results`."""
        # The SDK's decoder ends at the first line that is not JSON; the rest is paid for too.
        decoder = await self._sdk.messages.batches.results(batch_id)
        reply = decoder.http_response
        try:
            async for line in reply.aiter_lines():
                if (row := _row(line)) is not None:
                    yield row[0], self._response(row[1])
        finally:
            await reply.aclose()

    def _response(self, row: Mapping[str, Any]) -> Response:
        result = row.get("result")
        fields: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
        if fields.get("type") == "succeeded":
            return _read(lambda: message_response(fields.get("message")))
        said = _message(fields.get("error")) if fields.get("error") else fields.get("type")
        return _failed(f"the batch API says: {said}")

    @staticmethod
    def _state(batch: Any) -> BatchState:
        counts = batch.request_counts
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        n = done + counts.processing
        ended = batch.processing_status == "ended"
        return BatchState(
            "ended" if ended else "running", n, counts.succeeded, done, batch.processing_status
        )


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _row(line: str) -> tuple[str, Mapping[str, Any]] | None:
    """A line of results with its key; `None` for one that cannot be read."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    key = row.get("custom_id") if isinstance(row, Mapping) else None
    return (key, row) if isinstance(key, str) else None


def _read(read: Any) -> Response:
    try:
        return read()
    except (BadReplyError, ProviderError) as error:
        return _failed(str(error))


def _failed(reason: str) -> Response:
    return Response(None, ResponseStatus.FAILED, reason=scrub(reason)[:500])


def _message(error: Any) -> str:
    """What an error says, however deep it is wrapped."""
    while isinstance(error, Mapping):
        inner = error.get("error")
        if not isinstance(inner, Mapping):
            return str(error.get("message") or error.get("code") or dict(error))
        error = inner
    return str(error or "it gave no reason")


def _seconds(created: Any) -> float:
    return created.timestamp() if isinstance(created, datetime) else float(created)
