"""Who may ask the server what: addresses it answers to, the token of a start, headers.

The server is for one person on one machine. A page of elsewhere can make a browser send requests
here, under a name that it lets point here (DNS rebinding): so the name asked for must be one of
ours. What changes something, spends time or money needs the token that is made at every start and
printed with the address: in its fragment, which no browser sends, exchanged for a cookie that none
sends from elsewhere.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from autointerp.browser.rendering import POLICY

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 262_144
"""Bytes of a request's body."""

MAX_URL = 16_384

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    # Stricter, and a browser would say of our own forms that they come from nowhere.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(frozen=True)
class Access:
    """What this start of the server answers to."""

    port: int
    host: str = "127.0.0.1"
    """Address it listens on."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Its name; servers on other ports of one machine share cookies."""
        return f"autointerp-view-{self.port}"

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this server.

        On this machine: its loopback names. Elsewhere: addresses in numbers, which no one can make
        a name point to, and the name it was told to listen on.
        """
        name, port = _split(host)
        if port is not None and port != self.port:
            return False
        if name in ("localhost", "127.0.0.1", "::1") or name == self.host.lower():
            return True
        return not self.is_local and _is_address(name)

    @property
    def is_local(self) -> bool:
        """Whether it listens to this machine alone."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    def is_ours(self, token: str) -> bool:
        """Whether a token is the one of this start."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def is_allowed(self, scope: Scope) -> bool:
        """Whether a request came with this start's cookie, and from one of our own pages."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is not None:
            scheme, _, host = origin.decode("latin-1").partition("://")
            if scheme not in ("http", "https") or not self.answers_to(host):
                return False
        if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            return False
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        found = cookies.get(self.cookie)
        return found is not None and self.is_ours(found.value)


class Guarded:
    """An ASGI application behind the checks; its answers get the headers."""

    def __init__(self, app: Any, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.access.answers_to(host):
            await _refuse(send, 421, f"This server does not answer to {host[:100]!r}.")
            return
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL:
            await _refuse(send, 414, "The address is too long.")
            return
        length = headers.get(b"content-length", b"0")
        if scope["method"] not in ("GET", "HEAD"):
            if not length.isdigit() or int(length) > MAX_BODY or b"transfer-encoding" in headers:
                await _refuse(send, 413, f"A request has at most {MAX_BODY} bytes.")
                return
            if scope["path"] != "/session" and not self.access.is_allowed(scope):
                await _refuse(send, 403, "Open the address that `autointerp view` printed.")
                return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                if b"content-security-policy" not in names:
                    given.append((b"content-security-policy", POLICY.encode()))
                if b"cache-control" not in names:
                    given.append((b"cache-control", b"no-store"))
                message["headers"] = [*given, *_HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"),
               (b"content-length", str(len(body)).encode()),
               (b"content-security-policy", POLICY.encode()), *_HEADERS]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _split(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header; the port is 80 where none is said."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        name, _, port = host.partition(":")
    if not port:
        return name.rstrip("."), 80
    return name.rstrip("."), int(port) if port.isascii() and port.isdigit() else -1


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
