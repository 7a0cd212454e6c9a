"""Requests to the browser's application in this process, without a network."""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from autointerp.browser.app import Browser, make_app

PORT = 8321


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Client:
    """Asks one application; with the token's cookie unless told otherwise."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.app = make_app(browser)

    def get(self, address: str, **options: Any) -> Answer:
        return self.ask("GET", address, **options)

    def post(self, address: str, fields: dict[str, str], **options: Any) -> Answer:
        return self.ask("POST", address, body=urlencode(fields).encode(), **options)

    def ask(
        self,
        method: str,
        address: str,
        *,
        body: bytes = b"",
        host: str = f"127.0.0.1:{PORT}",
        token: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        access = self.browser.access
        token = access.token if token is None else token
        parts = urlsplit(address)
        sent = [("host", host), ("cookie", f"{access.cookie}={token}"), *headers]
        if method != "GET":
            sent.append(("content-length", str(len(body))))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": parts.path, "raw_path": parts.path.encode(),
            "root_path": "", "query_string": parts.query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in sent],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
        }  # fmt: skip
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        asyncio.run(self.app(scope, receive, send))
        start = messages[0]
        found = b"".join(message.get("body", b"") for message in messages[1:])
        named = {k.decode(): v.decode() for k, v in start["headers"]}
        return Answer(start["status"], named, found.decode())
