"""The connections of a hosted model's SDK: one pool, and each use of it at a constant price.

httpcore's pool looks at every idle connection, with a system call each, whenever a request begins
and whenever one ends. With n connections that is 2 n calls a request: with 64 in flight, more than
everything else that a request costs. Here idle connections lie on a stack, each with a transport of
its own, and the one used last is used next.
"""

import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2


class ConnectionStack(httpx2.AsyncBaseTransport):
    """As many connections as requests are in flight, kept alive; for one event loop."""

    def __init__(self) -> None:
        """Make it without any connection."""
        # Reading the certificates takes a while: all share them.
        self._verify = httpx2.create_ssl_context()
        self._idle: list[httpx2.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over the connection that was used last, or over a new one."""
        lane = self._idle.pop() if self._idle else self._new()
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            self._idle.append(lane)
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, lambda: self._idle.append(lane))
        return response

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(
            verify=self._verify,
            limits=httpx2.Limits(max_connections=1),
            socket_options=_keep_alive(),
        )


class _Body(httpx2.AsyncByteStream):
    """A response's body; its end frees the connection."""

    def __init__(self, stream: httpx2.AsyncByteStream, free: Callable[[], None]) -> None:
        self._stream = stream
        self._free: Callable[[], None] | None = free

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._free is not None:
                free, self._free = self._free, None
                free()


def _keep_alive() -> list[tuple[int, int, int]]:
    """Signs of life on a connection that waits for an answer, lest routers forget it."""
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
    known = [(getattr(socket, name, None), value) for name, value in wanted.items()]
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, name, value) for name, value in known if name is not None),
    ]


def transport_options() -> dict[str, Any]:
    """Options of the SDK's HTTP client; none where the environment names a proxy, which the
    client then sets up by itself."""
    return {} if urllib.request.getproxies() else {"transport": ConnectionStack()}
