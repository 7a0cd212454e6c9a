"""Connections: kept alive, as many as are in flight, each freed whatever happens."""

import asyncio

import httpx2
import pytest

from autointerp.llm.connections import ConnectionStack, transport_options
from tests.llm.fake_server import CHAT, FakeServer, Reset

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


class Counted(ConnectionStack):
    """Counts the connections it makes."""

    made = 0

    def _new(self) -> httpx2.AsyncHTTPTransport:
        self.made += 1
        return super()._new()


def ask(
    server: FakeServer, rounds: list[int], timeout: float = 60.0
) -> tuple[Counted, list[object]]:
    """Rounds of requests, those of a round together."""
    stack = Counted()

    async def work() -> list[object]:
        found: list[object] = []
        async with httpx2.AsyncClient(transport=stack, timeout=timeout) as client:
            for n in rounds:
                sent = (client.post(server.openai_url + "/chat/completions", json=BODY)
                        for _ in range(n))  # fmt: skip
                found += await asyncio.gather(*sent, return_exceptions=True)
        return found

    return stack, asyncio.run(work())


def test_a_connection_is_used_again_and_no_more_are_made_than_are_in_flight() -> None:
    with FakeServer(latency=0.05) as server:
        stack, found = ask(server, [1, 4, 4, 1])
        assert [getattr(one, "status_code", one) for one in found] == [200] * 10
        assert stack.made == 4 and server.count(CHAT) == 10


def test_a_broken_reply_frees_its_place_and_the_next_request_gets_a_new_connection() -> None:
    with FakeServer(faults=lambda n: Reset(after=5) if n < 3 else None) as server:
        stack, found = ask(server, [1] * 5)
        assert [isinstance(one, httpx2.TransportError) for one in found] == [True] * 3 + [False] * 2
        assert stack.made == 1


def test_a_time_out_frees_its_place() -> None:
    with FakeServer(latency=0.5) as server:
        stack, found = ask(server, [2, 2], timeout=0.05)
        assert all(isinstance(one, httpx2.TimeoutException) for one in found)
        assert stack.made == 2


def test_a_proxy_of_the_environment_is_left_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert isinstance(transport_options()["transport"], ConnectionStack)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert transport_options() == {}
