"""Batch APIs: the same requests for half the price, paid once whatever happens."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm import (
    ClientOptions,
    Message,
    Request,
    ResponseCache,
    ResponseStatus,
    load_client,
    request_key,
)
from autointerp.llm.batch import BatchClient, BatchInDoubtError, BatchOptions
from autointerp.llm.budget import BudgetSpentError, Limits, Meter
from autointerp.llm.prices import load_prices
from autointerp.records import AutointerpError
from autointerp.store.ledger import Ledger
from tests.llm.fake_batches import FakeBatches
from tests.llm.fake_server import FakeServer

VENDORS = ("openai", "anthropic")
MODELS = {"openai": "openai/gpt-4.1-mini", "anthropic": "anthropic/claude-haiku-4-5"}
FAST = BatchOptions(poll_seconds=0.01, settle_seconds=0.05, min_requests=2, give_up_after=5)
PRICES = """
- {model: openai/gpt-4.1-mini, input: 1, output: 2, batch: 0.5, date: 2026-11-01, source: test}
- {model: anthropic/claude-haiku-4-5, input: 1, output: 2, batch: 0.5, date: 2026-11-01, source: t}
"""


class Killed(BaseException):
    """The process dies here."""


def asked(n: int, purpose: str = "explain") -> list[Request]:
    return [Request((Message("user", f"question {i}"),), 16, purpose=purpose) for i in range(n)]


@contextmanager
def process(
    folder: Path,
    server: FakeServer,
    vendor: str,
    options: BatchOptions = FAST,
    limits: Limits | None = None,
) -> Iterator[BatchClient]:
    """One process on a run: everything opened anew, closed at its end."""
    (folder / "prices.yaml").write_text(PRICES)
    url = server.openai_url if vendor == "openai" else server.anthropic_url
    live = load_client(MODELS[vendor], ClientOptions(base_url=url, server="test", retry_wait=0.01))
    cache = ResponseCache(folder / "cache.sqlite")
    meter = Meter(Ledger(folder / "results.sqlite"), load_prices(folder / "prices.yaml"), limits)
    live.meter = meter  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield BatchClient(live, cache, meter, options)  # pyright: ignore[reportArgumentType]
    finally:
        cache.close()
        meter.ledger.close()


def totals(folder: Path, mode: str | None = None) -> dict[str, float]:
    """The ledger's sums, and what is still in flight."""
    ledger = Ledger(folder / "results.sqlite")
    rows = [row for row in ledger.rows() if mode in (None, row.mode)]
    names = ("requests", "input_tokens", "output_tokens", "usd", "lost_requests",
             "refused_requests", "unpriced_requests")  # fmt: skip
    found = {name: sum(getattr(row, name) for row in rows) for name in names}
    found["in_flight"] = sum(r.requests for r in ledger.in_flight().values())
    ledger.close()
    return found


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_batch_is_answered_out_of_order_and_costs_half(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(20))
        assert [r.text for r in responses] == [f"answer to question {i}" for i in range(20)]
        assert len(fake.batches) == 1
        found = totals(tmp_path)
        assert {name: found[name] for name in fake.charged} == fake.charged
        full = (fake.charged["input_tokens"] + 2 * fake.charged["output_tokens"]) / 1e6
        assert found["usd"] == pytest.approx(full / 2)
        assert found["in_flight"] == found["unpriced_requests"] == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_was_answered_is_not_asked_again(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        for n in (10, 20, 20):
            with process(tmp_path, server, vendor) as client:
                client.complete(asked(n))
        assert sorted(fake.sent) == sorted(set(fake.sent)) and len(fake.sent) == 20


@pytest.mark.parametrize("vendor", VENDORS)
def test_batches_are_split_by_number_and_by_size(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        options = BatchOptions(0.01, 0.05, 2, max_requests=7)
        with process(tmp_path, server, vendor, options) as client:
            assert len(client.complete(asked(20))) == 20
        assert [len(b.requests) for b in fake.batches] == [7, 7, 6]
    with FakeServer() as server:
        fake = FakeBatches(server)
        options = BatchOptions(0.01, 0.05, 2, max_bytes=2000)
        (tmp_path / "b").mkdir()
        with process(tmp_path / "b", server, vendor, options) as client:
            assert len(client.complete(asked(20))) == 20
        assert len(fake.batches) > 2 and len(set(fake.sent)) == 20
        raw = [a.raw for a in server.asked if a.path in ("/v1/files", "/v1/messages/batches")]
        assert all(len(one) < 2000 + 600 for one in raw)  # 600: the form around a file


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_providers_own_limits_are_kept(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server, process(tmp_path, server, vendor) as client:
        api = client._api
        limits = {"openai": (50_000, 200_000_000), "anthropic": (100_000, 256_000_000)}
        assert (api.max_requests, api.max_bytes) == limits[vendor]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("kind", ["errored", "expired"])
def test_what_a_batch_failed_is_asked_live(vendor: str, kind: str, tmp_path: Path) -> None:
    def outcome(key: str, body: dict[str, Any]) -> str:
        return kind if "question 3" in json.dumps(body) else "good"

    with FakeServer() as server:
        fake = FakeBatches(server, outcome=outcome, ends_as="expired")
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(10))
        assert [r.text for r in responses] == [f"answer to question {i}" for i in range(10)]
        live = server.count("/v1/messages" if vendor == "anthropic" else "/v1/chat/completions")
        assert live == 1
        assert fake.charged["requests"] == 9
        assert totals(tmp_path, "batch")["requests"] == 9
        assert totals(tmp_path, "batch")["refused_requests"] == 1


@pytest.mark.parametrize("vendor", VENDORS)
def test_duplicate_unknown_and_broken_lines_change_nothing(vendor: str, tmp_path: Path) -> None:
    def spoil(lines: list[str]) -> list[str]:
        other = lines[0].replace(json.loads(lines[0])["custom_id"], "somebody-elses")
        return [lines[1].replace("question", "QUESTION"), "{not json", "", "[]", other, *lines[2:],
                lines[0], lines[0], lines[1]]  # fmt: skip

    with FakeServer() as server:
        fake = FakeBatches(server, spoil=spoil)
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(10))
        assert all(r.status is ResponseStatus.OK for r in responses)
        texts = [(r.text or "").lower() for r in responses]
        assert texts == [f"answer to question {i}" for i in range(10)]
        found = totals(tmp_path)
        assert {name: found[name] for name in fake.charged} == fake.charged


@pytest.mark.parametrize("vendor", VENDORS)
def test_missing_results_are_fetched_again_then_asked_live_and_counted_lost(
    vendor: str, tmp_path: Path
) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server, spoil=lambda lines: lines[2:])
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(10))
        assert all(r.status is ResponseStatus.OK for r in responses)
        assert fake.downloads == 3
        found = totals(tmp_path, "batch")
        assert (found["requests"], found["lost_requests"]) == (8, 2)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_cut_off_download_is_repeated(vendor: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def spoil(lines: list[str]) -> list[str]:
        calls.append(1)
        return lines[:3] if len(calls) == 1 else lines

    with FakeServer() as server:
        fake = FakeBatches(server, spoil=spoil)
        with process(tmp_path, server, vendor) as client:
            assert all(r.text for r in client.complete(asked(10)))
        assert totals(tmp_path)["requests"] == fake.charged["requests"] == 10


def die(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """The next call of a method is the last thing that this process does."""
    original = getattr(owner, name)

    def dying(*args: Any, **options: Any) -> Any:
        if after:
            original(*args, **options)
        raise Killed

    async def dying_async(*args: Any, **options: Any) -> Any:
        if after:
            await original(*args, **options)
        raise Killed

    import inspect

    monkeypatch.setattr(
        owner, name, dying_async if inspect.iscoroutinefunction(original) else dying
    )


KILLS: dict[str, Callable[[BatchClient, pytest.MonkeyPatch], None]] = {
    "before the intent": lambda c, m: die(c.log, "intend", m, after=False),
    "between intent and sending": lambda c, m: die(c._api, "submit", m, after=False),
    "between sending and recording": lambda c, m: die(c._api, "submit", m, after=True),
    "before recording the id": lambda c, m: die(c.log, "submitted", m, after=False),
    "after recording the id": lambda c, m: die(c.log, "submitted", m, after=True),
    "while polling": lambda c, m: die(c._api, "look", m, after=True),
    "while the cache is written": lambda c, m: die(c.cache, "put_many", m, after=False),
    "after the cache is written": lambda c, m: die(c.cache, "put_many", m, after=True),
    "before the ledger is written": lambda c, m: die(c.log, "finish", m, after=False),
    "after the ledger is written": lambda c, m: die(c.log, "finish", m, after=True),
}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("moment", KILLS)
def test_a_process_killed_at_any_moment_never_pays_twice(
    vendor: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        with monkeypatch.context() as patch, process(tmp_path, server, vendor) as client:
            KILLS[moment](client, patch)
            with pytest.raises(Killed):
                client.complete(asked(12))
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(12))
        assert [r.text for r in responses] == [f"answer to question {i}" for i in range(12)]
        assert sorted(fake.sent) == sorted(set(fake.sent)) and len(fake.sent) == 12
        assert server.count("/v1/chat/completions") + server.count("/v1/messages") == 0
        found = totals(tmp_path)
        assert {name: found[name] for name in fake.charged} == fake.charged
        assert found["in_flight"] == found["lost_requests"] == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_batch_killed_in_mid_download_is_downloaded_again(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autointerp.llm.batch._CHUNK", 3)
    with FakeServer() as server:
        fake = FakeBatches(server)
        with process(tmp_path, server, vendor) as client:
            put, calls = client.cache.put_many, list[int]()

            def dying(responses: Any) -> None:
                put(responses)
                calls.append(1)
                if len(calls) == 2:
                    raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(client.cache, "put_many", dying)
                with pytest.raises(Killed):
                    client.complete(asked(12))
            assert len(client.cache) == 6
        with process(tmp_path, server, vendor) as client:
            assert all(r.text for r in client.complete(asked(12)))
        found = totals(tmp_path)
        assert len(fake.batches) == 1 and found["requests"] == 12
        assert {name: found[name] for name in fake.charged} == fake.charged


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_batch_that_was_taken_though_the_reply_was_an_error_is_adopted(
    vendor: str, tmp_path: Path
) -> None:
    error = (500, {"error": {"message": "scripted", "type": "api_error"}})
    with FakeServer() as server:
        fake = FakeBatches(server, on_create=lambda number: error)
        with process(tmp_path, server, vendor) as client:
            assert all(r.text for r in client.complete(asked(12)))
        assert len(fake.batches) == 1
        assert totals(tmp_path)["requests"] == fake.charged["requests"] == 12


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_colleagues_batch_is_not_adopted(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same number of requests, at the same time, by the same key."""
    with FakeServer() as server:
        fake = FakeBatches(server)
        with monkeypatch.context() as patch, process(tmp_path, server, vendor) as client:
            die(client._api, "submit", patch, after=False)
            with pytest.raises(Killed):
                client.complete(asked(12))
        (tmp_path / "other").mkdir()
        with process(tmp_path / "other", server, vendor) as other:
            other.complete([Request((Message("user", f"another {i}"),), 16) for i in range(12)])
        with process(tmp_path, server, vendor) as client:
            responses = client.complete(asked(12))
        assert [r.text for r in responses] == [f"answer to question {i}" for i in range(12)]
        assert len(fake.batches) == 2
        assert totals(tmp_path)["requests"] == 12


@pytest.mark.parametrize("vendor", VENDORS)
def test_in_doubt_the_run_stops_and_says_what_to_do(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as server:
        gone = (404, {"error": {"message": "no such endpoint", "type": "not_found_error"}})
        fake = FakeBatches(server, on_list=lambda: gone)
        with monkeypatch.context() as patch, process(tmp_path, server, vendor) as client:
            die(client._api, "submit", patch, after=True)
            with pytest.raises(Killed):
                client.complete(asked(12))
        for _ in range(2):
            with (
                process(tmp_path, server, vendor) as client,
                pytest.raises(BatchInDoubtError, match="autointerp batches RUN --adopt"),
            ):
                client.complete(asked(12))
        assert len(fake.batches) == 1
        with process(tmp_path, server, vendor) as client:
            (row,) = client.log.open()
            client.log.submitted(row.id, fake.batches[0].id)
            assert all(r.text for r in client.complete(asked(12)))
        assert len(fake.batches) == 1 and totals(tmp_path)["requests"] == 12


def test_a_refused_batch_stops_the_run_and_costs_nothing(tmp_path: Path) -> None:
    with FakeServer() as server:
        FakeBatches(server, refuse="the model takes no batches")
        with (
            process(tmp_path, server, "openai") as client,
            pytest.raises(AutointerpError, match=r"takes no batches.*llm.mode to live"),
        ):
            client.complete(asked(12))
        found = totals(tmp_path)
        assert found["requests"] == found["in_flight"] == found["usd"] == 0
        assert server.count("/v1/chat/completions") == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_few_requests_are_asked_live(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        options = BatchOptions(0.01, 0.05, min_requests=5)
        with process(tmp_path, server, vendor, options) as client:
            assert all(r.text for r in client.complete(asked(4)))
        assert fake.batches == []


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_budget_sends_what_fits_and_keeps_it(vendor: str, tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        with (
            process(tmp_path, server, vendor, limits=Limits(tokens=300)) as client,
            pytest.raises(BudgetSpentError, match=r"raise budget.tokens"),
        ):
            client.complete(asked(40))
        charged = fake.charged["input_tokens"] + fake.charged["output_tokens"]
        assert 0 < charged <= 300
        done = len(fake.sent)
        with process(tmp_path, server, vendor, limits=Limits(tokens=100_000)) as client:
            assert all(r.text for r in client.complete(asked(40)))
        assert done < len(set(fake.sent)) <= 40 and len(fake.sent) == len(set(fake.sent))


def test_the_keys_of_batches_are_those_of_live_requests(tmp_path: Path) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server)
        with process(tmp_path, server, "openai") as client:
            client.complete(asked(3))
            assert sorted(fake.sent) == sorted(request_key(client.live, r) for r in asked(3))


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_process_killed_by_the_system_while_a_batch_runs_goes_on(
    vendor: str, tmp_path: Path
) -> None:
    with FakeServer() as server:
        fake = FakeBatches(server, polls=10**9)
        command = [sys.executable, "-m", "tests.llm.batch_worker", str(tmp_path),
                   server.anthropic_url, vendor]  # fmt: skip
        worker = subprocess.Popen(command)
        deadline = time.monotonic() + 120
        while not (fake.batches and fake.batches[0].looks) and time.monotonic() < deadline:
            assert worker.poll() is None
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert totals(tmp_path)["in_flight"] == 12
        fake.polls = 0
        with process(tmp_path, server, vendor) as client:
            assert all(r.text for r in client.complete(asked(12)))
        found = totals(tmp_path)
        assert len(fake.batches) == 1 and found["in_flight"] == 0
        assert {name: found[name] for name in fake.charged} == fake.charged
