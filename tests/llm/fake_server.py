"""A language model server for tests: real HTTP on 127.0.0.1, both vendors' wire formats, faults.

    with FakeServer(answer=lambda asked: asked.text.upper()) as server:
        client = load_client("openai/test", ClientOptions(base_url=server.openai_url))
        client.complete([...])
    server.count("/v1/chat/completions")

Every body is checked against the SDK's own parameter types; leaving the `with` fails where one did
not fit. Faults are scripted: `faults` gives, for every request by number, `None` or a fault.
Other paths (batches, files) are added with `server.routes`. Runs by itself for benchmarks and
for tests that kill their client: `python -m tests.llm.fake_server --latency 0.05`.
"""

import argparse
import asyncio
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"

NOT_IN_SDK_TYPES = {
    CHAT: {"repetition_penalty", "chat_template_kwargs"},  # servers other than OpenAI's
    MESSAGES: {"temperature"},  # the SDK has it in `extra_body` only
    COMPLETIONS: set(),
}


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: dict[str, Any]

    @property
    def vendor(self) -> str:
        return "anthropic" if self.path.startswith(MESSAGES) else "openai"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and text of every message, the system message of either vendor first."""
        system = [("system", _text(self.body["system"]))] if "system" in self.body else []
        return system + [(m["role"], _text(m["content"])) for m in self.body.get("messages", [])]

    @property
    def text(self) -> str:
        """The last message, or the prompt."""
        return self.messages[-1][1] if "messages" in self.body else str(self.body.get("prompt"))


@dataclass(frozen=True)
class Reply:
    """What the model says."""

    text: str | None
    finish: str = "stop"
    """`stop`, `length`, `refusal` or `content_filter`."""
    input_tokens: int | None = None
    """Counted from the messages where it is not given."""
    output_tokens: int | None = None
    cached_tokens: int = 0
    written_tokens: int = 0
    logprobs: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] | None = None
    """Tokens of the answer with alternatives; one made-up token a word where it is not given."""


@dataclass(frozen=True)
class Status:
    """An error status."""

    code: int
    message: str = "scripted"
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the error, such as `code: insufficient_quota`."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset after so many bytes of the reply's body."""

    after: int = 20


@dataclass(frozen=True)
class Drip:
    """The reply comes a byte at a time."""

    seconds: float = 0.02


@dataclass(frozen=True)
class Hang:
    """No reply for so long."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Raw:
    """This body with a good status, instead of the reply."""

    body: str | bytes
    content_type: str = "application/json"


@dataclass(frozen=True)
class WrongLength:
    """A Content-Length that is so many bytes too large, then the end of the connection."""

    too_many: int = 50


Fault = Status | Reset | Drip | Hang | Raw | WrongLength
Route = Callable[[Asked], tuple[int, Any]]
"""Answers a path: status and JSON body, or bytes."""


class FakeServer:
    """The server. `with` starts it in a thread of its own."""

    def __init__(
        self,
        answer: Callable[[Asked], Reply | str] = lambda asked: f"answer to {asked.text}"[:80],
        faults: Callable[[int], Fault | None] = lambda number: None,
        latency: float = 0.0,
        check_bodies: bool = True,
        prompt_logprob: Callable[[str, str], float] | None = None,
        echo_shift: int = 0,
    ) -> None:
        """Script it.

        Args:
            answer: what the model says to a request.
            faults: what goes wrong with the n-th request to a model, from 0.
            latency: seconds before a reply.
            check_bodies: whether bodies are checked against the SDKs' types.
            prompt_logprob: log-probability of a token after a prefix, for completions with echo;
                `None`: the server has none.
            echo_shift: by how many places prompt log-probabilities are wrong.
        """
        self.answer, self.faults, self.latency = answer, faults, latency
        self.check_bodies = check_bodies
        self.prompt_logprob, self.echo_shift = prompt_logprob, echo_shift
        self.routes: dict[tuple[str, str], Route] = {}
        """Further paths by method and regular expression."""
        self.asked: list[Asked] = []
        self.keep_asked = True
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Replies that were sent whole, by path."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.times: list[float] = []
        self._models = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    # ------------------------------------------------------------------ life

    def __enter__(self) -> "FakeServer":
        self.start()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.close()
        if kind is None:
            assert self.problems == [], self.problems[:3]

    def start(self, port: int = 0) -> None:
        """Listen; on the same port after a `close`, where it is given."""
        ready = threading.Event()

        def work() -> None:
            self._loop = loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            self._server = loop.run_until_complete(
                asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**24, backlog=1024)
            )
            self.port = self._server.sockets[0].getsockname()[1]
            ready.set()
            loop.run_forever()
            self._server.close()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop = None

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, path: str = "") -> int:
        """Requests to a path, or to any."""
        return self.counts[path] if path else sum(self.counts.values())

    # ------------------------------------------------------------------ wire

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.split("\r\n")
                method, path, _ = line.split(" ", 2)
                pairs = (one.split(":", 1) for one in rest if ":" in one)
                headers = {name.strip().lower(): value.strip() for name, value in pairs}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    if not await self._reply(writer, method, path, headers, raw):
                        break
                except Exception as error:
                    self.problems.append(f"{path}: {error!r}")
                    raise
                finally:
                    self.in_flight -= 1
        with suppress(ConnectionError, RuntimeError):
            writer.close()

    async def _reply(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        headers: dict[str, str],
        raw: bytes,
    ) -> bool:
        """Answer; returns whether the connection may be used again."""
        path = path.split("?")[0]
        is_json = raw and "json" in headers.get("content-type", "")
        asked = Asked(
            len(self.asked), method, path, headers, raw, json.loads(raw) if is_json else {}
        )
        if path == "/_stats":
            stats = {"counts": self.counts, "most_in_flight": self.most_in_flight,
                     "problems": self.problems[:5]}  # fmt: skip
            await _send(writer, 200, json.dumps(stats).encode())
            return True
        with self._lock:
            self.counts[path] += 1
            if self.keep_asked:
                self.asked.append(asked)
                self.times.append(time.monotonic())
        fault = None
        if path in (CHAT, COMPLETIONS, MESSAGES) and method == "POST":
            fault = self.faults(self._models)
            self._models += 1
            self._check(asked)
            status, body = self._model_reply(asked)
        else:
            status, body = self._route(asked)
        if isinstance(fault, Status):
            status, body = fault.code, _error(asked, fault)
        if self.latency:
            await asyncio.sleep(self.latency)
        return await self._send_with(fault, writer, asked, status, body)

    async def _send_with(
        self, fault: Fault | None, writer: Any, asked: Asked, status: int, body: bytes
    ) -> bool:
        if isinstance(fault, Hang):
            await asyncio.sleep(fault.seconds)
            return False
        if isinstance(fault, Raw):
            text = fault.body.encode() if isinstance(fault.body, str) else fault.body
            await _send(writer, 200, text, {"content-type": fault.content_type})
            return True
        if isinstance(fault, Reset):
            writer.write(_head(200, len(body), {}) + body[: fault.after])
            await writer.drain()
            writer.transport.abort()
            return False
        if isinstance(fault, WrongLength):
            writer.write(_head(200, len(body) + fault.too_many, {}) + body)
            await writer.drain()
            return False
        if isinstance(fault, Drip):
            writer.write(_head(200, len(body), {}))
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(fault.seconds)
            return True
        headers = fault.headers if isinstance(fault, Status) else {}
        await _send(writer, status, body, headers)
        if fault is None:
            self.answered[asked.path] += 1
        return True

    # ------------------------------------------------------------------ the model

    def _model_reply(self, asked: Asked) -> tuple[int, bytes]:
        if asked.path == COMPLETIONS:
            return self._completion(asked)
        reply = self.answer(asked)
        reply = Reply(reply) if isinstance(reply, str) else reply
        make = _message if asked.path == MESSAGES else _chat_completion
        return 200, json.dumps(make(asked, reply)).encode()

    def model_body(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the model's reply to a body is; for batches."""
        asked = Asked(-1, "POST", path, {}, json.dumps(body).encode(), body)
        self._check(asked)
        return json.loads(self._model_reply(asked)[1])

    def _completion(self, asked: Asked) -> tuple[int, bytes]:
        """Completions: with `echo`, the prompt's own log-probabilities; else one made-up token."""
        body, model = asked.body, self.prompt_logprob
        if model is None:
            return 404, _error(asked, Status(404, "no completions here"))
        prompt = str(body["prompt"])
        pieces = re.findall(r"\s*\S+|\s+$", prompt)
        prefixes = ["".join(pieces[:n]) for n in range(len(pieces))]
        n_top = body.get("logprobs") or 0
        words = sorted({*pieces, " the", " horse"})
        tokens: list[str] = []
        values: list[float | None] = []
        tops: list[dict[str, float] | None] = []

        def top(prefix: str) -> dict[str, float]:
            ranked = sorted(words, key=lambda word: -model(prefix, word))
            return {word: model(prefix, word) for word in ranked[:n_top]}

        if body.get("echo"):
            tokens = list(pieces)
            for place in range(len(pieces)):
                at = place + self.echo_shift
                known = 0 < at < len(pieces) and place > 0
                values.append(model(prefixes[at], pieces[at]) if known else None)
                tops.append(top(prefixes[at]) if known else None)
        if body.get("max_tokens", 1):
            best = max(words, key=lambda word: model(prompt, word))
            tokens.append(best)
            values.append(model(prompt, best))
            tops.append(top(prompt))
        reply = {
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"],
            "choices": [{
                "index": 0, "text": "".join(tokens), "finish_reason": "length",
                "logprobs": {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops,
                             "text_offset": [0] * len(tokens)} if n_top is not None else None,
            }],
            "usage": {"prompt_tokens": len(pieces), "completion_tokens": 1,
                      "total_tokens": len(pieces) + 1},
        }  # fmt: skip
        return 200, json.dumps(reply).encode()

    def _route(self, asked: Asked) -> tuple[int, bytes]:
        for (method, pattern), route in self.routes.items():
            if method == asked.method and re.fullmatch(pattern, asked.path):
                status, body = route(asked)
                return status, body if isinstance(body, bytes) else json.dumps(body).encode()
        return 404, _error(asked, Status(404, f"no {asked.method} {asked.path} here"))

    def _check(self, asked: Asked) -> None:
        """Note where a body is not what the vendor's SDK says it takes."""
        if not self.check_bodies:
            return
        kind = _params_type(asked.path)
        known = set(kind.__annotations__) | NOT_IN_SDK_TYPES[asked.path]
        unknown = set(asked.body) - known
        if unknown:
            self.problems.append(f"{asked.path}: unknown fields {sorted(unknown)}")
        try:
            _exhaust(_adapter(asked.path).validate_python(asked.body))
        except ValueError as error:
            self.problems.append(f"{asked.path}: {error}")


_adapters: dict[str, Any] = {}


def _params_type(path: str) -> Any:
    from anthropic.types import message_create_params
    from openai.types import completion_create_params
    from openai.types.chat import completion_create_params as chat_params

    return {
        CHAT: chat_params.CompletionCreateParamsNonStreaming,
        COMPLETIONS: completion_create_params.CompletionCreateParamsNonStreaming,
        MESSAGES: message_create_params.MessageCreateParamsNonStreaming,
    }[path]


def _adapter(path: str) -> Any:
    from pydantic import TypeAdapter

    if path not in _adapters:
        _adapters[path] = TypeAdapter(_params_type(path))
    return _adapters[path]


def _exhaust(value: Any) -> None:
    """pydantic checks iterables only as they are read."""
    if isinstance(value, dict):
        for item in value.values():
            _exhaust(item)
    elif (
        isinstance(value, Generator)
        or type(value).__name__ == "ValidatorIterator"
        or isinstance(value, list | tuple)
    ):
        for item in value:
            _exhaust(item)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content or ())


def _words(asked: Asked) -> int:
    return sum(len(text) for _, text in asked.messages) // 4 + 1


def _chat_completion(asked: Asked, reply: Reply) -> dict[str, Any]:
    body, text = asked.body, reply.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    finish = reply.finish
    if finish == "refusal":
        message, finish = {"role": "assistant", "content": None, "refusal": text}, "stop"
    elif "tools" in body:
        function = {"name": body["tools"][0]["function"]["name"], "arguments": text}
        call = {"id": "call_1", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}
        finish = "tool_calls" if finish == "stop" else finish
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish,
                              "logprobs": None}  # fmt: skip
    if body.get("logprobs"):
        choice["logprobs"] = {"content": _logprobs(reply, body.get("top_logprobs", 0))}
    n_in = _words(asked) if reply.input_tokens is None else reply.input_tokens
    n_out = len(text or "") // 4 + 1 if reply.output_tokens is None else reply.output_tokens
    return {
        "id": f"chatcmpl-{asked.number}", "object": "chat.completion", "created": 1,
        "model": body["model"], "choices": [choice],
        "usage": {
            "prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens,
                                      "cache_write_tokens": reply.written_tokens},
        },
    }  # fmt: skip


def _logprobs(reply: Reply, n_top: int) -> list[dict[str, Any]]:
    tokens = reply.logprobs or tuple(
        (word, ((word, -0.1), (" other", -2.5))) for word in re.findall(r"\s*\S+", reply.text or "")
    )
    return [
        {
            "token": token,
            "logprob": dict(top).get(token, -9999.0),
            "bytes": list(token.encode()),
            "top_logprobs": [
                {"token": other, "logprob": value, "bytes": list(other.encode())}
                for other, value in top[:n_top]
            ],
        }
        for token, top in tokens
    ]


def _message(asked: Asked, reply: Reply) -> dict[str, Any]:
    stop = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal",
            "content_filter": "refusal"}[reply.finish]  # fmt: skip
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    tools = asked.body.get("tools")
    if tools and reply.text is not None and reply.finish == "stop":
        try:
            value = json.loads(reply.text)
        except ValueError:
            value = {"text": reply.text}
        content = [{"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": value}]
        stop = "tool_use"
    n_in = _words(asked) if reply.input_tokens is None else reply.input_tokens
    n_out = len(reply.text or "") // 4 + 1 if reply.output_tokens is None else reply.output_tokens
    return {
        "id": f"msg_{asked.number}", "type": "message", "role": "assistant",
        "model": asked.body["model"], "content": content, "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": n_in - reply.cached_tokens - reply.written_tokens,
                  "output_tokens": n_out, "cache_read_input_tokens": reply.cached_tokens,
                  "cache_creation_input_tokens": reply.written_tokens},
    }  # fmt: skip


def _error(asked: Asked, fault: Status) -> bytes:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
             403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
             529: "overloaded_error"}  # fmt: skip
    kind = kinds.get(fault.code, "api_error")
    error: dict[str, Any] = {"type": kind, "message": fault.message, **fault.error}
    if asked.vendor == "anthropic":
        return json.dumps({"type": "error", "error": error}).encode()
    return json.dumps({"error": {"code": None, "param": None, **error}}).encode()


def _head(status: int, length: int, headers: Mapping[str, str]) -> bytes:
    fields = {"content-type": "application/json", "content-length": str(length), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: Mapping[str, str] = {},
) -> None:
    writer.write(_head(status, len(body), headers) + body)
    await writer.drain()


def bigram_logprob(prefix: str, token: str) -> float:
    """A made-up model: depends on the token and on the last word before it, nothing else."""
    last = (prefix.split() or ["<start>"])[-1]
    digest = sum((place + 1) * ord(char) for place, char in enumerate(last + "|" + token))
    return -0.2 - math.fmod(digest * 0.6180339887, 1.0) * 6


def main() -> None:
    """Serve until killed; prints the port first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer", default=None)
    given = parser.parse_args()
    server = FakeServer(latency=given.latency, check_bodies=False)
    if given.answer is not None:
        server.answer = lambda asked: given.answer
    server.keep_asked = False
    server.start(given.port)
    print(server.port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
