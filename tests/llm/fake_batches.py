"""Both vendors' batch endpoints on the fake server, faults included.

    with FakeServer() as server:
        batches = FakeBatches(server, polls=2)

A batch is answered by the server's own model once it has been looked at `polls` times.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.llm.fake_server import CHAT, MESSAGES, Asked, FakeServer

Result = tuple[str, dict[str, Any]]
"""`good` with the model's body, or `errored`, `expired`, `invalid` with an error."""


@dataclass
class FakeBatch:
    """One batch."""

    id: str
    vendor: str
    requests: list[tuple[str, dict[str, Any]]]
    created: float
    metadata: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    lines: list[str] | None = None
    good: int = 0
    bad: int = 0
    errors: list[str] = field(default_factory=list)


class FakeBatches:
    """Batches of both vendors. What was charged is added up in `charged`."""

    def __init__(
        self,
        server: FakeServer,
        polls: int = 1,
        outcome: Callable[[str, dict[str, Any]], str] = lambda key, body: "good",
        spoil: Callable[[list[str]], list[str]] = lambda lines: lines,
        on_create: Callable[[int], tuple[int, Any] | None] = lambda number: None,
        refuse: str | None = None,
        ends_as: str = "completed",
        on_list: Callable[[], tuple[int, Any] | None] = lambda: None,
        seed: int = 0,
    ) -> None:
        """Script it.

        Args:
            server: gets the routes; its model answers.
            polls: looks after which a batch has ended.
            outcome: of a request: `good`, `errored` or `expired`.
            spoil: what is made of a file of results, each time it is fetched.
            on_create: what is replied to the n-th creation instead, though it is created.
            refuse: OpenAI's batches fail validation with this reason.
            ends_as: OpenAI's status at the end: `completed`, `expired` or `cancelled`.
            on_list: what a listing replies instead.
            seed: of the order of results.
        """
        self.server, self.polls, self.outcome, self.spoil = server, polls, outcome, spoil
        self.on_create, self.refuse, self.ends_as, self.on_list = (
            on_create, refuse, ends_as, on_list)  # fmt: skip
        self.batches: list[FakeBatch] = []
        self.files: dict[str, str] = {}
        self.charged = {"requests": 0, "input_tokens": 0, "output_tokens": 0}
        self.downloads = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        server.routes |= {
            ("POST", "/v1/files"): self._upload,
            ("GET", r"/v1/files/[^/]+/content"): self._content,
            ("POST", "/v1/batches"): self._create_openai,
            ("GET", "/v1/batches"): self._list_openai,
            ("GET", r"/v1/batches/[^/]+"): self._look_openai,
            ("POST", "/v1/messages/batches"): self._create_anthropic,
            ("GET", "/v1/messages/batches"): self._list_anthropic,
            ("GET", r"/v1/messages/batches/[^/]+"): self._look_anthropic,
            ("GET", r"/v1/messages/batches/[^/]+/results"): self._results_anthropic,
        }

    @property
    def sent(self) -> list[str]:
        """Keys of all requests in all batches, in order."""
        return [key for batch in self.batches for key, _ in batch.requests]

    # ------------------------------------------------------------------ both

    def _answer(self, batch: FakeBatch) -> None:
        """Run the model over a batch, once."""
        with self._lock:
            if batch.lines is not None:
                return
            good: list[str] = []
            for key, body in batch.requests:
                kind = self.outcome(key, body)
                if kind == "good":
                    path = MESSAGES if batch.vendor == "anthropic" else CHAT
                    reply = self.server.model_body(path, body)
                    self._charge(reply["usage"])
                    batch.good += 1
                else:
                    reply = {}
                    batch.bad += 1
                line = _line(batch.vendor, key, kind, reply)
                (batch.errors if _is_error_file(batch.vendor, kind) else good).append(line)
            self._random.shuffle(good)
            batch.lines = good

    def _charge(self, usage: dict[str, Any]) -> None:
        self.charged["requests"] += 1
        if "prompt_tokens" in usage:
            self.charged["input_tokens"] += usage["prompt_tokens"]
            self.charged["output_tokens"] += usage["completion_tokens"]
        else:
            self.charged["input_tokens"] += (
                usage["input_tokens"]
                + usage["cache_read_input_tokens"]
                + usage["cache_creation_input_tokens"]
            )
            self.charged["output_tokens"] += usage["output_tokens"]

    def _look(self, asked: Asked, place: int = -1) -> FakeBatch:
        name = asked.path.split("/")[place]
        batch = next(one for one in self.batches if one.id == name)
        batch.looks += 1
        if batch.looks > self.polls and not self.refuse:
            self._answer(batch)
        return batch

    def _text(self, lines: list[str]) -> bytes:
        self.downloads += 1
        return ("\n".join(self.spoil(list(lines))) + "\n").encode()

    def _create(self, batch: FakeBatch, body: Any) -> tuple[int, Any]:
        number = len(self.batches)
        self.batches.append(batch)
        instead = self.on_create(number)
        return (200, body) if instead is None else instead

    # ------------------------------------------------------------------ OpenAI

    def _upload(self, asked: Asked) -> tuple[int, Any]:
        boundary = re.search(r"boundary=(.+)", asked.headers["content-type"])
        assert boundary is not None
        parts = asked.raw.split(b"--" + boundary[1].strip('"').encode())
        (content,) = (p for p in parts if b'name="file"' in p)
        text = content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n", 1)[0].decode()
        assert any(b'name="purpose"' in p and b"batch" in p for p in parts)
        name = f"file-{len(self.files)}"
        self.files[name] = text
        return 200, {"id": name, "object": "file", "bytes": len(text), "created_at": 1,
                     "filename": "x.jsonl", "purpose": "batch", "status": "processed"}  # fmt: skip

    def _content(self, asked: Asked) -> tuple[int, Any]:
        name = asked.path.split("/")[-2]
        kind, _, number = name.partition("-of-")
        batch = self.batches[int(number)]
        assert batch.lines is not None
        return 200, self._text(batch.lines if kind == "output" else batch.errors)

    def _create_openai(self, asked: Asked) -> tuple[int, Any]:
        from openai.types.batch_create_params import BatchCreateParams
        from pydantic import TypeAdapter

        TypeAdapter(BatchCreateParams).validate_python(asked.body)
        rows = [json.loads(line) for line in self.files[asked.body["input_file_id"]].splitlines()]
        assert all(row["method"] == "POST" and row["url"] == CHAT for row in rows)
        requests = [(row["custom_id"], row["body"]) for row in rows]
        batch = FakeBatch(
            f"batch_{len(self.batches)}", "openai", requests, time.time(),
            dict(asked.body.get("metadata") or {}),
        )  # fmt: skip
        return self._create(batch, self._openai(batch))

    def _list_openai(self, asked: Asked) -> tuple[int, Any]:
        instead = self.on_list()
        if instead is not None:
            return instead
        own = [self._openai(b) for b in reversed(self.batches) if b.vendor == "openai"]
        return 200, {"object": "list", "data": own, "has_more": False,
                     "first_id": None, "last_id": None}  # fmt: skip

    def _look_openai(self, asked: Asked) -> tuple[int, Any]:
        return 200, self._openai(self._look(asked))

    def _openai(self, batch: FakeBatch) -> dict[str, Any]:
        number = int(batch.id.split("_")[1])
        ended = batch.lines is not None
        status = "failed" if self.refuse else self.ends_as if ended else "in_progress"
        body: dict[str, Any] = {
            "id": batch.id, "object": "batch", "endpoint": CHAT, "input_file_id": "file-x",
            "completion_window": "24h", "created_at": int(batch.created), "status": status,
            "metadata": batch.metadata,
            "request_counts": {"total": len(batch.requests), "completed": batch.good,
                               "failed": batch.bad},
            "output_file_id": f"output-of-{number}" if batch.lines else None,
            "error_file_id": f"errors-of-{number}" if batch.errors else None,
        }  # fmt: skip
        if self.refuse:
            error = {"code": "invalid", "message": self.refuse, "line": 1, "param": None}
            body["errors"] = {"object": "list", "data": [error]}
        return body

    # ------------------------------------------------------------------ Anthropic

    def _create_anthropic(self, asked: Asked) -> tuple[int, Any]:
        assert set(asked.body) == {"requests"}
        requests = [(row["custom_id"], row["params"]) for row in asked.body["requests"]]
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", key) for key, _ in requests)
        batch = FakeBatch(f"msgbatch_{len(self.batches)}", "anthropic", requests, time.time())
        return self._create(batch, self._anthropic(batch))

    def _list_anthropic(self, asked: Asked) -> tuple[int, Any]:
        instead = self.on_list()
        if instead is not None:
            return instead
        own = [self._anthropic(b) for b in reversed(self.batches) if b.vendor == "anthropic"]
        return 200, {"data": own, "has_more": False, "first_id": None, "last_id": None}

    def _look_anthropic(self, asked: Asked) -> tuple[int, Any]:
        return 200, self._anthropic(self._look(asked))

    def _results_anthropic(self, asked: Asked) -> tuple[int, Any]:
        batch = self._look(asked, -2)
        assert batch.lines is not None
        return 200, self._text(batch.lines)

    def _anthropic(self, batch: FakeBatch) -> dict[str, Any]:
        ended = batch.lines is not None
        expired = sum(self.outcome(key, body) == "expired" for key, body in batch.requests)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch.created))
        counts = {"processing": 0 if ended else len(batch.requests), "succeeded": batch.good,
                  "errored": batch.bad - expired if ended else 0, "canceled": 0,
                  "expired": expired if ended else 0}  # fmt: skip
        url = f"http://127.0.0.1:{self.server.port}/v1/messages/batches/{batch.id}/results"
        return {
            "id": batch.id, "type": "message_batch", "request_counts": counts,
            "processing_status": "ended" if ended else "in_progress", "created_at": stamp,
            "expires_at": stamp, "ended_at": stamp if ended else None, "archived_at": None,
            "cancel_initiated_at": None, "results_url": url if ended else None,
        }  # fmt: skip


def _is_error_file(vendor: str, kind: str) -> bool:
    return vendor == "openai" and kind != "good"


def _line(vendor: str, key: str, kind: str, reply: dict[str, Any]) -> str:
    if vendor == "anthropic":
        result: dict[str, Any] = {"type": "succeeded", "message": reply}
        if kind == "errored":
            inner = {"type": "invalid_request_error", "message": "scripted"}
            result = {"type": "errored", "error": {"type": "error", "error": inner}}
        elif kind == "expired":
            result = {"type": "expired"}
        return json.dumps({"custom_id": key, "result": result})
    response = {"status_code": 200, "request_id": "r", "body": reply}
    row: dict[str, Any] = {"id": "x", "custom_id": key, "error": None, "response": response}
    if kind == "errored":
        row["response"] = {"status_code": 500, "body": {"error": {"message": "scripted"}}}
    elif kind == "expired":
        row |= {"response": None, "error": {"code": "batch_expired", "message": "too late"}}
    return json.dumps(row)
