"""Log-probabilities of a prompt's own tokens, from completions with `echo`, and their self-check.

Some servers ignore `echo`, and one popular server gives every token its neighbour's value. Both
look like answers. So a server's values are used only after they were compared with what the same
server says when it is asked for one token at a time.
"""

import re
from collections.abc import Mapping
from typing import Any

from autointerp.llm.base import Request, Response, ResponseStatus, TokenLogprobs, Usage
from autointerp.llm.retries import BadReplyError
from autointerp.records import AutointerpError

CHECK_TEXT = "The old farmer walked to the market and sold seven of his nine brown horses."
"""What the self-check reads: no two neighbouring tokens of it are equally likely."""

_PLACES = (3, 5, 8, 11)
"""Tokens of it that are asked for one by one."""

_CLOSE = 0.25
"""Two log-probabilities of one token may differ by so much: servers compute in bfloat16, in batches
of other shapes."""

_N_TOP = 5
"""The most that completions give."""


class EchoError(AutointerpError):
    """A server's prompt log-probabilities cannot be used."""


def echo_body(prompt: str, model: str, n_top: int, *, echo: bool = True) -> dict[str, Any]:
    """The body of a completion of one token.

    One token is asked for, not none: some servers read 0 as no limit.
    """
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0}
    return body | {"logprobs": n_top, **({"echo": True} if echo else {})}


def prompt_of(request: Request) -> str:
    """The plain text that a request with `echo` asks about."""
    return "".join(message.content for message in request.messages)


def echo_response(completion: Any, request: Request, name: str) -> Response:
    """The response to a request with `echo`.

    Raises:
        EchoError: where the server did not repeat the prompt.
        BadReplyError: where the reply cannot be read.
    """
    _check_repeated(completion, prompt_of(request), name)
    prompt = _prompt_tokens(_tokens(completion), prompt_of(request), name)
    if any(logprob is None for _, logprob, _ in prompt[1:]):
        raise EchoError(
            f"{name} gives no log-probabilities for some tokens of a prompt: take "
            "llm.capabilities.prompt_logprobs out of the config"
        )
    return Response(
        text="",
        status=ResponseStatus.OK,
        usage=_usage(completion),
        model=str(getattr(completion, "model", "") or ""),
        logprobs=tuple(
            TokenLogprobs(token, float(logprob or 0.0), _ranked(top)[: request.top_logprobs])
            for token, logprob, top in prompt[1:]
        ),
    )


async def self_check_prompt_logprobs(client: Any) -> None:
    """Compare a server's prompt log-probabilities with what it says one token at a time.

    At each of a few places i of a sentence the distribution that `echo` gives for token i must be
    the one that follows the prompt t_0 … t_{i-1}.

    Args:
        client: an `OpenAiClient`.

    Raises:
        EchoError: where the server ignores `echo`, is off by one, or disagrees with itself.
    """
    ask, name = client.complete_text, client.name
    completion = await ask(echo_body(CHECK_TEXT, client.model, _N_TOP))
    _check_repeated(completion, CHECK_TEXT, name)
    tokens = _prompt_tokens(_tokens(completion), CHECK_TEXT, name)
    texts = [token for token, _, _ in tokens]
    places = [place for place in _PLACES if place + 1 < len(tokens)]
    right, shifted = 0, {-1: 0, 1: 0}
    for place in places:
        start = _without_marks(texts[:place], CHECK_TEXT)
        one = _tokens(await ask(echo_body(start, client.model, _N_TOP, echo=False)))
        if not one or not one[-1][2]:
            raise EchoError(f"{name} gives no log-probabilities with completions")
        right += _agree(tokens[place], one[-1][2])
        for shift in shifted:
            # A neighbour has a text of its own: only its alternatives are compared.
            shifted[shift] += _agree(("", None, tokens[place + shift][2]), one[-1][2])
    if places and right == len(places):
        return
    remedy = "take llm.capabilities.prompt_logprobs out of the config, or mend the server"
    if places and max(shifted.values()) == len(places):
        raise EchoError(
            f"{name} gives every token of a prompt the log-probability of its neighbour (off by "
            f"one): nothing scored with them would be right; {remedy}"
        )
    raise EchoError(
        f"{name} contradicts itself: at {len(places) - right} of {len(places)} places of a "
        "sentence the log-probabilities of a prompt differ from those of an answer after the same "
        f"words; {remedy}"
    )


Token = tuple[str, float | None, Mapping[str, float]]
"""Text, log-probability, and the likeliest with theirs."""


def _agree(echoed: Token, top: Mapping[str, float]) -> bool:
    """Whether two views of one distribution may be the same."""
    token, logprob, own = echoed
    seen = {**own, **({token: logprob} if logprob is not None else {})}
    common = [word for word in seen if word in top]
    return bool(common) and all(abs(seen[word] - top[word]) <= _CLOSE for word in common)


def _tokens(completion: Any) -> list[Token]:
    """The tokens of a completion."""
    try:
        logprobs = completion.choices[0].logprobs
        tokens = [str(token) for token in logprobs.tokens]
        values = [None if v is None else float(v) for v in logprobs.token_logprobs]
        tops = [
            {str(word): float(value) for word, value in (top or {}).items()}
            for top in logprobs.top_logprobs or [None] * len(tokens)
        ]
        return list(zip(tokens, values, tops, strict=True))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BadReplyError(f"the completion's log-probabilities cannot be read: {error}") from None


def _prompt_tokens(tokens: list[Token], prompt: str, name: str) -> list[Token]:
    """The tokens of the prompt, without the one that follows it."""
    texts = [token for token, _, _ in tokens]
    for n in (len(texts) - 1, len(texts)):
        if n >= 1 and _without_marks(texts[:n], prompt) == prompt:
            return tokens[:n]
    raise _not_repeated(name)


def _check_repeated(completion: Any, prompt: str, name: str) -> None:
    """Look at the text first: a server that ignores `echo` may give log-probabilities of any form.

    Raises:
        EchoError: where the completion does not hold the prompt.
        BadReplyError: where it holds no text.
    """
    try:
        text = str(completion.choices[0].text)
    except (AttributeError, IndexError, TypeError) as error:
        raise BadReplyError(f"the completion cannot be read: {error}") from None
    if prompt not in text:
        raise _not_repeated(name)


def _not_repeated(name: str) -> EchoError:
    return EchoError(
        f"{name} does not repeat the prompt when it is asked to with `echo`: it has no "
        "log-probabilities of prompts; take llm.capabilities.prompt_logprobs out of the config"
    )


def _without_marks(texts: list[str], prompt: str) -> str:
    """The text of tokens; a mark of the beginning, which is no part of the prompt, is left out."""
    joined = "".join(texts)
    if texts and not prompt.startswith(texts[0]) and re.fullmatch(r"<[^<>]*>", texts[0]):
        return "".join(texts[1:])
    return joined


def _ranked(top: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(top.items(), key=lambda pair: -pair[1]))


def _usage(completion: Any) -> Usage:
    usage = getattr(completion, "usage", None)
    if usage is None:
        return Usage()
    return Usage(
        input_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
        output_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
    )
