"""Everything that goes wrong between us and a provider, by the real SDKs over real HTTP."""

import asyncio
import threading
import time

import pytest

from autointerp.llm import (
    CachedClient,
    ClientOptions,
    Message,
    Request,
    ResponseCache,
    ResponseStatus,
    hosted,
    load_client,
)
from autointerp.llm.loop import run_sync
from autointerp.llm.retries import ProviderDownError
from autointerp.records import AutointerpError
from tests.llm.fake_server import (
    CHAT,
    Drip,
    FakeServer,
    Hang,
    Raw,
    Reply,
    Reset,
    Status,
    WrongLength,
)

VENDORS = ("openai", "anthropic")


def questions(n: int, **fields) -> list[Request]:
    return [Request((Message("user", f"question {i}"),), 8, **fields) for i in range(n)]


def client_for(server: FakeServer, vendor: str = "openai", **options):
    url = server.openai_url if vendor == "openai" else server.anthropic_url
    settings = {"base_url": url, "retry_wait": 0.01, "give_up_after": 10.0, "timeout": 5.0}
    return load_client(f"{vendor}/m", ClientOptions(**{**settings, **options}))


def first(n: int, fault):
    """The fault for the first `n` requests."""
    return lambda number: fault if number < n else None


def answers(n: int) -> list[str]:
    return [f"answer to question {i}" for i in range(n)]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    "fault",
    [
        Status(408),
        Status(409),
        Status(429, headers={"retry-after": "0"}),
        Status(429, headers={"retry-after-ms": "10"}),
        Status(500),
        Status(502),
        Status(503),
        Status(529),
        Reset(0),
        Reset(20),
        WrongLength(),
        Raw("<html>gateway</html>", "text/html"),
        Raw("{}"),
        Raw("null"),
        Raw("[]"),
        Raw('"text"'),
        Raw('{"choices": [], "content": 3}'),
        Raw('{"choices": [{"mess'),
        Raw("\ud83d".encode("utf-16", "surrogatepass")),
        Raw(b"\xff\xfe\x00garbage"),
    ],
    ids=repr,
)
def test_what_may_pass_is_asked_again_and_answered(vendor, fault):
    with FakeServer(faults=first(2, fault)) as server:
        responses = client_for(server, vendor).complete(questions(3))
    assert [r.text for r in responses] == answers(3)
    assert server.count() == 5


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_slow_drip_and_a_server_that_hangs_are_cut_off_by_the_time_out(vendor):
    slow = {0: Drip(0.05), 1: Hang(30)}
    with FakeServer(faults=slow.get) as server:
        started = time.monotonic()
        responses = client_for(server, vendor, timeout=0.5).complete(questions(2))
        assert time.monotonic() - started < 20
    assert [r.text for r in responses] == answers(2)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_request_that_is_at_fault_fails_alone_and_is_not_asked_again(vendor, code):
    with FakeServer(faults=lambda n: Status(code, "too long") if n == 1 else None) as server:
        responses = client_for(server, vendor, max_concurrency=1).complete(questions(3))
    assert [r.status for r in responses] == ["ok", "failed", "ok"]
    assert responses[1].reason == f"HTTP {code}: too long"
    assert server.count() == 3


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Status(401, "no such key"), "check the key"),
        (Status(403), "may not use this model"),
        (Status(404), "check the model's name"),
        (Status(402), "no money"),
        (Status(429, error={"code": "insufficient_quota"}), "no money or quota"),
        (Status(400, "Your credit balance is too low"), "credit balance"),
    ],
    ids=repr,
)
def test_what_no_request_would_survive_stops_everything_at_once(vendor, fault, says):
    with FakeServer(faults=lambda _: fault) as server:
        with pytest.raises(AutointerpError, match=says) as caught:
            client_for(server, vendor, max_concurrency=4).complete(questions(100))
        assert server.count() <= 8
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_input_that_is_flagged_is_refused_not_failed():
    flagged = {"metadata": {"reasons": ["violence"], "flagged_input": "…"}}
    with FakeServer(faults=first(1, Status(403, "flagged", error=flagged))) as server:
        responses = client_for(server, max_concurrency=1).complete(questions(2))
    assert [r.status for r in responses] == ["refused", "ok"]


def test_one_request_that_always_fails_is_given_up_while_the_others_are_answered():
    def answer(asked):
        return Reply("x")

    class Server(FakeServer):
        def _model_reply(self, asked):
            if asked.text == "question 3":
                return 500, b'{"error": {"message": "this one breaks it"}}'
            return super()._model_reply(asked)

    with Server(answer=answer) as server:
        responses = client_for(server, max_attempts=3, max_concurrency=2).complete(questions(20))
    assert [r.status for r in responses].count(ResponseStatus.OK) == 19
    assert responses[3].status is ResponseStatus.FAILED
    assert "this one breaks it (3 attempts)" in responses[3].reason
    assert server.count() == 19 + 3


def test_a_storm_of_429_is_weathered_with_less_in_flight():
    """The server takes two at a time and turns away the rest."""

    class Busy(FakeServer):
        async def _send_with(self, fault, writer, asked, status, body):
            if self.in_flight > 2:
                fault, status, body = Status(429), 429, b'{"error": {"message": "slow down"}}'
            return await super()._send_with(fault, writer, asked, status, body)

    with Busy(latency=0.01) as server:
        client = client_for(server, max_concurrency=16)
        responses = client.complete(questions(60))
        assert all(r.status is ResponseStatus.OK for r in responses)
        assert client.limiter.allowed < 16


def test_retry_after_is_honoured_by_everybody():
    fault = Status(429, headers={"retry-after": "1"})
    with FakeServer(faults=first(1, fault)) as server:
        client_for(server, max_concurrency=1).complete(questions(3))
    assert server.times[1] - server.times[0] >= 0.9


def test_a_provider_that_is_down_is_waited_for_with_a_message_and_goes_on_by_itself(monkeypatch):
    monkeypatch.setattr(hosted, "_SAY_AFTER", 0.2)
    heard: list[str] = []
    server = FakeServer()
    server.start()
    port = server.port
    server.close()
    client = client_for(server, give_up_after=60.0)
    client.on_notice = heard.append
    threading.Timer(1.5, lambda: server.start(port)).start()
    try:
        responses = client.complete(questions(4))
    finally:
        server.close()
    assert [r.text for r in responses] == answers(4)
    assert "does not answer" in heard[0]
    assert "answers again" in heard[-1]


def test_a_provider_that_stays_down_is_given_up_and_what_was_answered_is_kept(tmp_path):
    path = tmp_path / "cache.sqlite"
    with FakeServer(faults=lambda n: Status(503) if n >= 5 else None) as server:
        client = client_for(server, give_up_after=1.0, max_concurrency=2)
        with pytest.raises(ProviderDownError, match="run the same command again"):
            CachedClient(client, ResponseCache(path)).complete(questions(9))
        server.faults = lambda _: None
        before = server.count()
        responses = CachedClient(client_for(server), ResponseCache(path)).complete(questions(9))
        assert [r.text for r in responses] == answers(9)
        assert server.count() - before == 9 - 5


@pytest.mark.parametrize("answered_before", [0, 3])
def test_a_pause_longer_than_the_patience_is_not_begun(answered_before):
    fault = Status(429, headers={"retry-after": "86400"})
    with FakeServer(faults=lambda n: fault if n >= answered_before else None) as server:
        with pytest.raises(ProviderDownError, match="pause of 24 hours"):
            client_for(server, give_up_after=60.0, max_concurrency=1).complete(questions(9))
        assert server.count() == answered_before + 1


def test_an_error_of_our_own_is_never_asked_again(monkeypatch):
    with FakeServer() as server:
        client = client_for(server)
        calls = []

        async def broken(_):
            calls.append(1)
            raise TypeError("our bug")

        monkeypatch.setattr(client, "_ask", broken)
        with pytest.raises(TypeError, match="our bug"):
            client.complete(questions(1))
        assert len(calls) == 1


def test_no_more_are_in_flight_than_the_concurrency_says():
    with FakeServer(latency=0.02) as server:
        client_for(server, max_concurrency=5).complete(questions(40))
        assert server.most_in_flight == 5


def test_one_pool_serves_all_clients_of_a_provider():
    with FakeServer() as server:
        one, two = client_for(server), client_for(server, timeout=3.0)
        assert one._client is two._client
        assert client_for(server, "anthropic")._client is not one._client


def test_requests_work_from_any_loop_and_from_none():
    with FakeServer() as server:
        client = client_for(server)

        async def in_a_notebook() -> list:
            # A notebook's cell runs in a loop: the synchronous call must work there too.
            return [
                client.complete(questions(1))[0].text,
                (await client.complete_async(questions(1)))[0].text,
                (await client.complete_one(questions(1)[0])).text,
                (await CachedClient(client, None).complete_async(questions(1)))[0].text,
            ]

        assert asyncio.run(in_a_notebook()) == answers(1) * 4
        assert asyncio.run(in_a_notebook()) == answers(1) * 4
        assert client.complete(questions(1))[0].text == answers(1)[0]


def test_equal_requests_in_flight_are_asked_once():
    with FakeServer(latency=0.1) as server:
        client = CachedClient(client_for(server), None)

        async def together():
            return await asyncio.gather(*(client.complete_one(questions(1)[0]) for _ in range(10)))

        assert {r.text for r in run_sync(together())} == {"answer to question 0"}
        assert server.count(CHAT) == 1


def test_an_attempt_that_was_sent_is_kept_even_if_nobody_waits_for_it(tmp_path):
    cache = ResponseCache(tmp_path / "cache.sqlite")
    with FakeServer(latency=0.3) as server:
        client = CachedClient(client_for(server), cache)

        async def impatient():
            await asyncio.wait_for(client.complete_one(questions(1)[0]), 0.1)

        with pytest.raises(TimeoutError):
            run_sync(impatient())
        run_sync(client.drain(10.0))
        assert client.complete(questions(1))[0].text == "answer to question 0"
        assert server.count() == 1


def test_what_is_being_sent_is_not_sent_again_for_who_asks_for_it_anew():
    with FakeServer(latency=0.3) as server:
        client = client_for(server)

        async def impatient_then_patient():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.complete_one(questions(1)[0]), 0.1)
            return await client.complete_one(questions(1)[0])

        assert run_sync(impatient_then_patient()).text == "answer to question 0"
        assert server.count() == 1
