"""What every language model client offers: a batch of requests in, as many responses out.

Explainers and scorers know these shapes only. They never hold a client: they are generators that
yield requests and are sent responses (`autointerp.llm.driver`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

from autointerp.records import AutointerpError, content_key


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who speaks. A last message by the assistant is not continued, but answered."""

    content: str
    """Plain text. What looks like a special token in it is text all the same."""


@dataclass(frozen=True)
class Request:
    """One question to a language model."""

    messages: tuple[Message, ...]
    """The conversation, oldest first; what many requests share comes first."""

    max_tokens: int
    """Longest answer, in the model's tokens."""

    temperature: float = 0.0
    """0: the likeliest token always (greedy)."""

    sample: int = 0
    """Number of this sample of the same question: repeated samples differ, and are cached apart."""

    seed: int = 0
    """Seed of the sampling, together with `sample`; for clients that declare `seeds`."""

    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""

    purpose: str = ""
    """What it is for, as the ledger shows it: `explain`, `detect`. Not part of its key."""

    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must follow; needs the capability `json_schema`."""

    top_logprobs: int = 0
    """Alternatives wanted at every answer token, with log-probabilities; needs `logprobs`."""

    echo: bool = False
    """No answer is wanted, but the log-probabilities of the prompt's tokens, with `top_logprobs`
    alternatives each. The messages' contents are read as one plain text, without chat template;
    `max_tokens` is not looked at. Needs the capability `prompt_logprobs`."""

    shared: int = 0
    """How many of the first messages other requests share: a hint for prompt caches. Not part of
    its key. The system message is always taken to be shared."""


@dataclass(frozen=True)
class Usage:
    """Tokens that one request took."""

    input_tokens: int = 0
    """Tokens of the prompt, cached ones included."""

    cached_tokens: int = 0
    """Tokens of the prompt that were read from the provider's prompt cache, or shared."""

    output_tokens: int = 0
    """Tokens of the answer, reasoning and the end mark included."""

    cache_write_tokens: int = 0
    """Tokens of the prompt that were written to that cache, where the provider charges for it."""


class ResponseStatus(StrEnum):
    """How a request ended."""

    OK = "ok"
    TRUNCATED = "truncated"
    """`max_tokens` was reached before the answer ended; `text` is what there is."""
    REFUSED = "refused"
    """The provider declined to answer. Words of refusal in an answer are still `ok`."""
    EMPTY = "empty"
    """The answer ended with no text but white space."""
    MALFORMED = "malformed"
    """The answer does not follow `Request.schema`, not even when it was asked again with the error
    shown; `text` is the last answer as it came, `reason` the error. See `llm.repair`."""
    FAILED = "failed"
    """No answer: `reason` says why. Never cached, so it is asked again."""


@dataclass(frozen=True)
class TokenLogprobs:
    """One token of an answer and what could have stood there."""

    token: str
    """The token's text; partial characters are shown as U+FFFD."""

    logprob: float
    """Natural logarithm of its probability at temperature 1."""

    top: tuple[tuple[str, float], ...]
    """The likeliest tokens with their log-probabilities, likeliest first."""


@dataclass(frozen=True)
class Response:
    """The answer to one request, or why there is none."""

    text: str | None
    """The answer as it came; `None` unless status is ok, truncated or malformed."""

    status: ResponseStatus
    usage: Usage = Usage()
    reason: str = ""
    """Where status is neither ok nor empty: what happened, in a sentence."""

    model: str = ""
    """The model that answered, by the name it goes by itself."""

    logprobs: tuple[TokenLogprobs, ...] | None = None
    """[n_answer_tokens] where `top_logprobs` was asked for. For a request with `echo`: the prompt's
    tokens, [n_prompt_tokens - 1], without the first, before which there is nothing to predict from;
    `text` is empty then and the status `ok`."""


@dataclass(frozen=True)
class Capabilities:
    """What a client can do: declared, never found out by failing."""

    logprobs: int = 0
    """Most alternatives it gives per answer token (`Request.top_logprobs`); 0 for none."""

    prompt_logprobs: bool = False
    """Whether it can give the log-probability of every token of a prompt."""

    json_schema: bool = False
    """Whether answers can be made to follow `Request.schema`."""

    seeds: bool = False
    """Whether the same request with the same seed gives the same sample again."""

    stop: bool = True
    """Whether it honours `Request.stop`."""

    temperature: bool = True
    """Whether it honours `Request.temperature`; models that reason often choose their own."""

    max_context: int | None = None
    """Tokens of prompt and answer together; `None` where unknown."""


class LlmClient(Protocol):
    """A language model that answers batches of requests."""

    name: str
    """As in configs: `local/smollm2`."""

    fingerprint: str
    """Hash of what decides the answers besides the request; enters the key of every response."""

    capabilities: Capabilities

    def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order.

        A request that cannot be answered gets a response with status `failed`.

        Raises:
            AutointerpError: where no request can be answered and the user can mend it: a wrong
                key, a spent budget, a capability that the client does not declare.
        """
        ...


Keep = Callable[[Response], Awaitable[None]]
"""Makes an answer safe."""


@runtime_checkable
class HostedLlmClient(LlmClient, Protocol):
    """A language model behind a network: many requests are in flight at once."""

    max_concurrency: int
    """Most requests in flight."""

    async def complete_one(
        self, request: Request, keep: Keep | None = None, key: str | None = None
    ) -> Response:
        """Answer one request; may be awaited in any event loop. See `complete` for what is raised.

        Limits, time-outs and outages are waited for here.

        Args:
            request: what is asked.
            keep: awaited with the answer before it is counted as paid for and returned.
            key: the request's key, where the caller knows it.
        """
        ...


_NO_KEY = ("purpose", "shared")
"""Fields of a request that do not touch its answer."""


def request_key(client: LlmClient, request: Request) -> str:
    """Key of the response to `request` by `client`: everything that touches the answer."""
    inputs = {name: value for name, value in vars(request).items() if name not in _NO_KEY}
    inputs["messages"] = [[message.role, message.content] for message in request.messages]
    if not request.echo:
        del inputs["echo"]
    return content_key("response", client=client.fingerprint, request=inputs)


def check_capabilities(client: LlmClient, request: Request) -> None:
    """Refuse a request that asks for what the client does not declare.

    Raises:
        AutointerpError: naming the client and what it lacks.
    """
    able = client.capabilities
    if not (request.top_logprobs or request.schema is not None or request.stop or request.echo):
        return
    lacking = {
        f"{request.top_logprobs} log-probabilities per token": request.top_logprobs > able.logprobs,
        "answers that follow a JSON schema": request.schema is not None and not able.json_schema,
        "stop strings": bool(request.stop) and not able.stop,
        "log-probabilities of a prompt's own tokens": request.echo and not able.prompt_logprobs,
    }
    for what, missing in lacking.items():
        if missing:
            raise AutointerpError(
                f"{client.name} does not offer {what}"
                + (f" (at most {able.logprobs})" if "per token" in what else "")
                + f", which {request.purpose or 'a request'!r} asks for: choose another model"
            )
