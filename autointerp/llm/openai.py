"""OpenAI's chat completions, and every server that speaks them: vLLM, llama.cpp, OpenRouter, …"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.llm.base import Request, Response, ResponseStatus, TokenLogprobs, Usage
from autointerp.llm.capabilities import capabilities_of
from autointerp.llm.echo import (
    echo_body,
    echo_response,
    prompt_of,
    self_check_prompt_logprobs,
)
from autointerp.llm.hosted import HostedClient, wire_body
from autointerp.llm.keys import api_key, by_vendor
from autointerp.llm.loop import shared
from autointerp.llm.options import DEFAULTS, ClientOptions
from autointerp.llm.retries import BadReplyError, problem_of_error_body
from autointerp.llm.schemas import schema_in_words, strict_schema
from autointerp.records import content_key, derived_seed

_SEED_BITS = 31
"""Servers read seeds as signed 32-bit numbers."""


def chat_body(request: Request, model: str, options: ClientOptions = DEFAULTS) -> dict[str, Any]:
    """The body of a chat completion.

    Args:
        request: what is asked.
        model: as the server calls it: `gpt-4.1`, without `openai/`.
        options: how the server is reached.

    Returns:
        Keyword arguments of `client.chat.completions.create`, and lines of a batch file.
    """
    known = capabilities_of(f"openai/{model}", options.capabilities)
    able = known.capabilities
    vendor = known.in_table or by_vendor("openai", options)
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages}
    # `max_tokens` is what every server knows; OpenAI's models that reason refuse it.
    body["max_completion_tokens" if vendor else "max_tokens"] = request.max_tokens
    if able.temperature:
        body["temperature"] = request.temperature
        if request.temperature > 0:
            seed = derived_seed(request.seed, "sample", request.sample)
            body["seed"] = seed >> (63 - _SEED_BITS)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        _ask_for_json(body, request.schema, _answer_format(model, options))
    if options.reasoning_effort is not None:
        body["reasoning_effort"] = options.reasoning_effort
    if vendor:
        body["prompt_cache_key"] = content_key(
            "prompt_cache", start=[m.content for m in _start(request)]
        )
    return body | ({"extra_body": dict(options.extra_body)} if options.extra_body else {})


def _start(request: Request) -> Sequence[Any]:
    """The messages that many requests share."""
    n = request.shared or sum(message.role == "system" for message in request.messages[:1])
    return request.messages[:n]


def _answer_format(model: str, options: ClientOptions) -> str:
    if options.answer_format != "auto":
        return options.answer_format
    known = capabilities_of(f"openai/{model}", options.capabilities)
    declared = bool(options.capabilities.get("json_schema"))
    return "schema" if (known.in_table or declared) else "prompt"


def _ask_for_json(body: dict[str, Any], schema: Mapping[str, Any], answer_format: str) -> None:
    if answer_format == "schema":
        plain, strict = strict_schema(schema)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": plain, "strict": strict},
        }
    elif answer_format == "tool":
        plain, strict = strict_schema(schema)
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": "answer",
                    "description": "Give the answer.",
                    "parameters": plain,
                    "strict": strict,
                },
            }
        ]
        body["tool_choice"] = {"type": "function", "function": {"name": "answer"}}
    else:
        body["messages"] = [*body["messages"][:-1], schema_in_words(body["messages"][-1], schema)]


def chat_response(completion: Any, request: Request | None = None) -> Response:
    """The response in a chat completion.

    Args:
        completion: the SDK's object, or the `response.body` of a batch result as a dictionary.
        request: what was asked, where it is known: its log-probabilities are then insisted on.

    Raises:
        BadReplyError: where the reply has no choice to read; to be asked again.
        ProviderError: where it is an error with a good status code in front, as proxies send.
    """
    if isinstance(completion, Mapping):
        from openai.types.chat import ChatCompletion  # late: it takes a second

        completion = ChatCompletion.construct(**_checked(completion))
    if not hasattr(completion, "choices"):
        raise BadReplyError("the reply is no chat completion")
    problem_of_error_body(getattr(completion, "error", None))
    choices = completion.choices
    if not isinstance(choices, list) or len(choices) != 1:
        n = len(choices) if isinstance(choices, list) else 0
        raise BadReplyError(f"the reply has {n} choices, not one")
    choice = choices[0]
    message = getattr(choice, "message", None)
    if message is None:
        raise BadReplyError("the reply's choice has no message")
    usage = _usage(getattr(completion, "usage", None))
    model = str(getattr(completion, "model", "") or "")
    refusal = getattr(message, "refusal", None)
    text = _text(message)
    finish = getattr(choice, "finish_reason", None)
    if refusal or finish == "content_filter":
        reason = f"the model declined: {refusal}" if refusal else "the content filter cut it off"
        return Response(None, ResponseStatus.REFUSED, usage, reason, model)
    logprobs = _logprobs(choice, request)
    if finish == "length":
        n = usage.output_tokens
        spent = "" if text.strip() else ", all of them spent before the answer began"
        reason = f"cut off after {n} tokens{spent}"
        return Response(text, ResponseStatus.TRUNCATED, usage, reason, model, logprobs)
    if not text.strip():
        return Response(None, ResponseStatus.EMPTY, usage, "", model, logprobs)
    return Response(text, ResponseStatus.OK, usage, "", model, logprobs)


def _checked(body: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in body.items()}


def _text(message: Any) -> str:
    """The answer: the content, or what the forced tool was called with."""
    for call in getattr(message, "tool_calls", None) or ():
        function = getattr(call, "function", None)
        if getattr(function, "name", None) == "answer":
            return str(getattr(function, "arguments", None) or "")
    content = getattr(message, "content", None)
    if content is not None and not isinstance(content, str):
        raise BadReplyError(f"the reply's content is {type(content).__name__}, not text")
    return content or ""


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(details, "cached_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cache_write_tokens=_count(details, "cache_write_tokens"),
    )


def _count(counts: Any, name: str) -> int:
    value = getattr(counts, name, None)
    return value if isinstance(value, int) and value > 0 else 0


def _logprobs(choice: Any, request: Request | None) -> tuple[TokenLogprobs, ...] | None:
    if request is not None and not request.top_logprobs:
        return None
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if content is None:
        if request is not None:
            raise BadReplyError("the reply lacks the log-probabilities that were asked for")
        return None
    try:
        return tuple(
            TokenLogprobs(
                token=str(item.token),
                logprob=_finite(item.logprob),
                top=tuple((str(one.token), _finite(one.logprob)) for one in item.top_logprobs),
            )
            for item in content
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise BadReplyError(f"the reply's log-probabilities cannot be read: {error}") from None


def _finite(value: Any) -> float:
    """A log-probability; servers write -inf as a very small number, JSON knows no infinity."""
    number = float(value)
    if math.isnan(number) or number > 1e-3:
        raise ValueError(f"{number} is no log-probability")
    return max(number, -9999.0)


class OpenAiClient(HostedClient):
    """A model behind the `openai` SDK. Names: `openai/MODEL`, whatever slashes MODEL has."""

    provider = "openai"
    version = 1

    def __init__(self, model: str, options: ClientOptions | None = None) -> None:
        """See `HostedClient`."""
        super().__init__(model, options)
        self._check, self._is_checked = asyncio.Lock(), False

    def _sdk(self) -> Any:
        """One SDK client, and so one pool of connections, per address and key."""
        import openai

        from autointerp.llm.connections import transport_options  # late: it imports the client

        def make() -> Any:
            return openai.AsyncOpenAI(
                api_key=api_key("openai", self.options),
                base_url=self.options.base_url,
                max_retries=0,
                timeout=self.options.timeout,
                http_client=openai.DefaultAsyncHttpxClient(**transport_options()),
            )

        key = ("openai", self.options.base_url, self.options.api_key_env, self._key_print())
        return shared(key, make)

    def _key_print(self) -> int:
        return hash(api_key("openai", self.options))

    def body(self, request: Request) -> dict[str, Any]:
        """See `chat_body`."""
        return chat_body(request, self.model, self.options)

    async def complete_text(self, body: dict[str, Any]) -> Any:
        """A completion of plain text, without limits and retries."""
        extra = dict(self.options.extra_body) or None
        return await self._client.completions.create(
            **body, extra_body=extra, timeout=self.options.timeout
        )

    async def _echo(self, request: Request) -> Response:
        """The prompt's log-probabilities, once the server was checked."""
        async with self._check:
            if not self._is_checked:
                await self_check_prompt_logprobs(self)
                self._is_checked = True
        body = echo_body(prompt_of(request), self.model, request.top_logprobs)
        return echo_response(await self.complete_text(body), request, self.name)

    async def _ask(self, request: Request) -> Response:
        if request.echo:
            return await self._echo(request)
        from openai.types.chat import ChatCompletion

        # Not `chat.completions.create`: it walks through the body once more, to turn Python's
        # names into the wire's, which these are already. That would be a sixth of a call's time.
        completion = await self._client.post(
            "/chat/completions",
            cast_to=ChatCompletion,
            body=wire_body(self.body(request)),
            options={"timeout": self.options.timeout},
        )
        return chat_response(completion, request)
