"""Anthropic's messages."""

import json
from collections.abc import Mapping
from typing import Any

from autointerp.llm.base import Request, Response, ResponseStatus, Usage
from autointerp.llm.capabilities import capabilities_of
from autointerp.llm.hosted import HostedClient
from autointerp.llm.keys import api_key
from autointerp.llm.loop import shared
from autointerp.llm.options import DEFAULTS, ClientOptions
from autointerp.llm.retries import BadReplyError
from autointerp.llm.schemas import schema_in_words
from autointerp.records import UsageError

_CACHED = {"type": "ephemeral"}
"""What stands before it is kept in the prompt cache for five minutes, if it is long enough."""

_TOOL = "answer"


def message_body(request: Request, model: str, options: ClientOptions = DEFAULTS) -> dict[str, Any]:
    """The body of a message.

    System messages are hoisted to the top, where the API wants them. The shared start carries a
    cache mark. A conversation that ends with the assistant gets a last turn that asks it to go on,
    as the API would continue it instead of answering.

    Args:
        request: what is asked.
        model: as the API calls it, without `anthropic/`.
        options: how it is reached.

    Returns:
        Keyword arguments of `client.messages.create`. Sampling parameters, which the SDK does not
        name, are in `extra_body`.
    """
    able = capabilities_of(f"anthropic/{model}", options.capabilities).capabilities
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for place, message in enumerate(request.messages):
        block = {"type": "text", "text": message.content}
        if message.role == "system":
            system.append(block)
        else:
            turns.append({"role": message.role, "content": [block]})
        if place == request.shared - 1:
            block["cache_control"] = _CACHED  # pyright: ignore[reportArgumentType]
    if system:
        system[-1]["cache_control"] = _CACHED
    if not turns or turns[-1]["role"] == "assistant":
        turns.append({"role": "user", "content": [{"type": "text", "text": "Go on."}]})
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "messages": turns}
    if system:
        body["system"] = system
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.schema is not None:
        _ask_for_json(body, request.schema, options)
    if options.reasoning_effort is not None:
        body.setdefault("output_config", {})["effort"] = options.reasoning_effort
    extra = ({"temperature": request.temperature} if able.temperature else {}) | dict(
        options.extra_body
    )
    return body | ({"extra_body": extra} if extra else {})


def _ask_for_json(body: dict[str, Any], schema: Mapping[str, Any], options: ClientOptions) -> None:
    if options.answer_format in ("auto", "tool"):
        body["tools"] = [
            {"name": _TOOL, "description": "Give the answer.", "input_schema": dict(schema)}
        ]
        body["tool_choice"] = {"type": "tool", "name": _TOOL, "disable_parallel_tool_use": True}
    elif options.answer_format == "schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(schema)}}
    else:
        last = body["messages"][-1]
        text = last["content"][-1]
        last["content"][-1] = {**text, "text": schema_in_words(
            {"content": text["text"]}, schema)["content"]}  # fmt: skip


def message_response(message: Any, request: Request | None = None) -> Response:
    """The response in a message.

    Args:
        message: the SDK's object, or the message of a batch result as a dictionary.
        request: what was asked, where it is known.

    Raises:
        BadReplyError: where the reply has no content to read; to be asked again.
    """
    if isinstance(message, Mapping):
        from anthropic.types import Message  # late: it takes a second

        message = Message.construct(**{str(name): value for name, value in message.items()})
    content = getattr(message, "content", None)
    if not isinstance(content, list):
        raise BadReplyError("the reply is no message")
    usage = _usage(getattr(message, "usage", None))
    model = str(getattr(message, "model", "") or "")
    text = _text(content)
    stop = getattr(message, "stop_reason", None)
    if stop == "refusal":
        explanation = getattr(getattr(message, "stop_details", None), "explanation", None)
        reason = f"the model declined: {explanation or text or 'it gave no reason'}"
        return Response(None, ResponseStatus.REFUSED, usage, reason, model)
    if stop in ("max_tokens", "model_context_window_exceeded"):
        reason = (
            f"cut off after {usage.output_tokens} tokens"
            if stop == "max_tokens"
            else "the model's context was full"
        )
        return Response(text, ResponseStatus.TRUNCATED, usage, reason, model)
    if stop not in ("end_turn", "stop_sequence", "tool_use"):
        raise BadReplyError(f"the reply ended for the unknown reason {stop!r}")
    if not text.strip():
        return Response(None, ResponseStatus.EMPTY, usage, "", model)
    return Response(text, ResponseStatus.OK, usage, "", model)


def _text(content: list[Any]) -> str:
    """What the forced tool was called with, as JSON, or the text blocks joined."""
    texts: list[str] = []
    for block in content:
        kind = getattr(block, "type", None)
        if kind == "tool_use" and getattr(block, "name", None) == _TOOL:
            return json.dumps(getattr(block, "input", None), ensure_ascii=False)
        if kind == "text":
            texts.append(str(getattr(block, "text", "") or ""))
    return "".join(texts)


def _usage(usage: Any) -> Usage:
    def count(name: str) -> int:
        value = getattr(usage, name, None)
        return value if isinstance(value, int) and value > 0 else 0

    # The API counts the three parts of a prompt apart.
    written, read = count("cache_creation_input_tokens"), count("cache_read_input_tokens")
    return Usage(
        input_tokens=count("input_tokens") + written + read,
        cached_tokens=read,
        output_tokens=count("output_tokens"),
        cache_write_tokens=written,
    )


class AnthropicClient(HostedClient):
    """A model behind the `anthropic` SDK. Names: `anthropic/MODEL`."""

    provider = "anthropic"
    version = 1

    def _sdk(self) -> Any:
        """One SDK client, and so one pool of connections, per address and key."""
        import anthropic

        from autointerp.llm.connections import transport_options  # late: it imports the client

        if (self.options.base_url or "").rstrip("/").endswith("/v1"):
            raise UsageError(
                f"llm.base_url is {self.options.base_url!r}: for anthropic/… it is the root, "
                "without /v1"
            )

        def make() -> Any:
            return anthropic.AsyncAnthropic(
                api_key=api_key("anthropic", self.options),
                base_url=self.options.base_url,
                max_retries=0,
                timeout=self.options.timeout,
                open_telemetry=False,
                http_client=anthropic.DefaultAsyncHttpxClient(**transport_options()),
            )

        key = ("anthropic", self.options.base_url, self.options.api_key_env, self._key_print())
        return shared(key, make)

    def _key_print(self) -> int:
        return hash(api_key("anthropic", self.options))

    def body(self, request: Request) -> dict[str, Any]:
        """See `message_body`."""
        return message_body(request, self.model, self.options)

    async def _ask(self, request: Request) -> Response:
        message = await self._client.messages.create(
            **self.body(request), timeout=self.options.timeout
        )
        return message_response(message, request)
